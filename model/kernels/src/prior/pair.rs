//! An example of training.

/// A caption with its image.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Ids that the prior sees, without padding.
    pub input: &'a [u32],
    /// Whether they are scored.
    pub scored: bool,
    /// The image's tokens in raster order, which are scored.
    pub image: &'a [u32],
    /// The tokens that the prior sees in their places: the same, or some of them replaced.
    pub seen: &'a [u32],
}

impl Pair<'_> {
    /// The class that a place of the text predicts, if it is scored: an id, or the caption's end.
    pub(super) fn text_target(&self, place: usize, end: usize) -> Option<usize> {
        match self.input.get(place) {
            _ if !self.scored => None,
            Some(id) => Some(*id as usize),
            None => (place == self.input.len()).then_some(end),
        }
    }
}
