//! How fast sampling, decoding and training run, with random weights: the arithmetic does not depend on them.
//!
//! Every figure that depends on the machine stands beside one of the same run that bounds it: bytes per second beside a copy's.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use dalle_model::burn::tensor::{Int, Tensor, TensorData};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::Decoder;
use dalle_model::dvae::pixels::maps_to_rgb;
use dalle_model::plan::Plan;
use dalle_model::precision::Precision;
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior};
use dalle_model::sample::{Batch, JobKey, SampleRequest};
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_shared::{ImageToken, SamplingSettings, TextToken};
use rayon::prelude::*;
use serde::Serialize;

use dalle_train::optimizer::{AdamW, AdamWConfig};

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The model's sizes.
    pub config: &'a ModelConfig,
    /// Where.
    pub device: DeviceName,
    /// Type of the prior's matrices.
    pub precision: Precision,
    /// Captions at once; pictures at once when decoding, pairs when training.
    pub batch: usize,
    /// Samples of each caption.
    pub samples: usize,
    /// Steps, decodes or updates that are timed.
    pub repeats: usize,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// `sample`, `decode` or `train-step`.
    pub benchmark: &'static str,
    /// Name of the configuration.
    pub config: String,
    /// Device.
    pub device: String,
    /// Type of the prior's matrices.
    pub precision: String,
    /// Captions, pictures or pairs at once.
    pub batch: usize,
    /// Samples of each caption.
    pub samples: usize,
    /// Seconds of a step, a decode or an update: the median.
    pub seconds: f64,
    /// Image tokens drawn, decoded or trained on in a second.
    pub tokens_per_second: f64,
    /// Arithmetic of the matrices and convolutions, 10¹² a second.
    pub teraflops: f64,
    /// Bytes that sampling must read, 10⁹ a second.
    pub gigabytes_per_second: Option<f64>,
    /// Most bytes of the machine's memory that this process had meanwhile; of a GPU, all that is in use there afterwards, by whom
    /// ever (Burn keeps what it has had). Where it can be known.
    pub memory: Option<u64>,
}

impl Setting<'_> {
    /// Draws tokens, as the server does.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn sample(&self) -> Result<Measured> {
        forget_peak();
        let plan = Plan::new(self.config);
        let rows = self.batch * self.samples;
        let needed = plan.sampling(self.precision, self.batch as u64, rows as u64);
        memory::check(&format!("sampling {}", self.config.name), needed, self.device)?;
        let device = self.device.open_for(self.precision)?;
        let prior = Prior::new(self.config, &device).with_precision(self.precision);
        let mut batch = Batch::new(prior, self.config);
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
        let bytes = plan.step_bytes(self.precision, self.batch as u64, rows as u64);
        let flops = 2.0 * plan.matrices as f64 * rows as f64;
        self.measured("sample", seconds, rows, flops, Some(bytes as f64 / seconds / 1e9))
    }

    /// Turns whole grids of tokens into pixels.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn decode(&self) -> Result<Measured> {
        forget_peak();
        let plan = Plan::new(self.config);
        let needed = plan.decoding(self.config, self.batch as u64);
        memory::check(&format!("decoding {} pictures", self.batch), needed, self.device)?;
        let device = self.device.open()?;
        let decoder = Decoder::new(&self.config.dvae, &device);
        let geometry = self.config.geometry();
        let (grid, length) = (geometry.grid, geometry.image_length());
        let ids: Vec<i32> =
            (0..self.batch * length).map(|place| (place * 31 % geometry.image_vocab) as i32).collect();
        let tokens: Tensor<3, Int> =
            Tensor::from_data(TensorData::new(ids, [self.batch, grid, grid]), &device);
        let seconds = self.timed(1, || {
            black_box(maps_to_rgb(decoder.forward_tokens(tokens.clone())).into_data());
            Ok(())
        })?;
        let flops = plan.decode_flops as f64 * self.batch as f64;
        self.measured("decode", seconds, self.batch * geometry.image_length(), flops, None)
    }

    /// One update of the prior: forward, backward, AdamW.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn train_step(&self) -> Result<Measured> {
        forget_peak();
        let plan = Plan::new(self.config);
        let needed = plan.training_prior(self.batch as u64).bytes();
        memory::check(&format!("training {}", self.config.name), needed, self.device)?;
        let device = self.device.open()?.autodiff();
        let masks = Masks::new(self.config, &device);
        let geometry = self.config.geometry();
        let caption = vec![TextToken(0); geometry.text_length - 1];
        let image = vec![ImageToken(0); geometry.image_length()];
        let captions = vec![caption.as_slice(); self.batch];
        let images = vec![image.as_slice(); self.batch];
        let targets: Vec<Option<&[TextToken]>> = captions.iter().copied().map(Some).collect();
        let config = AdamWConfig {
            beta1: 0.9,
            beta2: 0.96,
            epsilon: 1e-8,
            weight_decay: 4.5e-2,
            clip: Some(4.0),
            ewma: 0.99,
        };
        let mut optimizer = AdamW::new(config);
        let mut prior = Some(Prior::new(self.config, &device));
        let seconds = self.timed(1, || {
            if let Some(network) = prior.take() {
                let loss = PriorLoss::new(network.forward(&masks, &captions, &images), &targets, &images);
                let gradients = loss.total().backward();
                prior = Some(optimizer.step(network, &gradients, 1e-4).0);
            }
            Ok(device.sync()?)
        })?;
        let flops = 6.0 * plan.matrices as f64 * (plan.slots * self.batch as u64) as f64;
        self.measured("train-step", seconds, self.batch * geometry.image_length(), flops, None)
    }

    /// Median time of `work`, after it ran `warm_up` times.
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

    fn measured(
        &self,
        benchmark: &'static str,
        seconds: f64,
        tokens: usize,
        flops: f64,
        gigabytes_per_second: Option<f64>,
    ) -> Result<Measured> {
        let memory = memory::used(self.device).or_else(peak_of_this_process);
        Ok(Measured {
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

/// Bytes that a device reads and writes in a second when it copies: on a processor a plain copy by all threads between two
/// places that are there already, on others adding 1 to a large tensor.
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

/// Begins anew to look for the most bytes that this process has (Linux, "5" in `clear_refs`), so that each row has its own.
fn forget_peak() {
    // Elsewhere there is no peak to forget, and none is reported.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Most bytes of the machine's memory that this process has had since [`forget_peak`], where the system says.
fn peak_of_this_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
