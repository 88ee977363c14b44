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
mod tests {
    use std::collections::BTreeMap;

    use dalle_data::Share;
    use image::Rgb;

    use super::*;
    use crate::augment;
    use crate::dvae_data::DvaeData;
    use crate::ranks::of_all_ranks;
    use crate::schedule::CosineSchedule;
    use crate::test_dataset::TestDataset;

    fn config() -> ModelConfig {
        serde_json::from_str(include_str!("../../configs/tiny.json")).unwrap()
    }

    fn image(number: u8) -> RgbImage {
        RgbImage::from_fn(40, 40, |x, y| Rgb([x as u8 * 6, y as u8 * 6, number * 25]))
    }

    /// Ten images.
    fn dataset() -> TestDataset {
        TestDataset::new((0..10).map(|number| (String::new(), image(number))))
    }

    fn stage(dataset: &TestDataset, batch: usize, accumulate: usize, device: Device) -> DvaeStage {
        let cosine = CosineSchedule { from: 1.0, to: 1.0, updates: 0 };
        let schedule = DvaeSchedule {
            batch,
            accumulate,
            beta: cosine,
            tau: cosine,
            learning_rate: cosine,
            decoder_only: false,
            seed: 3,
        };
        let data = DvaeData::new(&dataset.data, Share::whole(batch), config().image_size, 3).unwrap();
        let held_out = [8, 9].map(|number| augment::centred(&image(number), config().image_size as u32));
        DvaeStage::new(data, held_out.to_vec(), &config(), schedule, device, Ranks::alone())
    }

    #[test]
    fn gradients_and_metrics_are_the_same_however_many_parts_a_batch_is_computed_in() {
        let _random = crate::DEVICE_RANDOM.lock();
        let device = Device::flex().autodiff();
        device.seed(5);
        let (dvae, dataset) = (Dvae::new(&config().dvae, &device), dataset());
        let of = |parts| {
            let mut stage = stage(&dataset, 6, parts, device.clone());
            stage.kernels = None;
            let (gradients, mut metrics) = stage.gradients(&dvae, 1).unwrap();
            metrics.extend(stage.extra_metrics(&dvae, 1).unwrap());
            let metrics = metrics.into_iter().map(|(name, value)| (name, value.into_scalar::<f32>()));
            (gradients, metrics.collect::<Vec<_>>(), stage.validate(&dvae.valid()).unwrap())
        };
        let (whole, expected, loss) = of(1);
        // The last part of four is smaller.
        for parts in [2, 3, 4] {
            let (gradients, metrics, validation) = of(parts);
            crate::gradients::assert_close(&gradients, &whole);
            for ((name, ours), (_, expected)) in metrics.into_iter().zip(&expected) {
                assert!((ours - expected).abs() <= 1e-5 * expected.abs() + 1e-6, "{name}: {ours} {expected}");
            }
            assert!((validation.loss - loss.loss).abs() < 1e-5, "{validation:?} {loss:?}");
        }
    }

    #[test]
    fn ranks_validate_on_shares_whose_sums_are_the_validation_of_one() {
        let _random = crate::DEVICE_RANDOM.lock();
        let device = Device::flex().autodiff();
        device.seed(5);
        let (dvae, dataset) = (Dvae::new(&config().dvae, &device), dataset());
        for kernels in [true, false] {
            let validate = |ranks: Ranks| {
                let mut stage = stage(&dataset, 6, 1, device.clone());
                stage.ranks = ranks;
                if !kernels {
                    stage.kernels = None;
                }
                let Validation { loss, others } = stage.validate(&dvae.valid()).unwrap();
                [loss, others[0].1, others[1].1]
            };
            let whole = validate(Ranks::alone());
            // Of two images the last of three ranks has none.
            let shares = of_all_ranks(3, validate);
            assert_eq!(shares[2], [0.0; 3]);
            for (kind, expected) in whole.into_iter().enumerate() {
                let sum: f64 = shares.iter().map(|share| share[kind]).sum();
                assert!((sum - expected).abs() < 1e-5, "{shares:?}, expected {whole:?}");
            }
        }
    }

    #[test]
    fn the_kernels_give_burns_gradients_and_metrics() {
        let _random = crate::DEVICE_RANDOM.lock();
        let device = Device::flex().autodiff();
        device.seed(5);
        let (dvae, dataset) = (Dvae::new(&config().dvae, &device), dataset());
        let of = |kernels: bool| {
            let mut stage = stage(&dataset, 5, 1, device.clone());
            // So warm that the noise, which the two generate differently, plays no part.
            stage.schedule.tau = CosineSchedule { from: 1e6, to: 1e6, updates: 0 };
            assert!(stage.kernels.is_some(), "the CPU has kernels");
            if !kernels {
                stage.kernels = None;
            }
            let (gradients, mut metrics) = stage.gradients(&dvae, 1).unwrap();
            metrics.extend(stage.extra_metrics(&dvae, 1).unwrap());
            let metrics = metrics.into_iter().map(|(name, value)| (name, value.into_scalar::<f32>()));
            (gradients, metrics.collect::<Vec<_>>(), stage.validate(&dvae.valid()).unwrap())
        };
        let ((ours, our_metrics, our_validation), (burns, metrics, validation)) = (of(true), of(false));
        // At the start of training the encoder's gradients are small differences: Burn's own rounding is this large.
        let greatest = |x: &Tensor<1>| x.clone().abs().max().into_scalar::<f32>();
        for ((path, ours), (same, burns)) in ours.iter().zip(burns.iter()) {
            assert_eq!(path, same);
            let error = greatest(&(ours.clone() - burns.clone()));
            assert!(error <= 1e-3 * greatest(burns), "{path}: {error} of {}", greatest(burns));
        }
        assert_eq!(ours.iter().count(), burns.iter().count());
        for ((name, ours), (same, burns)) in our_metrics.into_iter().zip(metrics) {
            assert_eq!(name, same);
            assert!((ours - burns).abs() <= 1e-5 * burns.abs() + 1e-6, "{name}: {ours} {burns}");
        }
        assert!((our_validation.loss - validation.loss).abs() < 1e-5, "{our_validation:?} {validation:?}");
    }

    #[test]
    fn a_decoder_trained_alone_has_the_hard_loss_and_burns_gradients() {
        let _random = crate::DEVICE_RANDOM.lock();
        let device = Device::flex().autodiff();
        device.seed(5);
        let (dvae, dataset) = (Dvae::new(&config().dvae, &device), dataset());
        let of = |kernels: bool| {
            let mut stage = stage(&dataset, 5, 1, device.clone());
            stage.schedule.decoder_only = true;
            if !kernels {
                stage.kernels = None;
            }
            let (gradients, metrics) = stage.gradients(&dvae, 1).unwrap();
            let extra = stage.extra_metrics(&dvae, 1).unwrap();
            let read = |metrics: Metrics| {
                let value = |(name, value): (_, Tensor<1>)| (name, value.into_scalar::<f32>());
                metrics.into_iter().map(value).collect::<BTreeMap<_, _>>()
            };
            (gradients, read(metrics), read(extra))
        };
        let ((ours, our_metrics, our_extra), (burns, metrics, extra)) = (of(true), of(false));
        assert!(burns.iter().all(|(path, _)| path.starts_with("decoder.")), "{:?}", burns.iter().next());
        assert!(ours.iter().map(|(path, _)| path).eq(burns.iter().map(|(path, _)| path)));
        let greatest = |x: &Tensor<1>| x.clone().abs().max().into_scalar::<f32>();
        for ((path, ours), (_, burns)) in ours.iter().zip(burns.iter()) {
            let error = greatest(&(ours.clone() - burns.clone()));
            assert!(error <= 1e-3 * greatest(burns), "{path}: {error} of {}", greatest(burns));
        }
        for (name, value) in &metrics {
            assert!((our_metrics[name] - value).abs() <= 1e-5 * value.abs() + 1e-6, "{name}");
        }
        // The loss that is trained is the one that training of both reports as the true one.
        for (metrics, extra) in [(our_metrics, our_extra), (metrics, extra)] {
            assert!((metrics["loss"] - extra["true loss"]).abs() < 1e-5, "{metrics:?} {extra:?}");
        }
    }

    #[test]
    fn an_example_is_augmented_and_disturbed_alike_in_batches_of_any_size() {
        let _random = crate::DEVICE_RANDOM.lock();
        let dataset = dataset();
        let of = |batch, step| {
            let mut stage = stage(&dataset, batch, 1, Device::flex());
            let batch = stage.data.batch(step).unwrap();
            let noise = stage.noise(&batch, &Tensor::zeros([batch.len(), 8, 4, 4], &stage.device));
            let images: Vec<RgbImage> = batch.iter().map(|example| example.image.clone()).collect();
            (images, noise.into_data().iter::<f32>().collect::<Vec<_>>())
        };
        // Across the end of an epoch of ten.
        let (images, noise) = of(8, 1);
        for (step, part) in [(2, 0..4), (3, 4..8)] {
            let (few, some) = of(4, step);
            assert!(few == images[part.clone()]);
            assert_eq!(some, noise[part.start * 128..part.end * 128]);
        }
        assert!(images[0] != images[1] && noise[..128] != noise[128..256]);
    }

    #[test]
    fn use_of_the_codebook_has_known_values() {
        let of = |tokens: &[i32]| {
            let tokens = Tensor::from_data(tokens, &Device::flex());
            let (perplexity, usage) = codebook_use(tokens, 8);
            (perplexity.into_scalar::<f32>(), usage.into_scalar::<f32>())
        };
        let near = |(a, b): (f32, f32), (c, d): (f32, f32)| (a - c).abs() < 1e-4 && (b - d).abs() < 1e-6;
        assert!(near(of(&[3; 16]), (1.0, 1.0 / 8.0)));
        assert!(near(of(&[0, 1, 2, 3, 4, 5, 6, 7]), (8.0, 1.0)));
        // Shares 1/2, 1/4, 1/4: entropy 1.5 ln 2.
        assert!(near(of(&[7, 7, 0, 1]), (2f32.powf(1.5), 3.0 / 8.0)));
    }
}
