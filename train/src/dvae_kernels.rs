//! Stage 1 on the CPU: losses and gradients by `dalle-kernels`, several times faster than by Burn or LibTorch.

use dalle_kernels::dvae::{DvaeLosses, DvaeUpdate, Evaluation, ImageNoise, pixel};
use dalle_model::config::DvaeConfig;
use dalle_model::dvae::{Dvae, kernel_sizes};
use image::RgbImage;

use crate::flat;
use crate::gradients::Gradients;

/// The kernels of a dVAE, and its parameters in the kernels' layout.
pub(crate) struct DvaeKernels {
    update: DvaeUpdate,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
}

impl DvaeKernels {
    /// For square images of `image_size` pixels.
    pub(crate) fn new(config: &DvaeConfig, image_size: usize) -> Self {
        let update = DvaeUpdate::new(kernel_sizes(config), image_size, image_size);
        let gradients = vec![0.0; update.network().length()];
        Self { update, parameters: Vec::new(), gradients }
    }

    /// The losses of a batch of images, and the gradients of reconstruction + β·KL. Each image's key determines its Gumbel noise.
    pub(crate) fn gradients(
        &mut self,
        dvae: &Dvae,
        images: &[&RgbImage],
        keys: &[u64],
        tau: f64,
        beta: f64,
    ) -> (DvaeLosses, Gradients) {
        flat::read(dvae, &mut self.parameters);
        let (pixels, noise) = (pixels(images), ImageNoise::Keys(keys));
        let gradients = &mut self.gradients;
        let losses = self.update.run(&self.parameters, &pixels, noise, tau as f32, beta as f32, gradients);
        (losses, flat::gradients(&self.update.network().parameters, gradients))
    }

    /// The losses of a batch of images with the hard codes of stage 2, and the gradients of their reconstruction with respect to the
    /// decoder.
    pub(crate) fn decoder_gradients(&mut self, dvae: &Dvae, images: &[&RgbImage]) -> (DvaeLosses, Gradients) {
        flat::read(dvae, &mut self.parameters);
        let losses = self.update.run_decoder(&self.parameters, &pixels(images), &mut self.gradients);
        (losses, flat::gradients(self.update.network().decoder(), &self.gradients))
    }

    /// The losses of a batch of images with the hard codes of stage 2, and with keys and a temperature also with relaxed codes.
    pub(crate) fn evaluate(
        &mut self,
        dvae: &Dvae,
        images: &[&RgbImage],
        relaxed: Option<(&[u64], f64)>,
    ) -> Evaluation {
        flat::read(dvae, &mut self.parameters);
        let relaxed = relaxed.map(|(keys, tau)| (ImageNoise::Keys(keys), tau as f32));
        self.update.evaluate(&self.parameters, &pixels(images), relaxed)
    }
}

/// The images after the pixel map, `[B, 3, S, S]`.
fn pixels(images: &[&RgbImage]) -> Vec<f32> {
    let mut values = Vec::with_capacity(images.iter().map(|image| image.as_raw().len()).sum());
    for image in images {
        for channel in 0..3 {
            values.extend(image.as_raw().iter().skip(channel).step_by(3).map(|&byte| pixel(byte)));
        }
    }
    values
}
