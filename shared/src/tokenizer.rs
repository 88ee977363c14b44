//! The caption tokenizer natively, and its training: lower-cased byte-level BPE (section 2.2) by the library `tokenizers`. In the
//! browser [`BrowserTokenizer`](crate::browser_tokenizer::BrowserTokenizer) reads the same files and gives the same ids.
//!
//! The vocabulary is a Hugging Face `tokenizer.json`, trained by `dalle tokenizer train`. Every byte is in the vocabulary, so
//! every string can be encoded and there is no unknown token.

use std::str::FromStr;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    DecoderWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PostProcessorWrapper, PreTokenizedString, PreTokenizer, PreTokenizerWrapper, TokenizerBuilder,
    TokenizerImpl,
};

use crate::TextToken;
use crate::encoding::{Encoding, TokenizerError, show};

type Bpe = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// A caption tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    bpe: Bpe,
}

impl Tokenizer {
    /// Wraps a trained BPE model with the normalisation and splitting that training used.
    ///
    /// # Errors
    /// [`TokenizerError::Malformed`] if the library cannot build it.
    pub fn from_bpe(bpe: BPE) -> Result<Self, TokenizerError> {
        let malformed = |error: tokenizers::Error| TokenizerError::Malformed(error.to_string());
        let bpe = TokenizerBuilder::new()
            .with_model(bpe)
            .with_normalizer(Some(NormalizerWrapper::Lowercase(Lowercase)))
            .with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(Self::byte_level())))
            .with_post_processor(Some(PostProcessorWrapper::ByteLevel(Self::byte_level())))
            .with_decoder(Some(DecoderWrapper::ByteLevel(Self::byte_level())))
            .build()
            .map_err(malformed)?;
        Ok(Self { bpe })
    }

    /// How captions are split before merging: at word boundaries, where a space belongs to the word after it. The first word gets a
    /// space too, so that a word has the same ids in every position.
    pub fn byte_level() -> ByteLevel {
        ByteLevel::new(true, true, true)
    }

    /// Reads the bytes of a `tokenizer.json`. BPE dropout in it is ignored: it is meant for training, and here a caption must always
    /// get the same ids.
    ///
    /// # Errors
    /// [`TokenizerError::Malformed`] if it is not a byte-level BPE tokenizer.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let text =
            std::str::from_utf8(bytes).map_err(|error| TokenizerError::Malformed(error.to_string()))?;
        let mut bpe = Bpe::from_str(text).map_err(|error| TokenizerError::Malformed(error.to_string()))?;
        let mut ids: Vec<u32> = bpe.get_vocab(true).into_values().collect();
        ids.sort_unstable();
        if let Some((expected, got)) = (0..).zip(ids).find(|(expected, got)| expected != got) {
            let problem = if got < expected { "two tokens have it" } else { "no token has it" };
            return Err(TokenizerError::Malformed(format!("id {}: {problem}", expected.min(got))));
        }
        if bpe.get_model().dropout.is_some() {
            let mut model = bpe.get_model().clone();
            model.dropout = None;
            bpe.with_model(model);
        }
        Ok(Self { bpe })
    }

    /// The content of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Malformed`] if the library cannot serialise it.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.bpe.to_string(true).map_err(|error| TokenizerError::Malformed(error.to_string()))
    }

    /// The words of a caption before merging: lower-cased, split, in the byte-level alphabet.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] if the library cannot split the text.
    pub fn words(&self, caption: &str) -> Result<Vec<String>, TokenizerError> {
        let refusal = |error: tokenizers::Error| TokenizerError::Encode(error.to_string());
        let mut text = NormalizedString::from(caption.trim());
        if let Some(normalizer) = self.bpe.get_normalizer() {
            normalizer.normalize(&mut text).map_err(refusal)?;
        }
        let mut text = PreTokenizedString::from(text);
        if let Some(splitter) = self.bpe.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut text).map_err(refusal)?;
        }
        let splits = text.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        Ok(splits.into_iter().map(|(word, ..)| word.to_owned()).collect())
    }

    /// The id of a token in the byte-level alphabet.
    pub fn id(&self, token: &str) -> Option<TextToken> {
        self.bpe.token_to_id(token).map(TextToken)
    }

    /// Number of ids in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.bpe.get_vocab_size(true)
    }

    /// Encodes a caption into at most `length` ids.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] if the library cannot encode the text.
    pub fn encode(&self, caption: &str, length: usize) -> Result<Encoding, TokenizerError> {
        let encoding = self
            .bpe
            .encode(caption.trim(), false)
            .map_err(|error| TokenizerError::Encode(error.to_string()))?;
        let ids = encoding.get_ids();
        let kept = ids.len().min(length);
        Ok(Encoding {
            ids: ids[..kept].iter().copied().map(TextToken).collect(),
            pieces: encoding.get_tokens()[..kept].iter().map(|token| show(token)).collect(),
            cut: ids.len() - kept,
        })
    }

    /// The text of some ids, in lower case, with invalid UTF-8 replaced.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] if an id is unknown to the library.
    pub fn decode(&self, ids: &[TextToken]) -> Result<String, TokenizerError> {
        let ids: Vec<u32> = ids.iter().map(|id| id.0).collect();
        let text = self.bpe.decode(&ids, true).map_err(|error| TokenizerError::Encode(error.to_string()))?;
        Ok(text.trim_start().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tokenizer of all bytes and the merges of " cat".
    fn tokenizer() -> Tokenizer {
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let mut vocab: Vec<String> = alphabet.into_iter().map(String::from).collect();
        let merges = [("Ġ", "c"), ("a", "t"), ("Ġc", "at")];
        vocab.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
        let vocab: Vec<(String, u32)> = vocab.into_iter().zip(0..).collect();
        let vocab: [(String, u32); 259] = vocab.try_into().unwrap();
        let merges = merges.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let bpe = BPE::builder().vocab_and_merges(vocab, merges).build().unwrap();
        Tokenizer::from_bpe(bpe).unwrap()
    }

    #[test]
    fn lower_cases_merges_and_shows_pieces() {
        let encoding = tokenizer().encode("CAT  é", 256).unwrap();
        assert_eq!(encoding.pieces[0], "cat");
        assert_eq!(encoding.pieces.last().map(String::as_str), Some("A9"));
        assert_eq!(encoding, tokenizer().encode("cat  é", 256).unwrap());
    }

    #[test]
    fn a_long_caption_is_truncated_and_the_rest_counted() {
        let encoding = tokenizer().encode("cat cat cat", 2).unwrap();
        assert_eq!((encoding.ids.len(), encoding.pieces.len(), encoding.cut), (2, 2, 1));
    }

    #[test]
    fn round_trips_through_json_and_refuses_anything_else() {
        let json = tokenizer().to_json().unwrap();
        let again = Tokenizer::from_json(json.as_bytes()).unwrap();
        assert_eq!(again.encode("a cat", 9).unwrap(), tokenizer().encode("a cat", 9).unwrap());
        for rubbish in [&b"{}"[..], b"\xff", b"", b"[1]"] {
            assert!(Tokenizer::from_json(rubbish).is_err());
        }
    }

    #[test]
    fn missing_and_duplicate_ids_are_refused() {
        let json = tokenizer().to_json().unwrap();
        for (id, problem) in [(257, "id 257: two tokens have it"), (259, "id 258: no token has it")] {
            let changed = json.replace("\"Ġcat\": 258", &format!("\"Ġcat\": {id}"));
            assert_ne!(changed, json);
            let error = Tokenizer::from_json(changed.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn words_are_lower_case_and_begin_with_a_space() {
        assert_eq!(tokenizer().words(" A Cat ").unwrap(), ["Ġa", "Ġcat"]);
        assert!(tokenizer().words("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn every_caption_comes_back_in_lower_case(caption in any::<String>()) {
            let encoding = tokenizer().encode(&caption, usize::MAX).unwrap();
            let lower: String = caption.trim().chars().flat_map(char::to_lowercase).collect();
            prop_assert_eq!(tokenizer().decode(&encoding.ids).unwrap(), lower.trim_start());
        }
    }
}
