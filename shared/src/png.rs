//! Metadata of generated images, kept in their PNG files.
//!
//! A PNG that the terminal, the server or the page writes states how it was generated, so that anyone who has the file and the model
//! can generate it again. [`write_metadata`] adds it to an encoded PNG, [`read_metadata`] reads it back.
//!
//! It is stored as text chunks in UTF-8 (iTXt): `Description`, the caption, and `Software`, which other programs show, and `dalle`,
//! the [`ImageMetadata`] as JSON.

use serde::{Deserialize, Serialize};

use crate::{ImageToken, SamplingSettings, Seed};

/// How an image was generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageMetadata {
    /// The caption as it was given.
    pub caption: String,
    /// The model.
    pub model: ModelIdentity,
    /// Temperature, top-k, top-p and guidance.
    #[serde(flatten)]
    pub sampling: SamplingSettings,
    /// Number of tokens at the start of each sample that were given instead of sampled (section 3.3).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prefix: usize,
    /// The samples in the image, from left to right and top to bottom.
    pub samples: Vec<SampleMetadata>,
}

/// The model that generated an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Its name.
    pub name: String,
    /// Its hash, see [`ModelManifest::hash_files`](crate::ModelManifest::hash_files).
    pub hash: String,
}

/// One sample of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleMetadata {
    /// The seed with which this sample is generated alone.
    pub seed: Seed,
    /// Its tokens in raster order.
    pub tokens: Vec<ImageToken>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Why a file's metadata cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PngError {
    /// The file is of another type.
    #[error("it is not a PNG file")]
    NotPng,
    /// The file is truncated.
    #[error("the PNG file is truncated")]
    Truncated,
    /// The metadata has been damaged.
    #[error("its metadata is damaged: {0}")]
    Damaged(String),
}

/// First bytes of every PNG file.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Keyword of the chunk with the JSON.
const KEYWORD: &str = "dalle";
/// The program, for other programs to show.
const SOFTWARE: &str = concat!("DALL·E in Rust ", env!("CARGO_PKG_VERSION"));

/// Adds `metadata` to an encoded PNG. The pixels stay as they are.
///
/// # Errors
/// `png` is not a PNG file.
pub fn write_metadata(png: &[u8], metadata: &ImageMetadata) -> Result<Vec<u8>, PngError> {
    let json = serde_json::to_string(metadata).map_err(|error| PngError::Damaged(error.to_string()))?;
    let header = chunks(png)?.next().ok_or(PngError::Truncated)??;
    let (before, after) = png.split_at(SIGNATURE.len() + header.size());
    let mut written = Vec::with_capacity(png.len() + json.len() + metadata.caption.len() + 256);
    written.extend_from_slice(before);
    for (keyword, text) in
        [("Description", metadata.caption.as_str()), ("Software", SOFTWARE), (KEYWORD, &json)]
    {
        // Keyword, end of keyword, not compressed, compression method, no language, no translated keyword, text.
        let content = [keyword.as_bytes(), &[0; 5], text.as_bytes()].concat();
        let length =
            u32::try_from(content.len()).map_err(|_| PngError::Damaged("it is too long".to_owned()))?;
        let checked = [b"iTXt", content.as_slice()].concat();
        written.extend_from_slice(&length.to_be_bytes());
        written.extend_from_slice(&checked);
        written.extend_from_slice(&crc(&checked).to_be_bytes());
    }
    written.extend_from_slice(after);
    Ok(written)
}

/// The metadata of a PNG file; None if it has none.
///
/// # Errors
/// See [`PngError`].
pub fn read_metadata(png: &[u8]) -> Result<Option<ImageMetadata>, PngError> {
    for chunk in chunks(png)? {
        let chunk = chunk?;
        if let (b"iTXt", Some(text)) = (chunk.kind(), chunk.content().strip_prefix(b"dalle\0\0\0")) {
            if !chunk.is_intact() {
                return Err(PngError::Damaged("its checksum is wrong".to_owned()));
            }
            // After the two compression bytes: the language and the translated keyword, each with a zero at its end.
            let json = text.splitn(3, |byte| *byte == 0).nth(2).unwrap_or_default();
            return serde_json::from_slice(json)
                .map(Some)
                .map_err(|error| PngError::Damaged(error.to_string()));
        }
    }
    Ok(None)
}

/// A chunk with its kind in front and its checksum at the end.
struct Chunk<'a>(&'a [u8]);

impl<'a> Chunk<'a> {
    fn kind(&self) -> &'a [u8] {
        &self.0[..4]
    }

    fn content(&self) -> &'a [u8] {
        &self.0[4..self.0.len() - 4]
    }

    /// Bytes in the file, with those of the length.
    fn size(&self) -> usize {
        4 + self.0.len()
    }

    fn is_intact(&self) -> bool {
        let (checked, sum) = self.0.split_at(self.0.len() - 4);
        crc(checked).to_be_bytes() == sum
    }
}

/// The chunks of a file up to its end.
fn chunks(png: &[u8]) -> Result<impl Iterator<Item = Result<Chunk<'_>, PngError>>, PngError> {
    let mut rest = Some(png.strip_prefix(SIGNATURE).ok_or(PngError::NotPng)?);
    Ok(std::iter::from_fn(move || {
        let bytes = rest.take()?;
        let chunk = bytes.split_first_chunk().and_then(|(length, after)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?.checked_add(8)?;
            after.split_at_checked(length)
        });
        Some(match chunk {
            Some((chunk, after)) => {
                rest = Some(after).filter(|_| !chunk.starts_with(b"IEND"));
                Ok(Chunk(chunk))
            }
            None => Err(PngError::Truncated),
        })
    }))
}

/// CRC-32 as PNG uses it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG of one grey pixel, compressed by zlib.
    const PIXEL: &[u8] =
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU\
        \x00\x00\x00\nIDATx\x9cch\x00\x00\x00\x82\x00\x81w\xcdr\xb6\x00\x00\x00\x00IEND\xaeB`\x82";

    fn metadata() -> ImageMetadata {
        ImageMetadata {
            caption: "ein grüner Apfel 🍏".to_owned(),
            model: ModelIdentity { name: "emoji-128".to_owned(), hash: "0123".to_owned() },
            sampling: SamplingSettings { top_k: Some(64), ..SamplingSettings::default() },
            prefix: 2,
            samples: vec![SampleMetadata {
                seed: Seed(u64::MAX),
                tokens: vec![ImageToken(7), ImageToken(8191)],
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_the_other_chunks_stay() {
        assert_eq!(read_metadata(PIXEL), Ok(None));
        let written = write_metadata(PIXEL, &metadata()).unwrap();
        assert_eq!(read_metadata(&written), Ok(Some(metadata())));
        let kinds: Vec<&[u8]> = chunks(&written).unwrap().map(|chunk| chunk.unwrap().kind()).collect();
        assert_eq!(kinds, [b"IHDR", b"iTXt", b"iTXt", b"iTXt", b"IDAT", b"IEND"]);
        assert!(chunks(&written).unwrap().all(|chunk| chunk.unwrap().is_intact()));
        assert!(written.ends_with(&PIXEL[33..]), "the pixels are the same bytes");
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn other_and_damaged_files_are_errors_and_never_panic() {
        assert_eq!(read_metadata(b"GIF89a"), Err(PngError::NotPng));
        let written = write_metadata(PIXEL, &metadata()).unwrap();
        let end = written.len() - PIXEL.len() + 33;
        for cut in 9..end {
            assert_eq!(read_metadata(&written[..cut]), Err(PngError::Truncated), "cut at {cut}");
        }
        let mut changed = written.clone();
        changed[end - 10] ^= 1;
        assert!(matches!(read_metadata(&changed), Err(PngError::Damaged(_))));
        for at in 0..written.len() {
            let mut changed = written.clone();
            changed[at] ^= 0x55;
            let _ = read_metadata(&changed);
        }
    }
}
