//! Choosing among samples: many pictures of one caption, scored by the contrastive model (section 2.6).
//!
//! ```text
//! let judge = Judge::load(&folder, device)?;
//! let candidates = draw(&mut model, &judge, &order, sampling, |_| ())?;
//! let best = &candidates[best_first(&scores(&candidates))[0]];
//! ```

use anyhow::Result;
use dalle_model::clip::Clip;
use dalle_model::plan::Plan;
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_shared::{ImageToken, SamplingSettings, TextToken, Tokenizer};
use image::RgbImage;

use crate::sampling::{Model, Order};
use dalle_native::ModelFolder;

/// Pictures drawn at once: a bound on memory, and more than a processor gains from.
const BATCH: usize = 32;

/// The contrastive model with what it needs to read captions.
pub struct Judge {
    clip: Clip,
    tokenizer: Tokenizer,
    text_length: usize,
}

impl Judge {
    /// Loads the contrastive model of a folder.
    ///
    /// # Errors
    /// The folder has none, or it is damaged or belongs to another tokenizer, or the device has too little memory.
    pub fn load(folder: &ModelFolder, device: DeviceName) -> Result<Self> {
        let needed = Plan::scoring(&folder.clip_config()?, &folder.config, BATCH as u64);
        memory::check("choosing among pictures", needed, device)?;
        let (clip, tokenizer) = (folder.clip(&device.open()?)?, folder.tokenizer()?);
        Ok(Self { clip, tokenizer, text_length: folder.config.text_length })
    }

    /// The cosine of each picture with each caption, `[caption][picture]`.
    ///
    /// # Errors
    /// A picture has another size than the model's, or the device fails.
    pub fn cosines(&self, captions: &[&str], pictures: &[&RgbImage]) -> Result<Vec<Vec<f32>>> {
        let captions: Vec<Vec<TextToken>> = captions
            .iter()
            .map(|caption| Ok(self.tokenizer.encode(caption, self.text_length - 1)?.ids))
            .collect::<Result<_>>()?;
        let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
        let pictures: Vec<&[u8]> = pictures.iter().map(|picture| picture.as_raw().as_slice()).collect();
        Ok(self.clip.cosines(&captions, &pictures)?)
    }
}

/// A picture that may be chosen.
pub struct Candidate {
    /// The seed that draws it alone, here and on the server.
    pub seed: u64,
    /// Its tokens.
    pub tokens: Vec<ImageToken>,
    /// Its pixels.
    pub picture: RgbImage,
    /// Its cosine with the caption.
    pub score: f32,
}

/// Draws the samples of `order` in bounded batches and scores them, in the order of their seeds. `progress` is called with the
/// number of tokens sampled.
///
/// # Errors
/// The caption or a setting is out of range, or the device fails.
pub fn draw(
    model: &mut Model,
    judge: &Judge,
    order: &Order,
    sampling: SamplingSettings,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Candidate>> {
    let Order { caption, samples: count, seed, .. } = *order;
    let mut candidates: Vec<Candidate> = Vec::with_capacity(count);
    let seeds: Vec<u64> = (0..count as u64).map(|place| seed.wrapping_add(place)).collect();
    let length = model.config.geometry().image_length();
    for seeds in seeds.chunks(BATCH) {
        // Samples of one caption share its cache.
        let part = Order { samples: seeds.len(), seed: seeds[0], ..order.clone() };
        let done = candidates.len() * length;
        let drawn = model.sample(&[part], sampling, |position| progress(done + position * seeds.len()))?;
        let tokens: Vec<Vec<ImageToken>> = drawn.into_iter().flatten().collect();
        let pictures: Vec<RgbImage> =
            tokens.iter().map(|tokens| model.decode(tokens)).collect::<Result<_>>()?;
        let scores = judge.cosines(&[caption], &pictures.iter().collect::<Vec<_>>())?.swap_remove(0);
        let parts = seeds.iter().zip(tokens).zip(pictures).zip(scores);
        candidates.extend(parts.map(|(((&seed, tokens), picture), score)| Candidate {
            seed,
            tokens,
            picture,
            score,
        }));
    }
    Ok(candidates)
}

/// The scores of some candidates, in their order.
pub fn scores(candidates: &[Candidate]) -> Vec<f32> {
    candidates.iter().map(|candidate| candidate.score).collect()
}
