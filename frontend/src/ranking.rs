//! Which of the pictures drawn are shown large: those that the contrastive model scores highest, or those that the person prefers.

/// The order of the pictures of one generation, each named by its index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    order: Vec<usize>,
    shown: Vec<usize>,
    scores: Vec<Option<Score>>,
    compared: bool,
    preferred: Vec<usize>,
}

/// A score, and how many of the picture's tokens were there when it was given.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Score {
    tokens: usize,
    score: f32,
}

impl Ranking {
    /// `drawn` pictures without scores. The first `shown` are shown.
    pub fn new(drawn: usize, shown: usize) -> Self {
        Self {
            order: (0..drawn).collect(),
            shown: (0..shown.min(drawn)).collect(),
            scores: vec![None; drawn],
            compared: false,
            preferred: Vec::new(),
        }
    }

    /// All pictures: the best first, or in the order of their seeds as long as they have no scores.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Those shown large.
    pub fn shown(&self) -> &[usize] {
        &self.shown
    }

    /// Those that the person prefers, the latest first.
    pub fn preferred(&self) -> &[usize] {
        &self.preferred
    }

    /// Whether all pictures have been compared.
    pub fn is_scored(&self) -> bool {
        self.compared
    }

    /// How far the best of all scores is from the worst, once all can be compared.
    pub fn spread(&self) -> Option<f32> {
        let score = |picture: Option<&usize>| picture.and_then(|&picture| self.score(picture));
        Some(score(self.order.first())? - score(self.order.last())?).filter(|_| self.compared)
    }

    /// The latest score of a picture.
    pub fn score(&self, picture: usize) -> Option<f32> {
        self.scores.get(picture).copied().flatten().map(|score| score.score)
    }

    /// A picture has a score, given when so many of its tokens were there. The order changes when all pictures have one that was
    /// given at the same point: others cannot be compared.
    pub fn scored(&mut self, picture: usize, tokens: usize, score: f32) {
        let Some(place) = self.scores.get_mut(picture) else { return };
        *place = Some(Score { tokens, score });
        let scores: Option<Vec<f32>> = self
            .scores
            .iter()
            .map(|score| score.filter(|score| score.tokens == tokens).map(|score| score.score))
            .collect();
        if let Some(scores) = scores {
            self.compared = true;
            self.order = (0..scores.len()).collect();
            self.order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            self.fill();
        }
    }

    /// The person wants to see this picture, which is not shown: it takes the first place. Asked for again, it loses it to the
    /// best of the others.
    pub fn prefer(&mut self, picture: usize) {
        if let Some(place) = self.preferred.iter().position(|&preferred| preferred == picture) {
            self.preferred.remove(place);
        } else if !self.shown.contains(&picture) && picture < self.order.len() {
            self.preferred.insert(0, picture);
            self.preferred.truncate(self.shown.len());
        }
        self.fill();
    }

    /// Shows what the person prefers, and the best of the others where there is room.
    fn fill(&mut self) {
        let others = self.order.iter().copied().filter(|picture| !self.preferred.contains(picture));
        self.shown = self.preferred.iter().copied().chain(others).take(self.shown.len()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All scores given at one point.
    fn score(ranking: &mut Ranking, tokens: usize, scores: [f32; 4]) {
        for (picture, score) in scores.into_iter().enumerate() {
            ranking.scored(picture, tokens, score);
        }
    }

    #[test]
    fn the_best_are_shown_once_all_can_be_compared() {
        let mut ranking = Ranking::new(4, 2);
        assert_eq!((ranking.order(), ranking.shown()), (&[0, 1, 2, 3][..], &[0, 1][..]));
        ranking.scored(3, 8, 0.9);
        assert_eq!((ranking.shown(), ranking.score(3)), (&[0, 1][..], Some(0.9)), "the others have none yet");
        score(&mut ranking, 8, [0.1, 0.3, 0.2, 0.9]);
        assert_eq!((ranking.order(), ranking.shown()), (&[3, 1, 2, 0][..], &[3, 1][..]));
        // The first of the final scores is not compared with provisional ones.
        ranking.scored(0, 16, 0.95);
        assert_eq!(ranking.shown(), [3, 1]);
        score(&mut ranking, 16, [0.95, 0.2, 0.95, 0.1]);
        assert_eq!(ranking.order(), [0, 2, 1, 3], "equal scores stay in the order of their seeds");
        assert_eq!(ranking.shown(), [0, 2]);
    }

    #[test]
    fn what_the_person_prefers_stays_and_the_best_fill_the_other_places() {
        let mut ranking = Ranking::new(4, 2);
        ranking.prefer(3);
        assert_eq!(ranking.shown(), [3, 0]);
        ranking.prefer(0);
        assert_eq!(ranking.preferred(), [3], "the other is shown anyway");
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
        assert_eq!(ranking.shown(), [2, 1], "asked for again, it makes room for the best");
    }

    #[test]
    fn a_picture_that_is_not_there_changes_nothing() {
        let mut ranking = Ranking::new(1, 1);
        ranking.scored(1, 4, 0.5);
        ranking.prefer(1);
        assert_eq!((ranking.order(), ranking.shown(), ranking.score(1)), (&[0][..], &[0][..], None));
    }
}
