//! Which images are shown large: the best by CLIP's scores, or those that the person prefers.

use dalle_shared::{ImageToken, best_first};

/// The order of the images of one generation, each named by its index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    order: Vec<usize>,
    shown: Vec<usize>,
    scores: Vec<Option<Score>>,
    compared: bool,
    preferred: Vec<usize>,
}

/// A score, and how many tokens of the image it was computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Score {
    tokens: usize,
    score: f32,
}

impl Ranking {
    /// `sampled` images without scores. The first `shown` are shown.
    pub fn new(sampled: usize, shown: usize) -> Self {
        Self {
            order: (0..sampled).collect(),
            shown: (0..shown.min(sampled)).collect(),
            scores: vec![None; sampled],
            compared: false,
            preferred: Vec::new(),
        }
    }

    /// All images: the best first, or in the order of their seeds before they can be compared.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The images shown large.
    pub fn shown(&self) -> &[usize] {
        &self.shown
    }

    /// The images that the person prefers, the latest first.
    pub fn preferred(&self) -> &[usize] {
        &self.preferred
    }

    /// Whether all images have been compared.
    pub fn is_scored(&self) -> bool {
        self.compared
    }

    /// The difference of the highest and the lowest score, once all images have been compared.
    pub fn spread(&self) -> Option<f32> {
        let scores = || self.scores.iter().flatten().map(|score| score.score);
        let (highest, lowest) = (scores().fold(f32::MIN, f32::max), scores().fold(f32::MAX, f32::min));
        self.compared.then_some(highest - lowest)
    }

    /// The latest score of an image.
    pub fn score(&self, image: usize) -> Option<f32> {
        self.scores.get(image).copied().flatten().map(|score| score.score)
    }

    /// Takes a score of an image, computed from its first `tokens` tokens. The order changes when all images have a score from
    /// equally many tokens: others cannot be compared. `images` are all images as far as they are known.
    pub fn scored(&mut self, image: usize, tokens: usize, score: f32, images: &[Vec<ImageToken>]) {
        let Some(slot) = self.scores.get_mut(image) else { return };
        *slot = Some(Score { tokens, score });
        let scores: Option<Vec<f32>> = self
            .scores
            .iter()
            .map(|score| score.filter(|score| score.tokens == tokens).map(|score| score.score))
            .collect();
        if let Some(scores) = scores {
            self.compared = true;
            let first: Vec<_> = images.iter().map(|image| &image[..tokens.min(image.len())]).collect();
            self.order = best_first(&scores, &first);
            self.fill();
        }
    }

    /// Shows an image first that the person prefers. A second call for the same image undoes the first.
    pub fn prefer(&mut self, image: usize) {
        if let Some(place) = self.preferred.iter().position(|&preferred| preferred == image) {
            self.preferred.remove(place);
        } else if !self.shown.contains(&image) && image < self.order.len() {
            self.preferred.insert(0, image);
            self.preferred.truncate(self.shown.len());
        }
        self.fill();
    }

    /// Shows what the person prefers, and the best of the others in the remaining places.
    fn fill(&mut self) {
        let others = self.order.iter().copied().filter(|image| !self.preferred.contains(image));
        self.shown = self.preferred.iter().copied().chain(others).take(self.shown.len()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four images of which nothing is known.
    const NONE: [Vec<ImageToken>; 4] = [const { Vec::new() }; 4];

    /// Scores of all images, from equally many tokens.
    fn score(ranking: &mut Ranking, tokens: usize, scores: [f32; 4]) {
        for (image, score) in scores.into_iter().enumerate() {
            ranking.scored(image, tokens, score, &NONE);
        }
    }

    #[test]
    fn the_best_are_shown_once_all_can_be_compared() {
        let mut ranking = Ranking::new(4, 2);
        assert_eq!((ranking.order(), ranking.shown()), (&[0, 1, 2, 3][..], &[0, 1][..]));
        ranking.scored(3, 8, 0.9, &NONE);
        assert_eq!((ranking.shown(), ranking.score(3)), (&[0, 1][..], Some(0.9)), "the others have none yet");
        score(&mut ranking, 8, [0.1, 0.3, 0.2, 0.9]);
        assert_eq!((ranking.order(), ranking.shown()), (&[3, 1, 2, 0][..], &[3, 1][..]));
        // The first of the final scores is not compared with provisional ones.
        ranking.scored(0, 16, 0.95, &NONE);
        assert_eq!(ranking.shown(), [3, 1]);
        score(&mut ranking, 16, [0.95, 0.2, 0.95, 0.1]);
        assert_eq!(ranking.order(), [0, 2, 1, 3], "equal scores stay in the order of their seeds");
        assert_eq!(ranking.shown(), [0, 2]);
    }

    #[test]
    fn what_the_person_prefers_stays_and_the_best_take_the_other_places() {
        let mut ranking = Ranking::new(4, 2);
        ranking.prefer(3);
        assert_eq!(ranking.shown(), [3, 0]);
        ranking.prefer(0);
        assert_eq!(ranking.preferred(), [3], "the other is shown already");
        score(&mut ranking, 16, [0.1, 0.4, 0.3, 0.2]);
        assert_eq!((ranking.order(), ranking.shown()), (&[1, 2, 3, 0][..], &[3, 1][..]));
        ranking.prefer(0);
        assert_eq!(ranking.shown(), [0, 3]);
        ranking.prefer(2);
        assert_eq!(
            (ranking.shown(), ranking.preferred()),
            (&[2, 0][..], &[2, 0][..]),
            "there is room for two"
        );
        ranking.prefer(0);
        assert_eq!(ranking.shown(), [2, 1], "a second call undoes the first");
    }

    #[test]
    fn among_nearly_equal_scores_the_image_most_like_the_others_is_shown() {
        let images = [[1, 2], [3, 4], [3, 4], [3, 9]].map(|ids| ids.map(ImageToken).to_vec());
        let mut ranking = Ranking::new(4, 1);
        for (image, score) in [0.87, 0.86, 0.85, 0.4].into_iter().enumerate() {
            ranking.scored(image, 2, score, &images);
        }
        assert_eq!((ranking.order(), ranking.shown()), (&[1, 2, 0, 3][..], &[1][..]));
        assert_eq!(ranking.spread().map(|spread| (spread * 100.0).round()), Some(47.0));
    }

    #[test]
    fn an_image_that_does_not_exist_changes_nothing() {
        let mut ranking = Ranking::new(1, 1);
        ranking.scored(1, 4, 0.5, &[Vec::new()]);
        ranking.prefer(1);
        assert_eq!((ranking.order(), ranking.shown(), ranking.score(1)), (&[0][..], &[0][..], None));
    }
}
