//! Whether samples have the background colour that their captions ask for, measured at the border.
//!
//! The colours are measured on true drawings: the median of the border pixels of those with each background. A sample has the
//! background whose colour is the nearest for more than half of its border pixels.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use image::{Rgb, RgbImage};
use serde::Serialize;

use crate::catalogue::{Catalogue, Described, Missing, by_hash};
use crate::resized;

/// The border's width is the image's, divided by this.
const BORDER: u32 = 32;
/// Drawings of each background that its colour is measured on.
const MEASURED: usize = 25;

/// The backgrounds of a dataset with their colours.
pub struct Backgrounds {
    /// Names in captions, sorted.
    pub names: Vec<String>,
    colours: Vec<[u8; 3]>,
    /// Share of other true drawings whose background is recognised, and their number.
    pub accuracy: (f64, usize),
}

impl Backgrounds {
    /// Measures the colours on true drawings, and the accuracy on others of them.
    ///
    /// # Errors
    /// The dataset has no coloured backgrounds, or an image cannot be read.
    pub fn measure(catalogue: &Catalogue, size: usize) -> Result<Self> {
        let mut drawings: BTreeMap<&str, Vec<Described>> = BTreeMap::new();
        for image in
            catalogue.images().filter(|image| image.about.is_drawing() || image.about.is_on_background())
        {
            drawings.entry(image.about.background()).or_default().push(image);
        }
        ensure!(
            drawings.len() > 1,
            Missing("expected a dataset with coloured backgrounds, got none".to_owned())
        );
        let (mut names, mut colours, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (name, mut drawings)) in drawings.into_iter().enumerate() {
            by_hash(&mut drawings, "background");
            let (measured, tested) = drawings.split_at(MEASURED.min(drawings.len().div_ceil(2)));
            let images =
                measured.iter().map(|image| resized(image.example, size)).collect::<Result<Vec<_>>>()?;
            names.push(name.to_owned());
            colours.push(median(images.iter().flat_map(border)));
            for image in tested.iter().take(MEASURED) {
                others.push((index, resized(image.example, size)?));
            }
        }
        let mut measured = Self { names, colours, accuracy: (0.0, others.len()) };
        let right = others.iter().filter(|(index, image)| measured.of(image) == Some(*index)).count();
        measured.accuracy.0 = right as f64 / others.len().max(1) as f64;
        Ok(measured)
    }

    /// The index of an image's background, if one has the majority of the border.
    pub fn of(&self, image: &RgbImage) -> Option<usize> {
        let mut votes = vec![0_usize; self.colours.len()];
        let mut all = 0;
        for pixel in border(image) {
            let nearest = (0..self.colours.len()).min_by_key(|index| distance(self.colours[*index], pixel.0));
            votes[nearest?] += 1;
            all += 1;
        }
        votes.iter().position(|count| 2 * count > all)
    }

    /// The index of a name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| other == name)
    }

    /// Compares the backgrounds of samples with those that their captions ask for, given as indices.
    pub fn evaluate(
        &self,
        asked: &[usize],
        samples: &[&RgbImage],
    ) -> (BackgroundAccuracy, Vec<Option<usize>>) {
        let got: Vec<Option<usize>> = samples.iter().map(|sample| self.of(sample)).collect();
        let per_background = |(index, name): (usize, &String)| {
            let count = |right: bool| {
                let of_this = asked.iter().zip(&got).filter(|(asked, _)| **asked == index);
                of_this.filter(|(asked, got)| !right || **got == Some(**asked)).count()
            };
            PerBackground { background: name.clone(), samples: count(false), right: count(true) }
        };
        let right = asked.iter().zip(&got).filter(|(asked, got)| **got == Some(**asked)).count();
        let result = BackgroundAccuracy {
            samples: samples.len(),
            right: right as f64 / samples.len().max(1) as f64,
            true_drawings: self.accuracy.1,
            true_drawings_right: self.accuracy.0,
            backgrounds: self.names.iter().enumerate().map(per_background).collect(),
        };
        (result, got)
    }
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct BackgroundAccuracy {
    /// Number of samples.
    pub samples: usize,
    /// Share of samples with the background that was asked for.
    pub right: f64,
    /// Number of true drawings that the measurement was tested on.
    pub true_drawings: usize,
    /// Share of these with the right background.
    pub true_drawings_right: f64,
    /// Each background.
    pub backgrounds: Vec<PerBackground>,
}

/// The samples that one background was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PerBackground {
    /// Its name.
    pub background: String,
    /// Number of samples.
    pub samples: usize,
    /// Number of samples with this background.
    pub right: usize,
}

/// `count` training drawings on coloured backgrounds to ask for, chosen by hash.
pub fn prompts(catalogue: &Catalogue, count: usize) -> Vec<Described<'_>> {
    let mut drawings: Vec<Described> =
        catalogue.training().filter(|image| image.about.is_on_background()).collect();
    by_hash(&mut drawings, "background asked");
    drawings.truncate(count);
    drawings
}

/// The pixels of an image's border.
pub fn border(image: &RgbImage) -> impl Iterator<Item = &Rgb<u8>> {
    let (width, height) = image.dimensions();
    let edge = (width.min(height) / BORDER).max(1);
    let inside =
        move |x: u32, y: u32| (edge..width - edge).contains(&x) && (edge..height - edge).contains(&y);
    image.enumerate_pixels().filter(move |(x, y, _)| !inside(*x, *y)).map(|(_, _, pixel)| pixel)
}

/// The median of each channel.
pub fn median<'a>(pixels: impl Iterator<Item = &'a Rgb<u8>>) -> [u8; 3] {
    let mut channels = [const { Vec::new() }; 3];
    for pixel in pixels {
        for (channel, value) in channels.iter_mut().zip(pixel.0) {
            channel.push(value);
        }
    }
    channels.map(|mut values| {
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    })
}

/// The squared distance of two colours in sRGB.
pub fn distance(a: [u8; 3], b: [u8; 3]) -> u32 {
    a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backgrounds() -> Backgrounds {
        let names = ["black", "light blue", "white"].map(str::to_owned).to_vec();
        Backgrounds { names, colours: vec![[0; 3], [173, 216, 240], [255; 3]], accuracy: (1.0, 3) }
    }

    /// A red square on a colour; the first `stained` rows are black.
    fn picture(colour: [u8; 3], stained: u32) -> RgbImage {
        RgbImage::from_fn(64, 64, |x, y| match (x, y) {
            (_, y) if y < stained => Rgb([0; 3]),
            (8..56, 8..56) => Rgb([220, 30, 30]),
            _ => Rgb(colour),
        })
    }

    #[test]
    fn the_border_decides_by_majority() {
        let backgrounds = backgrounds();
        assert_eq!(backgrounds.of(&picture([180, 210, 235], 0)), Some(1));
        assert_eq!(backgrounds.of(&picture([250, 250, 250], 0)), Some(2));
        assert_eq!(
            backgrounds.of(&picture([250, 250, 250], 8)),
            Some(2),
            "a stain at the top changes nothing"
        );
        assert_eq!(backgrounds.of(&picture([250, 250, 250], 60)), Some(0));
        // Half black, half white: no majority.
        let halves = RgbImage::from_fn(64, 64, |x, _| if x < 32 { Rgb([0; 3]) } else { Rgb([255; 3]) });
        assert_eq!(backgrounds.of(&halves), None);
        // The border of 64 pixels is two pixels wide: 64² − 60².
        assert_eq!(border(&halves).count(), 64 * 64 - 60 * 60);
    }

    #[test]
    fn samples_are_right_if_they_have_the_background_that_was_asked_for() {
        let (blue, white) = (picture([180, 210, 235], 0), picture([255; 3], 0));
        let (result, got) = backgrounds().evaluate(&[1, 1, 2, 0], &[&blue, &white, &white, &white]);
        assert_eq!(got, [Some(1), Some(2), Some(2), Some(2)]);
        assert_eq!((result.samples, result.right), (4, 0.5));
        let counts: Vec<(usize, usize)> =
            result.backgrounds.iter().map(|row| (row.samples, row.right)).collect();
        assert_eq!(counts, [(1, 0), (2, 1), (1, 1)]);
    }
}
