//! Samples captions from the prior. The text precedes the image in the stream and is modelled in the same way, so it can be sampled
//! from scratch or from a prefix.

use dalle_sampler::{NotFinite, SampleError, choose, uniform};
use dalle_shared::{SamplingSettings, TextToken, check_text};

use super::burn_prior::read;
use crate::prior::{Masks, Prior, TextCache};

/// Random stream for text; images use stream 0.
const TEXT: u64 = 1;

/// Continues the caption `prefix` until the end token or the last text slot. Returns all ids, including the prefix.
/// `settings.guidance` is ignored.
///
/// # Errors
/// The prefix does not fit the model, a setting is out of range, the device fails, or the logits are not finite.
pub fn continue_caption(
    prior: &Prior,
    masks: &Masks,
    prefix: &[TextToken],
    settings: &SamplingSettings,
    seed: u64,
) -> Result<Vec<TextToken>, SampleError> {
    let geometry = prior.geometry();
    let vocab = geometry.text_vocab;
    check_text(prefix, &geometry)?;
    settings.validate(vocab + 1)?;
    let mut caption = prefix.to_vec();
    let mut cache = TextCache::default();
    while caption.len() < geometry.caption_length() {
        let logits = read(prior.continue_text(masks, &mut cache, &caption)?)?;
        let position = caption.len();
        let next =
            choose(&logits, settings, uniform(seed, TEXT, position as u64)).ok_or(NotFinite { position })?;
        // The class after the vocabulary is the end of the caption.
        if next == vocab {
            break;
        }
        caption.push(TextToken(next as u32));
    }
    Ok(caption)
}
