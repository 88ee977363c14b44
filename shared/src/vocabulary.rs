//! `vocabulary.json` of a dataset or a model folder: what the captions that a prior is trained on can say. Programs suggest captions
//! from it and tell which words a model has never seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The vocabulary of captions. All lists but the first may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vocabulary {
    /// Names of what is shown, without article, or whole captions; of each, in how many pictures.
    pub names: BTreeMap<String, usize>,
    /// Names of emoji.
    pub emoji: BTreeMap<String, String>,
    /// Styles.
    pub styles: BTreeSet<String>,
    /// Colours of things.
    pub colours: BTreeSet<String>,
    /// Colours of backgrounds.
    pub backgrounds: BTreeSet<String>,
    /// Relations of two things.
    pub relations: BTreeSet<String>,
    /// Numbers of one thing.
    pub counts: BTreeSet<String>,
    /// Sizes of a thing.
    pub sizes: BTreeSet<String>,
}

impl Vocabulary {
    /// Adds what `other` can say.
    pub fn merge(&mut self, other: Self) {
        let Self { names, emoji, styles, colours, backgrounds, relations, counts, sizes } = other;
        for (name, count) in names {
            *self.names.entry(name).or_default() += count;
        }
        for (symbol, name) in emoji {
            self.emoji.entry(symbol).or_insert(name);
        }
        self.styles.extend(styles);
        self.colours.extend(colours);
        self.backgrounds.extend(backgrounds);
        self.relations.extend(relations);
        self.counts.extend(counts);
        self.sizes.extend(sizes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vocabulary {
        serde_json::from_str(json).expect("a vocabulary")
    }

    #[test]
    fn vocabularies_are_merged_and_lists_may_be_missing() {
        let mut all = read(r#"{"names": {"cat": 2, "dog": 1}, "emoji": {"🐈": "cat"}, "styles": ["flat"]}"#);
        all.merge(read(
            r#"{"names": {"cat": 3}, "emoji": {"🐈": "kitten"}, "styles": ["3d"], "counts": ["two"]}"#,
        ));
        let expected = r#"{"names": {"cat": 5, "dog": 1}, "emoji": {"🐈": "cat"}, "styles": ["3d", "flat"],
            "counts": ["two"]}"#;
        assert_eq!(all, read(expected));
    }
}
