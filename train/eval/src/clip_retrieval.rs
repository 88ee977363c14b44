//! Whether CLIP tells drawings apart: from a caption, which of N drawings is its own, and from a drawing, which of N captions.
//!
//! Nothing is sampled. The examples of a subset are put into groups of N in the order of their hashes; what is left over after
//! the last whole group is not used.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use dalle_data::HeldOut;
use image::RgbImage;
use serde::Serialize;

use crate::catalogue::{Catalogue, Described, Missing, by_hash};
use crate::reranking::ClipScorer;
use crate::resized;
use crate::retrieval::share_within;

/// The subsets that are evaluated, where the dataset has them.
const SUBSETS: [(&str, Option<HeldOut>); 4] = [
    ("unseen concepts", Some(HeldOut::Concept)),
    ("unseen styles of a concept", Some(HeldOut::Style)),
    ("unseen pairs", Some(HeldOut::Pair)),
    ("training split", None),
];

/// The result for one subset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClipRetrieval {
    /// The subset.
    pub subset: &'static str,
    /// Number of pairs of caption and drawing.
    pub pairs: usize,
    /// Number of pairs in a group. Chance of top-1 is 1 in this number.
    pub among: usize,
    /// Share of captions that score their own drawing highest.
    pub drawing_top_1: f64,
    /// Share of captions with their own drawing among the five highest.
    pub drawing_top_5: f64,
    /// Share of drawings that score their own caption highest.
    pub caption_top_1: f64,
    /// Share of drawings with their own caption among the five highest.
    pub caption_top_5: f64,
}

/// A caption whose own drawing does not have the highest score, with the drawing that has.
pub struct Confusion {
    /// The caption and its subset.
    pub caption: String,
    /// Its drawing.
    pub drawing: RgbImage,
    /// The drawing with the highest score.
    pub chosen: RgbImage,
}

/// Evaluates each subset of the dataset with at least `among` different captions, on at most `limit` pairs. `progress` is called
/// after each group.
///
/// # Errors
/// No held-out subset is large enough, an image cannot be read, or the device fails.
pub fn evaluate(
    catalogue: &Catalogue,
    scorer: &ClipScorer,
    size: usize,
    among: usize,
    limit: usize,
    mut progress: impl FnMut(),
) -> Result<(Vec<ClipRetrieval>, Vec<Confusion>)> {
    let (mut results, mut confusions) = (Vec::new(), Vec::new());
    for (name, reason) in SUBSETS {
        let chosen = choose(catalogue, reason, limit.max(among));
        let (mut of_captions, mut of_drawings) = (Vec::new(), Vec::new());
        for group in chosen.chunks_exact(among) {
            let drawings = group
                .iter()
                .map(|(_, image)| resized(image.example, size))
                .collect::<Result<Vec<RgbImage>>>()?;
            let captions: Vec<&str> = group.iter().map(|(caption, _)| caption.as_str()).collect();
            let cosines = scorer.cosines(&captions, &drawings.iter().collect::<Vec<_>>())?;
            of_captions.extend(ranks(&cosines));
            of_drawings.extend(ranks(&transposed(&cosines)));
            if reason.is_some() {
                for (own, row) in cosines.iter().enumerate() {
                    let highest = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(own);
                    if highest != own {
                        let (drawing, chosen) = (drawings[own].clone(), drawings[highest].clone());
                        confusions.push(Confusion { caption: captions[own].to_owned(), drawing, chosen });
                    }
                }
            }
            progress();
        }
        if !of_captions.is_empty() {
            results.push(ClipRetrieval {
                subset: name,
                pairs: of_captions.len(),
                among,
                drawing_top_1: share_within(&of_captions, 1),
                drawing_top_5: share_within(&of_captions, 5),
                caption_top_1: share_within(&of_drawings, 1),
                caption_top_5: share_within(&of_drawings, 5),
            });
        }
    }
    let held_out = results.iter().any(|result| result.subset != SUBSETS[3].0);
    ensure!(
        held_out,
        Missing(format!(
            "no held-out subset has {among} different captions; choose a smaller --among, or build the dataset with more held-out images"
        ))
    );
    Ok((results, confusions))
}

/// At most `limit` images of a subset with different captions, in the order of their hashes.
fn choose<'a>(
    catalogue: &'a Catalogue,
    reason: Option<HeldOut>,
    limit: usize,
) -> Vec<(String, Described<'a>)> {
    let wanted = |image: &Described| match reason {
        Some(reason) => image.is_held_out_for(reason),
        None => !image.is_held_out(),
    };
    let mut images: Vec<Described> = catalogue.images().filter(wanted).collect();
    by_hash(&mut images, "clip retrieval");
    let mut seen = BTreeSet::new();
    images
        .into_iter()
        .map(|image| (catalogue.prompt(image).caption, image))
        .filter(|(caption, _)| seen.insert(caption.clone()))
        .take(limit)
        .collect()
}

/// For each row, the rank from 1 of the score on the diagonal. A tie counts against it.
fn ranks(scores: &[Vec<f32>]) -> Vec<usize> {
    let rank = |(own, row): (usize, &Vec<f32>)| {
        1 + row.iter().enumerate().filter(|(other, score)| *other != own && **score >= row[own]).count()
    };
    scores.iter().enumerate().map(rank).collect()
}

fn transposed(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    (0..rows.len()).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_rank_drawings_by_row_and_drawings_rank_captions_by_column() {
        let scores = [vec![0.9, 0.1, 0.2], vec![0.8, 0.5, 0.6], vec![0.95, 0.3, 0.3]];
        assert_eq!(ranks(&scores), [1, 3, 3], "a tie counts against the diagonal");
        assert_eq!(ranks(&transposed(&scores)), [2, 1, 2]);
    }
}
