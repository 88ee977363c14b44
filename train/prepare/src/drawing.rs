//! The images that a recipe makes of one drawing: on white, on a coloured background, in another colour; and their captions.

use std::collections::BTreeMap;

use dalle_data::{Captions, HeldOut, Record, encode_png, hash_fraction};
use serde_json::Value;

use crate::background::{Background, WHITE};
use crate::build::Keyed;
use crate::colour::{Colour, Palette};
use crate::held_out::{self, Plan};
use crate::names::{coloured, has_colour, with_article};
use crate::recipe::Recipe;
use crate::render::{Cutout, RenderError};
use crate::store::Entry;

/// A drawing that a recipe uses.
pub struct Drawing {
    /// The drawing with its label.
    pub image: Keyed,
    /// Its names, the most usual first.
    pub names: Vec<String>,
    /// Index of its source in the recipe.
    pub source: usize,
    /// Why it is held out.
    pub held_out: Option<HeldOut>,
    /// SPDX licence.
    pub license: String,
}

/// What the rendering of all images needs.
pub struct Context<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// What is held out.
    pub plan: &'a Plan,
    /// Names of colours.
    pub palette: Palette,
    /// The coloured backgrounds of the recipe.
    pub backgrounds: Vec<Background>,
}

impl Drawing {
    /// A value of the source, such as `subgroup`.
    pub fn extra(&self, name: &str) -> &str {
        self.image.example.extra.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its concept.
    pub fn concept(&self) -> &str {
        &self.image.example.concept
    }
}

impl Context<'_> {
    /// The colour words that are true of the drawing: the measured colour, if the recipe measures drawings of this kind.
    pub fn colour_of(&self, drawing: &Drawing, cutout: &Cutout) -> Option<Colour> {
        let colours = &self.recipe.colours;
        let measured = colours.subgroups.contains(drawing.extra("subgroup"))
            && !colours.without.contains(&drawing.image.example.captions.label)
            && !self.recipe.sources[drawing.source].monochrome;
        measured.then(|| self.dominant(cutout)).flatten()
    }

    /// The dominant colour of a cut-out, by the shares of the recipe.
    fn dominant(&self, cutout: &Cutout) -> Option<Colour> {
        let colours = &self.recipe.colours;
        self.palette.dominant(cutout.pixels(), colours.dominance, colours.neutral_dominance)
    }

    /// Whether people ask for it more than for other things.
    pub fn is_common(&self, drawing: &Drawing) -> bool {
        self.recipe.common.labels.contains(&drawing.image.example.captions.label)
    }

    /// The background for what `key` names: the first in its own order from which all cut-outs stand out.
    pub fn background(&self, key: &str, cutouts: &[&Cutout]) -> Option<Background> {
        let mut ranked = self.backgrounds.clone();
        ranked.sort_by(|a, b| self.fraction(key, a.name).total_cmp(&self.fraction(key, b.name)));
        ranked
            .into_iter()
            .find(|background| cutouts.iter().all(|cutout| cutout.stands_out_from(background.colour)))
    }

    /// A number from 0 to below 1 that depends on the recipe's seed, a key and a purpose.
    pub fn fraction(&self, key: &str, purpose: &str) -> f64 {
        hash_fraction(&format!("{} {purpose} {key}", self.recipe.seed))
    }

    /// All images of a drawing.
    ///
    /// # Errors
    /// It cannot be rendered.
    pub fn render(&self, drawing: &Drawing) -> Result<Vec<Entry>, RenderError> {
        let key = &drawing.image.key;
        let cutout = Cutout::new(&drawing.image.example.art, self.recipe.size)?;
        let colour = self.colour_of(drawing, &cutout);
        // A colour that is held out of a concept is not named where the drawing has it by itself.
        let named = colour.filter(|colour| !self.plan.colour(drawing.concept(), colour.name()));
        let names = weighted(&drawing.names, named);
        let mut entries = vec![self.entry(drawing, key, &cutout, WHITE, names.clone(), "drawing")?];
        let share = self.recipe.backgrounds.share;
        if (self.is_common(drawing) || self.fraction(key, "background") < share)
            && let Some(background) = self.background(key, &[&cutout])
        {
            let key = format!("{key}_on_{}", background.name.replace(' ', "-"));
            entries.push(self.entry(drawing, &key, &cutout, background, names, "background")?);
        }
        if let Some(from) = colour {
            let mut others: Vec<Colour> = Colour::ALL.into_iter().filter(|colour| *colour != from).collect();
            others.sort_by(|a, b| self.fraction(key, a.name()).total_cmp(&self.fraction(key, b.name())));
            let common = self.is_common(drawing);
            let wanted = if common { self.recipe.common.recoloured } else { self.recipe.colours.recoloured };
            let made = others.into_iter().map(|to| self.recoloured(drawing, &cutout, from, to));
            for entry in made.filter_map(Result::transpose).take(wanted) {
                entries.push(entry?);
            }
        }
        Ok(entries)
    }

    /// The drawing in another colour, if it then has that colour.
    fn recoloured(
        &self,
        drawing: &Drawing,
        cutout: &Cutout,
        from: Colour,
        to: Colour,
    ) -> Result<Option<Entry>, RenderError> {
        let key = &drawing.image.key;
        let names: Vec<String> = drawing.names.iter().filter_map(|name| coloured(name, to.name())).collect();
        let Some(pixels) = self.palette.recoloured(cutout.pixels(), from, to) else { return Ok(None) };
        let cutout = cutout.with_pixels(pixels);
        if names.is_empty() || self.dominant(&cutout) != Some(to) {
            return Ok(None);
        }
        let key = format!("{key}_in_{}", to.name());
        let on_white = cutout.stands_out_from(WHITE.colour);
        let background = if on_white { Some(WHITE) } else { self.background(&key, &[&cutout]) };
        let Some(background) = background else { return Ok(None) };
        let names = weighted(&names, None);
        let mut entry = self.entry(drawing, &key, &cutout, background, names, "recoloured")?;
        if entry.record.held_out.is_none() && self.plan.colour(drawing.concept(), to.name()) {
            entry.record.held_out = Some(HeldOut::Pair);
            entry.record.split = held_out::split(entry.record.held_out);
        }
        entry.record.extra.insert("colour".to_owned(), to.name().into());
        Ok(Some(entry))
    }

    fn entry(
        &self,
        drawing: &Drawing,
        key: &str,
        cutout: &Cutout,
        background: Background,
        names: Vec<String>,
        kind: &'static str,
    ) -> Result<Entry, RenderError> {
        let source = &self.recipe.sources[drawing.source];
        let example = &drawing.image.example;
        let captions = Captions {
            label: example.captions.label.clone(),
            names,
            style: Some(source.style.clone()),
            background: (background != WHITE).then(|| background.name.to_owned()),
            templates: templates(
                &source.style,
                background,
                &["{a}", "{a}", "{bare}", "{the}"],
                source.monochrome,
            ),
            ..Captions::default()
        };
        let mut extra: BTreeMap<String, Value> = example.extra.clone();
        extra.remove("style");
        extra.insert("kind".to_owned(), kind.into());
        let record = Record {
            captions,
            concept: example.concept.clone(),
            split: held_out::split(drawing.held_out),
            held_out: drawing.held_out,
            license: drawing.license.clone(),
            source: example.origin.clone(),
            extra,
        };
        Ok(Entry { key: key.to_owned(), record, png: encode_png(&cutout.on(background.colour))?, kind })
    }
}

/// Names as captions list them: the first as often as all others together, and if there is a colour, each with the colour as
/// often as without.
pub fn weighted(names: &[String], colour: Option<Colour>) -> Vec<String> {
    let Some((first, others)) = names.split_first() else { return Vec::new() };
    let mut weighted = vec![first.clone(); others.len().max(1)];
    weighted.extend_from_slice(others);
    if let Some(colour) = colour {
        let with: Vec<String> = weighted.iter().filter_map(|name| coloured(name, colour.name())).collect();
        weighted.extend(with);
    }
    weighted
}

/// The names that are true of a drawing in one colour, whatever that is: those without a word for a colour.
pub fn without_colours(names: &[String]) -> Vec<String> {
    names.iter().filter(|name| !has_colour(name)).cloned().collect()
}

/// The templates of an image: with and without its style, and always with its background unless that is white. `forms` are the
/// places for the name, the first of which is that of the main caption.
pub fn templates(style: &str, background: Background, forms: &[&str], always_styled: bool) -> Vec<String> {
    let on = |name: &str| format!(" on {}", with_article(&format!("{name} background")));
    let mut places = vec![if background == WHITE { String::new() } else { on(background.name) }];
    places.extend(background.also.map(on));
    let mut templates = Vec::new();
    for place in &places {
        let styled = [
            format!("{{a}}{place}, {style} style"),
            format!("{{a}}{place} in {style} style"),
            format!("{} of {{a}}{place}", with_article(&format!("{style} emoji"))),
        ];
        if !always_styled {
            templates.extend(forms.iter().map(|form| format!("{form}{place}")));
        }
        templates.extend(styled);
    }
    if background == WHITE && !always_styled {
        templates.push(format!("{{a}}{}", on("white")));
    }
    templates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background::PALETTE;

    #[test]
    fn templates_name_background_and_style_in_english() {
        let blue = PALETTE[0];
        assert_eq!(
            templates("flat", blue, &["{a}"], false),
            [
                "{a} on a light blue background",
                "{a} on a light blue background, flat style",
                "{a} on a light blue background in flat style",
                "a flat emoji of {a} on a light blue background",
                "{a} on a blue background",
                "{a} on a blue background, flat style",
                "{a} on a blue background in flat style",
                "a flat emoji of {a} on a blue background",
            ]
        );
        let always = templates("outline", WHITE, &["{a}"], true);
        assert_eq!(always, ["{a}, outline style", "{a} in outline style", "an outline emoji of {a}"]);
    }

    #[test]
    fn the_first_name_weighs_as_much_as_all_others_and_the_colour_half() {
        let names = ["a car", "an automobile", "a red racer"].map(str::to_owned);
        assert_eq!(weighted(&names, None), ["a car", "a car", "an automobile", "a red racer"]);
        assert_eq!(
            weighted(&names[..2], Some(Colour::Blue)),
            ["a car", "an automobile", "a blue car", "a blue automobile"]
        );
    }
}
