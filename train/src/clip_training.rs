//! Training CLIP on captions and their images (section 2.6; arXiv 2103.00020).

use anyhow::{Result, ensure};
use dalle_comm::{Group, Wire};
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::{Bool, Tensor, TensorData};
use dalle_model::clip::{Clip, ClipConfig, ClipLoss, unit};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::pixels::images_to_tensor;
use dalle_model::{Device, has_kernels};
use dalle_shared::TextToken;

use crate::clip_data::{ClipCaption, ClipPair};
use crate::clip_kernels::ClipKernels;
use crate::clip_schedule::ClipSchedule;
use crate::gradients::Gradients;
use crate::metrics::{Metrics, add_share};
use crate::optimizer::tracked;
use crate::prefetch::{Batches, Prefetch};
use crate::ranks::Ranks;
use crate::stage::{Stage, Validation};

/// The stage's data and schedule.
pub struct ClipStage {
    data: Prefetch<Vec<ClipPair>>,
    held_out: Vec<ClipPair>,
    image_size: usize,
    schedule: ClipSchedule,
    device: Device,
    /// Kernels that compute the towers on the CPU. None on other devices, where Burn computes them.
    kernels: Option<ClipKernels>,
    ranks: Ranks,
}

impl ClipStage {
    /// A stage that trains on `data`, this rank's share of each batch, and validates on other pairs, on an autodiff device.
    pub fn new(
        data: impl Batches<Batch = Vec<ClipPair>>,
        held_out: Vec<ClipPair>,
        (config, model): (&ClipConfig, &ModelConfig),
        schedule: ClipSchedule,
        device: Device,
        ranks: Ranks,
    ) -> Self {
        let kernels = has_kernels(&device).then(|| ClipKernels::new(config, model)).flatten();
        Self {
            data: Prefetch::new(data),
            held_out,
            image_size: model.image_size,
            schedule,
            device,
            kernels,
            ranks,
        }
    }

    /// The same without kernels.
    #[cfg(test)]
    fn on_burn(self) -> Self {
        Self { kernels: None, ..self }
    }
}

/// Checks that a batch has pairs to contrast, and that there are enough examples for it.
///
/// # Errors
/// The batch is too small, or larger than the number of examples.
pub fn check_batch(batch: usize, examples: usize) -> Result<()> {
    ensure!(
        (2..=examples).contains(&batch),
        "--batch: expected at least 2, because each pair is contrasted with the others, and at most {examples}, the number of \
         images in the training split; got {batch}"
    );
    Ok(())
}

/// The contrastive loss of a batch, from features of its captions and images, `[B, E]` each.
fn compare(clip: &Clip, captions: &[ClipCaption], texts: Tensor<2>, images: Tensor<2>) -> ClipLoss {
    let logits = texts.matmul(images.transpose()) * clip.scale().unsqueeze();
    ClipLoss::new(exclude(other_true_pairs(captions), logits))
}

fn captions(pairs: &[ClipPair]) -> Vec<ClipCaption> {
    pairs.iter().map(|pair| pair.caption.clone()).collect()
}

/// Which captions belong to which images beside their own, row by row, `[B · B]`; nothing if there are none.
fn other_true_pairs(pairs: &[ClipCaption]) -> Option<Vec<bool>> {
    let row = |(i, pair): (usize, &ClipCaption)| -> Vec<bool> {
        pairs.iter().enumerate().map(|(j, other)| i != j && pair.is_same(other)).collect()
    };
    let same: Vec<bool> = pairs.iter().enumerate().flat_map(row).collect();
    same.contains(&true).then_some(same)
}

/// `logits`, `[B, B]`, with a very small value for `pairs`: they are neither positives nor negatives.
fn exclude(pairs: Option<Vec<bool>>, logits: Tensor<2>) -> Tensor<2> {
    // Less than any scaled cosine, and finite: infinities have no gradient.
    const IMPOSSIBLE: f64 = -1e9;
    let Some(pairs) = pairs else { return logits };
    let pairs = Tensor::<2, Bool>::from_data(TensorData::new(pairs, logits.shape()), &logits.device());
    logits.mask_fill(pairs, IMPOSSIBLE)
}

impl ClipStage {
    /// Features of captions and images, `[B, E]` each.
    fn features(&self, clip: &Clip, pairs: &[ClipPair]) -> Result<[Tensor<2>; 2]> {
        let captions: Vec<&[TextToken]> = pairs.iter().map(|pair| pair.caption.ids.as_slice()).collect();
        let bytes: Vec<&[u8]> = pairs.iter().map(|pair| pair.image.as_raw().as_slice()).collect();
        let images = images_to_tensor(&bytes, self.image_size, self.image_size, &clip.device());
        Ok([clip.texts(&captions)?, clip.images(images)])
    }

    /// The gradients of a batch that is computed in parts, on all ranks, each compared with all the others: first the features of all,
    /// then the loss's gradient with respect to them, then through each part again (arXiv 2101.06983).
    fn gradients_by_parts(
        &self,
        clip: &Clip,
        batch: &[ClipPair],
        part: usize,
    ) -> Result<(Gradients, ClipLoss)> {
        let plain = clip.valid();
        let features: Vec<_> =
            batch.chunks(part).map(|part| self.features(&plain, part)).collect::<Result<_>>()?;
        let own = [0, 1].map(|kind| Tensor::cat(features.iter().map(|part| part[kind].clone()).collect(), 0));
        let [texts, images] = self.of_all_ranks(own)?;
        let [texts, images] =
            [texts, images].map(|all| tracked(all, self.device.gradient_checkpointing_strategy()));
        let outcome = compare(clip, &self.captions_of_all(batch)?, texts.clone(), images.clone());
        let mut tape = outcome.loss.backward();
        let own = |by_feature: Tensor<2>| by_feature.narrow(0, self.ranks.rank() * batch.len(), batch.len());
        let [by_text, by_image] = [texts, images].map(|features| features.grad_remove(&mut tape).map(own));
        // All ranks have the gradient of the scale; their sum is to be that of one.
        let mut gradients = match self.ranks.is_first() {
            true => Gradients::collect(tape, clip),
            false => Gradients::default(),
        };
        for (index, pairs) in batch.chunks(part).enumerate() {
            // The value of this product is of no use, its gradient is that of the loss.
            let products = self.features(clip, pairs)?.into_iter().zip([&by_text, &by_image]).filter_map(
                |(features, by_feature)| {
                    let by_feature = by_feature.clone()?.narrow(0, index * part, pairs.len());
                    Some((features * by_feature).sum())
                },
            );
            if let Some(product) = products.reduce(|sum, product| sum + product) {
                gradients.add(Gradients::of(&product, clip));
            }
        }
        Ok((gradients, outcome))
    }

    /// The gradients of a batch, as [`gradients_by_parts`](Self::gradients_by_parts), with the towers on the kernels. If the batch is one
    /// part, its features are computed once.
    fn gradients_on_kernels(
        &self,
        kernels: &mut ClipKernels,
        clip: &Clip,
        batch: &[ClipPair],
        part: usize,
    ) -> Result<(Gradients, ClipLoss)> {
        let whole = part >= batch.len();
        let features: Vec<_> = batch.chunks(part).map(|pairs| kernels.features(clip, pairs, whole)).collect();
        let own = [0, 1].map(|kind| Tensor::cat(features.iter().map(|part| part[kind].clone()).collect(), 0));
        let strategy = self.device.gradient_checkpointing_strategy();
        let features = self.of_all_ranks(own)?.map(|all| tracked(all, strategy));
        let [texts, images] = features.clone().map(unit);
        let outcome = compare(clip, &self.captions_of_all(batch)?, texts, images);
        let mut tape = outcome.loss.backward();
        let own = |by_feature: Tensor<2>| by_feature.narrow(0, self.ranks.rank() * batch.len(), batch.len());
        let [texts, images] = features.map(|features| features.grad_remove(&mut tape).map(own));
        let (Some(texts), Some(images)) = (texts, images) else {
            return Ok((Gradients::default(), outcome));
        };
        // All ranks have the gradient of the scale; their sum is to be that of one.
        let mut gradients = match self.ranks.is_first() {
            true => Gradients::collect(tape, clip),
            false => Gradients::default(),
        };
        for (index, pairs) in batch.chunks(part).enumerate() {
            if !whole {
                kernels.features(clip, pairs, true);
            }
            let by_feature =
                [&texts, &images].map(|by_feature| by_feature.clone().narrow(0, index * part, pairs.len()));
            gradients.add(kernels.gradients(pairs, by_feature));
        }
        Ok((gradients, outcome))
    }

    /// Features of the whole batch from those of this rank's share, `[B, E]` each.
    fn of_all_ranks(&self, own: [Tensor<2>; 2]) -> Result<[Tensor<2>; 2]> {
        let Some(others) = self.ranks.others() else { return Ok(own) };
        let device = own[0].device();
        let pending = own.map(|own| {
            let [_, width] = own.dims();
            let values = own.into_data().iter::<f32>().collect();
            (others.gather_values(Group::World, values, Wire::F32), width)
        });
        let mut all = Vec::with_capacity(2);
        for (pending, width) in pending {
            let values = pending.wait()?;
            let shape = [values.len() / width, width];
            all.push(Tensor::from_data(TensorData::new(values, shape), &device));
        }
        Ok(all.try_into().expect("two kinds of features"))
    }

    /// The captions of the whole batch.
    fn captions_of_all(&self, own: &[ClipPair]) -> Result<Vec<ClipCaption>> {
        if self.ranks.others().is_none() {
            return Ok(captions(own));
        }
        let all = self.ranks.gather(serde_json::to_vec(&captions(own))?)?;
        let all = all.iter().map(|captions| serde_json::from_slice::<Vec<ClipCaption>>(captions));
        Ok(all.collect::<Result<Vec<_>, _>>()?.concat())
    }
}

impl Stage for ClipStage {
    type Network = Clip;

    fn gradients(&mut self, clip: &Clip, step: u64) -> Result<(Gradients, Metrics)> {
        let batch = self.data.batch(step)?;
        let alone = self.ranks.others().is_none();
        let part = batch.len().div_ceil(self.schedule.accumulate);
        let (gradients, outcome) = if let Some(mut kernels) = self.kernels.take() {
            let found = self.gradients_on_kernels(&mut kernels, clip, &batch, part);
            self.kernels = Some(kernels);
            found?
        } else if alone && self.schedule.accumulate == 1 {
            let [texts, images] = self.features(clip, &batch)?;
            let outcome = compare(clip, &captions(&batch), texts, images);
            (Gradients::of(&outcome.loss, clip), outcome)
        } else {
            self.gradients_by_parts(clip, &batch, part)?
        };
        let ClipLoss { loss, retrieval } = outcome;
        // All ranks compute the same.
        let metrics = [("loss", loss), ("retrieval", retrieval), ("scale", clip.scale())];
        let part = |value: Tensor<1>| if alone { value } else { value.mul_scalar(self.ranks.part()) };
        Ok((gradients, metrics.map(|(name, value)| (name, part(value))).into()))
    }

    /// Uses batches of the training's size if there are enough pairs, because smaller batches are easier. Leaves out the last,
    /// incomplete batch.
    fn validate(&mut self, clip: &Clip) -> Result<Validation> {
        let batch = self.schedule.batch.min(self.held_out.len()).max(1);
        let batches = self.held_out.chunks_exact(batch);
        let (all, own) = (batches.len(), self.ranks.range(batches.len()));
        if own.is_empty() && all > 0 {
            return Ok(Validation::none(&["retrieval"]));
        }
        let mut metrics = Metrics::new();
        // Whole batches, whose pairs are compared with each other.
        for pairs in batches.skip(own.start).take(own.len()) {
            let parts = pairs.chunks(batch.div_ceil(self.schedule.accumulate));
            let features: Vec<[Tensor<2>; 2]> = match &mut self.kernels {
                Some(kernels) => parts.map(|part| kernels.features(clip, part, false).map(unit)).collect(),
                None => parts.map(|part| self.features(clip, part)).collect::<Result<_>>()?,
            };
            let [texts, images] =
                [0, 1].map(|kind| Tensor::cat(features.iter().map(|part| part[kind].clone()).collect(), 0));
            let ClipLoss { loss, retrieval } = compare(clip, &captions(pairs), texts, images);
            add_share(&mut metrics, vec![("loss", loss), ("retrieval", retrieval)], 1.0 / all as f64);
        }
        Validation::read(metrics)
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.schedule.learning_rate.at(step)
    }

    fn after_update(&self, clip: Clip) -> Clip {
        clip.clamp_scale()
    }
}

#[cfg(test)]
mod tests;
