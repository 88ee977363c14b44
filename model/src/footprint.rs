//! Parameters, memory and FLOPs of a model, computed from its configuration. No weights are allocated.
//!
//! ```text
//! let footprint = Footprint::new(&config);
//! footprint.sampling(Precision::Bf16, captions, samples)   // bytes
//! ```

use burn::tensor::Device;
use dalle_kernels::clip::ClipUpdate;
use dalle_kernels::dvae::{self as kernels, DvaeNetwork, DvaeUpdate, InferenceValues};
use dalle_kernels::prior::{PriorUpdate, Sampler};
use dalle_kernels::sums::UpdateValues;

use crate::clip::{self, Clip, ClipConfig, TowerConfig};
use crate::config::{DOWNSAMPLING, DvaeConfig, ModelConfig};
use crate::dvae::{self, Decoder, Encoder};
use crate::precision::Precision;
use crate::prior::mask::{Pattern, StreamLayout};
use crate::prior::{self, Prior};
use crate::weights::{count_parameters, largest_tensor};

/// Parameters, memory and FLOPs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Parameters of the prior.
    pub prior: u64,
    /// The part of them in the matrices of its layers, which may be stored in 16 bits.
    pub matrices: u64,
    /// Parameters of the dVAE's encoder.
    pub encoder: u64,
    /// Parameters of the dVAE's decoder.
    pub decoder: u64,
    /// Values in f32 that a step reads beside the matrices: gains, biases and the logits' matrix.
    pub step_values: u64,
    /// Values in the key/value cache of a caption, in all layers; its samples share them.
    pub caption_values: u64,
    /// Values in the key/value cache of a sample, in all layers.
    pub sample_values: u64,
    /// Values of a sample's cache that a step reads, in all layers, on average over the image.
    pub seen_values: u64,
    /// Parameters of the prior's largest tensor.
    pub largest_tensor: u64,
    /// Slots of the stream.
    pub slots: u64,
    /// Values that a training step of the prior keeps for the backward pass, per pair of caption and image.
    pub prior_activations: u64,
    /// Values that a training step of the dVAE keeps for the backward pass, per image.
    pub dvae_activations: u64,
    /// Working memory of sampling in values: the larger of one layer over the whole stream (needed for a prefix) and the decoder's
    /// last block for one image.
    pub working_values: u64,
    /// Floating-point operations of decoding one image (appendix A.1).
    pub decode_flops: u64,
}

/// What computes a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Computed {
    /// Burn: all examples of a part of the batch at once.
    Burn,
    /// `dalle-kernels` on this many threads of the CPU, an example on each, or one on all if there are fewer examples. Updates of CLIP
    /// keep all examples of a part of the batch, as on Burn.
    Kernels(usize),
}

impl Computed {
    /// The kernels on all threads of this process.
    pub fn on_all_threads() -> Self {
        Self::Kernels(dalle_kernels::sums::threads())
    }
}

/// Peak memory of training in bytes, without the program and the dataset. An estimate, within a quarter of what was measured on a
/// CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training {
    /// Parameters and the optimizer's state, independent of the batch.
    pub state: u64,
    /// Activations that the forward pass keeps for the backward pass.
    pub activations: u64,
}

impl Training {
    /// For `trained` parameters stored `copies` times each, `frozen` parameters stored once, and `activations` values; all in f32.
    fn new(trained: u64, copies: u64, frozen: u64, activations: u64) -> Self {
        let bytes = Precision::F32.bytes();
        Self { state: (trained * copies + frozen) * bytes, activations: activations * bytes }
    }

    /// As [`Self::new`], with what the kernels keep: parameters and gradients in their own layout, and `values`.
    fn on_kernels(trained: u64, copies: u64, frozen: u64, values: UpdateValues) -> Self {
        let UpdateValues { state, activations } = values;
        let kernels = 2 * trained + state as u64;
        Self::new(trained, copies, frozen + kernels, activations as u64)
    }

    /// State and activations.
    pub fn bytes(&self) -> u64 {
        self.state + self.activations
    }
}

impl Footprint {
    /// The sizes of a valid configuration.
    pub fn new(config: &ModelConfig) -> Self {
        // Burn initialises parameters when they are first used, so counting them allocates nothing.
        let device = Device::flex();
        let (d, layers) = (config.prior.d_model() as u64, config.prior.layers as u64);
        let cache = CacheSlots::new(config);
        let grid = config.geometry().grid as u64;
        let pixels = (config.image_size as u64).pow(2);
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
            step_values: 13 * layers * d + 2 * d + (d + 1) * config.dvae.vocab as u64,
            caption_values: 2 * d * cache.caption as u64,
            sample_values: 2 * d * cache.sample as u64,
            seen_values: 2 * d * seen.sum::<u64>(),
            largest_tensor: largest_tensor(&prior),
            slots,
            prior_activations: transformer(layers, d, heads, slots),
            dvae_activations: dvae_activations(&config.dvae, grid),
            working_values: transformer(1, d, heads, slots).max(pixels * full_size_block(&config.dvae)),
            decode_flops: grid * grid * DvaeNetwork::new(dvae::kernel_sizes(&config.dvae)).decoding_flops(),
        }
    }

    /// Bytes of the prior's weights.
    pub fn prior_bytes(&self, precision: Precision) -> u64 {
        self.matrices * precision.bytes() + (self.prior - self.matrices) * Precision::F32.bytes()
    }

    /// Bytes of the key/value caches of `captions` captions with `samples` samples in total.
    pub fn cache_bytes(&self, precision: Precision, captions: u64, samples: u64) -> u64 {
        (captions * self.caption_values + samples * self.sample_values) * precision.bytes()
    }

    /// Bytes that sampling on Burn needs besides weights and caches: activations, and the attention masks, one per pattern and one under
    /// construction.
    fn working_bytes(&self) -> u64 {
        self.working_values * Precision::F32.bytes() + 4 * self.slots * self.slots
    }

    /// Bytes that loading the prior needs besides its weights: one tensor, as stored in the file and in f32.
    pub fn loading_bytes(&self) -> u64 {
        2 * self.largest_tensor * Precision::F32.bytes()
    }

    /// Bytes that loading and sampling need: weights of prior and decoder, caches, and working memory.
    pub fn sampling(
        &self,
        config: &ModelConfig,
        computed: Computed,
        precision: Precision,
        captions: u64,
        samples: u64,
    ) -> u64 {
        let loaded = self.prior_bytes(precision) + self.loading_bytes();
        let sizes = prior::kernel_sizes(config);
        match computed {
            Computed::Kernels(_) if Sampler::supports(&sizes) => {
                let storage = prior::storage(precision);
                let sampling = Sampler::bytes(&sizes, storage, captions as usize, samples as usize) as u64;
                let grid = config.geometry().grid as u64;
                // The kernels take over the weights part by part.
                self.decoding(config, computed, (grid, grid), 1) + loaded.max(sampling)
            }
            _ => {
                let working = self.working_bytes() + self.cache_bytes(precision, captions, samples);
                self.decoder * Precision::F32.bytes() + loaded.max(self.prior_bytes(precision) + working)
            }
        }
    }

    /// Bytes that a CLIP for `config` needs to score a batch of `images`: its weights and working memory.
    pub fn scoring(clip: &ClipConfig, config: &ModelConfig, images: u64) -> u64 {
        let towers = tower_values(clip, config, 1);
        (clip_parameters(clip, config) + images * towers.text.max(towers.image)) * Precision::F32.bytes()
    }

    /// Bytes that loading a decoder and decoding `images` images at once need. `size` are the rows and columns of their tokens.
    pub fn decoding(&self, config: &ModelConfig, computed: Computed, size: (u64, u64), images: u64) -> u64 {
        let pixels = size.0 * size.1 * TOKEN_PIXELS;
        match computed {
            Computed::Kernels(threads) => {
                let sizes = dvae::kernel_sizes(&config.dvae);
                let values = kernels::Decoder::values(sizes, in_usize(size), images as usize, threads);
                inference(self.decoder, values) + 2 * 3 * images * pixels
            }
            Computed::Burn => {
                (self.decoder + images * pixels * full_size_block(&config.dvae)) * Precision::F32.bytes()
            }
        }
    }

    /// Bytes that loading an encoder and encoding `images` images at once need. `size` are the rows and columns of their tokens.
    pub fn encoding(&self, config: &ModelConfig, computed: Computed, size: (u64, u64), images: u64) -> u64 {
        let tokens = size.0 * size.1;
        match computed {
            Computed::Kernels(threads) => {
                let sizes = dvae::kernel_sizes(&config.dvae);
                let values = kernels::Encoder::values(sizes, in_usize(size), images as usize, threads);
                inference(self.encoder, values) + 2 * 3 * images * tokens * TOKEN_PIXELS
            }
            Computed::Burn => {
                // The images as bytes' values and as the loss sees them; the probabilities of all codes, and of which is greatest.
                let values = tokens * TOKEN_PIXELS * (6 + full_size_block(&config.dvae))
                    + 2 * tokens * config.dvae.vocab as u64;
                (self.encoder + images * values) * Precision::F32.bytes()
            }
        }
    }

    /// Training the dVAE of `config` with `batch` images per update. The optimizer stores `copies` f32 values per parameter.
    pub fn training_dvae(
        &self,
        config: &ModelConfig,
        updates: Computed,
        batch: u64,
        copies: u64,
    ) -> Training {
        let trained = self.encoder + self.decoder;
        match updates {
            Computed::Burn => Training::new(trained, copies, 0, batch * self.dvae_activations),
            Computed::Kernels(threads) => {
                let (sizes, side) = (dvae::kernel_sizes(&config.dvae), config.image_size);
                let values = DvaeUpdate::values(sizes, (side, side), batch as usize, threads);
                Training::on_kernels(trained, copies, 0, values)
            }
        }
    }

    /// Training the prior of `config` with `batch` pairs per update and a frozen encoder. The optimizer stores `copies` f32 values
    /// per parameter.
    pub fn training_prior(
        &self,
        config: &ModelConfig,
        updates: Computed,
        batch: u64,
        copies: u64,
    ) -> Training {
        let sizes = prior::kernel_sizes(config);
        match updates {
            Computed::Kernels(threads) if PriorUpdate::supports(&sizes) => {
                let values = PriorUpdate::values(sizes, batch as usize, threads);
                Training::on_kernels(self.prior, copies, self.encoder, values)
            }
            _ => Training::new(self.prior, copies, self.encoder, batch * self.prior_activations),
        }
    }

    /// Training a CLIP for `config` with `batch` pairs per update, and with a frozen dVAE if `dvae` is set. The optimizer stores
    /// `copies` f32 values per parameter.
    pub fn training_clip(
        &self,
        clip: &ClipConfig,
        config: &ModelConfig,
        updates: Computed,
        batch: u64,
        copies: u64,
        dvae: bool,
    ) -> Training {
        // For every caption with every image: the cosine, the scaled cosine, and on each side the log-softmax, its exponential and
        // its gradient.
        let pairs = 8 * batch * batch;
        let frozen = if dvae { self.encoder + self.decoder } else { 0 };
        let (trained, sizes) = (clip_parameters(clip, config), clip::kernel_sizes(clip, config));
        match updates {
            Computed::Kernels(threads) if ClipUpdate::supports(&sizes) => {
                let UpdateValues { state, activations } = ClipUpdate::values(sizes, batch as usize, threads);
                let values = UpdateValues { state, activations: activations + pairs as usize };
                Training::on_kernels(trained, copies, frozen, values)
            }
            _ => {
                let towers = tower_values(clip, config, u64::MAX);
                Training::new(trained, copies, frozen, batch * (towers.text + towers.image) + pairs)
            }
        }
    }

    /// Bytes read for a step of `captions` captions with `samples` samples in all, on average over the image: the weights that a
    /// step needs once (of the embeddings, only the tokens' own rows), each caption's cache once, and what each sample sees of its
    /// image.
    pub fn step_bytes(&self, precision: Precision, captions: u64, samples: u64) -> u64 {
        let cached = captions * self.caption_values + samples * self.seen_values;
        (self.matrices + cached) * precision.bytes() + self.step_values * Precision::F32.bytes()
    }
}

/// Number of slots of the prior's key/value cache, over all layers. A slot holds a key and a value of `d_model` numbers each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSlots {
    /// For a caption; its samples share them.
    pub caption: usize,
    /// For a sample's image.
    pub sample: usize,
}

impl CacheSlots {
    /// The number of slots of the prior's key/value cache.
    pub fn new(config: &ModelConfig) -> Self {
        let layout = StreamLayout::new(config);
        let layers = config.prior.layers;
        let sample = (0..layers).map(|index| Pattern::of_layer(index, layers).capacity(layout)).sum();
        Self { caption: layers * layout.text, sample }
    }
}

/// Pixels of a token.
const TOKEN_PIXELS: u64 = (DOWNSAMPLING * DOWNSAMPLING) as u64;

fn in_usize((rows, columns): (u64, u64)) -> (usize, usize) {
    (rows as usize, columns as usize)
}

/// Bytes of the kernels' inference with a network of some parameters: while they are loaded, on Burn and in one slice, or with the maps.
fn inference(parameters: u64, values: InferenceValues) -> u64 {
    let InferenceValues { weights, maps } = values;
    (weights as u64 + maps.max(2 * parameters as usize) as u64) * Precision::F32.bytes()
}

/// Parameters of a CLIP for `config`.
fn clip_parameters(clip: &ClipConfig, config: &ModelConfig) -> u64 {
    count_parameters(&Clip::new(clip, config, &Device::flex()), "")
}

/// Activations of CLIP's two towers.
struct TowerValues {
    /// For each caption.
    text: u64,
    /// For each image.
    image: u64,
}

/// Activations that at most `layers` layers of each tower keep.
fn tower_values(clip: &ClipConfig, config: &ModelConfig, layers: u64) -> TowerValues {
    let patches = (config.image_size / clip.patch).pow(2) as u64;
    let values = |tower: &TowerConfig, slots| {
        transformer(layers.min(tower.layers as u64), tower.width as u64, tower.heads as u64, slots)
    };
    // The image, and the same values as patches.
    let pixels = 2 * 3 * (config.image_size as u64).pow(2);
    TowerValues {
        // Start token, caption, end token.
        text: values(&clip.text, config.text_length as u64 + 1),
        // Class token and patches.
        image: pixels + values(&clip.image, 1 + patches),
    }
}

/// Values for each pixel of a block at full size, the encoder's first or the decoder's last: its input, three maps of a quarter of
/// its width, its output, and a map of the widest during a convolution.
fn full_size_block(config: &DvaeConfig) -> u64 {
    4 * config.n_hid as u64
}

/// Activations that the backward pass of a transformer needs, per stream of `slots`.
fn transformer(layers: u64, width: u64, heads: u64, slots: u64) -> u64 {
    // Per layer: the input, its norm, q, k, v, the attention output, its projection, the sum, its norm, twice the MLP's hidden layer,
    // and the MLP's output. Per head: the scores, the masked scores and the softmax.
    layers * slots * (20 * width + 3 * heads * slots)
}

/// Activations that the backward pass of the dVAE needs for an image of `grid²` tokens.
fn dvae_activations(config: &DvaeConfig, grid: u64) -> u64 {
    let (n_hid, pixels) = (config.n_hid as u64, (grid * DOWNSAMPLING as u64).pow(2));
    let mut values = 0;
    // The groups of the encoder and of the decoder, each after a map of the given first width. Wider groups have fewer cells.
    for (first, factors) in [(n_hid, [1, 2, 4, 8]), (config.n_init as u64, [8, 4, 2, 1])] {
        let mut width = first;
        for factor in factors {
            let out = factor * n_hid;
            for _ in 0..config.blocks_per_group {
                // Per block: the input after ReLU, three maps of a quarter of its width before and after ReLU, the output, and
                // the identity path if it is projected.
                let identity = if width == out { 0 } else { out };
                values += pixels / (factor * factor) * (width + 6 * (out / 4) + out + identity);
                width = out;
            }
        }
    }
    // Maps as deep as the codebook: logits, noise, their sum, the codes, and those of the KL term. In the loss, per pixel: six maps,
    // three colours, and the terms computed from them.
    values + 8 * grid * grid * config.vocab as u64 + 30 * pixels
}
