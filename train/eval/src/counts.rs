//! Samples of captions with a number of objects: are there as many?
//!
//! The number of objects is read from where an image has foreground, a grid of 16×16 shares. It is that of the mean grid of
//! true images with 1, 2, 3 or 4 objects that is nearest by cosine. Other true images tell how often the reading is right.

use anyhow::{Result, ensure};
use image::RgbImage;
use serde::Serialize;

use crate::catalogue::{Catalogue, Described, Kind, Missing, by_hash};
use crate::feature_bank::cosine;
use crate::foreground::coarse_mask;
use crate::resized;
use crate::style::share_of;

/// True images of each number that the mean is of, and that test it.
const MEASURED: usize = 60;
/// The largest number of objects.
const MOST: usize = 4;

/// Reads the number of objects of an image.
pub struct Counter {
    /// The numbers, each with its mean mask.
    means: Vec<(usize, Vec<f32>)>,
    /// Share of other true images that are read right, and their number.
    pub accuracy: (f64, usize),
}

impl Counter {
    /// Measures the masks of true images.
    ///
    /// # Errors
    /// The dataset has no composites with a number of objects, or an image cannot be read.
    pub fn measure(catalogue: &Catalogue, size: usize) -> Result<Self> {
        let (mut means, mut others) = (Vec::new(), Vec::new());
        for number in 1..=MOST {
            let mut images: Vec<Described> =
                catalogue.images().filter(|image| number_of(image) == Some(number)).collect();
            by_hash(&mut images, "counts");
            let masks = images
                .iter()
                .take(2 * MEASURED)
                .map(|image| Ok(coarse_mask(&resized(image.example, size)?)))
                .collect::<Result<Vec<_>>>()?;
            let (odd, even): (Vec<_>, Vec<_>) = (0..).zip(masks).partition(|(index, _)| index % 2 == 1);
            let even: Vec<Vec<f32>> = even.into_iter().map(|(_, mask)| mask).collect();
            if !even.is_empty() {
                means.push((number, mean(&even)));
                others.extend(odd.into_iter().map(|(_, mask)| (number, mask)));
            }
        }
        ensure!(
            means.iter().any(|(number, _)| *number > 1),
            Missing("expected a dataset with composites of several copies of an object, got none; build it from a recipe with \
             `composites.counts`".to_owned())
        );
        let mut counter = Self { means, accuracy: (0.0, others.len()) };
        let (truth, masks): (Vec<usize>, Vec<Vec<f32>>) = others.into_iter().unzip();
        let read: Vec<usize> = masks.iter().map(|mask| counter.nearest(mask)).collect();
        counter.accuracy.0 = share_of(&read, &truth);
        Ok(counter)
    }

    /// The number of objects of an image.
    pub fn of(&self, image: &RgbImage) -> usize {
        self.nearest(&coarse_mask(image))
    }

    fn nearest(&self, mask: &[f32]) -> usize {
        let near = |mean: &[f32]| cosine(mean, mask);
        let nearest = self.means.iter().max_by(|(_, a), (_, b)| near(a).total_cmp(&near(b)));
        nearest.map_or(0, |(number, _)| *number)
    }
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    /// Number of captions.
    pub captions: usize,
    /// Samples per caption that the best is selected from; 1 without CLIP.
    pub best_of: usize,
    /// Share of first samples with the right number of objects.
    pub one: f64,
    /// Share of best samples with the right number of objects.
    pub best: f64,
    /// Number of true images that the reading was tested on.
    pub true_images: usize,
    /// Share of these that are read right.
    pub true_images_right: f64,
    /// Each number that was asked for: number of captions, and of best samples with 1, 2, 3 and 4 objects.
    pub numbers: Vec<(usize, usize, Vec<usize>)>,
}

/// `count` training composites of several copies of an object, chosen by hash.
pub fn prompts(catalogue: &Catalogue, count: usize) -> Vec<Described<'_>> {
    let mut images: Vec<Described> =
        catalogue.training().filter(|image| image.about.kind == Some(Kind::Count)).collect();
    by_hash(&mut images, "counts asked");
    images.truncate(count);
    images
}

/// Compares the numbers of objects of samples with those that their captions ask for.
pub fn evaluate(
    counter: &Counter,
    asked: &[usize],
    one: &[&RgbImage],
    best: &[&RgbImage],
    best_of: usize,
) -> (Counts, Vec<usize>) {
    let read = |images: &[&RgbImage]| images.iter().map(|image| counter.of(image)).collect::<Vec<usize>>();
    let (one, best) = (read(one), read(best));
    let row = |number: usize| {
        let got: Vec<usize> =
            asked.iter().zip(&best).filter(|(asked, _)| **asked == number).map(|(_, got)| *got).collect();
        let with = |objects: usize| got.iter().filter(|got| **got == objects).count();
        (number, got.len(), (1..=MOST).map(with).collect())
    };
    let result = Counts {
        captions: asked.len(),
        best_of,
        one: share_of(&one, asked),
        best: share_of(&best, asked),
        true_images: counter.accuracy.1,
        true_images_right: counter.accuracy.0,
        numbers: (2..=MOST).map(row).collect(),
    };
    (result, best)
}

/// The number of objects that an image shows, as far as its record says.
pub fn number_of(image: &Described) -> Option<usize> {
    match image.about.kind {
        Some(Kind::Count) => image.about.count.map(|count| count as usize),
        _ if image.about.is_drawing() => Some(1),
        _ => None,
    }
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let width = rows.first().map_or(0, Vec::len);
    (0..width).map(|at| rows.iter().map(|row| row[at]).sum::<f32>() / rows.len() as f32).collect()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    /// Red squares on pink; a smaller side than the box's leaves them in the middle of it.
    fn picture(number: usize, side: u32) -> RgbImage {
        let boxes: &[(u32, u32)] = match number {
            1 => &[(32, 32)],
            2 => &[(16, 32), (48, 32)],
            3 => &[(32, 16), (16, 48), (48, 48)],
            _ => &[(16, 16), (48, 16), (16, 48), (48, 48)],
        };
        let side = if number == 1 { 2 * side } else { side };
        RgbImage::from_fn(64, 64, |x, y| {
            let inside = boxes.iter().any(|&(cx, cy)| x.abs_diff(cx) < side / 2 && y.abs_diff(cy) < side / 2);
            if inside { Rgb([220, 30, 30]) } else { Rgb([250, 200, 214]) }
        })
    }

    #[test]
    fn objects_are_counted_by_where_they_are() {
        let means = (1..=MOST).map(|number| (number, coarse_mask(&picture(number, 26)))).collect();
        let counter = Counter { means, accuracy: (1.0, 0) };
        for number in 1..=MOST {
            for side in [18, 22, 28] {
                assert_eq!(counter.of(&picture(number, side)), number, "{number} of side {side}");
            }
        }
        let (two, three) = (picture(2, 20), picture(3, 20));
        let (result, read) = evaluate(&counter, &[2, 2, 3], &[&two, &two, &two], &[&two, &three, &three], 8);
        assert_eq!(read, [2, 3, 3]);
        assert!((result.one - 2.0 / 3.0).abs() < 1e-12 && (result.best - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(result.numbers, [(2, 2, vec![0, 1, 1, 0]), (3, 1, vec![0, 0, 1, 0]), (4, 0, vec![0; 4])]);
    }
}
