//! What is stored beside a picture: its captions, its concept, its split, where it came from.

use std::collections::BTreeMap;
use std::fmt;

use dalle_shared::sha256_hex;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

/// Whether a picture is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Trained on.
    Train,
    /// Held out.
    Val,
}

impl Split {
    /// The split of a concept: held out with probability `share`, decided by a hash of its name. So every drawing of a
    /// concept, in every dataset, falls on the same side.
    pub fn of(concept: &str, share: f64) -> Self {
        let digest = sha256_hex(format!("split {concept}").as_bytes());
        // 13 hexadecimal digits are 52 bits: exact in a double.
        let drawn =
            u64::from_str_radix(&digest[..13], 16).map_or(0.0, |bits| bits as f64 / (1u64 << 52) as f64);
        if drawn < share { Self::Val } else { Self::Train }
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

/// The `.json` of one picture in a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What to call the picture.
    #[serde(flatten)]
    pub captions: Captions,
    /// What it shows, for splitting: [`concept_of`] its label, for an emoji that without skin tone.
    pub concept: String,
    /// Trained on or held out.
    pub split: Split,
    /// SPDX licence of the picture.
    pub license: String,
    /// Package, version and name of the image, or its path in the folder.
    pub source: String,
    /// What else the source knows of the image, such as the family, group and code points of an emoji.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The captions of one picture. Which one is read is drawn anew in each epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captions {
    /// Its name, such as "red apple", or the caption somebody wrote.
    pub label: String,
    /// Words that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Colour of the background, unless white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// Sentences with the places `{label}` and `{tag}`; the first has no `{tag}` and is the main one.
    pub templates: Vec<String>,
    /// Other whole captions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
}

/// Probability of reading the main caption: what people will type most.
const MAIN_SHARE: f64 = 0.5;

impl Captions {
    /// The same captions for the picture on a coloured background: each says so.
    #[must_use]
    pub fn on_background(mut self, colour: &str) -> Self {
        for caption in self.templates.iter_mut().chain(&mut self.alternatives) {
            caption.push_str(&format!(" on a {colour} background"));
        }
        self.background = Some(colour.to_owned());
        self
    }

    /// The main caption: the label, and the background where it is not white.
    pub fn main(&self) -> String {
        self.templates.first().map_or_else(|| self.label.clone(), |template| self.fill(template, &[]))
    }

    /// A caption drawn at random: half of the time the main one, else another template, its tags drawn at random, or an
    /// alternative.
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

    /// Every text that a tokenizer should know how to spell: each template with its label, the tags, the alternatives.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let filled = self.usable_templates().map(move |template| self.fill(template, &tags));
        filled.chain(self.tags.iter().cloned()).chain(self.alternatives.iter().cloned())
    }

    /// The templates for which there are tags enough.
    fn usable_templates(&self) -> impl Iterator<Item = &String> {
        self.templates.iter().filter(|template| places(template) <= self.tags.len())
    }

    /// Puts label and tags in their places; text put in is not looked at again.
    fn fill(&self, template: &str, tags: &[&str]) -> String {
        let mut tags = tags.iter();
        let mut caption = String::new();
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            caption.push_str(&rest[..start]);
            rest = &rest[start..];
            if let Some(behind) = rest.strip_prefix("{label}") {
                caption.push_str(&self.label);
                rest = behind;
            } else if let Some(behind) = rest.strip_prefix("{tag}") {
                caption.push_str(tags.next().copied().unwrap_or_default());
                rest = behind;
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
