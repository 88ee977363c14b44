//! Timing of sampling, decoding and training steps. Weights are random, because speed does not depend on their values.
//!
//! Bandwidths are compared with that of a plain copy, measured in the same run ([`copy_bandwidth`]).

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use dalle_data::random::{Purpose, stream};
use dalle_kernels::dvae::DvaeNetwork;
use dalle_kernels::prior::PriorUpdate;
use dalle_kernels::rows::Sum;
use dalle_kernels::simd::Processor;
use dalle_model::burn::tensor::Tensor;
use dalle_model::config::ModelConfig;
use dalle_model::dvae::{Decoder, Dvae, ImageDecoder, kernel_sizes};
use dalle_model::footprint::Footprint;
use dalle_model::precision::Precision;
use dalle_model::prior::{self, Prior};
use dalle_model::sample::{self, JobKey, SampleRequest};
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_shared::{Geometry, ImageToken, SamplingSettings, TextToken};
use image::{Rgb, RgbImage};
use rayon::prelude::*;
use serde::Serialize;

use dalle_train::augment;
use dalle_train::dvae_data::DvaeExample;
use dalle_train::dvae_schedule::DvaeSchedule;
use dalle_train::dvae_training::DvaeStage;
use dalle_train::optimizer::{AdamW, AdamWConfig, COPIES};
use dalle_train::prefetch::Batches;
use dalle_train::prior_data::PriorPair;
use dalle_train::prior_schedule::PriorSchedule;
use dalle_train::prior_training::PriorStage;
use dalle_train::ranks::Ranks;
use dalle_train::stage::Stage;

/// What to time.
#[derive(Clone, Copy, Debug)]
pub struct Benchmark<'a> {
    /// The model's configuration.
    pub config: &'a ModelConfig,
    /// The device.
    pub device: DeviceName,
    /// Data type of the prior's matrices.
    pub precision: Precision,
    /// Captions per step, images per decode, or pairs per update.
    pub batch: usize,
    /// Samples per caption.
    pub samples: usize,
    /// Number of steps, decodes or updates to time.
    pub repeats: usize,
}

/// The same number of pairs in every update: captions of full length.
pub(crate) struct Pairs {
    pub batch: usize,
    pub geometry: Geometry,
}

impl Batches for Pairs {
    type Batch = Vec<PriorPair>;

    fn batch(&mut self, _: u64) -> Result<Vec<PriorPair>> {
        let caption = vec![TextToken(0); self.geometry.text_length - 1];
        let image = vec![ImageToken(0); self.geometry.image_length()];
        Ok((0..self.batch).map(|_| PriorPair::new(Some(caption.clone()), image.clone())).collect())
    }
}

/// The same images in every update, each time augmented differently.
struct Repeated {
    images: Vec<RgbImage>,
    image_size: u32,
}

impl Batches for Repeated {
    type Batch = Vec<DvaeExample>;

    fn batch(&mut self, step: u64) -> Result<Vec<DvaeExample>> {
        let first = step * self.images.len() as u64;
        let augmented = self.images.par_iter().enumerate().map(|(index, image)| {
            let number = first + index as u64;
            let rng = &mut stream(0, Purpose::Augmentation, number);
            DvaeExample { number, image: augment::for_dvae(image, self.image_size, rng) }
        });
        Ok(augmented.collect())
    }
}

/// A result, one row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// `sample`, `decode`, `train-step` or `dvae-step`.
    pub benchmark: &'static str,
    /// Name of the model's configuration.
    pub config: String,
    /// The device.
    pub device: String,
    /// Data type of the prior's matrices.
    pub precision: String,
    /// Captions per step, images per decode, or pairs per update.
    pub batch: usize,
    /// Samples per caption.
    pub samples: usize,
    /// Median duration of a step, decode or update, in seconds.
    pub seconds: f64,
    /// Image tokens sampled, decoded or trained on per second.
    pub tokens_per_second: f64,
    /// TFLOP/s of the matrix products and convolutions.
    pub teraflops: f64,
    /// GB/s that sampling must read; `None` for the other benchmarks.
    pub gigabytes_per_second: Option<f64>,
    /// Peak memory of this process in bytes. On a GPU, the memory in use afterwards by all processes, because Burn does not release
    /// memory. `None` if the system does not report it.
    pub memory: Option<u64>,
}

impl Benchmark<'_> {
    /// Times sampling steps, as on the server.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn sample(&self) -> Result<Timing> {
        reset_peak_memory();
        let footprint = Footprint::new(self.config);
        let rows = self.batch * self.samples;
        let computed = self.device.computed(true);
        let captions = self.batch as u64;
        let needed = footprint.sampling(self.config, computed, self.precision, captions, rows as u64);
        memory::check(&format!("sampling {}", self.config.name), needed, self.device)?;
        let device = self.device.open_for(self.precision)?;
        let prior = Prior::new(self.config, &device).with_precision(self.precision);
        let mut batch = sample::batch(prior, self.config);
        let text = (0..self.config.text_length.min(9) - 1).map(|id| TextToken(id as u32 % 2)).collect();
        let request = SampleRequest {
            text,
            samples: self.samples,
            seed: 0,
            sampling: SamplingSettings { temperature: 1.0, ..SamplingSettings::default() },
            prefix: Vec::new(),
        };
        let length = self.config.geometry().image_length();
        let warm_up = length / 8;
        let mut times = Vec::new();
        while times.len() < self.repeats {
            for key in 0..self.batch {
                batch.admit(JobKey(key as u64), request.clone())?;
            }
            for step in 0..length {
                let begun = Instant::now();
                for output in batch.step()? {
                    output.tokens?;
                }
                if step >= warm_up && times.len() < self.repeats {
                    times.push(begun.elapsed().as_secs_f64());
                }
                if times.len() == self.repeats {
                    break;
                }
            }
        }
        let seconds = median(times);
        let bytes = footprint.step_bytes(self.precision, self.batch as u64, rows as u64);
        let flops = 2.0 * footprint.matrices as f64 * rows as f64;
        self.timing("sample", seconds, rows, flops, Some(bytes as f64 / seconds / 1e9))
    }

    /// Times decoding grids of tokens into images, from ids to bytes.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn decode(&self) -> Result<Timing> {
        reset_peak_memory();
        let footprint = Footprint::new(self.config);
        let (grid, images) = (self.config.geometry().grid as u64, self.batch as u64);
        let needed = footprint.decoding(self.config, self.device.computed(true), (grid, grid), images);
        memory::check(&format!("decoding {} images", self.batch), needed, self.device)?;
        let device = self.device.open()?;
        let decoder = ImageDecoder::new(Decoder::new(&self.config.dvae, &device));
        let geometry = self.config.geometry();
        let token = |place: usize| ImageToken((place * 31 % geometry.image_vocab) as u16);
        let tokens: Vec<ImageToken> = (0..self.batch * geometry.image_length()).map(token).collect();
        let grids: Vec<&[ImageToken]> = tokens.chunks(geometry.image_length()).collect();
        let seconds = self.timed(1, || {
            black_box(decoder.decode_batch(&grids, geometry.grid)?);
            Ok(())
        })?;
        let flops = footprint.decode_flops as f64 * self.batch as f64;
        self.timing("decode", seconds, self.batch * self.config.geometry().image_length(), flops, None)
    }

    /// Times updates of the dVAE: losses, gradients and AdamW, with what the device trains with.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn dvae_step(&self) -> Result<Timing> {
        reset_peak_memory();
        let needed = Footprint::new(self.config)
            .training_dvae(self.config, self.device.computed(true), self.batch as u64, COPIES)
            .bytes();
        memory::check(&format!("training the dVAE of {}", self.config.name), needed, self.device)?;
        let device = self.device.open()?.autodiff();
        let side = self.config.image_size as u32;
        let image = |i: usize| {
            RgbImage::from_fn(side, side, |x, y| Rgb([x as u8, y as u8, (x * y + 31 * i as u32) as u8]))
        };
        let images = Repeated { images: (0..self.batch).map(image).collect(), image_size: side };
        let schedule = DvaeSchedule { batch: self.batch, ..DvaeSchedule::PAPER };
        let mut stage =
            DvaeStage::new(images, Vec::new(), self.config, schedule, device.clone(), Ranks::alone());
        let mut optimizer = AdamW::new(AdamWConfig::DVAE);
        let mut dvae = Some(Dvae::new(&self.config.dvae, &device));
        let mut step = 0;
        let seconds = self.timed(2, || {
            if let Some(network) = dvae.take() {
                let gradients = stage.gradients(&network, step)?.0;
                dvae = Some(optimizer.step(network, gradients, 1e-4).0);
                step += 1;
            }
            Ok(device.sync()?)
        })?;
        let network = DvaeNetwork::new(kernel_sizes(&self.config.dvae));
        let tokens = self.batch * self.config.geometry().image_length();
        let flops = (network.training_flops() * tokens as u64) as f64;
        self.timing("dvae-step", seconds, tokens, flops, None)
    }

    /// Times updates of the prior: forward pass, backward pass and AdamW.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn train_step(&self) -> Result<Timing> {
        reset_peak_memory();
        let footprint = Footprint::new(self.config);
        let updates = self.device.computed(PriorUpdate::supports(&prior::kernel_sizes(self.config)));
        let needed = footprint.training_prior(self.config, updates, self.batch as u64, COPIES).bytes();
        memory::check(&format!("training {}", self.config.name), needed, self.device)?;
        let device = self.device.open()?.autodiff();
        let pairs = Pairs { batch: self.batch, geometry: self.config.geometry() };
        let schedule = PriorSchedule { batch: self.batch, ..PriorSchedule::PAPER };
        let mut stage = PriorStage::new(pairs, Vec::new(), self.config, schedule, &device, Ranks::alone());
        let mut optimizer = AdamW::new(AdamWConfig::PRIOR);
        let mut prior = Some(Prior::new(self.config, &device));
        let mut step = 0;
        let seconds = self.timed(1, || {
            if let Some(network) = prior.take() {
                let gradients = stage.gradients(&network, step)?.0;
                prior = Some(optimizer.step(network, gradients, 1e-4).0);
                step += 1;
            }
            Ok(device.sync()?)
        })?;
        let flops = 6.0 * footprint.matrices as f64 * (footprint.slots * self.batch as u64) as f64;
        self.timing("train-step", seconds, self.batch * self.config.geometry().image_length(), flops, None)
    }

    /// Median duration of `work` in seconds, after `warm_up` calls that are not timed.
    fn timed(&self, warm_up: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        let mut times = Vec::new();
        for run in 0..warm_up + self.repeats {
            let begun = Instant::now();
            work()?;
            if run >= warm_up {
                times.push(begun.elapsed().as_secs_f64());
            }
        }
        Ok(median(times))
    }

    fn timing(
        &self,
        benchmark: &'static str,
        seconds: f64,
        tokens: usize,
        flops: f64,
        gigabytes_per_second: Option<f64>,
    ) -> Result<Timing> {
        let memory = memory::used(self.device).or_else(peak_memory);
        Ok(Timing {
            benchmark,
            config: self.config.name.clone(),
            device: self.device.to_string(),
            precision: self.precision.to_string(),
            batch: self.batch,
            samples: self.samples,
            seconds,
            tokens_per_second: tokens as f64 / seconds,
            teraflops: flops / seconds / 1e12,
            gigabytes_per_second,
            memory,
        })
    }
}

/// Bytes per second that a device reads and writes when it copies. On a CPU this is a copy by all threads between two existing
/// buffers, on other devices adding 1 to a large tensor.
///
/// # Errors
/// The device fails.
pub fn copy_bandwidth(name: DeviceName) -> Result<f64> {
    const VALUES: usize = 1 << 26;
    const CHUNK: usize = 1 << 16;
    let mut times = Vec::new();
    if matches!(name, DeviceName::Cpu | DeviceName::LibTorch) {
        let (from, mut to) = (vec![1.0_f32; VALUES], vec![0.0_f32; VALUES]);
        for _ in 0..7 {
            let begun = Instant::now();
            to.par_chunks_mut(CHUNK)
                .zip(from.par_chunks(CHUNK))
                .for_each(|(to, from)| to.copy_from_slice(from));
            times.push(begun.elapsed().as_secs_f64());
            black_box(&to);
        }
    } else {
        let device = name.open()?;
        let from: Tensor<1> = Tensor::zeros([VALUES], &device);
        for _ in 0..7 {
            device.sync()?;
            let begun = Instant::now();
            let to = black_box(from.clone().add_scalar(1.0));
            device.sync()?;
            times.push(begun.elapsed().as_secs_f64());
            drop(to);
        }
    }
    Ok((2 * VALUES * size_of::<f32>()) as f64 / median(times))
}

/// Bytes per second that all CPU threads together read from one large buffer; `None` for other devices.
pub fn read_bandwidth(name: DeviceName) -> Option<f64> {
    const VALUES: usize = 1 << 26;
    const CHUNK: usize = 1 << 16;
    if name != DeviceName::Cpu {
        return None;
    }
    let values = vec![1.0_f32; VALUES];
    let processor = Processor::detect();
    let sum = |chunk: &[f32]| processor.run(Sum { x: chunk });
    let times = (0..7).map(|_| {
        let begun = Instant::now();
        black_box(values.par_chunks(CHUNK).map(sum).sum::<f32>());
        begun.elapsed().as_secs_f64()
    });
    Some(size_of_val(values.as_slice()) as f64 / median(times.collect()))
}

/// Resets the peak memory of this process (Linux: "5" in `clear_refs`), so that each row has its own.
pub(crate) fn reset_peak_memory() {
    // Other systems do not have the file, and `peak_memory` reports nothing.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Peak memory of this process since [`reset_peak_memory`] in bytes, if the system reports it.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
