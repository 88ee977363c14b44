//! The vocabulary of a recipe's captions.

use dalle_data::{Relation, bare};
use dalle_shared::Vocabulary;

use crate::background::PALETTE;
use crate::colour::Colour;
use crate::drawing::Drawing;
use crate::recipe::Recipe;

/// Further words of captions for two things.
const OTHERS: [&str; 3] = ["and", "next to", "under"];

/// What the captions of drawings that are not held out can say.
pub fn vocabulary(recipe: &Recipe, drawings: &[Drawing]) -> Vocabulary {
    let mut vocabulary = Vocabulary::default();
    for drawing in drawings.iter().filter(|drawing| drawing.held_out.is_none()) {
        for name in &drawing.names {
            *vocabulary.names.entry(bare(name).to_owned()).or_default() += 1;
        }
        let symbol = symbol(drawing.extra("hexcode"));
        if let (Some(symbol), Some(name)) = (symbol, drawing.names.first()) {
            vocabulary.emoji.entry(symbol).or_insert_with(|| bare(name).to_owned());
        }
    }
    let used = |name: &str| recipe.backgrounds.colours.iter().any(|colour| colour == name);
    let backgrounds = PALETTE.iter().filter(|background| used(background.name));
    let backgrounds = backgrounds.flat_map(|background| [Some(background.name), background.also]);
    let if_any = |count: usize, words: &[&str]| {
        words.iter().filter(|_| count > 0).map(|&word| word.to_owned()).collect()
    };
    let composites = &recipe.composites;
    vocabulary.styles = recipe.sources.iter().map(|source| source.style.clone()).collect();
    vocabulary.colours = Colour::ALL.map(|colour| colour.name().to_owned()).into();
    vocabulary.backgrounds = backgrounds.flatten().map(str::to_owned).collect();
    vocabulary.relations =
        if_any(composites.pairs, &[Relation::ALL.map(Relation::words).as_slice(), &OTHERS].concat());
    vocabulary.counts = if_any(composites.counts, &["two", "three", "four"]);
    vocabulary.sizes = if_any(composites.sizes, &["small", "large"]);
    vocabulary
}

/// The emoji of code points such as `1F469-200D-1F33E`.
fn symbol(code_points: &str) -> Option<String> {
    let symbols =
        code_points.split('-').map(|code| u32::from_str_radix(code, 16).ok().and_then(char::from_u32));
    symbols.collect()
}
