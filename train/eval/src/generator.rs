//! Generates images from captions with the networks of a model folder.
//!
//! [`Generator`] drives the same sampling loop as the server, [`Batch`].
//!
//! ```text
//! let mut generator = Generator::load(&folder, device, Precision::F32)?;
//! let spec = SampleSpec { caption: "red apple", samples: 2, seed: 0, prefix: &[] };
//! let tokens = generator.sample(&[spec], SamplingSettings::default(), |_| ())?;
//! let image = generator.decode(&tokens[0][1])?;
//! ```

use std::collections::HashSet;

use anyhow::{Result, ensure};
use dalle_data::log_line;
use dalle_model::config::ModelConfig;
use dalle_model::dvae::ImageDecoder;
use dalle_model::footprint::Footprint;
use dalle_model::precision::Precision;
use dalle_model::sample::{self, Batch, JobKey, SampleRequest};
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_shared::files::{DECODER, PRIOR, TOKENIZER};
use dalle_shared::{ImageToken, SamplingSettings, Tokenizer};
use dalle_train::tokens::decode_image;
use image::RgbImage;

/// Longest part of a caption that a message quotes, in characters.
const QUOTED: usize = 80;

/// The tokenizer, prior and decoder of a model folder, loaded on a device.
pub struct Generator {
    /// The model's configuration.
    pub config: ModelConfig,
    tokenizer: Tokenizer,
    decoder: ImageDecoder,
    batch: Batch,
    footprint: Footprint,
    device: DeviceName,
    dtype: Precision,
    /// Captions whose truncation has been reported, so that each is reported once.
    truncated: HashSet<String>,
}

/// What to sample for one caption.
#[derive(Clone, Debug)]
pub struct SampleSpec<'a> {
    /// The caption.
    pub caption: &'a str,
    /// Number of samples.
    pub samples: usize,
    /// Seed of the first sample; sample s has the seed `seed + s`.
    pub seed: u64,
    /// Image tokens that every sample starts with (section 3.3).
    pub prefix: &'a [ImageToken],
}

impl Generator {
    /// Loads the networks of a complete model folder.
    ///
    /// # Errors
    /// A file is missing or damaged, or the device does not exist or has too little memory.
    pub fn load(folder: &ModelFolder, device: DeviceName, dtype: Precision) -> Result<Self> {
        folder.require(&[TOKENIZER, PRIOR, DECODER])?;
        let footprint = Footprint::new(&folder.config);
        let needed = footprint.sampling(&folder.config, device.computed(true), dtype, 1, 1);
        memory::check(&format!("the model {}", folder.config.name), needed, device)?;
        let opened = device.open_for(dtype)?;
        Ok(Self {
            config: folder.config.clone(),
            tokenizer: folder.tokenizer()?,
            decoder: folder.decoder(&opened)?,
            batch: sample::batch(folder.prior(&opened, dtype)?, &folder.config),
            footprint,
            device,
            dtype,
            truncated: HashSet::new(),
        })
    }

    /// Samples the image tokens of several captions in one batch, `[caption][sample][position]`.
    ///
    /// `progress` is called after each position with the number of positions done.
    ///
    /// # Errors
    /// A caption or setting is out of range, the samples do not fit the device's memory, or the device fails.
    pub fn sample(
        &mut self,
        specs: &[SampleSpec],
        settings: SamplingSettings,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<Vec<ImageToken>>>> {
        let samples: usize = specs.iter().map(|spec| spec.samples).sum();
        let streams = if settings.is_guided() { 2 } else { 1 };
        let needed = streams * self.footprint.cache_bytes(self.dtype, specs.len() as u64, samples as u64);
        memory::check(&format!("the cache of {samples} samples"), needed, self.device)?;
        for (spec, key) in specs.iter().zip(0..) {
            let request = self.request(spec, settings)?;
            self.batch.admit(JobKey(key), request)?;
        }
        let mut tokens: Vec<Vec<Vec<ImageToken>>> =
            specs.iter().map(|spec| vec![Vec::new(); spec.samples]).collect();
        let mut done = 0;
        while !self.batch.is_empty() {
            for output in self.batch.step()? {
                for (sample, token) in tokens[output.job.0 as usize].iter_mut().zip(output.tokens?) {
                    sample.push(token);
                }
            }
            done += 1;
            progress(done);
        }
        let complete = self.config.geometry().image_length();
        ensure!(tokens.iter().flatten().all(|sample| sample.len() == complete), "an image is incomplete");
        Ok(tokens)
    }

    /// Tokenizes the caption; reports a caption that is too long.
    fn request(&mut self, spec: &SampleSpec, sampling: SamplingSettings) -> Result<SampleRequest> {
        let encoding = self.tokenizer.encode(spec.caption, self.config.text_length - 1)?;
        if encoding.cut > 0 && self.truncated.insert(spec.caption.to_owned()) {
            log_line(format_args!(
                "dalle: the caption “{}” is too long; its last {} tokens are ignored",
                quote(spec.caption),
                encoding.cut,
            ));
        }
        let (samples, seed) = (spec.samples, spec.seed);
        Ok(SampleRequest { text: encoding.ids, samples, seed, sampling, prefix: spec.prefix.to_vec() })
    }

    /// Decodes a complete grid of tokens into an image.
    ///
    /// # Errors
    /// The number of tokens is not that of a grid.
    pub fn decode(&self, tokens: &[ImageToken]) -> Result<RgbImage> {
        decode_image(&self.decoder, tokens, self.config.geometry().grid)
    }
}

/// A caption for a message, shortened with an ellipsis if it is long.
fn quote(caption: &str) -> String {
    match caption.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{} …", caption[..end].trim_end()),
        None => caption.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_how_a_long_caption_begins() {
        assert_eq!(quote("a red square"), "a red square");
        assert_eq!(quote(&"ä".repeat(QUOTED)), "ä".repeat(QUOTED));
        assert_eq!(quote(&"a ".repeat(50_000)), format!("{} …", "a ".repeat(QUOTED / 2).trim_end()));
    }
}
