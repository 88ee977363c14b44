//! A dataset with what each record says about its image beyond captions and split: style, background, objects.
//!
//! ```text
//! let catalogue = Catalogue::open(folder)?;
//! let drawings = catalogue.images().filter(|image| image.about.is_drawing());
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use dalle_data::{Captions, Dataset, Example, HeldOut, Relation, Shards, Split, Subset};
use dalle_shared::sha256_hex;
use serde::Deserialize;

/// Name of the background of images that state none.
pub const WHITE: &str = "white";

/// How an image was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One drawing.
    Drawing,
    /// One drawing on a coloured background.
    Background,
    /// Two objects with a relation.
    Pair,
    /// Several copies of one object.
    Count,
    /// Any other kind.
    #[serde(other)]
    Other,
}

/// What a record says about its image.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct About {
    /// How it was made, if the dataset has several kinds.
    pub kind: Option<Kind>,
    /// The word for the style.
    pub style: Option<String>,
    /// The colour of the background, unless white.
    pub background: Option<String>,
    /// The concepts of a composite, in the order of its caption.
    #[serde(default)]
    pub objects: Vec<String>,
    /// The relation of the two objects of a pair.
    pub relation: Option<Relation>,
    /// The number of copies of an object.
    pub count: Option<u32>,
}

impl About {
    /// Whether the image is one unchanged drawing on white.
    pub fn is_drawing(&self) -> bool {
        self.background.is_none() && matches!(self.kind, None | Some(Kind::Drawing))
    }

    /// Whether the image is one drawing on a coloured background.
    pub fn is_on_background(&self) -> bool {
        self.background.is_some() && matches!(self.kind, None | Some(Kind::Background))
    }

    /// The background's name.
    pub fn background(&self) -> &str {
        self.background.as_deref().unwrap_or(WHITE)
    }
}

/// An example with what its record says.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// The example.
    pub example: &'a Example,
    /// What its record says.
    pub about: &'a About,
}

impl Described<'_> {
    /// The style, or "" without one.
    pub fn style(&self) -> &str {
        self.about.style.as_deref().unwrap_or_default()
    }

    /// The main caption.
    pub fn caption(&self) -> String {
        self.example.captions.main()
    }

    /// The first caption that names the style, in the words of the dataset; the main caption if none does.
    pub fn styled_caption(&self) -> String {
        let captions = &self.example.captions;
        let names_style = |template: &&String| {
            // A whole word: "flat" is not in "a flatbread".
            let mut words = template.split(|character: char| !character.is_alphanumeric());
            let mut style = self.style().split(' ').filter(|word| !word.is_empty()).peekable();
            style.peek().is_some() && style.all(|word| words.any(|other| other == word))
        };
        let template =
            captions.templates.iter().filter(|template| !template.contains("{tag}")).find(names_style);
        match template {
            Some(template) => Captions { templates: vec![template.clone()], ..captions.clone() }.main(),
            None => self.caption(),
        }
    }

    /// Whether it is held out for any reason.
    pub fn is_held_out(&self) -> bool {
        self.example.split == Split::Val
    }

    /// Whether it is held out for this reason. Datasets that state no reason hold out concepts.
    pub fn is_held_out_for(&self, reason: HeldOut) -> bool {
        Subset::HeldOut(reason).contains(self.example.split, self.example.held_out)
    }
}

/// A dataset whose records have been read.
pub struct Catalogue {
    /// The dataset.
    pub dataset: Dataset,
    /// In the order of its examples.
    about: Vec<About>,
}

impl Catalogue {
    /// Opens a dataset folder.
    ///
    /// # Errors
    /// The folder is no dataset or damaged, or a record has a value of another type than expected.
    pub fn open(folder: &Path) -> Result<Self> {
        let dataset = Dataset::open(folder)?;
        let mut read: HashMap<String, About> = HashMap::with_capacity(dataset.examples.len());
        for entry in Shards::open(folder)?.entries(None) {
            let entry = entry?;
            let about = serde_json::to_value(entry.record()?).and_then(serde_json::from_value);
            let about =
                about.with_context(|| format!("the record {} of {}", entry.key(), folder.display()))?;
            read.insert(entry.key().to_owned(), about);
        }
        let about =
            dataset.examples.iter().map(|example| read.remove(&example.key).unwrap_or_default()).collect();
        Ok(Self { dataset, about })
    }

    /// All images.
    pub fn images(&self) -> impl Iterator<Item = Described<'_>> {
        self.dataset.examples.iter().zip(&self.about).map(|(example, about)| Described { example, about })
    }

    /// The images of the training split.
    pub fn training(&self) -> impl Iterator<Item = Described<'_>> {
        self.images().filter(|image| image.example.split == Split::Train)
    }

    /// The styles of the drawings, sorted.
    pub fn styles(&self) -> Vec<&str> {
        let styles: BTreeSet<&str> = self.about.iter().filter_map(|about| about.style.as_deref()).collect();
        styles.into_iter().collect()
    }

    /// The caption to sample for an image: with its style, if the dataset has several.
    pub fn prompt<'a>(&self, image: Described<'a>) -> Prompt<'a> {
        let caption = if self.styles().len() > 1 { image.styled_caption() } else { image.caption() };
        Prompt { caption, example: image.example }
    }
}

/// A metric cannot be measured with a dataset or model, because it lacks what the message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// A caption to sample, with the example that it belongs to.
#[derive(Clone, Debug)]
pub struct Prompt<'a> {
    /// The caption.
    pub caption: String,
    /// The example.
    pub example: &'a Example,
}

/// Sorts images by the hashes of their keys: an order that is the same on every machine, and another one for each `purpose`.
pub fn by_hash(images: &mut [Described], purpose: &str) {
    images.sort_by_cached_key(|image| sha256_hex(format!("{purpose} {}", image.example.key).as_bytes()));
}

/// The examples of images.
pub fn examples<'a>(images: &[Described<'a>]) -> Vec<&'a Example> {
    images.iter().map(|image| image.example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_say_what_an_image_shows() {
        let pair = r#"{"kind": "pair", "objects": ["dog", "cat"], "relation": "to the left of", "style": "flat",
            "background": "pink", "group": "animals"}"#;
        let about: About = serde_json::from_str(pair).unwrap();
        assert_eq!((about.kind, about.relation), (Some(Kind::Pair), Some(Relation::Left)));
        assert_eq!(about.background(), "pink");
        assert!(!about.is_drawing() && !about.is_on_background());
        let plain: About = serde_json::from_str(r#"{"label": "dog"}"#).unwrap();
        assert!(plain.is_drawing() && plain.background() == WHITE);
        let coloured: About = serde_json::from_str(r#"{"background": "pink"}"#).unwrap();
        assert!(coloured.is_on_background() && !coloured.is_drawing());
        let new: About = serde_json::from_str(r#"{"kind": "recoloured"}"#).unwrap();
        assert!(new.kind == Some(Kind::Other) && !new.is_drawing());
    }
}
