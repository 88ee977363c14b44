//! Losses and gradients of a batch.

use std::sync::Mutex;

use rayon::prelude::*;

use super::forward::DvaeContext;
use super::memory::DvaeMemory;
use super::network::{DvaeNetwork, DvaeSizes};
use super::weights::DvaeWeights;
use crate::codes;
use crate::laplace::Laplace;
use crate::simd::Processor;
use crate::sums::{SUMS, SumBuffers, UpdateValues, add_up, buffers};

/// Where a batch's Gumbel noise comes from.
#[derive(Clone, Copy, Debug)]
pub enum ImageNoise<'a> {
    /// Generated: of each image a function of its key, place and code, `[B]`.
    Keys(&'a [u64]),
    /// These values, `[B, vocab, H/8, W/8]`.
    Given(&'a [f32]),
}

/// The two terms of the loss, in nats per pixel value, and the codes.
#[derive(Clone, Debug, PartialEq)]
pub struct DvaeLosses {
    /// −ln p(x|z).
    pub reconstruction: f64,
    /// KL(q(z|x) ‖ uniform), not yet multiplied by β.
    pub kl: f64,
    /// The most likely code at each place, `[B, H/8, W/8]`.
    pub codes: Vec<u32>,
}

/// The terms of the loss with the codes that stage 2 sees, and with relaxed ones, in nats per pixel value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// −ln p(x|z) with the most likely codes.
    pub reconstruction: f64,
    /// −ln p(x|z) with relaxed codes, where they were asked for.
    pub relaxed: Option<f64>,
    /// KL(q(z|x) ‖ uniform), not yet multiplied by β.
    pub kl: f64,
}

/// Computes losses and gradients of batches of one image size.
pub struct DvaeUpdate {
    network: DvaeNetwork,
    height: usize,
    width: usize,
    weights: DvaeWeights,
    sums: SumBuffers,
    memories: Mutex<Vec<DvaeMemory>>,
}

impl DvaeUpdate {
    /// For a dVAE and images of a size.
    ///
    /// # Panics
    /// If a side is not a positive multiple of 8, or a size is 0.
    pub fn new(sizes: DvaeSizes, height: usize, width: usize) -> Self {
        let sides = [height, width];
        assert!(
            sides.iter().all(|side| *side > 0 && side % 8 == 0),
            "expected multiples of 8, got {height}×{width}"
        );
        assert!(sizes.n_hid >= 4 && sizes.blocks_per_group > 0 && sizes.vocab > 0, "a size is 0");
        let network = DvaeNetwork::new(sizes);
        let weights = DvaeWeights::zeros(&network);
        Self {
            network,
            height,
            width,
            weights,
            sums: SumBuffers::default(),
            memories: Mutex::new(Vec::new()),
        }
    }

    /// Values that updates and evaluations of up to `images` images of a size keep in memory on `threads` threads.
    pub fn values(
        sizes: DvaeSizes,
        (height, width): (usize, usize),
        images: usize,
        threads: usize,
    ) -> UpdateValues {
        let network = DvaeNetwork::new(sizes);
        let passes = images.min(threads);
        UpdateValues {
            state: network.packed_values() + buffers(images, passes) * network.length(),
            activations: passes * DvaeMemory::values(&network, height, width),
        }
    }

    /// The layers and parameters.
    pub fn network(&self) -> &DvaeNetwork {
        &self.network
    }

    /// The losses of images `[B, 3, H, W]` in (0, 1), and the gradient of reconstruction + β·KL, which is written to
    /// `gradients`. `parameters` and `gradients` are laid out as [`DvaeNetwork::parameters`] says.
    ///
    /// # Panics
    /// If a length differs from what the sizes demand.
    pub fn run(
        &mut self,
        parameters: &[f32],
        images: &[f32],
        noise: ImageNoise<'_>,
        tau: f32,
        beta: f32,
        gradients: &mut [f32],
    ) -> DvaeLosses {
        let length = self.network.length();
        assert_eq!((parameters.len(), gradients.len()), (length, length), "parameters and gradients");
        self.check(images, Some(noise));
        self.weights.set(parameters);
        let values = images.len() as f64;
        self.add_up(images, gradients, |cx, memory, (example, image), gradients| {
            memory.fill(cx, image, noise, example);
            memory.encode(cx);
            let kl = memory.relax(cx, tau);
            memory.decode(cx);
            let reconstruction = memory.compare(cx, (1.0 / values) as f32);
            memory.decode_backward(cx, gradients);
            memory.relax_backward(cx, tau, (f64::from(beta) / values) as f32);
            memory.encode_backward(cx, gradients);
            [reconstruction, kl]
        })
    }

    /// The losses of images `[B, 3, H, W]` in (0, 1) with the codes that stage 2 sees, and the gradient of their reconstruction,
    /// which is 0 for the encoder's parameters: it trains a decoder further on the codes of an encoder that stays as it is.
    ///
    /// # Panics
    /// If a length differs from what the sizes demand.
    pub fn run_decoder(&mut self, parameters: &[f32], images: &[f32], gradients: &mut [f32]) -> DvaeLosses {
        let length = self.network.length();
        assert_eq!((parameters.len(), gradients.len()), (length, length), "parameters and gradients");
        self.check(images, None);
        self.weights.set(parameters);
        let values = images.len() as f64;
        self.add_up(images, gradients, |cx, memory, (example, image), gradients| {
            memory.fill(cx, image, ImageNoise::Given(&[]), example);
            memory.encode(cx);
            let kl = memory.relax(cx, 1.0);
            memory.harden();
            memory.decode(cx);
            let reconstruction = memory.compare(cx, (1.0 / values) as f32);
            memory.decode_backward(cx, gradients);
            [reconstruction, kl]
        })
    }

    /// The losses of all images, each computed by `compute`, which adds to `gradients`.
    fn add_up(
        &self,
        images: &[f32],
        gradients: &mut [f32],
        compute: impl Fn(DvaeContext<'_>, &mut DvaeMemory, (usize, &[f32]), &mut [f32]) -> [f64; 2] + Sync,
    ) -> DvaeLosses {
        let values = images.len() as f64;
        let (image, places) = (3 * self.height * self.width, self.height * self.width / 64);
        let count = images.len() / image;
        let cx = DvaeContext { processor: Processor::detect(), weights: &self.weights };
        let compute = |part: usize, gradients: &mut [f32]| {
            let mut memory = self.memory();
            let (mut losses, mut codes) = ([0.0; 2], Vec::new());
            for (example, image) in images.chunks_exact(image).enumerate().skip(part).step_by(SUMS) {
                let [reconstruction, kl] = compute(cx, &mut memory, (example, image), gradients);
                losses = [losses[0] + reconstruction, losses[1] + kl];
                let mut own = vec![0; places];
                memory.codes(&mut own);
                codes.push((example, own));
            }
            self.give_back(memory);
            (losses, codes)
        };
        let threads = rayon::current_num_threads();
        let parts = add_up(&self.sums, (count.min(SUMS), threads), gradients, compute);
        self.network.apply_gain(gradients);
        let (mut reconstruction, mut kl, mut codes) = (0.0, 0.0, vec![0; count * places]);
        for (losses, own) in parts {
            (reconstruction, kl) = (reconstruction + losses[0], kl + losses[1]);
            for (example, own) in own {
                codes[example * places..][..places].copy_from_slice(&own);
            }
        }
        DvaeLosses { reconstruction: reconstruction / values, kl: kl / values, codes }
    }

    /// The losses of images `[B, 3, H, W]` in (0, 1) with the codes that stage 2 sees; with `relaxed`, noise and a temperature,
    /// also those with relaxed codes.
    ///
    /// # Panics
    /// If a length differs from what the sizes demand.
    pub fn evaluate(
        &mut self,
        parameters: &[f32],
        images: &[f32],
        relaxed: Option<(ImageNoise<'_>, f32)>,
    ) -> Evaluation {
        assert_eq!(parameters.len(), self.network.length(), "parameters");
        let image = self.check(images, relaxed.map(|(noise, _)| noise));
        self.weights.set(parameters);
        let (this, cx) = (&*self, DvaeContext { processor: Processor::detect(), weights: &self.weights });
        let examples: Vec<_> = images.chunks_exact(image).enumerate().collect();
        let losses: Vec<[f64; 3]> = examples
            .into_par_iter()
            .map(|(example, image)| {
                let mut memory = this.memory();
                let (noise, tau) = relaxed.unwrap_or((ImageNoise::Given(&[]), 1.0));
                memory.fill(cx, image, noise, example);
                memory.encode(cx);
                let kl = memory.relax(cx, tau);
                let mut soft = 0.0;
                if relaxed.is_some() {
                    memory.decode(cx);
                    soft = memory.compare(cx, 1.0);
                }
                memory.harden();
                memory.decode(cx);
                let hard = memory.compare(cx, 1.0);
                this.give_back(memory);
                [hard, soft, kl]
            })
            .collect();
        let values = images.len() as f64;
        let mean = |term: usize| losses.iter().map(|losses| losses[term]).sum::<f64>() / values;
        Evaluation { reconstruction: mean(0), relaxed: relaxed.map(|_| mean(1)), kl: mean(2) }
    }

    /// Values of one image, of which there are some, with noise for each.
    fn check(&self, images: &[f32], noise: Option<ImageNoise<'_>>) -> usize {
        let image = 3 * self.height * self.width;
        assert!(!images.is_empty() && images.len().is_multiple_of(image), "expected whole images");
        let count = images.len() / image;
        let places = self.height * self.width / 64;
        match noise {
            Some(ImageNoise::Keys(keys)) => assert_eq!(keys.len(), count, "one key for each image"),
            Some(ImageNoise::Given(noise)) => {
                assert_eq!(noise.len(), count * places * self.network.sizes.vocab, "noise for each logit");
            }
            None => {}
        }
        image
    }

    fn memory(&self) -> DvaeMemory {
        let free = self.memories.lock().ok().and_then(|mut free| free.pop());
        free.unwrap_or_else(|| DvaeMemory::new(&self.network, self.height, self.width))
    }

    fn give_back(&self, memory: DvaeMemory) {
        if let Ok(mut free) = self.memories.lock() {
            free.push(memory);
        }
    }
}

impl DvaeMemory {
    /// Takes an image and the noise of its codes.
    fn fill(&mut self, cx: DvaeContext<'_>, image: &[f32], noise: ImageNoise<'_>, example: usize) {
        let Self { grids, image: map, z, .. } = self;
        grids[0].fill(map, 0, image);
        let grid = &grids[3];
        match noise {
            ImageNoise::Keys(keys) => cx.processor.run(codes::Noise { grid, key: keys[example], noise: z }),
            ImageNoise::Given([]) => z.fill(0.0),
            ImageNoise::Given(noise) => {
                let length = z.len() / grid.channel() * grid.height * grid.width;
                grid.fill(z, 0, &noise[example * length..][..length]);
            }
        }
    }

    /// −ln p(x|z), summed; the maps become `scale` times its gradient.
    fn compare(&mut self, cx: DvaeContext<'_>, scale: f32) -> f64 {
        let Self { grids, image, maps, .. } = self;
        cx.processor.run(Laplace { grid: &grids[0], x: image, maps, scale })
    }

    /// Makes the codes the most likely ones.
    fn harden(&mut self) {
        let Self { grids, z, best, .. } = self;
        let grid = &grids[3];
        z.fill(0.0);
        for i in 0..grid.height * grid.width {
            let (phase, tile) = grid.place(0, i / grid.width, i % grid.width);
            let code = best[phase * grid.tiles + tile] as usize;
            z[code * grid.channel() + phase * grid.plane + grid.front + tile] = 1.0;
        }
    }
}
