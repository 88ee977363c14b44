//! The captions of an image, of which training samples one at each reading.
//!
//! A folder of images gives whole captions. A recipe of drawings gives names of what is shown ("a red apple") and templates with
//! places for them ("{a} on a pink background, flat style").

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// The captions of one image. Training samples one of them at each reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captions {
    /// Its name, such as "red apple", or a whole caption.
    pub label: String,
    /// Words that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Noun phrases for what is shown, with their article: "a red apple", "flowers", "the Tokyo Tower". With names, all choices
    /// are uniform, and a name or template that is listed twice is chosen twice as often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The word for the style of the drawing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
    /// Colour of the background, unless white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// Sentences with placeholders `{label}` and `{tag}`; the first has no `{tag}` and is the main caption. With names, the
    /// placeholders are `{a}` (the name), `{the}` (with "the" as article) and `{bare}` (without article).
    pub templates: Vec<String>,
    /// Other whole captions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
}

/// Probability of reading the main caption of an image without names: what people will type most.
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

    /// The main caption: the first name or the label, with the background unless it is white.
    pub fn main(&self) -> String {
        match (self.templates.first(), self.names.first()) {
            (Some(template), Some(name)) => with_name(template, name),
            (Some(template), None) => self.fill(template, &[]),
            (None, _) => self.label.clone(),
        }
    }

    /// The main caption with the style of the drawing.
    pub fn styled(&self) -> String {
        match &self.style {
            Some(style) => format!("{}, {style} style", self.main()),
            None => self.main(),
        }
    }

    /// A random caption. With names: a random template with a random name. Otherwise the main caption half of the time, else
    /// another template with random tags, or an alternative.
    pub fn sample(&self, rng: &mut impl Rng) -> String {
        if !self.names.is_empty() && !self.templates.is_empty() {
            let template = &self.templates[rng.random_range(..self.templates.len())];
            return with_name(template, &self.names[rng.random_range(..self.names.len())]);
        }
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

    /// Every text that a tokenizer should learn: each template with its label or first name, the other names, the tags, the
    /// alternatives.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let filled = self.usable_templates().map(move |template| match self.names.first() {
            Some(name) => with_name(template, name),
            None => self.fill(template, &tags),
        });
        let others = self.names.iter().skip(1).chain(&self.tags).chain(&self.alternatives);
        filled.chain(others.cloned())
    }

    /// The templates that have enough tags.
    fn usable_templates(&self) -> impl Iterator<Item = &String> {
        self.templates.iter().filter(|template| places(template) <= self.tags.len())
    }

    /// Replaces the placeholders by label and tags.
    fn fill(&self, template: &str, tags: &[&str]) -> String {
        let mut tags = tags.iter();
        replace(template, |place| match place {
            "label" => Some(self.label.clone()),
            "tag" => Some(tags.next().copied().unwrap_or_default().to_owned()),
            _ => None,
        })
    }
}

/// Replaces the placeholders of a template by the forms of a name.
fn with_name(template: &str, name: &str) -> String {
    replace(template, |place| match place {
        "a" => Some(name.to_owned()),
        "the" => Some(definite(name)),
        "bare" => Some(bare(name).to_owned()),
        _ => None,
    })
}

/// The name without its article.
pub fn bare(name: &str) -> &str {
    ["a ", "an ", "the "].into_iter().find_map(|article| name.strip_prefix(article)).unwrap_or(name)
}

/// The name with the definite article. A name without article that begins with a capital is that of a person, place or star,
/// and stays as it is.
fn definite(name: &str) -> String {
    match bare(name) {
        same if same == name && name.starts_with(char::is_uppercase) => name.to_owned(),
        bare => format!("the {bare}"),
    }
}

/// Replaces each `{place}` that is known. What is inserted is not searched for placeholders.
fn replace(template: &str, mut of: impl FnMut(&str) -> Option<String>) -> String {
    let mut caption = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        caption.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find('}');
        match end.and_then(|end| Some((end, of(&rest[1..end])?))) {
            Some((end, text)) => {
                caption.push_str(&text);
                rest = &rest[end + 1..];
            }
            None => {
                caption.push('{');
                rest = &rest[1..];
            }
        }
    }
    caption + rest
}

/// Tags that a template takes.
fn places(template: &str) -> usize {
    template.matches("{tag}").count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_name_has_three_forms() {
        for (name, the, without) in [
            ("a red apple", "the red apple", "red apple"),
            ("an hourglass", "the hourglass", "hourglass"),
            ("flowers", "the flowers", "flowers"),
            ("the sun", "the sun", "sun"),
            ("Santa Claus", "Santa Claus", "Santa Claus"),
            ("the Tokyo Tower", "the Tokyo Tower", "Tokyo Tower"),
            ("a UFO", "the UFO", "UFO"),
        ] {
            assert_eq!((definite(name).as_str(), bare(name)), (the, without));
        }
    }

    #[test]
    fn names_and_templates_are_sampled_as_often_as_they_are_listed() {
        let captions = Captions {
            label: "dog face".to_owned(),
            names: ["a dog", "a dog", "a puppy"].map(str::to_owned).to_vec(),
            templates: ["{a}", "{the}, flat style"].map(str::to_owned).to_vec(),
            style: Some("flat".to_owned()),
            ..Captions::default()
        };
        assert_eq!(captions.main(), "a dog");
        assert_eq!(captions.styled(), "a dog, flat style");
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..6000 {
            *counts.entry(captions.sample(&mut rng)).or_default() += 1;
        }
        for (caption, expected) in [
            ("a dog", 2000),
            ("a puppy", 1000),
            ("the dog, flat style", 2000),
            ("the puppy, flat style", 1000),
        ] {
            assert!(counts[caption].abs_diff(expected) < 150, "{caption}: {}", counts[caption]);
        }
        assert_eq!(counts.len(), 4);
        let texts: Vec<String> = captions.texts().collect();
        assert_eq!(texts, ["a dog", "the dog, flat style", "a dog", "a puppy"]);
    }
}
