//! The default choice among the samples of a caption.
//!
//! CLIP tells an image that fits the caption from one that does not, but its scores of images that fit differ by chance: a sample with a
//! flaw may score a little higher than seven clean ones. Among scores so close together, the samples that are most like the others come
//! first: flaws differ, and what is right is alike. `docs/experiments.md` has the measurement.

use crate::ImageToken;

/// Scores within this distance of the highest do not say which image is better.
pub const NEAR_TIE: f32 = 0.03;

/// Indices of the samples, the best first: those whose score is nearly the highest, by the number of tokens in which they differ from
/// each other, then the others by their scores. `tokens[i]` are the tokens of the sample with `scores[i]`. Ties keep their order.
pub fn best_first(scores: &[f32], tokens: &[impl AsRef<[ImageToken]>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len().min(tokens.len())).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let Some(&first) = order.first() else { return order };
    let near = order.iter().take_while(|&&sample| scores[sample] >= scores[first] - NEAR_TIE).count();
    let differences = |a: usize, b: usize| {
        let pairs = tokens[a].as_ref().iter().zip(tokens[b].as_ref());
        pairs.filter(|(a, b)| a != b).count()
    };
    let ties = order[..near].to_vec();
    order[..near]
        .sort_by_cached_key(|&sample| ties.iter().map(|&other| differences(sample, other)).sum::<usize>());
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(ids: [u16; 4]) -> Vec<ImageToken> {
        ids.map(ImageToken).into()
    }

    #[test]
    fn among_near_ties_the_sample_most_like_the_others_comes_first() {
        let clean = [1, 2, 3, 4];
        let tokens = [[1, 2, 3, 9], clean, [8, 2, 3, 4], clean, [5, 5, 5, 5]].map(image);
        // The first has a flaw and the highest score; the last is another image.
        assert_eq!(best_first(&[0.87, 0.85, 0.86, 0.851, 0.4], &tokens), [3, 1, 0, 2, 4]);
        assert_eq!(best_first(&[0.89, 0.85, 0.84, 0.851, 0.4], &tokens), [0, 3, 1, 2, 4], "no near tie");
    }

    #[test]
    fn ties_keep_their_order_and_nothing_has_no_best() {
        let tokens = [[1; 4], [1; 4], [1; 4]].map(image);
        assert_eq!(best_first(&[0.5, 0.5, 0.5], &tokens), [0, 1, 2]);
        assert_eq!(best_first(&[], &tokens[..0]), [0; 0]);
    }
}
