//! BPE dropout (arXiv 1910.13267): random segmentations of a caption, as in the paper's training (appendix B.2).
//!
//! In each step every possible merge is dropped with some probability, and of the rest the one that was learned first is applied. A
//! word is done when no merge is left. The library `tokenizers` has BPE dropout too, but its random numbers cannot be seeded, and a
//! resumed run must continue as if it had not stopped.

use std::collections::HashMap;

use anyhow::{Context, Result};
use dalle_shared::{TextToken, Tokenizer};
use rand::{Rng, RngExt};

/// A tokenizer that drops merges.
pub struct BpeDropout {
    tokenizer: Tokenizer,
    /// For each pair of ids that can be merged, the merge's rank and the resulting id.
    merges: HashMap<(TextToken, TextToken), (usize, TextToken)>,
    probability: f64,
}

impl BpeDropout {
    /// A tokenizer that drops each merge with `probability`.
    ///
    /// # Errors
    /// The tokenizer's file has no list of merges, or a merge contains a token without an id.
    pub fn new(tokenizer: Tokenizer, probability: f32) -> Result<Self> {
        let file: serde_json::Value = serde_json::from_str(&tokenizer.to_json()?)?;
        let merges = file["model"]["merges"].as_array().context("the tokenizer has no list of merges")?;
        let id = |token: &str| {
            tokenizer.id(token).with_context(|| format!("the tokenizer has no id for `{token}`"))
        };
        let merge = |(rank, pair): (usize, &serde_json::Value)| {
            let (left, right): (String, String) =
                serde_json::from_value(pair.clone()).context("a merge of the tokenizer is not a pair")?;
            Ok(((id(&left)?, id(&right)?), (rank, id(&format!("{left}{right}"))?)))
        };
        let merges = merges.iter().enumerate().map(merge).collect::<Result<_>>()?;
        Ok(Self { tokenizer, merges, probability: probability.into() })
    }

    /// Encodes a caption into at most `length` ids.
    ///
    /// # Errors
    /// The library cannot split the text, or a byte has no id.
    pub fn encode(&self, caption: &str, length: usize, rng: &mut impl Rng) -> Result<Vec<TextToken>> {
        let mut ids = Vec::new();
        for word in self.tokenizer.words(caption)? {
            let letters = word.chars().map(|letter| {
                let letter = letter.encode_utf8(&mut [0; 4]).to_owned();
                self.tokenizer.id(&letter).with_context(|| format!("the tokenizer has no id for `{letter}`"))
            });
            let letters = letters.collect::<Result<_>>()?;
            ids.extend(self.merge(letters, rng));
        }
        ids.truncate(length);
        Ok(ids)
    }

    /// Merges the bytes of a word.
    fn merge(&self, mut ids: Vec<TextToken>, rng: &mut impl Rng) -> Vec<TextToken> {
        loop {
            let possible = ids.windows(2).enumerate().filter_map(|(place, pair)| {
                let &(rank, merged) = self.merges.get(&(pair[0], pair[1]))?;
                Some((rank, place, merged))
            });
            let kept = possible.filter(|_| !rng.random_bool(self.probability));
            let Some((_, place, merged)) = kept.min_by_key(|&(rank, place, _)| (rank, place)) else {
                return ids;
            };
            ids[place] = merged;
            ids.remove(place + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The tokenizer of the shipped model.
    fn tokenizer() -> Tokenizer {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/models/drawings-128/tokenizer.json");
        Tokenizer::from_json(&std::fs::read(path).unwrap()).unwrap()
    }

    const CAPTIONS: [&str; 5] = [
        "smiling face with sunglasses",
        "Mushroom!",
        "  crème brûlée ",
        "日本 🍣 sushi",
        "mississippi bananas",
    ];

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    #[test]
    fn without_dropout_the_ids_are_those_of_the_library() {
        let bpe = BpeDropout::new(tokenizer(), 0.0).unwrap();
        for caption in CAPTIONS {
            assert_eq!(
                bpe.encode(caption, 99, &mut rng(0)).unwrap(),
                tokenizer().encode(caption, 99).unwrap().ids,
                "{caption}"
            );
        }
        assert_eq!(bpe.encode(CAPTIONS[0], 2, &mut rng(0)).unwrap().len(), 2);
    }

    #[test]
    fn dropout_changes_the_ids_not_the_text_and_repeats_with_its_seed() {
        let bpe = BpeDropout::new(tokenizer(), 0.3).unwrap();
        for caption in CAPTIONS {
            let spellings: Vec<_> =
                (0..32).map(|seed| bpe.encode(caption, 99, &mut rng(seed)).unwrap()).collect();
            assert!(spellings.iter().any(|ids| *ids != spellings[0]), "{caption}");
            assert_eq!(spellings[5], bpe.encode(caption, 99, &mut rng(5)).unwrap());
            for ids in spellings {
                assert_eq!(tokenizer().decode(&ids).unwrap(), caption.trim().to_lowercase());
            }
        }
        let all = BpeDropout::new(tokenizer(), 1.0).unwrap().encode("cat", 9, &mut rng(0)).unwrap();
        assert_eq!(all.len(), 4, "every merge dropped: the space and three letters");
    }
}
