//! `dalle tokenizer train`: a byte-level BPE vocabulary from the captions of a dataset's training split.
//!
//! Every byte has an id, so every caption can be spelled; the merges are those of the words that captions use. The same
//! captions and size give the same vocabulary.

use dalle_shared::Tokenizer;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Trainer,
};

use dalle_data::{DataError, Dataset, Split};

/// Ids that stand for single bytes: the smallest vocabulary.
pub const BYTES: usize = 256;

/// How many times the main caption counts as often as each other text: it is read as often as all of them together.
const MAIN_WEIGHT: usize = 4;

/// A pair of pieces seen less often is not worth an id.
const MIN_FREQUENCY: u64 = 2;

/// Learns a vocabulary of at most `vocab` ids. Fewer come out when the captions have no more pairs that repeat; see
/// [`Tokenizer::vocab_size`].
///
/// # Errors
/// `vocab` is below [`BYTES`], the dataset has nothing to train on, or the library refuses.
pub fn train(dataset: &Dataset, vocab: usize) -> Result<Tokenizer, DataError> {
    if vocab < BYTES {
        return Err(DataError::Option {
            option: "vocab",
            message: format!("expected at least {BYTES} ids, one for each byte, got {vocab}"),
        });
    }
    let mut texts = Vec::new();
    for example in dataset.split(Split::Train) {
        texts.extend(std::iter::repeat_n(example.captions.main(), MAIN_WEIGHT));
        texts.extend(example.captions.texts());
    }
    if texts.is_empty() {
        return Err(DataError::Nothing { reasons: "the dataset has no captions to train on".to_owned() });
    }
    let refused = |error: tokenizers::Error| DataError::Tokenizer(error.to_string());
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .min_frequency(MIN_FREQUENCY)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    trainer.feed(texts.iter(), words).map_err(refused)?;
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
