//! Sampling images on the CPU: the logits of the next image token, for captions and their samples.
//!
//! [`Sampler::prefill`] runs a caption and the first tokens of an image, if any; each [`Sampler::step`] adds a token to every
//! sample of any number of captions. A sample's logits depend on neither the other rows nor the number of threads.

mod attention;
mod cache;
mod heads;
mod layers;
mod places;
mod probe;
mod weights;

pub use cache::Cache;
use layers::{Engine, Epilogue, read_columns, write_columns};
use places::Places;
pub use probe::AttentionWeights;
use weights::{SamplerBlock, SamplerWeights};

use super::network::PriorSizes;
use super::pattern::Pattern;
use crate::grid::{Buffer, UNIT, zeros};
use crate::parameters::Parameter;
use crate::simd::Processor;
use crate::skinny::tiles;
use crate::storage::Storage;
use crate::threads::Threads;

/// A prior that samples images.
#[derive(Clone, Debug)]
pub struct Sampler {
    sizes: PriorSizes,
    storage: Storage,
    processor: Processor,
    weights: SamplerWeights,
}

impl Sampler {
    /// Whether there are kernels for these sizes: heads as wide as whole cache lines.
    pub fn supports(sizes: &PriorSizes) -> bool {
        sizes.head > 0 && sizes.head.is_multiple_of(UNIT) && sizes.text > 0
    }

    /// A prior whose parameters `read` gives, in the order of [`PriorNetwork::parameters`](super::PriorNetwork::parameters). The matrices of
    /// its layers, and so its caches, are kept in `storage`, all else in f32.
    ///
    /// # Errors
    /// Those of `read`.
    ///
    /// # Panics
    /// If the sizes are not [supported](Self::supports), or a parameter has another size.
    pub fn new<E>(
        sizes: PriorSizes,
        storage: Storage,
        read: impl FnMut(&Parameter) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        assert!(Self::supports(&sizes), "no kernels for {sizes:?}");
        let weights = SamplerWeights::new(&sizes, storage, read)?;
        Ok(Self { sizes, storage, processor: Processor::detect(), weights })
    }

    /// Bytes that a sampler keeps for `captions` captions with `samples` samples in all: weights, caches, and working memory, which is
    /// largest when a whole image is read.
    pub fn bytes(sizes: &PriorSizes, storage: Storage, captions: usize, samples: usize) -> usize {
        let (d, slots) = (sizes.width(), sizes.slots());
        let matrix = |n_in: usize, n_out: usize| tiles(n_in, n_out);
        let matrices = matrix(d, 3 * d) + matrix(d, d) + matrix(d, 4 * d) + matrix(4 * d, d);
        let narrow = sizes.layers * matrices + Cache::values(sizes, captions, samples);
        let rows = sizes.text_vocab + 2 * sizes.text + sizes.image_vocab + 2 * sizes.grid;
        let vectors = 13 * sizes.layers * d + 2 * d + sizes.image_vocab;
        // The stream before and after a LayerNorm, and the MLP's hidden layer; or the stream, queries, keys and values, and results.
        let working = tiles(slots, d) + 5 * tiles(slots, d) + 2 * samples * sizes.image_vocab;
        let wide = rows * d + vectors + matrix(d, sizes.image_vocab) + working;
        storage.bytes() * narrow + size_of::<f32>() * wide
    }

    /// The same, with another instruction set of this CPU.
    #[must_use]
    pub fn with_processor(self, processor: Processor) -> Self {
        Self { processor, ..self }
    }

    /// The sizes.
    pub fn sizes(&self) -> &PriorSizes {
        &self.sizes
    }

    /// Bytes of the weights that every step reads, whatever the number of rows: all but embeddings and the text's logits.
    pub fn step_bytes(&self) -> usize {
        let SamplerWeights { blocks, norm, image_logits, .. } = &self.weights;
        let linear =
            |layer: &layers::LinearWeights| layer.matrix.bytes() + size_of_val(layer.bias.as_slice());
        let norms = |norm: &layers::NormWeights| 2 * size_of_val(norm.gamma.as_slice());
        let block = |block: &SamplerBlock| {
            let matrices = [&block.qkv, &block.projection, &block.fc1, &block.fc2];
            matrices.map(linear).iter().sum::<usize>() + norms(&block.norm_attention) + norms(&block.norm_mlp)
        };
        blocks.iter().map(block).sum::<usize>() + norms(norm) + linear(image_logits)
    }

    /// Runs a caption, ids without padding, and the first tokens of an image: a new cache of one sample that holds them, and the
    /// logits of the next image token.
    ///
    /// # Panics
    /// If an id or token is out of range, the caption fills more than its slots, or the whole image is given.
    pub fn prefill(&self, caption: &[u32], image: &[u32]) -> (Cache, Vec<f32>) {
        let sizes = &self.sizes;
        assert!(caption.len() < sizes.text, "a caption too long");
        assert!(image.len() < sizes.grid * sizes.grid, "nothing is left to predict");
        let d = sizes.width();
        let slots = sizes.text + image.len();
        Threads::enter(slots * d * d, |threads| {
            let engine = Engine { processor: self.processor, threads };
            let (cache, x) = self.read(&engine, caption, image, sizes.layers);
            let mut last = zeros(tiles(1, d));
            let mut row = vec![0.0; d];
            read_columns(&x, slots, slots - 1, 0, &mut row);
            write_columns(&mut last, 1, 0, 0, &row);
            (cache, self.logits(&engine, &last, 1))
        })
    }

    /// Runs a caption and the first tokens of an image through the first `layers` layers: their cache, and what the next layer reads,
    /// in tiles.
    fn read(&self, engine: &Engine, caption: &[u32], image: &[u32], layers: usize) -> (Cache, Buffer) {
        let sizes = &self.sizes;
        let slots = sizes.text + image.len();
        let mut cache = Cache::new(sizes, self.storage);
        let places = Places::new(sizes, &(0..image.len()).map(|position| (0, position)).collect::<Vec<_>>());
        let mut x = zeros(tiles(slots, sizes.width()));
        self.embed_text(caption, slots, &mut x);
        for (position, token) in image.iter().enumerate() {
            self.embed_image(*token, position, slots, sizes.text + position, &mut x);
        }
        for (index, block) in self.weights.blocks.iter().take(layers).enumerate() {
            let qkv = self.qkv(engine, block, &x, slots);
            let pattern = Pattern::of_layer(index, sizes.layers);
            let attended = self.attend_all(engine, &qkv, &mut cache.layers[index], pattern, &places);
            self.finish(engine, block, &attended, slots, &mut x);
        }
        cache.position = image.len();
        (cache, x)
    }

    /// One image token for each sample of each cache, cache by cache: adds it to the cache and returns the logits of the next
    /// token, `[samples of all caches, image_vocab]`.
    ///
    /// # Panics
    /// If the number of tokens is not that of the samples, a token is out of range, or an image is complete.
    pub fn step(&self, caches: &mut [&mut Cache], tokens: &[u32]) -> Vec<f32> {
        let sizes = &self.sizes;
        let d = sizes.width();
        let positions: Vec<usize> =
            caches.iter().flat_map(|cache| vec![cache.position; cache.samples]).collect();
        let rows = positions.len();
        assert_eq!(rows, tokens.len(), "one token for each sample");
        let last = sizes.grid * sizes.grid - 1;
        assert!(positions.iter().all(|position| *position < last), "the image is complete");
        Threads::enter(d * d * (rows + 3), |threads| {
            let engine = Engine { processor: self.processor, threads };
            let places = |cache: &&mut Cache| {
                let rows: Vec<_> = (0..cache.samples).map(|sample| (sample, cache.position)).collect();
                Places::new(sizes, &rows)
            };
            let places: Vec<Places> = caches.iter().map(places).collect();
            let mut x = zeros(tiles(rows, d));
            for (row, (token, position)) in tokens.iter().zip(&positions).enumerate() {
                self.embed_image(*token, *position, rows, row, &mut x);
            }
            for (index, block) in self.weights.blocks.iter().enumerate() {
                let qkv = self.qkv(&engine, block, &x, rows);
                let pattern = Pattern::of_layer(index, sizes.layers);
                let layers = caches.iter_mut().map(|cache| (cache.samples, &mut cache.layers[index]));
                let attended = self.attend(&engine, &qkv, layers.collect(), pattern, &places);
                self.finish(&engine, block, &attended, rows, &mut x);
            }
            for cache in caches.iter_mut() {
                cache.position += 1;
            }
            self.logits(&engine, &x, rows)
        })
    }

    /// The first rows of `x`: the text slots.
    fn embed_text(&self, caption: &[u32], rows: usize, x: &mut [f32]) {
        let (d, embed) = (self.sizes.width(), &self.weights.embed);
        for slot in 0..self.sizes.text {
            let token = match slot.checked_sub(1).and_then(|place| caption.get(place)) {
                Some(id) => &embed.text[*id as usize * d..][..d],
                // Slot 0 is the start token.
                None => &embed.padding[slot * d..][..d],
            };
            let position = &embed.text_position[slot * d..][..d];
            let sum: Vec<f32> =
                token.iter().zip(position).map(|(token, position)| token + position).collect();
            write_columns(x, rows, slot, 0, &sum);
        }
    }

    fn embed_image(&self, token: u32, position: usize, rows: usize, row: usize, x: &mut [f32]) {
        let (d, grid, embed) = (self.sizes.width(), self.sizes.grid, &self.weights.embed);
        let token = &embed.image[token as usize * d..][..d];
        let down = &embed.row[position / grid * d..][..d];
        let across = &embed.column[position % grid * d..][..d];
        let sum = token.iter().zip(down).zip(across).map(|((token, down), across)| token + down + across);
        write_columns(x, rows, row, 0, &sum.collect::<Vec<f32>>());
    }

    fn qkv(&self, engine: &Engine, block: &SamplerBlock, x: &[f32], rows: usize) -> Buffer {
        let normal = engine.norm(x, rows, &block.norm_attention);
        engine.linear_to_new(&normal, rows, &block.qkv, Epilogue::Set)
    }

    /// What follows attention in a layer.
    fn finish(&self, engine: &Engine, block: &SamplerBlock, attended: &[f32], rows: usize, x: &mut [f32]) {
        engine.linear(attended, rows, &block.projection, Epilogue::Add, x);
        let normal = engine.norm(x, rows, &block.norm_mlp);
        let hidden = engine.linear_to_new(&normal, rows, &block.fc1, Epilogue::Gelu);
        engine.linear(&hidden, rows, &block.fc2, Epilogue::Add, x);
    }

    /// `[rows, image_vocab]`.
    fn logits(&self, engine: &Engine, x: &[f32], rows: usize) -> Vec<f32> {
        let normal = engine.norm(x, rows, &self.weights.norm);
        let logits = engine.linear_to_new(&normal, rows, &self.weights.image_logits, Epilogue::Set);
        let mut all = vec![0.0; rows * self.sizes.image_vocab];
        for (row, all) in all.chunks_exact_mut(self.sizes.image_vocab).enumerate() {
            read_columns(&logits, rows, row, 0, all);
        }
        all
    }
}
