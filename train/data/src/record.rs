//! What is stored beside an image: its captions, concept, split and origin.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dalle_shared::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use crate::captions::Captions;

/// Whether an image is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Trained on.
    Train,
    /// Held out.
    Val,
}

impl Split {
    /// The split of a concept: held out with probability `share`, decided by a hash of its name. So all images of a concept
    /// are in the same split, in all datasets with the same `share`.
    pub fn of(concept: &str, share: f64) -> Self {
        if hash_fraction(&format!("split {concept}")) < share { Self::Val } else { Self::Train }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
        })
    }
}

/// A number from 0 to below 1 that is a function of the text alone: for choices that are the same on every machine.
pub fn hash_fraction(text: &str) -> f64 {
    // 13 hexadecimal digits are 52 bits: exact in a double.
    let digest = sha256_hex(text.as_bytes());
    u64::from_str_radix(&digest[..13], 16).map_or(0.0, |bits| bits as f64 / (1u64 << 52) as f64)
}

/// Why an example is held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldOut {
    /// No training image shows its concept.
    Concept,
    /// Training images show its concept, but none in its style.
    Style,
    /// Training images show its two concepts, or its concept and its colour, but none shows them together.
    Pair,
}

/// The examples of a dataset that a reader asks for: `train`, `val` (all that are held out), or those held out for one
/// reason, `val-concept`, `val-style` or `val-pair`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subset {
    /// The training split.
    Train,
    /// The validation split.
    Val,
    /// The part of the validation split that is held out for one reason.
    HeldOut(HeldOut),
}

impl Subset {
    /// All subsets.
    pub const ALL: [Self; 5] = [
        Self::Train,
        Self::Val,
        Self::HeldOut(HeldOut::Concept),
        Self::HeldOut(HeldOut::Style),
        Self::HeldOut(HeldOut::Pair),
    ];

    /// Whether an example of this split belongs to it. Datasets that state no reason hold out concepts.
    pub fn contains(self, split: Split, held_out: Option<HeldOut>) -> bool {
        match self {
            Self::Train => split == Split::Train,
            Self::Val => split == Split::Val,
            Self::HeldOut(reason) => split == Split::Val && held_out.unwrap_or(HeldOut::Concept) == reason,
        }
    }
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::HeldOut(HeldOut::Concept) => "val-concept",
            Self::HeldOut(HeldOut::Style) => "val-style",
            Self::HeldOut(HeldOut::Pair) => "val-pair",
        })
    }
}

impl FromStr for Subset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|subset| subset.to_string() == name).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("expected one of {}, got `{name}`", names.join(", "))
        })
    }
}

/// The concept that a label names: the key by which images are held out together, the same for every source. Case,
/// punctuation, spacing, Unicode's form and a leading English article make no difference: "A red apple." and "red apple" are
/// one concept. A label without letters or digits stands for itself.
pub fn concept_of(label: &str) -> String {
    let normalised: String = label.nfkc().collect::<String>().to_lowercase();
    let mut words: Vec<&str> =
        normalised.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.len() > 1 && ["a", "an", "the"].contains(&words[0]) {
        words.remove(0);
    }
    if words.is_empty() { normalised.trim().to_owned() } else { words.join(" ") }
}

/// The `.json` of one image in a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its captions.
    #[serde(flatten)]
    pub captions: Captions,
    /// What it shows, for splitting: [`concept_of`] its label; of an emoji, the label without skin tone.
    pub concept: String,
    /// Trained on or held out.
    pub split: Split,
    /// Why it is held out, if the dataset has several reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// SPDX licence of the image.
    pub license: String,
    /// Package, version and name of the image, or its path in the folder.
    pub source: String,
    /// What else the source knows of the image, such as the family, group and code points of an emoji.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_concept_has_one_key_however_its_label_is_written() {
        for label in
            ["red apple", "Red apple", "a red apple.", "The  red-apple", " red apple!", "ｒｅｄ apple"]
        {
            assert_eq!(concept_of(label), "red apple", "{label}");
        }
        // Composed and decomposed forms of é.
        assert_eq!(concept_of("caf\u{e9}"), concept_of("Cafe\u{301}"));
        assert_eq!(concept_of("flag: Japan"), "flag japan");
        assert_eq!(concept_of("A"), "a", "an article alone is a word");
        assert_eq!(concept_of(" !? "), "!?");
        assert_ne!(concept_of("リンゴ"), concept_of("梨"));
    }
}
