//! Reranking (section 2.6): samples many images of a caption and scores each with CLIP.
//!
//! ```text
//! let scorer = ClipScorer::load(&folder, device)?;
//! let candidates = sample_and_score(&mut generator, &scorer, &spec, settings, |_| ())?;
//! let best = &candidates[best_first(&scores(&candidates))[0]];
//! ```

use anyhow::Result;
use dalle_model::clip::Clip;
use dalle_model::footprint::Footprint;
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_shared::{ImageToken, SamplingSettings, TextToken, Tokenizer};
use image::RgbImage;

use crate::generator::{Generator, SampleSpec};

/// Samples per batch. Bounds memory; a CPU gains nothing from larger batches.
const BATCH: usize = 32;

/// CLIP and the tokenizer of a model folder.
pub struct ClipScorer {
    clip: Clip,
    tokenizer: Tokenizer,
    text_length: usize,
}

impl ClipScorer {
    /// Loads CLIP from a model folder.
    ///
    /// # Errors
    /// The folder has no CLIP, it is damaged or belongs to another tokenizer, or the device has too little memory.
    pub fn load(folder: &ModelFolder, device: DeviceName) -> Result<Self> {
        let needed = Footprint::scoring(&folder.clip_config()?, &folder.config, BATCH as u64);
        memory::check("scoring images with CLIP", needed, device)?;
        let (clip, tokenizer) = (folder.clip(&device.open()?)?, folder.tokenizer()?);
        Ok(Self { clip, tokenizer, text_length: folder.config.text_length })
    }

    /// The cosine similarity of each caption and each image, `[caption][image]`.
    ///
    /// # Errors
    /// An image does not have the model's size, or the device fails.
    pub fn cosines(&self, captions: &[&str], images: &[&RgbImage]) -> Result<Vec<Vec<f32>>> {
        let captions: Vec<Vec<TextToken>> = captions
            .iter()
            .map(|caption| Ok(self.tokenizer.encode(caption, self.text_length - 1)?.ids))
            .collect::<Result<_>>()?;
        let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
        let images: Vec<&[u8]> = images.iter().map(|image| image.as_raw().as_slice()).collect();
        Ok(self.clip.cosines(&captions, &images)?)
    }
}

/// A scored sample.
pub struct Candidate {
    /// The seed that generates this image alone, on the command line and on the server.
    pub seed: u64,
    /// Its tokens.
    pub tokens: Vec<ImageToken>,
    /// Its pixels.
    pub image: RgbImage,
    /// The cosine similarity of caption and image.
    pub score: f32,
}

/// Samples the images of `spec` in batches and scores them, in the order of their seeds.
///
/// `progress` is called with the number of tokens sampled.
///
/// # Errors
/// The caption or a setting is out of range, or the device fails.
pub fn sample_and_score(
    generator: &mut Generator,
    scorer: &ClipScorer,
    spec: &SampleSpec,
    settings: SamplingSettings,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Candidate>> {
    let SampleSpec { caption, samples: count, seed, .. } = *spec;
    let mut candidates: Vec<Candidate> = Vec::with_capacity(count);
    let seeds: Vec<u64> = (0..count as u64).map(|sample| seed.wrapping_add(sample)).collect();
    let length = generator.config.geometry().image_length();
    for seeds in seeds.chunks(BATCH) {
        // The samples of one caption share its cache.
        let part = SampleSpec { samples: seeds.len(), seed: seeds[0], ..spec.clone() };
        let done = candidates.len() * length;
        let sampled =
            generator.sample(&[part], settings, |position| progress(done + position * seeds.len()))?;
        let tokens: Vec<Vec<ImageToken>> = sampled.into_iter().flatten().collect();
        let images: Vec<RgbImage> =
            tokens.iter().map(|tokens| generator.decode(tokens)).collect::<Result<_>>()?;
        let scores = scorer.cosines(&[caption], &images.iter().collect::<Vec<_>>())?.swap_remove(0);
        let parts = seeds.iter().zip(tokens).zip(images).zip(scores);
        candidates.extend(parts.map(|(((&seed, tokens), image), score)| Candidate {
            seed,
            tokens,
            image,
            score,
        }));
    }
    Ok(candidates)
}

/// The scores of the candidates, in their order.
pub fn scores(candidates: &[Candidate]) -> Vec<f32> {
    candidates.iter().map(|candidate| candidate.score).collect()
}
