//! Composites: two drawings with a relation, two to four copies of one, a small or large one. All of one image are in one style.
//!
//! A composite is a function of the recipe's seed, its kind and its number. Objects that are held out in any way are not used;
//! a share of the pairs is held out by itself.

use std::collections::{BTreeMap, BTreeSet};

use dalle_data::{Captions, HeldOut, Record, Relation, bare, concept_of, encode_png};
use serde_json::{Value, json};

use crate::background::WHITE;
use crate::colour::Colour;
use crate::drawing::{Context, Drawing, templates};
use crate::held_out;
use crate::names::{coloured, is_countable, plural, with_article};
use crate::render::{Cutout, RenderError};
use crate::store::Entry;

/// Captions of `a` in a relation to `b`, the plainest first; those that people use more are listed twice.
fn pair_captions(relation: Relation, a: &str, b: &str) -> Vec<String> {
    let other = match relation {
        Relation::Left => Relation::Right,
        Relation::Right => Relation::Left,
        Relation::Above => Relation::Below,
        Relation::Below => Relation::Above,
    };
    let (one, other) = (relation.words(), other.words());
    let mut captions = vec![
        format!("{a} {one} {b}"),
        format!("{b} {other} {a}"),
        format!("{a} {one} {b}"),
        format!("{a} and {b}"),
    ];
    match relation {
        Relation::Left => captions.push(format!("{a} on the left and {b} on the right")),
        Relation::Right => captions.push(format!("{b} on the left and {a} on the right")),
        Relation::Above => captions.push(format!("{b} under {a}")),
        Relation::Below => captions.push(format!("{a} under {b}")),
    }
    if matches!(relation, Relation::Left | Relation::Right) {
        captions.push(format!("{a} next to {b}"));
    }
    captions
}

/// What a composite shows. Numbers are indices of drawings.
#[derive(Clone, Copy, Debug)]
pub enum Scene {
    /// Two drawings.
    Pair(usize, Relation, usize),
    /// Copies of one drawing.
    Count(usize, u32),
    /// One drawing, small or large.
    Size(usize, bool),
}

/// A composite before it is rendered.
#[derive(Clone, Debug)]
pub struct Composite {
    /// Its key in the shards.
    pub key: String,
    /// What it shows.
    pub scene: Scene,
}

/// The drawings that composites may use, by source.
struct Pool<'a> {
    drawings: &'a [Drawing],
    by_source: Vec<Vec<usize>>,
    /// Those of everyday things.
    common: Vec<Vec<usize>>,
}

impl<'a> Pool<'a> {
    fn new(context: &Context, drawings: &'a [Drawing]) -> Self {
        let mut by_source: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut common: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let subgroups = &context.recipe.composites.subgroups;
        for (index, drawing) in drawings.iter().enumerate() {
            let wanted = (context.is_common(drawing) || subgroups.contains(drawing.extra("subgroup")))
                && drawing.held_out.is_none()
                && !context.recipe.sources[drawing.source].monochrome
                && usable(&drawing.names).next().is_some();
            if wanted {
                by_source.entry(drawing.source).or_default().push(index);
                if context.is_common(drawing) {
                    common.entry(drawing.source).or_default().push(index);
                }
            }
        }
        let (by_source, common) = (by_source.into_values().collect(), common.into_values().collect());
        Self { drawings, by_source, common }
    }

    /// The drawing at a fraction of those of the source at a fraction of all sources.
    fn pick(&self, common: bool, source: f64, fraction: f64) -> Option<usize> {
        let sources = if common { &self.common } else { &self.by_source };
        let source = sources.get((source * sources.len() as f64) as usize)?;
        source.get((fraction * source.len() as f64) as usize).copied()
    }

    fn concept(&self, index: usize) -> &str {
        self.drawings[index].concept()
    }
}

/// Names that can be counted, described and related: short ones without a relation of their own.
fn usable(names: &[String]) -> impl Iterator<Item = &String> {
    /// Words that say what a relation or a size says.
    const TAKEN: [&str; 14] = [
        "and", "with", "without", "left", "right", "above", "under", "behind", "showing", "small", "big",
        "large", "in", "on",
    ];
    names.iter().filter(|name| {
        let words: Vec<&str> = bare(name).split(' ').collect();
        is_countable(name)
            && words.len() <= 3
            && !bare(name).starts_with(|c: char| c.is_ascii_digit())
            && words.iter().all(|word| !TAKEN.contains(word))
    })
}

/// Chooses the composites of a recipe. There are fewer than it asks for if the drawings do not give as many different ones.
pub fn composites(context: &Context, drawings: &[Drawing]) -> Vec<Composite> {
    let pool = Pool::new(context, drawings);
    let wanted = &context.recipe.composites;
    let mut seen = BTreeSet::new();
    let mut composites = Vec::new();
    let mut add = |kind: &'static str, count: usize, scene: &dyn Fn(&str) -> Option<Scene>| {
        for number in 0..count {
            let key = format!("{kind}_{number:06}");
            let Some(scene) = scene(&key) else { continue };
            if seen.insert(format!("{scene:?}")) {
                composites.push(Composite { key, scene });
            }
        }
    };
    let of = |key: &str, purpose: &str| context.fraction(key, purpose);
    let pick = |key: &str, which: &str| {
        let common = of(key, "common") < context.recipe.common.composites;
        pool.pick(common, of(key, "source"), of(key, which))
    };
    add("pair", wanted.pairs, &|key| {
        let (a, b) = (pick(key, "first")?, pick(key, "second")?);
        let relation = Relation::ALL[(of(key, "relation") * 4.0) as usize];
        // A dog beside another drawing of a dog would be two dogs.
        let shares_name = drawings[a].names.iter().any(|name| drawings[b].names.contains(name));
        (pool.concept(a) != pool.concept(b) && !shares_name).then_some(Scene::Pair(a, relation, b))
    });
    add("count", wanted.counts, &|key| {
        let one = pick(key, "first")?;
        Some(Scene::Count(one, 2 + (of(key, "count") * 3.0) as u32))
    });
    add("size", wanted.sizes, &|key| {
        let one = pick(key, "first")?;
        Some(Scene::Size(one, of(key, "large") < 0.5))
    });
    composites
}

/// A box that an object stands in the middle of.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// The places of `count` objects beside each other, or of two above each other, on a square of `size` pixels.
fn places(size: u32, count: u32, stacked: bool) -> Vec<Place> {
    let margin = size / 32;
    let half = (size - 3 * margin) / 2;
    // A lone row of objects is not higher than this, so that it looks like a row.
    let long = size * 23 / 32;
    let across = (size - long) / 2;
    let far = 2 * margin + half;
    let place = |x, y, width, height| Place { x, y, width, height };
    match (count, stacked) {
        (2, false) => vec![place(margin, across, half, long), place(far, across, half, long)],
        (2, true) => vec![place(across, margin, long, half), place(across, far, long, half)],
        (3, _) => {
            let middle = (size - half) / 2;
            vec![
                place(middle, margin, half, half),
                place(margin, far, half, half),
                place(far, far, half, half),
            ]
        }
        _ => [(margin, margin), (far, margin), (margin, far), (far, far)]
            .into_iter()
            .map(|(x, y)| place(x, y, half, half))
            .collect(),
    }
}

/// An object with what it is called.
struct Object {
    cutout: Cutout,
    name: String,
    coloured: Option<String>,
}

impl Object {
    /// The drawing as large as fits, called by one of its names.
    fn new(
        context: &Context,
        drawing: &Drawing,
        key: &str,
        (width, height): (u32, u32),
    ) -> Result<Self, RenderError> {
        let cutout = Cutout::fitted(&drawing.image.example.art, width, height)?;
        let names: Vec<&String> = usable(&drawing.names).collect();
        let fraction = context.fraction(key, &format!("name {}", drawing.image.key));
        // The most usual name half of the time.
        let index = if fraction < 0.5 { 0 } else { ((fraction - 0.5) * 2.0 * names.len() as f64) as usize };
        let name = names.get(index).ok_or(RenderError::Empty)?.to_string();
        let colour = context
            .colour_of(drawing, &cutout)
            .map(Colour::name)
            .filter(|colour| !context.plan.colour(drawing.concept(), colour));
        let coloured = colour.and_then(|colour| coloured(&name, colour));
        Ok(Self { cutout, name, coloured })
    }

    fn longer_side(&self) -> u32 {
        let pixels = self.cutout.pixels();
        pixels.width().max(pixels.height())
    }

    /// The names to make captions of, with and without colour.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.coloured.as_deref())
    }
}

/// Renders a composite. Empty if its objects would be too small, or would not stand out from any background.
///
/// # Errors
/// A drawing cannot be rendered.
pub fn render(
    context: &Context,
    drawings: &[Drawing],
    composite: &Composite,
) -> Result<Vec<Entry>, RenderError> {
    let Composite { key, scene } = composite;
    let wanted = &context.recipe.composites;
    let size = context.recipe.size;
    let least = wanted.cells * wanted.cell;
    let object =
        |index: usize, place: Place| Object::new(context, &drawings[index], key, (place.width, place.height));
    let (objects, places, names, extra) = match *scene {
        Scene::Pair(a, relation, b) => {
            let mut places = places(size, 2, matches!(relation, Relation::Above | Relation::Below));
            if matches!(relation, Relation::Right | Relation::Below) {
                places.reverse();
            }
            let (first, second) = (object(a, places[0])?, object(b, places[1])?);
            let mut names = pair_captions(relation, &first.name, &second.name);
            if first.coloured.is_some() || second.coloured.is_some() {
                let of = |object: &Object| object.coloured.clone().unwrap_or_else(|| object.name.clone());
                names.extend(pair_captions(relation, &of(&first), &of(&second)));
            }
            let extra = json!({"relation": relation.words()});
            (vec![first, second], places, names, extra)
        }
        Scene::Count(one, count) => {
            let places = places(size, count, false);
            let objects = places.iter().map(|place| object(one, *place)).collect::<Result<Vec<_>, _>>()?;
            let words = ["two", "three", "four"];
            let names = objects[0].names().flat_map(|name| {
                let (plural, word) = (plural(name), words[count as usize - 2]);
                [format!("{word} {plural}"), format!("{word} {plural}"), format!("{count} {plural}")]
            });
            let names = names.collect();
            (objects, places, names, json!({"count": count}))
        }
        Scene::Size(one, large) => {
            let side = if large { size - size / 16 } else { least };
            let place = Place { x: (size - side) / 2, y: (size - side) / 2, width: side, height: side };
            let object = object(one, place)?;
            let words = if large { ["large", "big", "huge"] } else { ["small", "little", "tiny"] };
            let names = object
                .names()
                .flat_map(|name| words.map(|word| with_article(&format!("{word} {}", bare(name)))));
            let names = names.collect();
            (vec![object], vec![place], names, json!({"size": words[0]}))
        }
    };
    if objects.iter().any(|object| object.longer_side() < least) {
        return Ok(Vec::new());
    }
    let cutouts: Vec<&Cutout> = objects.iter().map(|object| &object.cutout).collect();
    let on_white = cutouts.iter().all(|cutout| cutout.stands_out_from(WHITE.colour));
    let coloured = context.fraction(key, "background") < wanted.coloured || !on_white;
    let background = if coloured { context.background(key, &cutouts) } else { None };
    let Some(background) = background.or(on_white.then_some(WHITE)) else { return Ok(Vec::new()) };
    let parts: Vec<(&Cutout, u32, u32)> = cutouts
        .iter()
        .zip(&places)
        .map(|(cutout, place)| {
            let (width, height) = cutout.pixels().dimensions();
            (*cutout, place.x + (place.width - width) / 2, place.y + (place.height - height) / 2)
        })
        .collect();
    let image = Cutout::composed(size, &parts).on(background.colour);
    let mut entry = describe(context, drawings, composite, names, extra)?;
    let style = &context.recipe.sources[drawings[first_of(*scene)].source].style;
    entry.record.captions.background = (background != WHITE).then(|| background.name.to_owned());
    let forms: &[&str] =
        if matches!(scene, Scene::Pair(..)) { &["{a}", "{a}"] } else { &["{a}", "{a}", "{bare}", "{the}"] };
    entry.record.captions.templates = templates(style, background, forms, false);
    entry.png = encode_png(&image)?;
    Ok(vec![entry])
}

/// The drawing that is named first.
fn first_of(scene: Scene) -> usize {
    match scene {
        Scene::Pair(first, ..) | Scene::Count(first, _) | Scene::Size(first, _) => first,
    }
}

/// The source of a composite.
pub fn source_of(drawings: &[Drawing], composite: &Composite) -> usize {
    drawings[first_of(composite.scene)].source
}

/// The record of a composite, without its image.
fn describe(
    context: &Context,
    drawings: &[Drawing],
    composite: &Composite,
    names: Vec<String>,
    extra: Value,
) -> Result<Entry, RenderError> {
    let first = &drawings[first_of(composite.scene)];
    let source = &context.recipe.sources[first.source];
    let (kind, shown, held_out) = match composite.scene {
        Scene::Pair(a, _, b) => {
            let (a, b) = (&drawings[a], &drawings[b]);
            let apart = context.plan.pair(a.concept(), b.concept());
            ("pair", vec![a, b], apart.then_some(HeldOut::Pair))
        }
        Scene::Count(..) => ("count", vec![first], None),
        Scene::Size(..) => ("size", vec![first], None),
    };
    let label = names.first().cloned().ok_or(RenderError::Empty)?;
    let origins: Vec<&str> = shown.iter().map(|drawing| drawing.image.example.origin.as_str()).collect();
    let objects: Vec<&str> = shown.iter().map(|drawing| drawing.concept()).collect();
    let mut record = Record {
        concept: concept_of(&label),
        captions: Captions { label, names, style: Some(source.style.clone()), ..Captions::default() },
        split: held_out::split(held_out),
        held_out,
        license: first.license.clone(),
        source: origins.join(" + "),
        extra: BTreeMap::from([
            ("kind".to_owned(), kind.into()),
            ("family".to_owned(), source.family.clone().into()),
            ("objects".to_owned(), json!(objects)),
        ]),
    };
    if let Value::Object(fields) = extra {
        record.extra.extend(fields);
    }
    let key = format!("{}_{}", source.family, composite.key);
    Ok(Entry { key, record, png: Vec::new(), kind })
}

#[cfg(test)]
mod tests;
