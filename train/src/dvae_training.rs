//! Stage 1: training the dVAE on images alone (section 2.1, appendix A.2).

use anyhow::Result;
use dalle_data::random::{Purpose, stream};
use dalle_kernels::dvae::Evaluation;
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::{IndexingUpdateOp, Int, Tensor};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::Dvae;
use dalle_model::dvae::loss::{DvaeLoss, gumbel_noise, gumbel_softmax};
use dalle_model::dvae::pixels::{images_to_tensor, map_pixels};
use dalle_model::{Device, has_kernels};
use image::RgbImage;
use rand::RngExt;

use crate::dvae_data::DvaeExample;
use crate::dvae_health::{self, HealthCheck};
use crate::dvae_kernels::DvaeKernels;
use crate::dvae_schedule::DvaeSchedule;
use crate::gradients::Gradients;
use crate::metrics::{Metrics, add_share, scalars};
use crate::prefetch::{Batches, Prefetch};
use crate::ranks::Ranks;
use crate::run_state::History;
use crate::stage::{Stage, Validation, Warning};

/// The stage's data and schedules.
pub struct DvaeStage {
    data: Prefetch<Vec<DvaeExample>>,
    /// Held-out images of the model's size.
    held_out: Vec<RgbImage>,
    image_size: usize,
    vocab: usize,
    schedule: DvaeSchedule,
    health: HealthCheck,
    device: Device,
    /// Kernels that compute gradients on the CPU. None on other devices, where Burn computes them.
    kernels: Option<DvaeKernels>,
    ranks: Ranks,
}

impl DvaeStage {
    /// A stage that trains on `data`, this rank's share of each batch, and validates on images of the model's size, on an autodiff
    /// device.
    pub fn new(
        data: impl Batches<Batch = Vec<DvaeExample>>,
        held_out: Vec<RgbImage>,
        config: &ModelConfig,
        schedule: DvaeSchedule,
        device: Device,
        ranks: Ranks,
    ) -> Self {
        let (image_size, vocab) = (config.image_size, config.dvae.vocab);
        let health = HealthCheck {
            beta_updates: schedule.beta.updates,
            tau_updates: schedule.tau.updates,
            entries: vocab.min(schedule.batch * config.geometry().image_length()),
        };
        let kernels = has_kernels(&device).then(|| DvaeKernels::new(&config.dvae, image_size));
        Self {
            data: Prefetch::new(data),
            held_out,
            image_size,
            vocab,
            schedule,
            health,
            device,
            kernels,
            ranks,
        }
    }

    /// Gradients and metrics of update `step` by the kernels.
    fn kernel_gradients(
        kernels: &mut DvaeKernels,
        schedule: &DvaeSchedule,
        (vocab, ranks): (usize, &Ranks),
        (dvae, batch, step): (&Dvae, &[DvaeExample], u64),
    ) -> Result<(Gradients, Metrics)> {
        let images: Vec<&RgbImage> = batch.iter().map(|example| &example.image).collect();
        let (tau, beta) = (schedule.tau.at(step), schedule.beta.at(step));
        let (losses, gradients) = if schedule.decoder_only {
            kernels.decoder_gradients(dvae, &images)
        } else {
            kernels.gradients(dvae, &images, &noise_keys(schedule.seed, batch), tau, beta)
        };
        let gradients = match ranks.others() {
            Some(_) => gradients.map(|_, gradient| gradient.mul_scalar(ranks.part())),
            None => gradients,
        };
        let device = Device::flex();
        let codes: Vec<i32> = losses.codes.iter().map(|&code| code as i32).collect();
        let part = ranks.part();
        let mut metrics = scalars(&[
            ("loss", part * (losses.reconstruction + beta * losses.kl)),
            ("reconstruction", part * losses.reconstruction),
            ("kl", part * losses.kl),
        ]);
        metrics.extend(codebook_use_by_all(Tensor::from_data(&codes[..], &device), vocab, ranks)?);
        Ok((gradients, metrics))
    }

    /// The images as the loss compares them, `[B, 3, S, S]`.
    fn pixels<'a>(&self, images: impl Iterator<Item = &'a RgbImage>, device: &Device) -> Tensor<4> {
        let bytes: Vec<&[u8]> = images.map(|image| image.as_raw().as_slice()).collect();
        map_pixels(images_to_tensor(&bytes, self.image_size, self.image_size, device))
    }

    /// Gumbel noise of the size of `logits`, `[B, vocab, G, G]`: of each example its own, whatever batch it is in.
    fn noise(&self, examples: &[DvaeExample], logits: &Tensor<4>) -> Tensor<4> {
        let one = logits.clone().inner().narrow(0, 0, 1);
        let noise = noise_keys(self.schedule.seed, examples).into_iter().map(|key| {
            self.device.seed(key);
            gumbel_noise(&one)
        });
        Tensor::cat(noise.collect(), 0)
    }

    /// The relaxed loss of update `step`, and the logits that its codes were sampled from.
    fn relaxed(
        &self,
        dvae: &Dvae,
        examples: &[DvaeExample],
        x: Tensor<4>,
        step: u64,
    ) -> (DvaeLoss, Tensor<4>) {
        let logits = dvae.encoder.forward(x.clone());
        let z = gumbel_softmax(logits.clone(), self.noise(examples, &logits), self.schedule.tau.at(step));
        (DvaeLoss::new(dvae.decoder.forward(z), x, logits.clone()), logits)
    }

    /// The loss of the decoder alone, and the logits whose codes it is of.
    fn of_decoder(dvae: &Dvae, x: Tensor<4>) -> (DvaeLoss, Tensor<4>) {
        let logits = dvae.valid().encoder.forward(x.clone().inner());
        let codes = Tensor::from_inner(logits.clone().argmax(1).squeeze_dim(1));
        let logits = Tensor::from_inner(logits);
        (DvaeLoss::new(dvae.decoder.forward_tokens(codes), x, logits.clone()), logits)
    }

    /// Examples of an update that are computed at once.
    fn part(&self) -> usize {
        (self.schedule.batch / self.ranks.count()).div_ceil(self.schedule.accumulate)
    }
}

impl Stage for DvaeStage {
    type Network = Dvae;

    fn uses_autodiff(&self) -> bool {
        self.kernels.is_none()
    }

    fn gradients(&mut self, dvae: &Dvae, step: u64) -> Result<(Gradients, Metrics)> {
        let batch = self.data.batch(step)?;
        if let Some(kernels) = &mut self.kernels {
            // Whole: the kernels need memory for an image of each thread, not for the batch.
            return Self::kernel_gradients(
                kernels,
                &self.schedule,
                (self.vocab, &self.ranks),
                (dvae, &batch, step),
            );
        }
        let (mut gradients, mut metrics, mut tokens) = (Gradients::default(), Metrics::new(), Vec::new());
        for part in batch.chunks(self.part()) {
            let share = part.len() as f64 / self.schedule.batch as f64;
            let x = self.pixels(part.iter().map(|example| &example.image), &self.device);
            let (loss, logits) = if self.schedule.decoder_only {
                Self::of_decoder(dvae, x)
            } else {
                self.relaxed(dvae, part, x, step)
            };
            let total = loss.total(self.schedule.beta.at(step));
            gradients.add(Gradients::of(&total.clone().mul_scalar(share), dvae));
            let part = vec![("loss", total), ("reconstruction", loss.reconstruction), ("kl", loss.kl)];
            add_share(&mut metrics, part, share);
            tokens.push(logits.inner().argmax(1).flatten(0, 3));
        }
        metrics.extend(codebook_use_by_all(Tensor::cat(tokens, 0), self.vocab, &self.ranks)?);
        Ok((gradients, metrics))
    }

    /// The loss with the tokens that stage 2 sees, and how much worse its reconstruction is than the relaxed one. Costs two passes
    /// through the decoder and one through the encoder, about a third of an update.
    fn extra_metrics(&mut self, dvae: &Dvae, step: u64) -> Result<Metrics> {
        let (batch, dvae) = (self.data.batch(step)?, dvae.valid());
        if let Some(kernels) = &mut self.kernels {
            let images: Vec<&RgbImage> = batch.iter().map(|example| &example.image).collect();
            let keys = noise_keys(self.schedule.seed, &batch);
            let hard = kernels.evaluate(&dvae, &images, Some((&keys, self.schedule.tau.at(step))));
            let part = self.ranks.part();
            let true_loss = part * (hard.reconstruction + self.schedule.beta.at(step) * hard.kl);
            let gap = hard.relaxed.map(|relaxed| (dvae_health::GAP, part * (hard.reconstruction - relaxed)));
            return Ok(scalars(&[("true loss", true_loss)].into_iter().chain(gap).collect::<Vec<_>>()));
        }
        let mut metrics = Metrics::new();
        for part in batch.chunks(self.part()) {
            let x = self.pixels(part.iter().map(|example| &example.image), &dvae.encoder.device());
            let (relaxed, logits) = self.relaxed(&dvae, part, x.clone(), step);
            let maps = dvae.decoder.forward_tokens(logits.clone().argmax(1).squeeze_dim(1));
            let hard = DvaeLoss::new(maps, x, logits);
            let true_loss = hard.total(self.schedule.beta.at(step));
            let gap = hard.reconstruction - relaxed.reconstruction;
            let share = part.len() as f64 / self.schedule.batch as f64;
            add_share(&mut metrics, vec![("true loss", true_loss), (dvae_health::GAP, gap)], share);
        }
        Ok(metrics)
    }

    /// The loss with the tokens that stage 2 will see, and with the final weight of the KL term: one that does not depend on
    /// where the schedules are.
    fn validate(&mut self, dvae: &Dvae) -> Result<Validation> {
        let (own, all) = (self.ranks.range(self.held_out.len()), self.held_out.len());
        if own.is_empty() && all > 0 {
            return Ok(Validation::none(&["reconstruction", "kl"]));
        }
        if let Some(kernels) = &mut self.kernels
            && !own.is_empty()
        {
            let share = own.len() as f64 / all as f64;
            let images: Vec<&RgbImage> = self.held_out[own].iter().collect();
            let Evaluation { reconstruction, kl, .. } = kernels.evaluate(dvae, &images, None);
            let (reconstruction, kl) = (share * reconstruction, share * kl);
            let loss = reconstruction + self.schedule.beta.to * kl;
            return Validation::read(scalars(&[
                ("loss", loss),
                ("reconstruction", reconstruction),
                ("kl", kl),
            ]));
        }
        let mut metrics = Metrics::new();
        for part in self.held_out[own].chunks(self.part()) {
            let x = self.pixels(part.iter(), &dvae.encoder.device());
            let logits = dvae.encoder.forward(x.clone());
            let maps = dvae.decoder.forward_tokens(logits.clone().argmax(1).squeeze_dim(1));
            let loss = DvaeLoss::new(maps, x, logits);
            let total = loss.total(self.schedule.beta.to);
            let part_metrics =
                vec![("loss", total), ("reconstruction", loss.reconstruction), ("kl", loss.kl)];
            add_share(&mut metrics, part_metrics, part.len() as f64 / all as f64);
        }
        Validation::read(metrics)
    }

    fn warnings(&self, history: &History) -> Vec<Warning> {
        self.health.warnings(history)
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.schedule.learning_rate.at(step)
    }
}

/// Keys of the Gumbel noise of some examples: of each its own, whatever batch it is in.
fn noise_keys(seed: u64, examples: &[DvaeExample]) -> Vec<u64> {
    examples.iter().map(|example| stream(seed, Purpose::Noise, example.number).random()).collect()
}

/// How much of the codebook some tokens use: the perplexity of their distribution (how many entries are used in effect), and the
/// share of all entries that occur.
pub fn codebook_use(tokens: Tensor<1, Int>, vocab: usize) -> (Tensor<1>, Tensor<1>) {
    use_of(occurrences(tokens, vocab))
}

/// [`codebook_use`] of the tokens of all ranks, as metrics whose sums over ranks it is.
fn codebook_use_by_all(tokens: Tensor<1, Int>, vocab: usize, ranks: &Ranks) -> Result<Metrics> {
    let mut counts = occurrences(tokens, vocab);
    if ranks.others().is_some() {
        let sums = ranks.sum(counts.to_data().iter::<f32>().collect())?;
        counts = Tensor::from_data(&sums[..], &counts.device());
    }
    let (perplexity, usage) = use_of(counts);
    let metrics = [(dvae_health::PERPLEXITY, perplexity), ("codebook usage", usage)];
    Ok(metrics.map(|(name, value)| (name, value.mul_scalar(ranks.part()))).into())
}

/// How often each token occurs, `[vocab]`.
fn occurrences(tokens: Tensor<1, Int>, vocab: usize) -> Tensor<1> {
    let one = Tensor::ones(tokens.dims(), &tokens.device());
    Tensor::<1>::zeros([vocab], &tokens.device()).scatter(0, tokens, one, IndexingUpdateOp::Add)
}

/// Perplexity and usage of tokens that occur so often.
fn use_of(counts: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let usage = counts.clone().greater_elem(0.5).float().mean();
    let p = counts.clone() / counts.sum();
    // 0 · ln 0 = 0; the constant only keeps the logarithm finite.
    let perplexity = (p.clone() * p.add_scalar(1e-12).log()).sum().neg().exp();
    (perplexity, usage)
}

#[cfg(test)]
mod tests;
