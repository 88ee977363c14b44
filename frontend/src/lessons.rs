//! Seven lessons: each a card, and what the explanation shows with it. `#lesson=3` in the address opens the third.

use crate::explain::{Colouring, Lens};

/// A lesson.
#[derive(Clone, Copy, Debug)]
pub struct Lesson {
    /// Its title.
    pub title: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The lens that is shown with it.
    pub lens: Lens,
    /// What the colours of the cells say.
    pub colouring: Colouring,
    /// Where the timeline stands.
    pub start: Start,
}

/// Where the timeline stands when a lesson begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first token.
    First,
    /// At the last token.
    Last,
    /// At the token of which the prior was least sure.
    LeastSure,
}

/// All of them.
pub const LESSONS: [Lesson; 7] = [
    Lesson {
        title: "Words become numbers",
        text: "The caption is split into pieces that the tokenizer knows, and each piece becomes a number. The prior reads these \
               numbers, not letters. Under Attention you see how much each piece counts for the first image token.",
        lens: Lens::Attention,
        colouring: Colouring::Tiles,
        start: Start::First,
    },
    Lesson {
        title: "An image is a grid of tokens",
        text: "Each cell holds one code of the codebook, which stands for a small image part. Press a code to see where this image \
               uses it: equal parts share a code. Under Your picture, try an image of yours.",
        lens: Lens::Codebook,
        colouring: Colouring::Tiles,
        start: Start::Last,
    },
    Lesson {
        title: "One token after the other",
        text: "The prior adds tokens row by row, from the top left to the bottom right, and never changes one again. Press Play and \
               watch the pixels follow.",
        lens: Lens::Probabilities,
        colouring: Colouring::Tiles,
        start: Start::First,
    },
    Lesson {
        title: "Every token is a choice",
        text: "Before each token the prior gives every code a probability, and a random number chooses. This is where it was least \
               sure. Force another code: the image continues from it.",
        lens: Lens::Probabilities,
        colouring: Colouring::Tiles,
        start: Start::LeastSure,
    },
    Lesson {
        title: "Sure and unsure",
        text: "Cells in a strong colour are those of which the prior was unsure: outlines and new parts. Pale ones were nearly \
               certain. Move the temperature: low, the likeliest code wins; high, all get a chance.",
        lens: Lens::Probabilities,
        colouring: Colouring::Surprise,
        start: Start::LeastSure,
    },
    Lesson {
        title: "What the prior looks at",
        text: "Each layer sees some of the tokens before: those of the last row, those above, or a square around. Each head weighs \
               them differently. Move the layer and see.",
        lens: Lens::Attention,
        colouring: Colouring::Tiles,
        start: Start::LeastSure,
    },
    Lesson {
        title: "From tokens to pixels",
        text: "The decoder paints in four steps, each finer than the one before; colours come last. See what this token changes: more \
               than its own eight by eight pixels, because every layer looks at the neighbours.",
        lens: Lens::Decoder,
        colouring: Colouring::Tiles,
        start: Start::LeastSure,
    },
];

/// The index of the lesson that a fragment of the address names, with or without `#`.
pub fn of_fragment(fragment: &str) -> Option<usize> {
    let number: usize = fragment.trim_start_matches('#').strip_prefix("lesson=")?.parse().ok()?;
    number.checked_sub(1).filter(|index| *index < LESSONS.len())
}

/// The fragment that names a lesson, without `#`.
pub fn fragment(index: usize) -> String {
    format!("lesson={}", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_names_a_lesson() {
        for index in 0..LESSONS.len() {
            assert_eq!(of_fragment(&fragment(index)), Some(index));
        }
        for other in ["", "#", "#lesson=0", "#lesson=8", "#lesson=x", "#caption=x&seed=1"] {
            assert_eq!(of_fragment(other), None, "{other}");
        }
    }

    #[test]
    fn a_card_is_read_in_a_moment() {
        for lesson in LESSONS {
            let words = lesson.text.split_whitespace().count();
            assert!((15..=40).contains(&words), "{}: {words} words", lesson.title);
        }
    }
}
