//! Which image the decoder draws next.
//!
//! A preview of a image is worth drawing when one more row of its tokens is complete. Previews take turns and together at
//! most half of the time, so that they never slow down what they preview: on a laptop, the server may run on the same
//! processor. The final image of complete tokens is always drawn, at once. Where more images are drawn than are shown large,
//! the others have what time is left.

use dalle_shared::ImageToken;

/// State of the drawing of all images of one generation.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    rows: usize,
    images: Vec<Rows>,
    turn: usize,
    busy: bool,
    rest_until: f64,
}

/// Rows of tokens of one image.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    complete: usize,
    decoded: usize,
    large: bool,
}

/// The decoder's next task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Draw this image, of which so many rows of tokens are complete.
    Decode {
        /// Index of the image.
        image: usize,
        /// Its complete rows.
        rows: usize,
    },
    /// Ask again after so many milliseconds.
    Rest(f64),
    /// Nothing to draw until something changes.
    Nothing,
}

impl Schedule {
    /// Nothing drawn of `images` images of `rows` rows, all of them shown large.
    pub fn new(images: usize, rows: usize) -> Self {
        Self { rows, images: vec![Rows { large: true, ..Rows::default() }; images], ..Self::default() }
    }

    /// Only these are shown large.
    pub fn enlarge(&mut self, large: &[usize]) {
        for (index, image) in self.images.iter_mut().enumerate() {
            image.large = large.contains(&index);
        }
    }

    /// So many rows of this image's tokens are complete now.
    pub fn complete(&mut self, image: usize, rows: usize) {
        if let Some(image) = self.images.get_mut(image) {
            image.complete = rows.min(self.rows);
        }
    }

    /// What to draw at time `now` (milliseconds). After [`Next::Decode`] the decoder is busy until [`Schedule::decoded`].
    pub fn next(&mut self, now: f64) -> Next {
        if self.busy {
            return Next::Nothing;
        }
        let waiting = |of_large: bool, only_whole: bool| {
            let turns = (0..self.images.len()).map(|step| (self.turn + step) % self.images.len());
            turns.into_iter().find(|&index| {
                let Rows { complete, decoded, large } = self.images[index];
                complete > decoded && large == of_large && (!only_whole || complete == self.rows)
            })
        };
        let can_wait =
            || waiting(true, false).or_else(|| waiting(false, true)).or_else(|| waiting(false, false));
        let image = match waiting(true, true) {
            Some(whole) => whole,
            None => match can_wait() {
                Some(_) if now < self.rest_until => return Next::Rest(self.rest_until - now),
                Some(image) => image,
                None => return Next::Nothing,
            },
        };
        self.busy = true;
        self.turn = (image + 1) % self.images.len();
        Next::Decode { image, rows: self.images[image].complete }
    }

    /// The decoder finished at `now` what it began `took` milliseconds before.
    pub fn decoded(&mut self, image: usize, rows: usize, now: f64, took: f64) {
        self.busy = false;
        self.rest_until = now + took;
        if let Some(image) = self.images.get_mut(image) {
            image.decoded = rows;
        }
    }

    /// The decoder is busy with something that is not in this schedule, until [`Schedule::lost`].
    pub fn hold(&mut self) {
        self.busy = true;
    }

    /// The decoder is idle again, or a new one, and what it was drawing is lost.
    pub fn lost(&mut self) {
        self.busy = false;
    }

    /// Whether every image that is shown large is drawn as far as its tokens are complete.
    pub fn is_settled(&self) -> bool {
        self.images.iter().filter(|image| image.large).all(|image| image.decoded == image.complete)
    }
}

/// A whole grid from its first tokens: the last row that is known repeats downwards, which is the best guess at what
/// surrounds it. Only pixels of known rows are shown, but those near the border see what is below them.
pub fn fill(tokens: &[ImageToken], grid: usize) -> Vec<ImageToken> {
    let length = grid * grid;
    let mut filled = tokens[..tokens.len().min(length)].to_vec();
    while filled.len() < length {
        let above = filled.len().checked_sub(grid).and_then(|index| filled.get(index));
        let token = above.or(filled.last()).copied().unwrap_or(ImageToken(0));
        filled.push(token);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_take_turns() {
        let mut schedule = Schedule::new(3, 4);
        (0..3).for_each(|image| schedule.complete(image, 1));
        let mut now = 0.0;
        for image in [0, 1, 2] {
            assert_eq!(schedule.next(now), Next::Decode { image, rows: 1 });
            assert_eq!(schedule.next(now), Next::Nothing, "the decoder is busy");
            schedule.decoded(image, 1, now + 5.0, 5.0);
            now += 10.0;
        }
        assert_eq!(schedule.next(now), Next::Nothing);
        assert!(schedule.is_settled());
    }

    #[test]
    fn rows_that_came_meanwhile_are_drawn_together() {
        let mut schedule = Schedule::new(1, 8);
        schedule.complete(0, 1);
        assert_eq!(schedule.next(0.0), Next::Decode { image: 0, rows: 1 });
        schedule.complete(0, 5);
        assert!(!schedule.is_settled());
        schedule.decoded(0, 1, 100.0, 100.0);
        assert_eq!(schedule.next(200.0), Next::Decode { image: 0, rows: 5 });
    }

    #[test]
    fn previews_rest_as_long_as_they_worked_but_the_whole_image_does_not_wait() {
        let mut schedule = Schedule::new(2, 2);
        schedule.complete(0, 1);
        assert_eq!(schedule.next(0.0), Next::Decode { image: 0, rows: 1 });
        schedule.complete(1, 1);
        schedule.decoded(0, 1, 80.0, 80.0);
        assert_eq!(schedule.next(100.0), Next::Rest(60.0));
        schedule.complete(0, 2);
        assert_eq!(schedule.next(100.0), Next::Decode { image: 0, rows: 2 });
        schedule.decoded(0, 2, 180.0, 80.0);
        assert_eq!(schedule.next(260.0), Next::Decode { image: 1, rows: 1 });
    }

    #[test]
    fn a_stream_of_rows_costs_at_most_half_of_the_time_and_ends_with_the_whole() {
        // One image of 32 rows, a row each 20 ms, a decode of 50 ms.
        let (rows, decode) = (32, 50.0);
        let mut schedule = Schedule::new(1, rows);
        let (mut done, mut draws, mut last) = (None, 0, 0);
        for now in (0..10_000).map(f64::from) {
            schedule.complete(0, (now / 20.0) as usize);
            if let Some((at, rows)) = done.filter(|&(at, _)| now >= at) {
                schedule.decoded(0, rows, at, decode);
                done = None;
            }
            if let Next::Decode { rows, .. } = schedule.next(now) {
                (done, draws, last) = (Some((now + decode, rows)), draws + 1, rows);
            }
        }
        assert!(schedule.is_settled());
        assert_eq!(last, rows);
        assert!(draws <= 8, "{draws} decodes of 50 ms in 640 ms");
    }

    #[test]
    fn those_shown_large_come_first_and_the_others_in_the_time_that_is_left() {
        let mut schedule = Schedule::new(3, 2);
        schedule.enlarge(&[1]);
        (0..3).for_each(|image| schedule.complete(image, 1));
        let draws = |schedule: &mut Schedule, now: f64, image: usize, rows: usize| {
            assert_eq!(schedule.next(now), Next::Decode { image, rows });
            schedule.decoded(image, rows, now, 10.0);
        };
        draws(&mut schedule, 0.0, 1, 1);
        assert!(schedule.is_settled(), "the others are not waited for");
        assert_eq!(schedule.next(5.0), Next::Rest(5.0));
        schedule.complete(0, 2);
        draws(&mut schedule, 10.0, 0, 2);
        // A better one takes the large place.
        schedule.complete(2, 2);
        schedule.enlarge(&[2]);
        assert!(!schedule.is_settled());
        draws(&mut schedule, 11.0, 2, 2);
        assert!(schedule.is_settled());
        schedule.complete(1, 2);
        draws(&mut schedule, 30.0, 1, 2);
        assert_eq!(schedule.next(50.0), Next::Nothing);
    }

    #[test]
    fn a_lost_decoder_leaves_its_image_to_be_drawn_again() {
        let mut schedule = Schedule::new(1, 2);
        schedule.complete(0, 2);
        assert_eq!(schedule.next(0.0), Next::Decode { image: 0, rows: 2 });
        schedule.lost();
        assert_eq!(schedule.next(0.0), Next::Decode { image: 0, rows: 2 });
    }

    #[test]
    fn fill_repeats_the_last_known_token_of_each_column() {
        let ids = |tokens: &[u16]| tokens.iter().copied().map(ImageToken).collect::<Vec<_>>();
        assert_eq!(fill(&ids(&[1, 2, 3, 4, 5]), 3), ids(&[1, 2, 3, 4, 5, 3, 4, 5, 3]));
        assert_eq!(fill(&ids(&[7]), 2), ids(&[7, 7, 7, 7]));
        assert_eq!(fill(&[], 2), ids(&[0; 4]));
        assert_eq!(fill(&ids(&[1, 2, 3, 4]), 2), ids(&[1, 2, 3, 4]));
    }
}
