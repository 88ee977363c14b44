//! BPE dropout (arXiv 1910.13267): captions spelled in other ways than the usual one, as the paper trains with (appendix B.2).
//!
//! Before each merge, every merge that is possible is dropped with some probability; of the others the first learned is made; when
//! none is left the word is done. The library can do this too, but draws from a generator that cannot be seeded, and a run
//! that is resumed must continue as if it had not stopped.

use std::collections::HashMap;

use anyhow::{Context, Result};
use dalle_shared::{TextToken, Tokenizer};
use rand::{Rng, RngExt};

/// A tokenizer that drops merges.
pub struct BpeDropout {
    tokenizer: Tokenizer,
    /// When each pair was learned to be merged.
    ranks: HashMap<(String, String), usize>,
    probability: f64,
}

impl BpeDropout {
    /// Drops each merge with `probability`.
    ///
    /// # Errors
    /// The tokenizer's file has no list of merges.
    pub fn new(tokenizer: Tokenizer, probability: f32) -> Result<Self> {
        let file: serde_json::Value = serde_json::from_str(&tokenizer.to_json()?)?;
        let merges = file["model"]["merges"].as_array().context("the tokenizer has no list of merges")?;
        let ranks = merges
            .iter()
            .enumerate()
            .map(|(rank, merge)| {
                let pair: (String, String) = serde_json::from_value(merge.clone())?;
                Ok((pair, rank))
            })
            .collect::<Result<_>>()
            .context("a merge of the tokenizer is no pair")?;
        Ok(Self { tokenizer, ranks, probability: probability.into() })
    }

    /// Encodes a caption into at most `length` ids.
    ///
    /// # Errors
    /// The library refuses the text, or a merge leads to a token that has no id.
    pub fn encode(&self, caption: &str, length: usize, rng: &mut impl Rng) -> Result<Vec<TextToken>> {
        let mut ids = Vec::new();
        for word in self.tokenizer.words(caption)? {
            for token in self.merge(&word, rng) {
                ids.push(
                    self.tokenizer
                        .id(&token)
                        .with_context(|| format!("the tokenizer has no id for `{token}`"))?,
                );
            }
        }
        ids.truncate(length);
        Ok(ids)
    }

    fn merge(&self, word: &str, rng: &mut impl Rng) -> Vec<String> {
        let mut tokens: Vec<String> = word.chars().map(String::from).collect();
        loop {
            let possible = tokens.windows(2).enumerate().filter_map(|(place, pair)| {
                let rank = *self.ranks.get(&(pair[0].clone(), pair[1].clone()))?;
                Some((rank, place))
            });
            let Some((_, place)) = possible.filter(|_| !rng.random_bool(self.probability)).min() else {
                return tokens;
            };
            let right = tokens.remove(place + 1);
            tokens[place].push_str(&right);
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
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/models/emoji-128/tokenizer.json");
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
    fn without_dropout_it_spells_as_the_library_does() {
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
    fn dropout_changes_the_spelling_not_the_text_and_repeats_with_its_seed() {
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
