//! Which image the decoder decodes next.
//!
//! An image is previewed when one more row of its tokens is complete. Previews take turns and use at most half of the time, so that
//! they do not slow down what they preview: on a laptop, the server may run on the same CPU. An image whose tokens are
//! complete is decoded next. Images that are not shown large use the time that is left.

use dalle_shared::ImageToken;

/// What is decoded of all images of one generation.
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
    /// Decode this image, of which so many rows of tokens are complete.
    Decode {
        /// Index of the image.
        image: usize,
        /// Its complete rows.
        rows: usize,
    },
    /// Ask again after so many milliseconds.
    Rest(f64),
    /// Nothing to decode until something changes.
    Nothing,
}

impl Schedule {
    /// Nothing is decoded of `images` images of `rows` rows, all of them shown large.
    pub fn new(images: usize, rows: usize) -> Self {
        Self { rows, images: vec![Rows { large: true, ..Rows::default() }; images], ..Self::default() }
    }

    /// Only these are shown large.
    pub fn enlarge(&mut self, large: &[usize]) {
        for (index, image) in self.images.iter_mut().enumerate() {
            image.large = large.contains(&index);
        }
    }

    /// Sets how many rows of an image's tokens are complete.
    pub fn complete(&mut self, image: usize, rows: usize) {
        if let Some(image) = self.images.get_mut(image) {
            image.complete = rows.min(self.rows);
        }
    }

    /// What to decode at time `now` (milliseconds). After [`Next::Decode`] the decoder is busy until [`Schedule::decoded`].
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

    /// So many rows of an image were decoded elsewhere.
    pub fn given(&mut self, image: usize, rows: usize) {
        if let Some(image) = self.images.get_mut(image) {
            image.decoded = rows;
        }
    }

    /// The decoder is busy with something that is not in this schedule, until [`Schedule::lost`].
    pub fn hold(&mut self) {
        self.busy = true;
    }

    /// The decoder is idle again, or a new one; what it was decoding is lost.
    pub fn lost(&mut self) {
        self.busy = false;
    }

    /// Whether every image that is shown large is decoded as far as its tokens are complete.
    pub fn is_settled(&self) -> bool {
        self.images.iter().filter(|image| image.large).all(|image| image.decoded == image.complete)
    }
}

/// A whole grid from its first tokens, for a preview: the last known row is repeated downwards. Only known rows are shown, but the
/// pixels at their lower border depend on the tokens below.
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
    fn rows_that_arrived_meanwhile_are_decoded_together() {
        let mut schedule = Schedule::new(1, 8);
        schedule.complete(0, 1);
        assert_eq!(schedule.next(0.0), Next::Decode { image: 0, rows: 1 });
        schedule.complete(0, 5);
        assert!(!schedule.is_settled());
        schedule.decoded(0, 1, 100.0, 100.0);
        assert_eq!(schedule.next(200.0), Next::Decode { image: 0, rows: 5 });
    }

    #[test]
    fn previews_rest_as_long_as_they_took_but_a_whole_image_does_not_wait() {
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
        let (mut done, mut decodes, mut last) = (None, 0, 0);
        for now in (0..10_000).map(f64::from) {
            schedule.complete(0, (now / 20.0) as usize);
            if let Some((at, rows)) = done.filter(|&(at, _)| now >= at) {
                schedule.decoded(0, rows, at, decode);
                done = None;
            }
            if let Next::Decode { rows, .. } = schedule.next(now) {
                (done, decodes, last) = (Some((now + decode, rows)), decodes + 1, rows);
            }
        }
        assert!(schedule.is_settled());
        assert_eq!(last, rows);
        assert!(decodes <= 8, "{decodes} decodes of 50 ms in 640 ms");
    }

    #[test]
    fn those_shown_large_come_first_and_the_others_in_the_time_that_is_left() {
        let mut schedule = Schedule::new(3, 2);
        schedule.enlarge(&[1]);
        (0..3).for_each(|image| schedule.complete(image, 1));
        let decodes = |schedule: &mut Schedule, now: f64, image: usize, rows: usize| {
            assert_eq!(schedule.next(now), Next::Decode { image, rows });
            schedule.decoded(image, rows, now, 10.0);
        };
        decodes(&mut schedule, 0.0, 1, 1);
        assert!(schedule.is_settled(), "the others are not waited for");
        assert_eq!(schedule.next(5.0), Next::Rest(5.0));
        schedule.complete(0, 2);
        decodes(&mut schedule, 10.0, 0, 2);
        // A better one takes the large place.
        schedule.complete(2, 2);
        schedule.enlarge(&[2]);
        assert!(!schedule.is_settled());
        decodes(&mut schedule, 11.0, 2, 2);
        assert!(schedule.is_settled());
        schedule.complete(1, 2);
        decodes(&mut schedule, 30.0, 1, 2);
        assert_eq!(schedule.next(50.0), Next::Nothing);
    }

    #[test]
    fn an_image_that_was_decoded_elsewhere_is_not_decoded_again() {
        let mut schedule = Schedule::new(2, 2);
        (0..2).for_each(|image| schedule.complete(image, 2));
        schedule.given(0, 2);
        assert!(!schedule.is_settled());
        schedule.given(1, 2);
        assert!(schedule.is_settled());
        assert_eq!(schedule.next(0.0), Next::Nothing);
    }

    #[test]
    fn the_image_of_a_lost_decoder_is_decoded_again() {
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
