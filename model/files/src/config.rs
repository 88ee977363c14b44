//! One typed configuration for a model of any size: the content of a model folder's `config.json`.

use std::fmt::Display;

use dalle_shared::Geometry;
use serde::{Deserialize, Serialize};

/// A whole model. `configs/paper-12b.json` is the paper's; `configs/tiny.json` trains in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Short name, such as `emoji-128`.
    pub name: String,
    /// Licence line shown beside images.
    #[serde(default)]
    pub license: String,
    /// Example captions, shown on the page.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Text slots (the paper: 256).
    pub text_length: usize,
    /// Text vocabulary: BPE ids (16,384).
    pub text_vocab: usize,
    /// Side of the image in pixels, a multiple of 8 (256).
    pub image_size: usize,
    /// Stage 1.
    pub dvae: DvaeConfig,
    /// Stage 2.
    pub prior: PriorConfig,
}

/// The discrete VAE (appendix A.1). The released one: `n_hid` 256, `n_init` 128, vocabulary 8192.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DvaeConfig {
    /// Base width; the four groups are 1, 2, 4 and 8 times as wide.
    pub n_hid: usize,
    /// Width after the decoder's first 1×1 convolution.
    pub n_init: usize,
    /// Residual blocks in each group (2).
    pub blocks_per_group: usize,
    /// Codebook entries (8192).
    pub vocab: usize,
}

/// The transformer prior (section 2.2, appendix B.1). The paper's: 64 layers, 62 heads of 64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorConfig {
    /// Attention layers, each followed by an MLP.
    pub layers: usize,
    /// Attention heads; the model is `heads · head_dim` wide.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Side of the convolutional attention's kernel, odd (11).
    pub conv_kernel: usize,
}

/// Factor between pixels and tokens: three 2×2 poolings.
pub const DOWNSAMPLING: usize = 8;

/// Most characters of a name, of a licence line, and of an example caption.
const LONGEST: [usize; 3] = [100, 1000, 1000];
/// Most example captions.
const MOST_EXAMPLES: usize = 1000;

impl PriorConfig {
    /// Width of the residual stream (3968 in the paper).
    pub fn d_model(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// A field of a configuration that is out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {expected}, got {got}")]
pub struct ConfigError {
    /// The field at fault.
    pub field: &'static str,
    /// What was expected.
    pub expected: String,
    /// What was received.
    pub got: String,
}

/// Checks one field.
///
/// # Errors
/// It is not `ok`.
pub fn check(
    ok: bool,
    field: &'static str,
    expected: impl Into<String>,
    got: &dyn Display,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError { field, expected: expected.into(), got: got.to_string() }) }
}

/// Checks that fields are in a range. The upper bounds only prevent absurd allocations; the paper's sizes are far below them.
///
/// # Errors
/// The first that is out of its range.
pub fn check_ranges(fields: &[(&'static str, usize, usize, usize)]) -> Result<(), ConfigError> {
    fields.iter().try_for_each(|&(field, got, low, high)| {
        check((low..=high).contains(&got), field, format!("must be from {low} to {high}"), &got)
    })
}

/// Checks a line of text that is shown in terminals, logs and pages.
fn check_line(field: &'static str, line: &str, longest: usize) -> Result<(), ConfigError> {
    let length = line.chars().count();
    check(length <= longest, field, format!("must have at most {longest} characters"), &length)?;
    match line.chars().find(|c| c.is_control()) {
        Some(c) => check(false, field, "must have no control characters", &format!("U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

impl ModelConfig {
    /// The sizes that clients need.
    pub fn geometry(&self) -> Geometry {
        Geometry {
            text_length: self.text_length,
            text_vocab: self.text_vocab,
            grid: self.image_size / DOWNSAMPLING,
            image_vocab: self.dvae.vocab,
            image_size: self.image_size,
        }
    }

    /// Checks that the fields describe a model.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let [name, license, example] = LONGEST;
        check_line("name", &self.name, name)?;
        check_line("license", &self.license, license)?;
        let count = self.examples.len();
        check(count <= MOST_EXAMPLES, "examples", format!("must be at most {MOST_EXAMPLES}"), &count)?;
        self.examples.iter().try_for_each(|caption| check_line("examples", caption, example))?;
        // The first text slot is the start token, so a caption needs at least two.
        check_ranges(&[
            ("text_length", self.text_length, 2, 1 << 16),
            ("text_vocab", self.text_vocab, 1, 1 << 24),
            ("image_size", self.image_size, 8, 1 << 13),
            ("dvae.n_hid", self.dvae.n_hid, 4, 1 << 12),
            ("dvae.vocab", self.dvae.vocab, 1, 1 << 16),
            ("dvae.n_init", self.dvae.n_init, 1, 1 << 14),
            ("dvae.blocks_per_group", self.dvae.blocks_per_group, 1, 64),
            ("prior.layers", self.prior.layers, 1, 1024),
            ("prior.heads", self.prior.heads, 1, 1024),
            ("prior.head_dim", self.prior.head_dim, 1, 1024),
            ("prior.conv_kernel", self.prior.conv_kernel, 1, 255),
        ])?;
        let by_8 = self.image_size.is_multiple_of(DOWNSAMPLING);
        check(by_8, "image_size", "must be a multiple of 8", &self.image_size)?;
        check(self.dvae.n_hid.is_multiple_of(4), "dvae.n_hid", "must be a multiple of 4", &self.dvae.n_hid)?;
        check(self.prior.conv_kernel % 2 == 1, "prior.conv_kernel", "must be odd", &self.prior.conv_kernel)
    }
}
