//! `dalle tokenizer train`: a byte-level BPE vocabulary from the captions of a dataset's training split.
//!
//! Every byte has an id, so every caption can be encoded; the merges are learned from the words of the captions. The same
//! captions and size give the same vocabulary.

use dalle_shared::Tokenizer;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Trainer,
};

use dalle_data::{Captions, DataError};

/// Ids of single bytes: the smallest vocabulary.
pub const BYTES: usize = 256;

/// Weight of the main caption against each other text: training reads it as often as all of them together.
const MAIN_WEIGHT: usize = 4;

/// A pair that occurs less often gets no id.
const MIN_FREQUENCY: u64 = 2;

/// Learns a vocabulary of at most `vocab` ids from the captions of images. It has fewer if the captions have no more pairs that
/// repeat; see [`Tokenizer::vocab_size`].
///
/// # Errors
/// `vocab` is below [`BYTES`], there are no captions or they cannot be read, or the library fails.
pub fn train(
    captions: impl Iterator<Item = Result<Captions, DataError>> + Send,
    vocab: usize,
) -> Result<Tokenizer, DataError> {
    if vocab < BYTES {
        return Err(DataError::Option {
            option: "vocab",
            message: format!("expected at least {BYTES} ids, one for each byte, got {vocab}"),
        });
    }
    let (mut error, mut count) = (None, 0_u64);
    let texts = captions
        .map_while(|captions| captions.map_err(|reason| error = Some(reason)).ok())
        .inspect(|_| count += 1)
        .flat_map(|captions| {
            let main = std::iter::repeat_n(captions.main(), MAIN_WEIGHT);
            main.chain(captions.texts()).collect::<Vec<_>>()
        });
    let refused = |error: tokenizers::Error| DataError::Tokenizer(error.to_string());
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .min_frequency(MIN_FREQUENCY)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    trainer.feed(texts, words).map_err(refused)?;
    if let Some(error) = error {
        return Err(error);
    }
    if count == 0 {
        return Err(DataError::Nothing {
            reasons: "the dataset has no captions to train on".to_owned(),
            problems: Vec::new(),
        });
    }
    let mut bpe = BPE::default();
    trainer.train(&mut bpe).map_err(refused)?;
    Tokenizer::from_bpe(bpe).map_err(|error| DataError::Tokenizer(error.to_string()))
}

/// Splits a caption exactly as [`Tokenizer::encode`] does before it merges.
fn words(caption: &str) -> tokenizers::Result<Vec<String>> {
    let mut text = NormalizedString::from(caption.trim());
    Lowercase.normalize(&mut text)?;
    let mut text = PreTokenizedString::from(text);
    Tokenizer::byte_level().pre_tokenize(&mut text)?;
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, _, _)| word.to_owned()).collect())
}
