//! What is stored beside an image: its captions, concept, split and origin.

use std::collections::BTreeMap;
use std::fmt;

use dalle_shared::sha256_hex;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

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
        let digest = sha256_hex(format!("split {concept}").as_bytes());
        // 13 hexadecimal digits are 52 bits: exact in a double.
        let uniform =
            u64::from_str_radix(&digest[..13], 16).map_or(0.0, |bits| bits as f64 / (1u64 << 52) as f64);
        if uniform < share { Self::Val } else { Self::Train }
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
    /// SPDX licence of the image.
    pub license: String,
    /// Package, version and name of the image, or its path in the folder.
    pub source: String,
    /// What else the source knows of the image, such as the family, group and code points of an emoji.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The captions of one image. Training samples one of them at each reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captions {
    /// Its name, such as "red apple", or a whole caption.
    pub label: String,
    /// Words that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Colour of the background, unless white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// Sentences with placeholders `{label}` and `{tag}`; the first has no `{tag}` and is the main caption.
    pub templates: Vec<String>,
    /// Other whole captions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
}

/// Probability of reading the main caption: what people will type most.
const MAIN_SHARE: f64 = 0.5;

impl Captions {
    /// The captions of the same image on a coloured background: each names the colour.
    #[must_use]
    pub fn on_background(mut self, colour: &str) -> Self {
        for caption in self.templates.iter_mut().chain(&mut self.alternatives) {
            caption.push_str(&format!(" on a {colour} background"));
        }
        self.background = Some(colour.to_owned());
        self
    }

    /// The main caption: the label, with the background unless it is white.
    pub fn main(&self) -> String {
        self.templates.first().map_or_else(|| self.label.clone(), |template| self.fill(template, &[]))
    }

    /// A random caption: the main one half of the time, else another template with random tags, or an alternative.
    pub fn sample(&self, rng: &mut impl Rng) -> String {
        let templates: Vec<&String> = self.usable_templates().skip(1).collect();
        let others = templates.len() + self.alternatives.len();
        if others == 0 || rng.random_bool(MAIN_SHARE) {
            return self.main();
        }
        let chosen = rng.random_range(..others);
        let Some(template) = templates.get(chosen) else {
            return self.alternatives[chosen - templates.len()].clone();
        };
        let mut tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let wanted = places(template);
        for index in 0..wanted {
            let other = rng.random_range(index..tags.len());
            tags.swap(index, other);
        }
        self.fill(template, &tags[..wanted])
    }

    /// Every text that a tokenizer should learn: each template with its label, the tags, the alternatives.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let filled = self.usable_templates().map(move |template| self.fill(template, &tags));
        filled.chain(self.tags.iter().cloned()).chain(self.alternatives.iter().cloned())
    }

    /// The templates that have enough tags.
    fn usable_templates(&self) -> impl Iterator<Item = &String> {
        self.templates.iter().filter(|template| places(template) <= self.tags.len())
    }

    /// Replaces the placeholders by label and tags. What is inserted is not searched for placeholders.
    fn fill(&self, template: &str, tags: &[&str]) -> String {
        let mut tags = tags.iter();
        let mut caption = String::new();
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            caption.push_str(&rest[..start]);
            rest = &rest[start..];
            if let Some(after) = rest.strip_prefix("{label}") {
                caption.push_str(&self.label);
                rest = after;
            } else if let Some(after) = rest.strip_prefix("{tag}") {
                caption.push_str(tags.next().copied().unwrap_or_default());
                rest = after;
            } else {
                caption.push('{');
                rest = &rest[1..];
            }
        }
        caption + rest
    }
}

/// Tags that a template takes.
fn places(template: &str) -> usize {
    template.matches("{tag}").count()
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
