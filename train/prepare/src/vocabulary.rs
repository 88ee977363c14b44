//! `vocabulary.json` of a dataset: the words that its captions use, for programs that suggest captions.

use std::collections::{BTreeMap, BTreeSet};

use dalle_data::bare;
use serde::Serialize;

use crate::background::PALETTE;
use crate::colour::Colour;
use crate::drawing::Drawing;
use crate::recipe::Recipe;
use crate::scene::Relation;

/// Name of the file.
pub const VOCABULARY: &str = "vocabulary.json";

/// What the captions of the training split can say.
#[derive(Debug, Serialize)]
pub struct Vocabulary {
    /// Names of what is shown, without article; of each, in how many drawings.
    names: BTreeMap<String, usize>,
    /// Styles.
    styles: BTreeSet<String>,
    /// Colours of things.
    colours: Vec<&'static str>,
    /// Colours of backgrounds.
    backgrounds: BTreeSet<&'static str>,
    /// Relations of two things.
    relations: Vec<&'static str>,
    /// Numbers of one thing.
    counts: Vec<&'static str>,
    /// Sizes of a thing.
    sizes: Vec<&'static str>,
}

impl Vocabulary {
    /// The vocabulary of the drawings that are not held out.
    pub fn new(recipe: &Recipe, drawings: &[Drawing]) -> Self {
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for drawing in drawings.iter().filter(|drawing| drawing.held_out.is_none()) {
            for name in &drawing.names {
                *names.entry(bare(name).to_owned()).or_default() += 1;
            }
        }
        let used = |name: &str| recipe.backgrounds.colours.iter().any(|colour| colour == name);
        let backgrounds = PALETTE.iter().filter(|background| used(background.name));
        Self {
            names,
            styles: recipe.sources.iter().map(|source| source.style.clone()).collect(),
            colours: Colour::ALL.map(Colour::name).to_vec(),
            backgrounds: backgrounds
                .flat_map(|background| [Some(background.name), background.also])
                .flatten()
                .collect(),
            relations: Relation::ALL.map(Relation::words).to_vec(),
            counts: vec!["two", "three", "four"],
            sizes: vec!["small", "large"],
        }
    }
}
