//! Stage 1: fitting the dVAE to pictures alone (section 2.1, appendix A.2).

use anyhow::{Result, ensure};
use dalle_model::Device;
use dalle_model::burn::tensor::Tensor;
use dalle_model::dvae::Dvae;
use dalle_model::dvae::loss::{gumbel_softmax, kl_to_uniform, logit_laplace_nll};
use dalle_model::dvae::pixels::{images_to_tensor, map_pixels};
use image::RgbImage;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::augment;
use crate::schedule::Cosine;
use crate::training::{Order, Stage};

/// Schedules and sizes of a run.
#[derive(Clone, Copy, Debug)]
pub struct DvaeSchedule {
    /// Pictures per update.
    pub batch: usize,
    /// Weight of the KL term: 0 → 6.6 over 5,000 updates in the paper.
    pub beta: Cosine,
    /// Temperature of the relaxation: 1 → 1/16 over 150,000 updates.
    pub tau: Cosine,
    /// Step size: 1e-4 → 1.25e-6 over 1,200,000 updates.
    pub step_size: Cosine,
    /// Seed of everything random.
    pub seed: u64,
}

/// The stage's data and schedules.
pub struct DvaeStage {
    images: Vec<RgbImage>,
    image_size: usize,
    schedule: DvaeSchedule,
    order: Order,
    device: Device,
}

impl DvaeStage {
    /// A stage over some pictures, on an autodiff device.
    ///
    /// # Errors
    /// There are no pictures, or one is smaller than the model's.
    pub fn new(
        images: Vec<RgbImage>,
        image_size: usize,
        schedule: DvaeSchedule,
        device: Device,
    ) -> Result<Self> {
        ensure!(!images.is_empty(), "the dataset holds no picture to train on");
        let smallest = images.iter().map(|image| image.width().min(image.height())).min().unwrap_or(0);
        ensure!(
            smallest as usize >= image_size,
            "the model learns pictures of {image_size}×{image_size} pixels, but one is only {smallest} wide; build the dataset with --size {image_size} or more"
        );
        let order = Order::new(schedule.seed, images.len());
        Ok(Self { images, image_size, schedule, order, device })
    }

    /// The pictures of update `step`, augmented, `[B, 3, S, S]` in 0..1.
    fn batch(&mut self, step: u64) -> Tensor<4> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.schedule.seed);
        rng.set_stream(step);
        let pictures: Vec<RgbImage> = self
            .order
            .batch(step, self.schedule.batch)
            .into_iter()
            .map(|index| augment::for_dvae(&self.images[index], self.image_size as u32, &mut rng))
            .collect();
        let bytes: Vec<&[u8]> = pictures.iter().map(|picture| picture.as_raw().as_slice()).collect();
        self.device.seed(rng.random());
        images_to_tensor(&bytes, self.image_size, self.image_size, &self.device)
    }
}

impl Stage for DvaeStage {
    type Network = Dvae;

    fn loss(&mut self, dvae: &Dvae, step: u64) -> Result<(Tensor<1>, Vec<(&'static str, Tensor<1>)>)> {
        let x = map_pixels(self.batch(step));
        let values = x.shape().num_elements() as f64;
        let logits = dvae.encoder.forward(x.clone());
        let z = gumbel_softmax(logits.clone(), self.schedule.tau.at(step));
        let reconstruction = logit_laplace_nll(dvae.decoder.forward(z), x).sum().div_scalar(values);
        // Joint over all positions, and divided by the number of pixel values like the reconstruction.
        let kl = kl_to_uniform(logits.clone()).sum().div_scalar(values);
        let loss = reconstruction.clone() + kl.clone().mul_scalar(self.schedule.beta.at(step));
        let perplexity = codebook_perplexity(logits.detach());
        Ok((
            loss.clone(),
            vec![
                ("loss", loss),
                ("reconstruction", reconstruction),
                ("kl", kl),
                ("codebook perplexity", perplexity),
            ],
        ))
    }

    fn step_size(&self, step: u64) -> f64 {
        self.schedule.step_size.at(step)
    }
}

/// e to the entropy of how often each codebook entry is the most likely one: how many entries a batch really uses.
pub fn codebook_perplexity(logits: Tensor<4>) -> Tensor<1> {
    let [b, vocab, h, w] = logits.dims();
    let tokens = logits.argmax(1).reshape([b * h * w]);
    let counts: Tensor<1> = tokens.one_hot::<2>(vocab).float().sum_dim(0).reshape([vocab]);
    let p = counts.div_scalar((b * h * w) as f64);
    // 0 · ln 0 = 0; the constant only keeps the logarithm finite.
    (p.clone() * p.add_scalar(1e-12).log()).sum().neg().exp()
}
