//! Stage 2: training the prior on captions and the tokens of their images (section 2.2, appendix B.2).

use std::cell::OnceCell;

use anyhow::{Context, Result};
use dalle_kernels::prior::{PriorLosses, ScoredTokens};
use dalle_model::config::ModelConfig;
use dalle_model::precision::Precision;
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior};
use dalle_model::{Device, has_kernels};
use dalle_shared::{ImageToken, TextToken};

use crate::engine::{self, GradientScales, InMemory, ResblockGradients, Resblocks};
use crate::gradients::Gradients;
use crate::metrics::{Metrics, add_share, scalars};
use crate::prefetch::{Batches, Prefetch};
use crate::prior_data::PriorPair;
use crate::prior_kernels::PriorKernels;
use crate::prior_schedule::PriorSchedule;
use crate::ranks::Ranks;
use crate::stage::{Stage, Validation};

/// The stage's data and schedule.
pub struct PriorStage {
    data: Prefetch<Vec<PriorPair>>,
    held_out: Vec<PriorPair>,
    /// Masks with and without autodiff. Only Burn needs them.
    masks: [LazyMasks; 2],
    /// Text tokens that the prior predicts.
    text_places: usize,
    schedule: PriorSchedule,
    /// Kernels that compute gradients on the CPU. None on other devices, where Burn computes them.
    kernels: Option<PriorKernels>,
    ranks: Ranks,
    mixed: Option<MixedPrecision>,
}

/// Training with matrices in 16 bits (section 2.4, appendix D).
struct MixedPrecision {
    /// The type of the resblocks' matrices, and of what is computed with them.
    precision: Precision,
    /// One for each resblock; or one for all, for comparison.
    scales: GradientScales,
}

/// Masks that are built when they are first used.
struct LazyMasks {
    config: ModelConfig,
    device: Device,
    masks: OnceCell<Masks>,
}

impl LazyMasks {
    fn get(&self) -> &Masks {
        self.masks.get_or_init(|| Masks::new(&self.config, &self.device))
    }
}

/// Text tokens that the loss of some pairs is a mean over: each caption, and its end where there is room for it.
fn scored(pairs: &[PriorPair], places: usize) -> usize {
    pairs.iter().flat_map(|pair| &pair.caption).map(|ids| (ids.len() + 1).min(places)).sum()
}

impl PriorStage {
    /// A stage that trains on `data`, this rank's share of each batch, and validates on other pairs; `device` is the autodiff device to
    /// train on.
    pub fn new(
        data: impl Batches<Batch = Vec<PriorPair>>,
        held_out: Vec<PriorPair>,
        config: &ModelConfig,
        schedule: PriorSchedule,
        device: &Device,
        ranks: Ranks,
    ) -> Self {
        Self {
            kernels: has_kernels(device).then(|| PriorKernels::new(config)).flatten(),
            data: Prefetch::new(data),
            held_out,
            masks: [device.clone(), device.clone().without_autodiff()].map(|device| LazyMasks {
                config: config.clone(),
                device,
                masks: OnceCell::new(),
            }),
            text_places: config.text_length - 1,
            schedule,
            ranks,
            mixed: None,
        }
    }

    /// Trains with the matrices of the `layers` in `precision`, and the gradients of each resblock multiplied by a scale of its own; or with
    /// `one_scale`, all by the same. Weights, moments and averages stay in f32.
    #[must_use]
    pub fn in_precision(mut self, precision: Precision, layers: usize, one_scale: bool) -> Self {
        if precision != Precision::F32 {
            let count = if one_scale { 1 } else { 2 * layers };
            let scales = GradientScales::new(count, self.ranks.count() as u64);
            self.mixed = Some(MixedPrecision { precision, scales });
            // They compute in f32.
            self.kernels = None;
        }
        self
    }
}

impl PriorStage {
    fn loss(&self, prior: &Prior, masks: &Masks, pairs: &[PriorPair]) -> Result<PriorLoss> {
        let captions: Vec<Option<&[TextToken]>> = pairs.iter().map(|pair| pair.caption.as_deref()).collect();
        let images: Vec<&[ImageToken]> = pairs.iter().map(|pair| pair.image.as_slice()).collect();
        let inputs: Vec<&[TextToken]> = captions.iter().map(|caption| caption.unwrap_or_default()).collect();
        let seen: Vec<&[ImageToken]> = pairs.iter().map(PriorPair::seen).collect();
        Ok(PriorLoss::new(prior.forward(masks, &inputs, &seen)?, &captions, &images))
    }
}

impl PriorStage {
    /// Changes the scales after an update, in which the gradients of resblocks were finite on this rank or not.
    fn record_scales(&mut self, finite: &[bool]) -> Result<Metrics> {
        let Some(mixed) = &mut self.mixed else { return Ok(Metrics::new()) };
        let bad = finite.iter().map(|finite| if *finite { 0.0 } else { 1.0 }).collect();
        let finite: Vec<bool> = self.ranks.sum(bad)?.into_iter().map(|bad| bad == 0.0).collect();
        if mixed.scales.values().len() == 1 {
            mixed.scales.record(&[finite.iter().all(|finite| *finite)]);
        } else {
            mixed.scales.record(&finite);
        }
        let exponents = mixed.scales.values().into_iter().map(|scale| f64::from(scale).log2());
        let (least, greatest) = exponents
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), exponent| {
                (least.min(exponent), greatest.max(exponent))
            });
        let part = self.ranks.part();
        Ok(scalars(&[
            ("least gradient scale, log2", part * least),
            ("greatest gradient scale, log2", part * greatest),
        ]))
    }

    /// Pairs that are computed at once.
    fn part(&self) -> usize {
        (self.schedule.batch / self.ranks.count()).div_ceil(self.schedule.accumulate)
    }

    /// The tokens of some pairs that their losses are means over.
    fn scored(&self, pairs: &[PriorPair]) -> ScoredTokens {
        let image = pairs.iter().map(|pair| pair.image.len()).sum();
        ScoredTokens { text: scored(pairs, self.text_places), image }
    }

    /// The same of the batch that all ranks have a share of.
    fn scored_by_all(&self, pairs: &[PriorPair]) -> Result<ScoredTokens> {
        let ScoredTokens { text, image } = self.scored(pairs);
        let all = self.ranks.gather([text, image].map(|count| (count as u64).to_le_bytes()).concat())?;
        let counts = all.iter().flat_map(|counts| counts.as_chunks::<8>().0);
        let counts: Vec<usize> = counts.map(|count| u64::from_le_bytes(*count) as usize).collect();
        let sum = |kind: usize| counts.iter().skip(kind).step_by(2).sum();
        Ok(ScoredTokens { text: sum(0), image: sum(1) })
    }

    /// What a part contributes to the loss of all pairs, which have `whole` tokens: each kind of token counts alike in all parts,
    /// however many a part has.
    fn share_of_loss(
        &self,
        prior: &Prior,
        masks: &Masks,
        part: &[PriorPair],
        whole: ScoredTokens,
    ) -> Result<PriorLoss> {
        Ok(self.weighted(self.loss(prior, masks, part)?, part, whole))
    }

    /// The losses of a part as its share of those of all pairs.
    fn weighted(
        &self,
        PriorLoss { text, image }: PriorLoss,
        part: &[PriorPair],
        whole: ScoredTokens,
    ) -> PriorLoss {
        let own = self.scored(part);
        let share = |own: usize, whole: usize| own as f64 / whole.max(1) as f64;
        PriorLoss {
            text: text.mul_scalar(share(own.text, whole.text)),
            image: image.mul_scalar(share(own.image, whole.image)),
        }
    }

    /// The same with its gradients, resblock by resblock, and for each resblock whether they are finite, if they were scaled.
    fn gradients_of_share(
        &self,
        prior: &Prior,
        resblocks: &mut InMemory,
        part: &[PriorPair],
        whole: ScoredTokens,
    ) -> Result<(Gradients, PriorLoss, Vec<bool>)> {
        let captions: Vec<Option<&[TextToken]>> = part.iter().map(|pair| pair.caption.as_deref()).collect();
        let images: Vec<&[ImageToken]> = part.iter().map(|pair| pair.image.as_slice()).collect();
        let inputs: Vec<&[TextToken]> = captions.iter().map(|caption| caption.unwrap_or_default()).collect();
        let seen: Vec<&[ImageToken]> = part.iter().map(PriorPair::seen).collect();
        let count = resblocks.count();
        let scales = self.mixed.as_ref().map(|mixed| mixed.scales.values());
        let scales = scales.unwrap_or_else(|| vec![1.0]);
        let scales: Vec<f32> = scales.into_iter().cycle().take(count).collect();
        let (mut gradients, mut finite) = (Gradients::default(), vec![true; count]);
        let loss = |logits| {
            let loss = self.weighted(PriorLoss::new(logits, &captions, &images), part, whole);
            (loss.total(), loss)
        };
        let mut take = |own: ResblockGradients| {
            if self.mixed.is_some() {
                finite[own.index] = own.finite();
            }
            gradients.add(own.unscaled());
            Ok(())
        };
        let pass = engine::gradients(
            prior,
            resblocks,
            self.masks[0].get(),
            (&inputs, &seen),
            &scales,
            loss,
            &mut take,
        )?;
        gradients.add(pass.outer);
        Ok((gradients, pass.result, finite))
    }
}

fn losses_of(losses: PriorLosses) -> Metrics {
    scalars(&[("loss", losses.total()), ("text loss", losses.text), ("image loss", losses.image)])
}

fn named(loss: PriorLoss) -> Metrics {
    vec![("loss", loss.total()), ("text loss", loss.text), ("image loss", loss.image)]
}

impl Stage for PriorStage {
    type Network = Prior;

    fn uses_autodiff(&self) -> bool {
        self.kernels.is_none()
    }

    fn gradients(&mut self, prior: &Prior, step: u64) -> Result<(Gradients, Metrics)> {
        let batch = self.data.batch(step)?;
        let whole = self.scored_by_all(&batch)?;
        if let Some(kernels) = &mut self.kernels {
            // Whole: the kernels need memory for a pair of each thread, not for the batch.
            let (losses, gradients) = kernels.gradients(prior, batch.iter(), whole);
            return Ok((gradients, losses_of(losses)));
        }
        let (mut gradients, mut metrics) = (Gradients::default(), Metrics::new());
        let mut resblocks = match &self.mixed {
            Some(mixed) => InMemory::new(&prior.clone().with_precision(mixed.precision)),
            None => InMemory::new(prior),
        };
        let mut finite = vec![true; resblocks.count()];
        for part in batch.chunks(self.part()) {
            let (own, loss, all_finite) = self.gradients_of_share(prior, &mut resblocks, part, whole)?;
            gradients.add(own);
            add_share(&mut metrics, named(loss), 1.0);
            finite.iter_mut().zip(all_finite).for_each(|(finite, own)| *finite &= own);
        }
        metrics.extend(self.record_scales(&finite)?);
        Ok((gradients, metrics))
    }

    fn log_values(&self) -> Vec<(String, f64)> {
        let Some(mixed) = self.mixed.as_ref().filter(|mixed| mixed.scales.values().len() > 1) else {
            return Vec::new();
        };
        let values = mixed.scales.values();
        let digits = (values.len() / 2 - 1).to_string().len();
        let named = values.into_iter().enumerate().map(|(resblock, scale)| {
            let (layer, kind) = (resblock / 2, if resblock.is_multiple_of(2) { "attention" } else { "mlp" });
            (format!("gradient scale, log2/{layer:0digits$} {kind}"), f64::from(scale).log2())
        });
        named.collect()
    }

    fn state(&self) -> serde_json::Value {
        let scales = self.mixed.as_ref().map(|mixed| &mixed.scales);
        scales.map_or(serde_json::Value::Null, |scales| serde_json::json!(scales))
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<()> {
        if let Some(mixed) = &mut self.mixed {
            let scales: GradientScales =
                serde_json::from_value(state.clone()).context("the checkpoint has no gradient scales")?;
            mixed.scales = scales.with_replicas(self.ranks.count() as u64);
        }
        Ok(())
    }

    fn validate(&mut self, prior: &Prior) -> Result<Validation> {
        let (own, whole) = (self.ranks.range(self.held_out.len()), self.scored(&self.held_out));
        if own.is_empty() && !self.held_out.is_empty() {
            return Ok(Validation::none(&["text loss", "image loss"]));
        }
        let own_scored = self.scored(&self.held_out[own.clone()]);
        if let Some(kernels) = &mut self.kernels
            && !own.is_empty()
        {
            let losses = kernels.evaluate(prior, self.held_out[own].iter());
            // Of the means over all: each kind of token counts alike on all ranks.
            let share = |loss: f64, own: usize, whole: usize| match own {
                0 => 0.0,
                _ => loss * own as f64 / whole as f64,
            };
            return Validation::read(losses_of(PriorLosses {
                text: share(losses.text, own_scored.text, whole.text),
                image: share(losses.image, own_scored.image, whole.image),
            }));
        }
        let mut metrics = Metrics::new();
        for part in self.held_out[own].chunks(self.part()) {
            let loss = self.share_of_loss(prior, self.masks[1].get(), part, whole)?;
            add_share(&mut metrics, named(loss), 1.0);
        }
        Validation::read(metrics)
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.schedule.learning_rate.at(step)
    }

    /// Gradient scales fall slowly, and updates are skipped until they have fallen enough.
    fn most_skipped(&self) -> u64 {
        if self.mixed.is_some() { GradientScales::UPDATES_TO_FALL } else { 20 }
    }
}

#[cfg(test)]
mod tests;
