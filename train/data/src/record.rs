//! What is stored beside a picture: its captions, its concept, its split, where it came from.

use std::fmt;

use dalle_shared::sha256_hex;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

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

/// The `.json` of one picture in a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What to call the picture.
    #[serde(flatten)]
    pub captions: Captions,
    /// What it shows, for splitting: an emoji's code points without skin tone, or a folder picture's first caption.
    pub concept: String,
    /// An emoji's code points in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hexcode: Option<String>,
    /// Trained on or held out.
    pub split: Split,
    /// SPDX licence of the picture.
    pub license: String,
    /// Package, version and name of the picture, or its path in the folder.
    pub source: String,
}

/// The captions of one picture. Which one is read is drawn anew in each epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captions {
    /// Its name, such as "red apple", or the caption somebody wrote.
    pub label: String,
    /// Words that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The family that drew it; empty for a folder of pictures.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub family: String,
    /// The family's word for its style.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub style: String,
    /// Unicode's group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Unicode's subgroup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subgroup: String,
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
