//! Which of the pictures drawn are shown large: those that the contrastive model scores highest, or those that the person prefers.

/// The order of the pictures of one generation, each named by its index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    order: Vec<usize>,
    shown: Vec<usize>,
    scores: Vec<Option<Score>>,
    compared: bool,
    preferred: bool,
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
            preferred: false,
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

    /// Whether the person chose what is shown.
    pub fn is_preferred(&self) -> bool {
        self.preferred
    }

    /// Whether all pictures have been compared.
    pub fn is_scored(&self) -> bool {
        self.compared
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
            if !self.preferred {
                self.shown = self.order[..self.shown.len()].to_vec();
            }
        }
    }

    /// The person wants to see this picture: it takes the first place, and the last one shown leaves. Scores move nothing that
    /// is shown any more.
    pub fn prefer(&mut self, picture: usize) {
        if !self.shown.contains(&picture) && picture < self.order.len() {
            self.preferred = true;
            self.shown.insert(0, picture);
            self.shown.pop();
        }
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
    fn what_the_person_prefers_stays() {
        let mut ranking = Ranking::new(4, 2);
        ranking.prefer(3);
        assert_eq!(ranking.shown(), [3, 0]);
        ranking.prefer(0);
        assert_eq!(ranking.shown(), [3, 0], "it is shown already");
        score(&mut ranking, 16, [0.1, 0.4, 0.3, 0.2]);
        assert_eq!((ranking.order(), ranking.shown()), (&[1, 2, 3, 0][..], &[3, 0][..]));
    }

    #[test]
    fn a_picture_that_is_not_there_changes_nothing() {
        let mut ranking = Ranking::new(1, 1);
        ranking.scored(1, 4, 0.5);
        ranking.prefer(1);
        assert_eq!((ranking.order(), ranking.shown(), ranking.score(1)), (&[0][..], &[0][..], None));
    }
}
