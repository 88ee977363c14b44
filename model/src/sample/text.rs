//! Sampling captions from the prior: the text comes first in the stream and is modelled like the image, so it can be sampled from
//! scratch or from a prefix.

use dalle_shared::{SamplingSettings, TextToken, check_text};

use super::{NotFinite, SampleError, choose, read, uniform};
use crate::prior::{Masks, Prior, TextCache};

/// Stream of random numbers for text; images have stream 0.
const TEXT: u64 = 1;

/// Continues the caption that begins with `prefix` to its end, or to the last text slot. Returns all of its ids, including the
/// prefix. `settings.guidance` is not used.
///
/// # Errors
/// A prefix that is not a caption of the model, settings out of range, a failed device, or logits that are not finite.
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
        // The class after the vocabulary is the caption's end.
        if next == vocab {
            break;
        }
        caption.push(TextToken(next as u32));
    }
    Ok(caption)
}
