//! Why a token was chosen, as numbers that the page shows.

use serde::{Deserialize, Serialize};

use crate::ImageToken;

/// How the prior saw one token of an image before it was there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenStep {
    /// Its probability at temperature 1, without top-k and top-p.
    pub probability: f64,
    /// How many tokens were likelier.
    pub rank: usize,
    /// Entropy of the distribution at temperature 1, in bits: 0 if only one token was possible.
    pub entropy: f64,
    /// The random number on `[0, 1)` of this position.
    pub uniform: f64,
    /// Whether the settings and the random number choose this token. Not for tokens that were given.
    pub sampled: bool,
}

/// A token that could come next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenChoice {
    /// The token.
    pub token: ImageToken,
    /// Its probability at temperature 1, without top-k and top-p.
    pub before: f64,
    /// Its probability with the settings; 0 if top-k or top-p leave it out.
    pub after: f64,
    /// Where its share of `[0, 1)` begins: a random number from here to `from + after` chooses it.
    pub from: f64,
}

/// What could come next at one position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenChoices {
    /// The likeliest tokens, the likeliest first.
    pub likeliest: Vec<TokenChoice>,
    /// How many tokens the settings leave.
    pub kept: usize,
    /// Entropy of the distribution at temperature 1, in bits.
    pub entropy: f64,
    /// The random number on `[0, 1)` of this position.
    pub uniform: f64,
    /// The token that it chooses.
    pub chosen: ImageToken,
}

/// Which image slots a layer of the prior sees (section 2.2 of the paper).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionPattern {
    /// The previous tokens, back to the one above.
    Row,
    /// The same column in the rows above.
    Column,
    /// A square around the token, as far as it is there.
    Conv,
}

/// What one layer attends to when it predicts a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Which image slots it sees.
    pub pattern: AttentionPattern,
    /// Number of layers of the prior.
    pub layers: usize,
    /// Number of heads.
    pub heads: usize,
    /// Weights of the text slots, `[heads, text]`.
    pub text: Vec<f32>,
    /// Raster positions of the image slots that it sees.
    pub positions: Vec<usize>,
    /// Their weights, `[heads, positions]`.
    pub image: Vec<f32>,
}
