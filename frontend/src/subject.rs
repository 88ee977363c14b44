//! The image that is explained, and what is known about its tokens, in words and numbers.

use dalle_shared::{GenerationRequest, ImageToken, TokenStep};

use crate::format;
use crate::session::Prompt;
use crate::ticket::Ticket;

/// An image, or a branch of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Names the answers about it.
    pub ticket: Ticket,
    /// The request that samples it alone.
    pub request: GenerationRequest,
    /// All of its tokens.
    pub tokens: Vec<ImageToken>,
    /// Where the tokens are from.
    pub origin: Origin,
}

/// Where the tokens of an image are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The request.
    Sampled,
    /// The request, but for the one at this position, which a person forced, and those after it.
    Forced(usize),
    /// A person's image.
    Picture,
    /// A person's image, and from this position on the request.
    Continued(usize),
}

impl Subject {
    /// The image `index` of what was asked for.
    pub fn new(prompt: &Prompt, index: usize, tokens: Vec<ImageToken>) -> Self {
        let request = GenerationRequest {
            samples: 1,
            best_of: None,
            seed: prompt.seed_of(index),
            ..prompt.request.clone()
        };
        Self { ticket: Ticket::issue(), request, tokens, origin: Origin::Sampled }
    }

    /// The request that samples it from `position` on again, with another token there.
    pub fn branch(&self, position: usize, token: ImageToken) -> GenerationRequest {
        let mut prefix = self.tokens[..position.min(self.tokens.len())].to_vec();
        prefix.push(token);
        GenerationRequest { prefix, ..self.request.clone() }
    }

    /// The request that keeps its tokens before `position` and samples the others, `again` times after the first with other seeds.
    pub fn continuation(&self, position: usize, again: usize) -> GenerationRequest {
        let prefix = self.tokens[..position.min(self.tokens.len())].to_vec();
        GenerationRequest { prefix, seed: self.request.seed.of_sample(again), ..self.request.clone() }
    }

    /// The request to read it again: its tokens are the prefix.
    pub fn reading(&self) -> GenerationRequest {
        GenerationRequest { prefix: self.tokens.clone(), ..self.request.clone() }
    }

    /// How often it has a token.
    pub fn count(&self, token: ImageToken) -> usize {
        self.tokens.iter().filter(|other| **other == token).count()
    }

    /// Its tokens, each once, the most frequent first, with their numbers.
    pub fn inventory(&self) -> Vec<(ImageToken, usize)> {
        let mut sorted = self.tokens.clone();
        sorted.sort_unstable();
        let mut inventory: Vec<(ImageToken, usize)> =
            sorted.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len())).collect();
        inventory.sort_by_key(|(token, count)| (std::cmp::Reverse(*count), *token));
        inventory
    }
}

impl Origin {
    /// Whether the token at a position is from a person's image.
    fn is_picture(self, position: usize) -> bool {
        match self {
            Self::Picture => true,
            Self::Continued(start) => position < start,
            Self::Sampled | Self::Forced(_) => false,
        }
    }
}

/// Where a token is: `row 6, column 7`, from 1.
pub fn place(position: usize, grid: usize) -> String {
    format!("row {}, column {}", position / grid + 1, position % grid + 1)
}

/// One token in words, for the timeline.
pub fn describe(subject: &Subject, steps: &[TokenStep], position: usize, grid: usize) -> String {
    let Some(token) = subject.tokens.get(position) else { return String::new() };
    let place = place(position, grid);
    let start = format!("Token {} of {}: {place}, code {}", position + 1, subject.tokens.len(), token.0);
    match steps.get(position) {
        _ if subject.origin == Origin::Forced(position) => format!("{start}, forced by you"),
        Some(step) if subject.origin.is_picture(position) => {
            format!("{start}, from your picture, {}", likely(step))
        }
        Some(step) if !step.sampled => format!("{start}, given"),
        Some(step) => {
            format!("{start}, {}, {}", likely(step), nth_choice(step.rank))
        }
        None => start,
    }
}

/// A token's probability, and what it costs to write down with it: `31 % likely (1.7 bits)`.
fn likely(step: &TokenStep) -> String {
    let bits = -step.probability.max(f64::MIN_POSITIVE).log2();
    format!("{} likely ({:.1} bits)", format::percent(step.probability), bits.abs())
}

/// `first choice` for rank 0.
fn nth_choice(rank: usize) -> String {
    match rank {
        0 => "first choice".to_owned(),
        1 => "second choice".to_owned(),
        2 => "third choice".to_owned(),
        _ => format!("choice {}", rank + 1),
    }
}

/// Bits of information of the tokens that were sampled: what they cost to write down with this prior.
pub fn bits(steps: &[TokenStep]) -> f64 {
    steps.iter().filter(|step| step.probability > 0.0).map(|step| -step.probability.log2()).sum()
}

/// The position at which the prior was least sure, if all of the image has been read again.
pub fn least_sure(steps: &[TokenStep]) -> Option<usize> {
    let (position, _) = steps.iter().enumerate().max_by(|(_, a), (_, b)| a.entropy.total_cmp(&b.entropy))?;
    Some(position)
}

/// How surprising a token with this entropy is, from 0 to 1, for its shade. Entropies of trained priors are mostly below 6 bits.
pub fn surprise(step: &TokenStep) -> f64 {
    (step.entropy / 6.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use dalle_shared::Seed;

    use super::*;

    fn request() -> GenerationRequest {
        serde_json::from_str(r#"{"model": "m", "text": [1], "samples": 4, "best_of": 8, "seed": "7"}"#)
            .expect("a request")
    }

    fn subject() -> Subject {
        let prompt = Prompt { caption: String::new(), request: request(), seeds: Vec::new() };
        Subject::new(&prompt, 2, [5, 6, 5, 9].map(ImageToken).to_vec())
    }

    #[test]
    fn the_request_of_an_image_samples_it_alone() {
        let subject = subject();
        let GenerationRequest { samples, best_of, seed, .. } = subject.request;
        assert_eq!((samples, best_of, seed), (1, None, Seed(9)));
    }

    #[test]
    fn a_branch_keeps_what_is_before_the_forced_token() {
        let branch = subject().branch(2, ImageToken(8));
        assert_eq!(branch.prefix, [5, 6, 8].map(ImageToken));
        assert_eq!(branch.seed, Seed(9));
        assert_eq!(subject().reading().prefix.len(), 4);
        let continuation = subject().continuation(1, 2);
        assert_eq!((continuation.prefix, continuation.seed), (vec![ImageToken(5)], Seed(11)));
    }

    #[test]
    fn tokens_are_counted() {
        let expected = [(5, 2), (6, 1), (9, 1)].map(|(token, count)| (ImageToken(token), count));
        assert_eq!(subject().inventory(), expected);
        assert_eq!(subject().count(ImageToken(5)), 2);
    }

    #[test]
    fn a_token_is_described_by_its_place_and_its_probability() {
        let step = TokenStep { probability: 0.314, rank: 1, entropy: 2.0, uniform: 0.5, sampled: true };
        let steps = [step, TokenStep { sampled: false, ..step }];
        assert_eq!(
            describe(&subject(), &steps, 0, 2).replace('\u{a0}', " "),
            "Token 1 of 4: row 1, column 1, code 5, 31 % likely (1.7 bits), second choice"
        );
        assert_eq!(describe(&subject(), &steps, 1, 2), "Token 2 of 4: row 1, column 2, code 6, given");
        assert_eq!(describe(&subject(), &steps, 2, 2), "Token 3 of 4: row 2, column 1, code 5");
        let forced = Subject { origin: Origin::Forced(0), ..subject() };
        assert!(describe(&forced, &steps, 0, 2).ends_with("forced by you"));
        let continued = Subject { origin: Origin::Continued(1), ..subject() };
        let words = describe(&continued, &steps, 0, 2).replace('\u{a0}', " ");
        assert!(words.ends_with("code 5, from your picture, 31 % likely (1.7 bits)"), "{words}");
        assert!(describe(&continued, &steps, 1, 2).ends_with("given"));
        assert!((bits(&steps[..1]) - 1.671).abs() < 0.001);
    }
}
