//! Samples of captions with two objects: are both there, and on the right sides?
//!
//! Each half of a sample is compared with drawings of the two objects and of others in the same style, by the cosine of a network's
//! features. A half shows the object whose drawing is nearest. The same is done with the true composites, which tells how often the
//! recognition itself is right.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use dalle_data::{HeldOut, Relation};
use image::RgbImage;
use serde::Serialize;

use crate::catalogue::{Catalogue, Described, Kind, Missing, by_hash};
use crate::feature_bank::{FeatureBank, Layer, cosine};
use crate::foreground::{background, halves, object};
use crate::resized;

/// A composite of two objects, with the drawings that its halves are compared with.
pub struct Pair<'a> {
    /// The composite.
    pub image: Described<'a>,
    /// Where the first object stands.
    pub relation: Relation,
    /// Drawings on white: the first object, the second, then others.
    pub among: Vec<Described<'a>>,
}

/// `count` composites of two objects, chosen by hash: of the training split, or of those that hold a pair out. Each half is compared
/// with `among_count` drawings.
///
/// # Errors
/// The dataset has none, or too few drawings to compare them with.
pub fn pairs(
    catalogue: &Catalogue,
    held_out: bool,
    count: usize,
    among_count: usize,
) -> Result<Vec<Pair<'_>>> {
    let mut drawings: HashMap<&str, Vec<(&str, Described)>> = HashMap::new();
    for image in catalogue.images().filter(|image| image.about.is_drawing()) {
        let style = image.about.style.as_deref().unwrap_or_default();
        drawings.entry(style).or_default().push((image.example.concept.as_str(), image));
    }
    let wanted = |image: &Described| {
        image.about.kind == Some(Kind::Pair)
            && if held_out { image.is_held_out_for(HeldOut::Pair) } else { !image.is_held_out() }
    };
    let mut composites: Vec<Described> = catalogue.images().filter(wanted).collect();
    let which = if held_out { "held-out" } else { "training" };
    ensure!(
        !composites.is_empty(),
        Missing(format!(
            "expected a dataset with {which} composites of two objects, got none; build it from a recipe with `composites.pairs`"
        ))
    );
    by_hash(&mut composites, "composites");
    // What other objects a half may show: those of composites in the same style.
    let mut objects: HashMap<&str, Vec<&str>> = HashMap::new();
    for image in catalogue.images().filter(|image| image.about.kind == Some(Kind::Pair)) {
        let style = image.about.style.as_deref().unwrap_or_default();
        objects.entry(style).or_default().extend(image.about.objects.iter().map(String::as_str));
    }
    for of_style in objects.values_mut() {
        of_style.sort_unstable();
        of_style.dedup();
    }
    let mut pairs = Vec::new();
    for image in composites {
        let (Some(relation), [first, second]) = (image.about.relation, image.about.objects.as_slice()) else {
            continue;
        };
        let of_style = drawings.get(image.style()).map_or(&[][..], Vec::as_slice);
        let find =
            |concept: &str| of_style.iter().find(|(name, _)| *name == concept).map(|(_, image)| *image);
        let (Some(first), Some(second)) = (find(first), find(second)) else { continue };
        let others = objects.get(image.style()).into_iter().flatten();
        let others = others.filter(|name| !image.about.objects.iter().any(|object| object == *name));
        let mut others: Vec<Described> = others.filter_map(|name| find(name)).collect();
        by_hash(&mut others, &image.example.key);
        let among: Vec<Described> = [first, second].into_iter().chain(others).take(among_count).collect();
        if among.len() < among_count {
            continue;
        }
        pairs.push(Pair { image, relation, among });
        if pairs.len() == count {
            break;
        }
    }
    ensure!(
        !pairs.is_empty(),
        Missing(format!(
            "no {which} composite has drawings of both of its objects and of {} others in its style; choose a smaller --among",
            among_count.saturating_sub(2)
        ))
    );
    Ok(pairs)
}

/// What the halves of one image show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Both objects, where the caption says.
    RightSides,
    /// Both objects, exchanged.
    WrongSides,
    /// One of the objects.
    One,
    /// Neither of them.
    None,
}

impl Seen {
    /// From what the first and the second half show, as indices of [`Pair::among`].
    fn of(first: Option<usize>, second: Option<usize>) -> Self {
        match (first, second) {
            (Some(0), Some(1)) => Self::RightSides,
            (Some(1), Some(0)) => Self::WrongSides,
            (Some(0 | 1), _) | (_, Some(0 | 1)) => Self::One,
            _ => Self::None,
        }
    }

    /// For a caption below an image.
    pub fn words(self) -> &'static str {
        match self {
            Self::RightSides => "both, sides right",
            Self::WrongSides => "both, sides wrong",
            Self::One => "one object",
            Self::None => "neither object",
        }
    }
}

/// Counts over many images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Recognised {
    /// Number of images.
    pub images: usize,
    /// Share with both objects.
    pub both: f64,
    /// Of these, the share with the right sides; 0 if there are none.
    pub sides: f64,
    /// Share with at least one of the objects.
    pub one: f64,
}

impl Recognised {
    /// Counts.
    pub fn of(seen: &[Seen]) -> Self {
        let count = |wanted: &[Seen]| seen.iter().filter(|seen| wanted.contains(seen)).count();
        let (right, both) = (count(&[Seen::RightSides]), count(&[Seen::RightSides, Seen::WrongSides]));
        let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
        Self {
            images: seen.len(),
            both: share(both, seen.len()),
            sides: share(right, both),
            one: share(seen.len() - count(&[Seen::None]), seen.len()),
        }
    }
}

/// The result for one set of captions.
#[derive(Clone, Debug, Serialize)]
pub struct Composites {
    /// The feature network.
    pub network: &'static str,
    /// Drawings that each half is compared with.
    pub among: usize,
    /// Samples per caption that the best is selected from; 1 without CLIP.
    pub best_of: usize,
    /// The true composites: how well the recognition works.
    pub truth: Recognised,
    /// The first samples.
    pub one: Recognised,
    /// The best samples.
    pub best: Recognised,
    /// Each caption with what its best sample shows.
    pub each: Vec<(String, Seen)>,
}

/// Recognises the objects in images that belong to `pairs`.
///
/// # Errors
/// A drawing cannot be read, or the device fails.
pub fn recognise(
    pairs: &[Pair],
    images: &[&RgbImage],
    bank: &FeatureBank,
    objects: &mut ObjectFeatures,
) -> Result<Vec<Seen>> {
    let recognise = |(pair, image): (&Pair, &&RgbImage)| {
        let among = pair
            .among
            .iter()
            .map(|drawing| objects.of(drawing, image.width(), bank))
            .collect::<Result<Vec<_>>>()?;
        let [first, second] = parts(image, pair.relation);
        let colour = background(image);
        let shown = |part: &RgbImage| -> Result<Option<usize>> {
            let Some(object) = object(part, colour) else { return Ok(None) };
            let features = bank.of_images(&[&object], Layer::Content, |_| ())?.swap_remove(0);
            let near = |index: &usize| cosine(&among[*index], &features);
            Ok((0..among.len()).max_by(|a, b| near(a).total_cmp(&near(b))))
        };
        Ok(Seen::of(shown(&first)?, shown(&second)?))
    };
    pairs.iter().zip(images).map(recognise).collect()
}

/// The half where the first object belongs, and the half where the second does.
fn parts(image: &RgbImage, relation: Relation) -> [RgbImage; 2] {
    let [first, second] = halves(image, matches!(relation, Relation::Left | Relation::Right));
    match relation {
        Relation::Left | Relation::Above => [first, second],
        Relation::Right | Relation::Below => [second, first],
    }
}

/// Features of the objects of drawings, cut out.
#[derive(Default)]
pub struct ObjectFeatures(HashMap<String, Vec<f32>>);

impl ObjectFeatures {
    fn of(&mut self, drawing: &Described, size: u32, bank: &FeatureBank) -> Result<Vec<f32>> {
        if let Some(known) = self.0.get(&drawing.example.key) {
            return Ok(known.clone());
        }
        let image = resized(drawing.example, size as usize)?;
        // A drawing without foreground is compared as it is.
        let cut = object(&image, background(&image)).unwrap_or(image);
        let features = bank.of_images(&[&cut], Layer::Content, |_| ())?.swap_remove(0);
        self.0.insert(drawing.example.key.clone(), features.clone());
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_objects_are_seen_on_right_or_wrong_sides() {
        let seen =
            [(Some(0), Some(1)), (Some(1), Some(0)), (Some(0), Some(0)), (None, Some(1)), (Some(5), None)];
        let seen = seen.map(|(first, second)| Seen::of(first, second));
        assert_eq!(seen, [Seen::RightSides, Seen::WrongSides, Seen::One, Seen::One, Seen::None]);
        let counts = Recognised::of(&seen);
        assert_eq!(counts, Recognised { images: 5, both: 0.4, sides: 0.5, one: 0.8 });
        assert_eq!(Recognised::of(&[Seen::None]).sides, 0.0);
    }

    #[test]
    fn the_first_part_is_where_the_first_object_belongs() {
        let image = RgbImage::from_fn(4, 4, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let corner = |relation| parts(&image, relation)[0].get_pixel(0, 0).0;
        assert_eq!(corner(Relation::Left), [0, 0, 0]);
        assert_eq!(corner(Relation::Right), [2, 0, 0]);
        assert_eq!(corner(Relation::Above), [0, 0, 0]);
        assert_eq!(corner(Relation::Below), [0, 2, 0]);
    }
}
