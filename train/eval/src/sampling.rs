//! From captions to pictures with a model folder, on the one sampling loop of the model crate.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::Decoder;
use dalle_model::plan::Plan;
use dalle_model::precision::Precision;
use dalle_model::sample::{Batch, JobKey, SampleRequest};
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_shared::files::{DECODER, PRIOR, TOKENIZER};
use dalle_shared::{ImageToken, SamplingSettings, Tokenizer};
use image::RgbImage;

use dalle_data::say;
use dalle_native::ModelFolder;
use dalle_train::tokens::decode_picture;

/// Characters of a long caption that a message shows.
const SHOWN: usize = 80;

/// A loaded model.
pub struct Model {
    /// Its configuration.
    pub config: ModelConfig,
    tokenizer: Tokenizer,
    decoder: Decoder,
    batch: Batch,
    plan: Plan,
    device: DeviceName,
    dtype: Precision,
    /// Captions of which it was said that they are too long: once is enough.
    cut: HashSet<String>,
}

/// One caption's order.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The caption.
    pub caption: &'a str,
    /// Pictures of it.
    pub samples: usize,
    /// Seed of the first; the next has the next seed.
    pub seed: u64,
    /// Tokens that each begins with, given instead of drawn (section 3.3).
    pub prefix: &'a [ImageToken],
}

impl Model {
    /// Loads a complete model folder.
    ///
    /// # Errors
    /// A file is missing or damaged, or the device is not there or too small.
    pub fn load(folder: &ModelFolder, device: DeviceName, dtype: Precision) -> Result<Self> {
        folder.require(&[TOKENIZER, PRIOR, DECODER])?;
        let plan = Plan::new(&folder.config);
        let needed = plan.sampling(dtype, 1, 1);
        memory::check(&format!("the model {}", folder.config.name), needed, device)?;
        let opened = device.open_for(dtype)?;
        Ok(Self {
            config: folder.config.clone(),
            tokenizer: folder.tokenizer()?,
            decoder: folder.decoder(&opened)?,
            batch: Batch::new(folder.prior(&opened, dtype)?, &folder.config),
            plan,
            device,
            dtype,
            cut: HashSet::new(),
        })
    }

    /// The image tokens of several captions, `[caption][sample]`, all sampled in one batch. `progress` is called after each
    /// position with the number of positions done.
    ///
    /// # Errors
    /// A caption or setting is out of range, there are more samples than fit the device, or it fails.
    pub fn sample(
        &mut self,
        orders: &[Order],
        sampling: SamplingSettings,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<Vec<ImageToken>>>> {
        let samples: usize = orders.iter().map(|order| order.samples).sum();
        let streams = if sampling.is_guided() { 2 } else { 1 };
        let needed = streams * self.plan.cache_bytes(self.dtype, orders.len() as u64, samples as u64);
        memory::check(&format!("the cache of {samples} samples"), needed, self.device)?;
        for (order, key) in orders.iter().zip(0..) {
            let encoding = self.tokenizer.encode(order.caption, self.config.text_length - 1)?;
            if encoding.cut > 0 && self.cut.insert(order.caption.to_owned()) {
                say(format_args!(
                    "dalle: the last {} tokens of “{}” are not read",
                    encoding.cut,
                    beginning(order.caption)
                ));
            }
            let (samples, seed) = (order.samples, order.seed);
            let prefix = order.prefix.to_vec();
            let request = SampleRequest { text: encoding.ids, samples, seed, sampling, prefix };
            self.batch.admit(JobKey(key), request)?;
        }
        let mut pictures: Vec<Vec<Vec<ImageToken>>> =
            orders.iter().map(|order| vec![Vec::new(); order.samples]).collect();
        let mut done = 0;
        while !self.batch.is_empty() {
            for output in self.batch.step()? {
                for (picture, token) in pictures[output.job.0 as usize].iter_mut().zip(output.tokens?) {
                    picture.push(token);
                }
            }
            done += 1;
            progress(done);
        }
        let complete = self.config.geometry().image_length();
        ensure!(pictures.iter().flatten().all(|tokens| tokens.len() == complete), "a picture is incomplete");
        Ok(pictures)
    }

    /// The picture of a complete grid of tokens.
    ///
    /// # Errors
    /// They are not a grid.
    pub fn decode(&self, tokens: &[ImageToken]) -> Result<RgbImage> {
        decode_picture(&self.decoder, tokens, self.config.geometry().grid)
    }
}

/// A caption, or its first words with an ellipsis, for a message.
fn beginning(caption: &str) -> String {
    match caption.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} …", caption[..end].trim_end()),
        None => caption.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_how_a_long_caption_begins() {
        assert_eq!(beginning("a red square"), "a red square");
        assert_eq!(beginning(&"ä".repeat(SHOWN)), "ä".repeat(SHOWN));
        assert_eq!(beginning(&"a ".repeat(50_000)), format!("{} …", "a ".repeat(SHOWN / 2).trim_end()));
    }
}
