//! OpenAI's released dVAE (the package dall-e 0.1, `encoder.pkl` and `decoder.pkl`) as encoder and decoder of this project.
//!
//! The two may also be in one file, as in checkpoints of DALLE-pytorch. Sizes are taken from the tensors' shapes. Names are converted (`blocks.group_2.block_1.res_path.conv_3.w` becomes
//! `groups.1.0.res_path.conv_3.w`); values are unchanged.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use dalle_model::Device;
use dalle_model::config::DvaeConfig;
use dalle_model::dvae::{Decoder, Encoder};
use dalle_model::weights::from_safetensors;
use safetensors::tensor::{Dtype, TensorView};

use super::array::Array;
use super::checkpoint;
use super::family::recognise;

/// The module classes of the released files.
const CLASSES: [&str; 10] = [
    "dall_e.encoder.Encoder",
    "dall_e.encoder.EncoderBlock",
    "dall_e.decoder.Decoder",
    "dall_e.decoder.DecoderBlock",
    "dall_e.utils.Conv2d",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.pooling.MaxPool2d",
    "torch.nn.modules.upsampling.Upsample",
];

type Arrays = BTreeMap<String, Array>;

/// The two networks of the dVAE.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Encoder,
    Decoder,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
        }
    }

    /// Prefixes of its names in files that contain both, such as DALLE-pytorch's.
    fn prefixes(self) -> [&'static str; 4] {
        match self {
            Self::Encoder => ["vae.enc.", "enc.", "vae.encoder.", "encoder."],
            Self::Decoder => ["vae.dec.", "dec.", "vae.decoder.", "decoder."],
        }
    }

    /// The part that a file contains, by the size of its first convolution: 7×7 pixels, or 1×1 tokens.
    fn of(arrays: &Arrays) -> Option<Self> {
        match arrays.get("input.w")?.shape.as_slice() {
            [_, _, 7, 7] => Some(Self::Encoder),
            [_, _, 1, 1] => Some(Self::Decoder),
            _ => None,
        }
    }
}

/// Builds encoder and decoder from the content of the two files.
///
/// # Errors
/// One of them is not a file of the released dVAE, they are swapped, or they do not belong together.
pub fn import(encoder: &[u8], decoder: &[u8], device: &Device) -> Result<(DvaeConfig, Encoder, Decoder)> {
    let encoder = read(encoder, Part::Encoder).context("the encoder")?;
    let decoder = read(decoder, Part::Decoder).context("the decoder")?;
    match (Part::of(&encoder), Part::of(&decoder)) {
        (Some(Part::Decoder), Some(Part::Encoder)) => {
            bail!("the two files are swapped: the encoder was given as decoder, and the decoder as encoder")
        }
        (Some(Part::Decoder), _) => bail!("the file given as encoder is a decoder"),
        (_, Some(Part::Encoder)) => bail!("the file given as decoder is an encoder"),
        _ => {}
    }
    let (n_hid, vocab) = (size(&encoder, "input.w", 0)?, size(&encoder, "output.w", 0)?);
    let config = DvaeConfig {
        n_hid,
        n_init: size(&decoder, "input.w", 0)?,
        blocks_per_group: blocks(&encoder),
        vocab,
    };
    let of_decoder = size(&decoder, "input.w", 1)?;
    ensure!(
        of_decoder == vocab,
        "the encoder has {vocab} codebook entries, the decoder {of_decoder}: they do not belong together"
    );
    let encoder =
        from_safetensors(Encoder::new(&config, device), &to_bytes(&encoder)?).context("the encoder")?;
    let decoder =
        from_safetensors(Decoder::new(&config, device), &to_bytes(&decoder)?).context("the decoder")?;
    Ok((config, encoder, decoder))
}

/// A file's tensors with this project's names.
fn read(bytes: &[u8], part: Part) -> Result<Arrays> {
    let mut found = checkpoint::read(bytes, &CLASSES)?;
    // A file with both parts, and perhaps with a prior.
    let prefix = part
        .prefixes()
        .into_iter()
        .find(|prefix| found.keys().any(|name| name.starts_with(&format!("{prefix}blocks."))));
    if let Some(prefix) = prefix {
        found.retain(|name, _| name.starts_with(prefix));
    }
    let mut arrays = Arrays::new();
    for (name, array) in &found {
        let Some(ours) = rename(name.strip_prefix(prefix.unwrap_or_default()).unwrap_or(name)) else {
            if let Some(what) = recognise(&found.keys().map(String::as_str).collect::<Vec<_>>()) {
                bail!(what);
            }
            bail!(
                "it contains the tensor `{name}`; expected the names of the released dVAE's {}, such as \
                 `blocks.group_1.block_1.res_path.conv_1.w`",
                part.name()
            );
        };
        arrays.insert(ours, array.clone());
    }
    Ok(arrays)
}

/// Converts `blocks.group_G.block_B.rest` to `groups.{G-1}.{B-1}.rest`, `blocks.input.…` and `blocks.output.conv.…` likewise.
fn rename(name: &str) -> Option<String> {
    let rest = name.strip_prefix("blocks.")?;
    if rest.starts_with("input.") {
        return Some(rest.to_owned());
    }
    if let Some(rest) = rest.strip_prefix("output.conv.") {
        return Some(format!("output.{rest}"));
    }
    let (group, rest) = rest.strip_prefix("group_")?.split_once('.')?;
    let (block, rest) = rest.strip_prefix("block_")?.split_once('.')?;
    let index = |number: &str| number.parse::<usize>().ok()?.checked_sub(1);
    Some(format!("groups.{}.{}.{rest}", index(group)?, index(block)?))
}

fn size(arrays: &Arrays, name: &str, dimension: usize) -> Result<usize> {
    let array = arrays
        .get(name)
        .with_context(|| format!("the tensor `{name}` is missing: this is not the released dVAE"))?;
    array
        .shape
        .get(dimension)
        .copied()
        .with_context(|| format!("`{name}` has shape {:?}, expected four dimensions", array.shape))
}

/// Number of residual blocks in the first group.
fn blocks(arrays: &Arrays) -> usize {
    (0..).take_while(|block| arrays.contains_key(&format!("groups.0.{block}.res_path.conv_1.w"))).count()
}

fn to_bytes(arrays: &Arrays) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = arrays
        .values()
        .map(|array| array.values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = arrays
        .iter()
        .zip(&bytes)
        .map(|((name, array), bytes)| Ok((name, TensorView::new(Dtype::F32, array.shape.clone(), bytes)?)));
    Ok(safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_names_become_ours() {
        assert_eq!(rename("blocks.input.w").as_deref(), Some("input.w"));
        assert_eq!(rename("blocks.output.conv.b").as_deref(), Some("output.b"));
        let ours = rename("blocks.group_4.block_2.res_path.conv_3.w");
        assert_eq!(ours.as_deref(), Some("groups.3.1.res_path.conv_3.w"));
        for other in [
            "input.w",
            "blocks.group_0.block_1.id_path.w",
            "blocks.group_x.block_1.w",
            "blocks.group_1",
            "blocks.output.relu",
        ] {
            assert_eq!(rename(other), None, "{other}");
        }
    }
}
