//! Captions from the prior: its text comes first in the stream and is modelled like the image, so it can be drawn, from nothing
//! or from a beginning.

use dalle_shared::{SamplingSettings, TextToken};

use super::{NotFinite, SampleError, choose, read, uniform};
use crate::prior::{Masks, Prior, TextCache};

/// Stream of random numbers for text; images have stream 0.
const TEXT: u64 = 1;

/// Continues a caption to its end, or to the last text slot; gives all of its ids, the beginning's included. `settings.guidance`
/// has no meaning here.
///
/// # Errors
/// A beginning longer than a caption, settings out of range, or a device or weights that fail.
pub fn continue_caption(
    prior: &Prior,
    masks: &Masks,
    beginning: &[TextToken],
    settings: &SamplingSettings,
    seed: u64,
) -> Result<Vec<TextToken>, SampleError> {
    let (longest, vocab) = prior.text_sizes();
    let refuse = |message: String| Err(SampleError::Request(message));
    if beginning.len() > longest {
        return refuse(format!("expected a beginning of at most {longest} ids, got {}", beginning.len()));
    }
    if let Some(id) = beginning.iter().find(|id| id.0 as usize >= vocab) {
        return refuse(format!("text id {} is not below the vocabulary's {vocab}", id.0));
    }
    settings.validate(vocab + 1).map_err(|error| SampleError::Request(error.to_string()))?;
    let mut caption = beginning.to_vec();
    let mut cache = TextCache::default();
    while caption.len() < longest {
        let logits = read(prior.continue_text(masks, &mut cache, &caption))?;
        let position = caption.len();
        let next =
            choose(&logits, settings, uniform(seed, TEXT, position as u64)).ok_or(NotFinite { position })?;
        // The class behind the vocabulary is the caption's end.
        if next == vocab {
            break;
        }
        caption.push(TextToken(next as u32));
    }
    Ok(caption)
}
