//! Losses and gradients of a batch.

use std::sync::Mutex;

use rayon::prelude::*;

use super::groups::groups;
use super::memory::{PriorMemory, layer_shares};
use super::network::{PriorNetwork, PriorSizes};
use super::pair::Pair;
use super::pass::PriorContext;
use super::pattern::Pattern;
use super::weights::PriorWeights;
use crate::grid::UNIT;
use crate::simd::Processor;
use crate::sums::{SUMS, SumBuffers, UpdateValues, add_up, buffers};
use crate::threads::Threads;
use crate::transformer::attention::Group;
use crate::transformer::pass::Context;

/// Share of the text's cross-entropy in the loss; the image has the rest (section 2.2).
const TEXT_WEIGHT: f64 = 1.0 / 8.0;

/// Losses in nats per token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriorLosses {
    /// Mean over the scored captions' ids and ends.
    pub text: f64,
    /// Mean over the image tokens.
    pub image: f64,
}

impl PriorLosses {
    /// The weighted sum that training minimises.
    pub fn total(&self) -> f64 {
        TEXT_WEIGHT * self.text + (1.0 - TEXT_WEIGHT) * self.image
    }
}

/// How many tokens of a batch are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoredTokens {
    /// Ids and ends of the scored captions.
    pub text: usize,
    /// Image tokens.
    pub image: usize,
}

impl ScoredTokens {
    /// What a mean divides by, at least one.
    fn divisors(self) -> [f64; 2] {
        [self.text, self.image].map(|count| count.max(1) as f64)
    }

    /// Weight of a token of text and of the image in the loss.
    fn weights(self) -> [f32; 2] {
        let [text, image] = self.divisors();
        [(TEXT_WEIGHT / text) as f32, ((1.0 - TEXT_WEIGHT) / image) as f32]
    }

    /// Sums of cross-entropies as means.
    fn mean(self, losses: &[[f64; 2]]) -> PriorLosses {
        let [text, image] = self.divisors();
        let sum = |kind: usize| losses.iter().map(|losses| losses[kind]).sum::<f64>();
        PriorLosses { text: sum(0) / text, image: sum(1) / image }
    }
}

/// Computes losses and gradients of batches.
pub struct PriorUpdate {
    network: PriorNetwork,
    groups: Vec<Vec<Group>>,
    weights: PriorWeights,
    sums: SumBuffers,
    memories: Mutex<Vec<PriorMemory>>,
}

impl PriorUpdate {
    /// Whether there are kernels for these sizes: heads as wide as whole cache lines.
    pub fn supports(sizes: &PriorSizes) -> bool {
        sizes.head > 0 && sizes.head.is_multiple_of(UNIT) && sizes.text > 1
    }

    /// For a prior.
    ///
    /// # Panics
    /// If the sizes are not [supported](Self::supports).
    pub fn new(sizes: PriorSizes) -> Self {
        assert!(Self::supports(&sizes), "no kernels for {sizes:?}");
        let network = PriorNetwork::new(sizes);
        let layer = |index: usize| groups(&sizes, Pattern::of_layer(index, sizes.layers));
        Self {
            groups: (0..sizes.layers).map(layer).collect(),
            weights: PriorWeights::zeros(&network),
            network,
            sums: SumBuffers::default(),
            memories: Mutex::new(Vec::new()),
        }
    }

    /// Values that updates and evaluations of up to `pairs` pairs keep in memory on `threads` threads.
    pub fn values(sizes: PriorSizes, pairs: usize, threads: usize) -> UpdateValues {
        let network = PriorNetwork::new(sizes);
        let layers = (0..sizes.layers).map(|index| Pattern::of_layer(index, sizes.layers));
        let masks = layers.map(|pattern| layer_shares(&sizes, pattern)).sum::<usize>() / sizes.heads.max(1);
        let passes = if pairs < threads { 1 } else { threads };
        UpdateValues {
            state: masks + PriorWeights::values(&network) + buffers(pairs, passes) * network.length(),
            activations: passes * PriorMemory::values(&sizes),
        }
    }

    /// The layers and parameters.
    pub fn network(&self) -> &PriorNetwork {
        &self.network
    }

    /// The losses of pairs, and the gradient of [`PriorLosses::total`], which is written to `gradients`. `parameters` and
    /// `gradients` are laid out as [`PriorNetwork::parameters`] says.
    ///
    /// # Panics
    /// If a length differs from what the sizes demand, or a token is out of range.
    pub fn run(&mut self, parameters: &[f32], pairs: &[Pair<'_>], gradients: &mut [f32]) -> PriorLosses {
        self.run_share(parameters, pairs, self.scored(pairs), gradients)
    }

    /// What pairs contribute to the losses and gradients of a batch that has `whole` scored tokens: summed over all pairs of the
    /// batch they are those of [`PriorUpdate::run`].
    ///
    /// # Panics
    /// As [`PriorUpdate::run`].
    pub fn run_share(
        &mut self,
        parameters: &[f32],
        pairs: &[Pair<'_>],
        whole: ScoredTokens,
        gradients: &mut [f32],
    ) -> PriorLosses {
        self.check(parameters, pairs, true);
        assert_eq!(gradients.len(), self.network.length(), "gradients");
        let (count, threads) = (pairs.len().min(SUMS), rayon::current_num_threads());
        let weights = whole.weights();
        let this = &*self;
        let compute = |cx: PriorContext<'_>, part: usize, gradients: &mut [f32]| {
            let mut memory = this.memory();
            let mut losses = [0.0; 2];
            for pair in pairs.iter().skip(part).step_by(SUMS) {
                memory.forward(&cx, pair);
                let [text, image] = memory.compare(&cx, pair, weights);
                losses = [losses[0] + text, losses[1] + image];
                memory.backward(&cx, pair, gradients);
            }
            this.give_back(memory);
            losses
        };
        let losses = if count < threads {
            // Pair by pair, each on all threads.
            this.together(|threads| {
                let cx = this.context(parameters, threads);
                add_up(&this.sums, (count, 1), gradients, |part, sum| compute(cx, part, sum))
            })
        } else {
            let cx = this.context(parameters, Threads::alone());
            add_up(&this.sums, (count, threads), gradients, |part, sum| compute(cx, part, sum))
        };
        whole.mean(&losses)
    }

    /// The losses of pairs.
    ///
    /// # Panics
    /// As [`PriorUpdate::run`].
    pub fn evaluate(&mut self, parameters: &[f32], pairs: &[Pair<'_>]) -> PriorLosses {
        self.check(parameters, pairs, false);
        let this = &*self;
        let compute = |cx: PriorContext<'_>, pair: &Pair<'_>| {
            let mut memory = this.memory();
            memory.forward(&cx, pair);
            let losses = memory.compare(&cx, pair, [0.0; 2]);
            this.give_back(memory);
            losses
        };
        let losses: Vec<[f64; 2]> = if pairs.len() < rayon::current_num_threads() {
            this.together(|threads| {
                let cx = this.context(parameters, threads);
                pairs.iter().map(|pair| compute(cx, pair)).collect()
            })
        } else {
            let cx = this.context(parameters, Threads::alone());
            pairs.par_iter().map(|pair| compute(cx, pair)).collect()
        };
        self.scored(pairs).mean(&losses)
    }

    /// The tokens of pairs that the losses are means over.
    pub fn scored(&self, pairs: &[Pair<'_>]) -> ScoredTokens {
        let places = self.network.sizes.text - 1;
        let text = |pair: &Pair<'_>| if pair.scored { (pair.input.len() + 1).min(places) } else { 0 };
        let image = pairs.len() * self.network.sizes.grid.pow(2);
        ScoredTokens { text: pairs.iter().map(text).sum(), image }
    }

    /// Calls `run`, in which all threads compute the same pair together.
    fn together<T: Send>(&self, run: impl FnOnce(Threads) -> T + Send) -> T {
        let sizes = &self.network.sizes;
        Threads::enter(sizes.slots() * sizes.width().pow(2), run)
    }

    /// Checks the operands, and packs the matrices.
    fn check(&mut self, parameters: &[f32], pairs: &[Pair<'_>], backward: bool) {
        let sizes = &self.network.sizes;
        assert_eq!(parameters.len(), self.network.length(), "parameters");
        assert!(!pairs.is_empty(), "no pairs");
        for pair in pairs {
            assert!(
                pair.input.len() < sizes.text,
                "{} ids do not fit {} slots",
                pair.input.len(),
                sizes.text - 1
            );
            for tokens in [pair.image, pair.seen] {
                assert_eq!(tokens.len(), sizes.grid * sizes.grid, "image tokens");
                assert!(
                    tokens.iter().all(|&id| (id as usize) < sizes.image_vocab),
                    "an image token out of range"
                );
            }
            assert!(pair.input.iter().all(|&id| (id as usize) < sizes.text_vocab), "a text id out of range");
        }
        self.weights.set(parameters, backward);
    }

    fn context<'a>(&'a self, parameters: &'a [f32], threads: Threads) -> PriorContext<'a> {
        let (processor, heads) = (Processor::detect(), self.network.sizes.all_heads());
        PriorContext {
            base: Context { processor, heads, parameters, threads },
            network: &self.network,
            weights: &self.weights,
            groups: &self.groups,
        }
    }

    fn memory(&self) -> PriorMemory {
        let free = self.memories.lock().ok().and_then(|mut free| free.pop());
        free.unwrap_or_else(|| PriorMemory::new(&self.network.sizes))
    }

    fn give_back(&self, memory: PriorMemory) {
        if let Ok(mut free) = self.memories.lock() {
            free.push(memory);
        }
    }
}
