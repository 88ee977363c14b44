//! What a model costs, from its configuration alone: parameters, bytes, arithmetic. Nothing is allocated.
//!
//! ```text
//! let plan = Plan::new(&config);
//! plan.sampling(Precision::Bf16, captions, samples)   // bytes
//! ```

use burn::tensor::Device;

use crate::clip::{Clip, ClipConfig};
use crate::config::{DOWNSAMPLING, DvaeConfig, ModelConfig};
use crate::dvae::{Decoder, Encoder};
use crate::precision::Precision;
use crate::prior::Prior;
use crate::prior::mask::{Pattern, StreamLayout};
use crate::weights::{count_parameters, largest_tensor};

/// A model's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Parameters of the prior …
    pub prior: u64,
    /// … and of these those of the matrices of its blocks, which may be kept in 16 bits.
    pub matrices: u64,
    /// Parameters of the dVAE's encoder.
    pub encoder: u64,
    /// Parameters of the dVAE's decoder.
    pub decoder: u64,
    /// Keys and values of a caption, all layers together: shared by its samples.
    pub caption_values: u64,
    /// Keys and values of a sample, all layers together.
    pub sample_values: u64,
    /// Keys and values of a sample that a step reads, all layers together, on average over the picture.
    pub seen_values: u64,
    /// Parameters of the prior's largest tensor.
    pub largest_tensor: u64,
    /// Slots of the stream.
    pub slots: u64,
    /// Values that a training step of the prior keeps for the backward pass, for each pair of caption and picture.
    pub prior_activations: u64,
    /// The same of the dVAE, for each picture.
    pub dvae_activations: u64,
    /// Values that sampling works with beside weights and caches: what a block makes of the whole stream, when an image begins with
    /// tokens that are given, or what the decoder's last block makes of a picture, whichever is more.
    pub working_values: u64,
    /// Multiplications and additions of decoding one picture.
    pub decode_flops: u64,
}

/// Copies of each parameter that training holds, all f32: weight, gradient, running mean and variance, average.
pub const TRAINING_COPIES: u64 = 5;

/// Bytes that training holds at its peak, beside the program and the dataset. Estimates, from what backward passes need; on a
/// processor within a quarter of what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training {
    /// Whatever the batch: parameters, as often as they are held.
    pub state: u64,
    /// What the forward pass leaves for the backward pass.
    pub activations: u64,
}

impl Training {
    fn new(trained: u64, beside: u64, activations: u64) -> Self {
        let bytes = Precision::F32.bytes();
        Self { state: (trained * TRAINING_COPIES + beside) * bytes, activations: activations * bytes }
    }

    /// Both.
    pub fn bytes(&self) -> u64 {
        self.state + self.activations
    }
}

impl Plan {
    /// The sizes of a valid configuration.
    pub fn new(config: &ModelConfig) -> Self {
        // Parameters are made when they are first used: counting them makes none.
        let device = Device::flex();
        let (d, layers) = (config.prior.d_model() as u64, config.prior.layers as u64);
        let (text, image) = config.cache_entries();
        let grid = config.geometry().grid as u64;
        let seen =
            (0..config.prior.layers).map(|index| match Pattern::of_layer(index, config.prior.layers) {
                Pattern::Row => grid + 1,
                Pattern::Column => grid.div_ceil(2),
                Pattern::Conv => (config.prior.conv_kernel.pow(2) as u64).div_ceil(2),
            });
        let slots = config.geometry().stream_length() as u64;
        let heads = config.prior.heads as u64;
        let prior = Prior::new(config, &device);
        Self {
            prior: count_parameters(&prior, ""),
            matrices: layers * 12 * d * d,
            encoder: count_parameters(&Encoder::new(&config.dvae, &device), ""),
            decoder: count_parameters(&Decoder::new(&config.dvae, &device), ""),
            caption_values: 2 * d * text as u64,
            sample_values: 2 * d * image as u64,
            seen_values: 2 * d * seen.sum::<u64>(),
            largest_tensor: largest_tensor(&prior),
            slots,
            prior_activations: transformer(layers, d, heads, slots),
            dvae_activations: dvae_activations(&config.dvae, grid),
            working_values: transformer(1, d, heads, slots).max(last_block(&config.dvae, grid)),
            decode_flops: decode_flops(&config.dvae, grid),
        }
    }

    /// Bytes of the prior's weights.
    pub fn prior_bytes(&self, precision: Precision) -> u64 {
        self.matrices * precision.bytes() + (self.prior - self.matrices) * Precision::F32.bytes()
    }

    /// Bytes of the caches of `captions` captions with `samples` samples in all.
    pub fn cache_bytes(&self, precision: Precision, captions: u64, samples: u64) -> u64 {
        (captions * self.caption_values + samples * self.sample_values) * precision.bytes()
    }

    /// Bytes that sampling works with beside weights and caches: those values, and the attention masks, one of each pattern and the
    /// one that is being made.
    pub fn working_bytes(&self) -> u64 {
        self.working_values * Precision::F32.bytes() + 4 * self.slots * self.slots
    }

    /// Bytes that loading the prior needs beside its weights: one tensor, as it is in the file and in f32.
    pub fn loading_bytes(&self) -> u64 {
        2 * self.largest_tensor * Precision::F32.bytes()
    }

    /// Bytes that loading and sampling need: weights of prior and decoder, caches, and working memory.
    pub fn sampling(&self, precision: Precision, captions: u64, samples: u64) -> u64 {
        let working = self.working_bytes() + self.cache_bytes(precision, captions, samples);
        self.prior_bytes(precision)
            + self.decoder * Precision::F32.bytes()
            + working.max(self.loading_bytes())
    }

    /// Bytes that a contrastive model for `config` needs to score `pictures` at once: its weights, and what it works with.
    pub fn scoring(clip: &ClipConfig, config: &ModelConfig, pictures: u64) -> u64 {
        let [text, image] = pair(clip, config, 1);
        (clip_parameters(clip, config) + pictures * text.max(image)) * Precision::F32.bytes()
    }

    /// Bytes that decoding `pictures` at once needs.
    pub fn decoding(&self, config: &ModelConfig, pictures: u64) -> u64 {
        let working = last_block(&config.dvae, config.geometry().grid as u64);
        (self.decoder + pictures * working) * Precision::F32.bytes()
    }

    /// Training the dVAE with `batch` pictures an update.
    pub fn training_dvae(&self, batch: u64) -> Training {
        Training::new(self.encoder + self.decoder, 0, batch * self.dvae_activations)
    }

    /// Training the prior with `batch` pairs an update; the encoder stands beside it.
    pub fn training_prior(&self, batch: u64) -> Training {
        Training::new(self.prior, self.encoder, batch * self.prior_activations)
    }

    /// Training a contrastive model for `config` with `batch` pairs an update; with `dvae`, the dVAE stands beside it.
    pub fn training_clip(&self, clip: &ClipConfig, config: &ModelConfig, batch: u64, dvae: bool) -> Training {
        let [text, image] = pair(clip, config, u64::MAX);
        // Every caption with every picture: cosines, scaled, and of each side the logarithms, their exponentials and gradients.
        let activations = batch * (text + image) + 8 * batch * batch;
        Training::new(
            clip_parameters(clip, config),
            if dvae { self.encoder + self.decoder } else { 0 },
            activations,
        )
    }

    /// Bytes read for a step of `captions` captions with `samples` samples in all, on average over the picture: the weights
    /// once, each caption's text once, and what each sample sees of its image.
    pub fn step_bytes(&self, precision: Precision, captions: u64, samples: u64) -> u64 {
        let values = captions * self.caption_values + samples * self.seen_values;
        self.prior_bytes(precision) + values * precision.bytes()
    }
}

impl ModelConfig {
    /// Places of the prior's cache in all layers together: of a caption's text, and of a sample's image. Each holds a key and a
    /// value of `d_model` numbers.
    pub fn cache_entries(&self) -> (usize, usize) {
        let layout = StreamLayout::new(self);
        let layers = self.prior.layers;
        let image = (0..layers).map(|index| Pattern::of_layer(index, layers).capacity(layout)).sum();
        (layers * layout.text, image)
    }
}

/// Parameters of a contrastive model for `config`.
fn clip_parameters(clip: &ClipConfig, config: &ModelConfig) -> u64 {
    count_parameters(&Clip::new(clip, config, &Device::flex()), "")
}

/// Values of a caption in the text tower, and of a picture in the image tower, in at most `layers` layers of each.
fn pair(clip: &ClipConfig, config: &ModelConfig, layers: u64) -> [u64; 2] {
    let patches = (config.image_size / clip.patch).pow(2) as u64;
    // The picture, and cut into patches.
    let pixels = 2 * 3 * (config.image_size as u64).pow(2);
    // Start, caption, end; class and patches.
    [(&clip.text, config.text_length as u64 + 1, 0), (&clip.image, 1 + patches, pixels)].map(
        |(tower, slots, given)| {
            given
                + transformer(layers.min(tower.layers as u64), tower.width as u64, tower.heads as u64, slots)
        },
    )
}

/// Values of the decoder's last block for a grid of `grid²` tokens: its input, three maps of a quarter of its width, its output, and
/// a map of the widest beside it while a convolution works.
fn last_block(config: &DvaeConfig, grid: u64) -> u64 {
    (grid * DOWNSAMPLING as u64).pow(2) * 4 * config.n_hid as u64
}

/// Values that the backward pass of a transformer needs, for each stream of `slots`.
fn transformer(layers: u64, width: u64, heads: u64, slots: u64) -> u64 {
    // Of each block: its input, normed input, q, k, v, attention, its projection, the sum, normed, twice the MLP's
    // hidden layer and its output; and of each head the scores, masked and after the softmax.
    layers * slots * (20 * width + 3 * heads * slots)
}

/// Values that the backward pass of the dVAE needs for a picture of `grid²` tokens.
fn dvae_activations(config: &DvaeConfig, grid: u64) -> u64 {
    let (n_hid, pixels) = (config.n_hid as u64, (grid * DOWNSAMPLING as u64).pow(2));
    let mut values = 0;
    // The groups of the encoder, and of the decoder, each behind a map of its first width: the wider, the fewer places.
    for (first, factors) in [(n_hid, [1, 2, 4, 8]), (config.n_init as u64, [8, 4, 2, 1])] {
        let mut width = first;
        for factor in factors {
            let out = factor * n_hid;
            for _ in 0..config.blocks_per_group {
                // Of each block: its input behind ReLU, three maps of a quarter of its width before and behind theirs, its
                // output, and the identity where that is projected.
                let identity = if width == out { 0 } else { out };
                values += pixels / (factor * factor) * (width + 6 * (out / 4) + out + identity);
                width = out;
            }
        }
    }
    // The codebook's maps: logits, noise, both together, the codes, and what the KL term makes of the logits. The loss: six maps and
    // three colours of each pixel, and the terms made of them.
    values + 8 * grid * grid * config.vocab as u64 + 30 * pixels
}

/// Multiplications and additions of the decoder's convolutions for a grid of `grid²` tokens (appendix A.1).
fn decode_flops(config: &DvaeConfig, grid: u64) -> u64 {
    let (n_hid, blocks) = (config.n_hid as u64, config.blocks_per_group as u64);
    let mut width = config.n_init as u64;
    let mut macs = grid * grid * config.vocab as u64 * width;
    for (group, factor) in [8, 4, 2, 1].into_iter().enumerate() {
        let (out, places) = (n_hid * factor, (grid << group).pow(2));
        for _ in 0..blocks {
            let hidden = out / 4;
            let identity = if width == out { 0 } else { width * out };
            // Kernels of 1, 3, 3 and 3.
            macs += places * (identity + width * hidden + 9 * (2 * hidden * hidden + hidden * out));
            width = out;
        }
    }
    macs += (grid * DOWNSAMPLING as u64).pow(2) * width * 6;
    2 * macs
}
