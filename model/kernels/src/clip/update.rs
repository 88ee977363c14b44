//! Features of a batch, and gradients.

use std::cell::Cell;
use std::sync::{Mutex, OnceLock};

use rayon::prelude::*;

use super::image::{self, ImageMemory};
use super::network::{ClipNetwork, ClipSizes, TowerSizes};
use super::text;
use super::tower::{Tower, TowerMemory, TowerWeights, causal, full, layer_shares, work};
use crate::grid::zeros;
use crate::matrix::Packed;
use crate::sums::{SUMS, SumBuffers, UpdateValues, add_up, buffers, lock};
use crate::transformer::attention::{AttentionScratch, Group, GroupSize};
use crate::transformer::memory::StackWork;

/// A caption with its image.
#[derive(Clone, Copy, Debug)]
pub struct ClipPair<'a> {
    /// Ids without padding.
    pub ids: &'a [u32],
    /// RGB8, rows of `side` pixels.
    pub image: &'a [u8],
}

/// What is kept of a pair.
struct Kept {
    text: TowerMemory,
    image: ImageMemory,
}

/// The working memory of one thread.
struct Work {
    text: StackWork,
    image: StackWork,
}

/// Computes features and gradients of batches.
pub struct ClipUpdate {
    network: ClipNetwork,
    /// Of captions by their number of slots.
    text_groups: Vec<OnceLock<Vec<Group>>>,
    image_groups: Vec<Group>,
    text: TowerWeights,
    image: TowerWeights,
    patch: Packed,
    parameters: Vec<f32>,
    kept: Vec<Mutex<Kept>>,
    work: Mutex<Vec<Work>>,
    sums: SumBuffers,
}

impl ClipUpdate {
    /// Whether there are kernels for these sizes: widths of heads and features in whole cache lines.
    pub fn supports(sizes: &ClipSizes) -> bool {
        sizes.supported()
    }

    /// For a CLIP.
    ///
    /// # Panics
    /// If the sizes are not [supported](Self::supports).
    pub fn new(sizes: ClipSizes) -> Self {
        assert!(Self::supports(&sizes), "no kernels for {sizes:?}");
        let network = ClipNetwork::new(sizes);
        let weights = |offsets, width| TowerWeights::zeros(offsets, width, sizes.embedding);
        Self {
            text_groups: (0..=sizes.text).map(|_| OnceLock::new()).collect(),
            image_groups: full(sizes.image()),
            text: weights(&network.text, sizes.text_tower.width),
            image: weights(&network.image, sizes.image_tower.width),
            patch: Packed::zeros(sizes.patch_values(), sizes.image_tower.width),
            parameters: Vec::new(),
            kept: Vec::new(),
            work: Mutex::new(Vec::new()),
            sums: SumBuffers::default(),
            network,
        }
    }

    /// Values that updates of `pairs` pairs keep in memory on `threads` threads, parameters and gradients not counted.
    pub fn values(sizes: ClipSizes, pairs: usize, threads: usize) -> UpdateValues {
        let network = ClipNetwork::new(sizes);
        let weights = TowerWeights::values(&network.text, sizes.text_tower.width, sizes.embedding)
            + TowerWeights::values(&network.image, sizes.image_tower.width, sizes.embedding)
            + sizes.patch_values() * sizes.image_tower.width;
        let counted = Cell::new(0);
        let count = |length: usize| {
            counted.set(counted.get() + length);
            zeros(0)
        };
        let (text, image) = (causal(sizes.text), full(sizes.image()));
        // The groups of each length of a caption are kept.
        let lengths = (1..=sizes.text).map(causal);
        let masks: usize = lengths.flatten().chain(full(sizes.image())).map(|group| group.mask.len()).sum();
        let scratch = |tower: &TowerSizes, groups: &[Group]| {
            AttentionScratch::values(
                tower.all_heads().head,
                GroupSize::largest(groups.iter().map(Group::size)),
            )
        };
        let scratch = scratch(&sizes.text_tower, &text) + scratch(&sizes.image_tower, &image);
        let statistics = 2
            * (2 * sizes.text_tower.layers * sizes.text + (2 * sizes.image_tower.layers + 1) * sizes.image());
        TowerMemory::new(&sizes.text_tower, sizes.text, layer_shares(&sizes.text_tower, &text), 0, &count);
        ImageMemory::new(&sizes, layer_shares(&sizes.image_tower, &image), 0, &count);
        let kept = counted.replace(0) + statistics;
        work(&sizes.text_tower, sizes.text, &text, &count);
        work(&sizes.image_tower, sizes.image(), &image, &count);
        let (passes, works) = (pairs.min(threads), counted.get());
        UpdateValues {
            state: weights + masks + buffers(pairs, passes) * network.length(),
            activations: pairs * kept + passes * (works + scratch),
        }
    }

    /// The layers and parameters.
    pub fn network(&self) -> &ClipNetwork {
        &self.network
    }

    /// The features of captions and of images, `[B, embedding]` each, not normalised. With `keep`, [`ClipUpdate::backward`] can follow.
    /// `parameters` are laid out as [`ClipNetwork::parameters`] says.
    ///
    /// # Panics
    /// If a length differs from what the sizes demand, or an id is out of range.
    pub fn features(&mut self, parameters: &[f32], pairs: &[ClipPair<'_>], keep: bool) -> [Vec<f32>; 2] {
        self.set(parameters);
        self.check(pairs);
        let wanted = if keep { pairs.len() } else { rayon::current_num_threads().min(pairs.len()) };
        while self.kept.len() < wanted {
            self.kept.push(Mutex::new(self.new_kept()));
        }
        let e = self.network.sizes.embedding;
        let this = &*self;
        let mut features = [0, 1].map(|_| vec![0.0; pairs.len() * e]);
        let [texts, images] = &mut features;
        let tasks = texts.par_chunks_exact_mut(e).zip(images.par_chunks_exact_mut(e)).zip(pairs).enumerate();
        let compute =
            |index: usize, pair: &ClipPair<'_>, (text_feature, image_feature): (&mut [f32], &mut [f32])| {
                let slot = if keep { index } else { rayon::current_thread_index().unwrap_or(0) % wanted };
                let kept = &mut *lock(&this.kept[slot]);
                let mut work = this.take_work();
                let groups = this.text_groups(pair.ids.len() + 2);
                let memory = (&mut kept.text, &mut work.text);
                text::forward(&this.network, this.text_tower(), pair.ids, groups, memory, text_feature);
                let memory = (&mut kept.image, &mut work.image);
                let image = (pair.image, &this.patch);
                image::forward(
                    &this.network,
                    this.image_tower(),
                    image,
                    &this.image_groups,
                    memory,
                    image_feature,
                );
                this.give_back(work);
            };
        tasks.for_each(|(index, (features, pair))| compute(index, pair, features));
        features
    }

    /// The gradients of all parameters for the pairs whose features were computed last and kept, from the gradients of those features,
    /// `[B, embedding]` each. They are written to `gradients`; the last one, of the logarithm of the scale, is 0.
    ///
    /// # Panics
    /// If a length differs from what the sizes demand.
    pub fn backward(&mut self, pairs: &[ClipPair<'_>], d_features: [&[f32]; 2], gradients: &mut [f32]) {
        let e = self.network.sizes.embedding;
        assert_eq!(gradients.len(), self.network.length(), "gradients");
        for d_features in d_features {
            assert_eq!(d_features.len(), pairs.len() * e, "gradients of features");
        }
        assert!(self.kept.len() >= pairs.len(), "features that were not kept");
        let this = &*self;
        let compute = |part: usize, gradients: &mut [f32]| {
            let mut work = this.take_work();
            for (index, pair) in pairs.iter().enumerate().skip(part).step_by(SUMS) {
                let kept = &mut *lock(&this.kept[index]);
                let [d_text, d_image] = d_features.map(|d_features| &d_features[index * e..][..e]);
                let groups = this.text_groups(pair.ids.len() + 2);
                let memory = (&mut kept.text, &mut work.text);
                text::backward(&this.network, this.text_tower(), pair.ids, groups, memory, d_text, gradients);
                let memory = (&mut kept.image, &mut work.image);
                let (tower, groups) = (this.image_tower(), &this.image_groups);
                image::backward(&this.network, tower, groups, memory, d_image, gradients);
            }
            this.give_back(work);
        };
        let counts = (pairs.len().min(SUMS), rayon::current_num_threads());
        add_up(&this.sums, counts, gradients, compute);
    }

    fn set(&mut self, parameters: &[f32]) {
        assert_eq!(parameters.len(), self.network.length(), "parameters");
        self.parameters.clear();
        self.parameters.extend_from_slice(parameters);
        let mut layers = self.text.set(&self.network.text, parameters);
        layers.extend(self.image.set(&self.network.image, parameters));
        layers.into_par_iter().for_each(|layer| layer.set(parameters, true));
        let length = self.network.sizes.patch_values() * self.network.sizes.image_tower.width;
        self.patch.set(&parameters[self.network.patch..][..length]);
    }

    fn check(&self, pairs: &[ClipPair<'_>]) {
        let sizes = &self.network.sizes;
        assert!(!pairs.is_empty(), "no pairs");
        for pair in pairs {
            assert!(pair.ids.len() + 2 <= sizes.text, "{} ids do not fit", pair.ids.len());
            assert!(pair.ids.iter().all(|&id| (id as usize) < sizes.text_vocab), "a text id out of range");
            assert_eq!(pair.image.len(), 3 * sizes.side * sizes.side, "an image of another size");
        }
    }

    fn text_groups(&self, slots: usize) -> &[Group] {
        self.text_groups[slots].get_or_init(|| causal(slots))
    }

    fn text_tower(&self) -> Tower<'_> {
        Tower {
            sizes: &self.network.sizes.text_tower,
            offsets: &self.network.text,
            weights: &self.text,
            parameters: &self.parameters,
        }
    }

    fn image_tower(&self) -> Tower<'_> {
        Tower {
            sizes: &self.network.sizes.image_tower,
            offsets: &self.network.image,
            weights: &self.image,
            parameters: &self.parameters,
        }
    }

    fn new_kept(&self) -> Kept {
        let sizes = &self.network.sizes;
        let shares = layer_shares(&sizes.text_tower, self.text_groups(sizes.text));
        let image_shares = layer_shares(&sizes.image_tower, &self.image_groups);
        Kept {
            text: TowerMemory::new(&sizes.text_tower, sizes.text, shares, sizes.text, &zeros),
            image: ImageMemory::new(sizes, image_shares, sizes.image(), &zeros),
        }
    }

    fn take_work(&self) -> Work {
        let sizes = &self.network.sizes;
        lock(&self.work).pop().unwrap_or_else(|| Work {
            text: work(&sizes.text_tower, sizes.text, self.text_groups(sizes.text), &zeros),
            image: work(&sizes.image_tower, sizes.image(), &self.image_groups, &zeros),
        })
    }

    fn give_back(&self, work: Work) {
        lock(&self.work).push(work);
    }
}
