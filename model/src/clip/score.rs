//! Scores for reranking: the cosine similarity of a caption and each image, from −1 to 1.

use burn::tensor::Tensor;
use dalle_shared::{RequestError, TextToken};

use super::Clip;
use crate::dvae::DecodeError;
use crate::dvae::pixels::images_to_tensor;

/// Captions or images per forward pass of a tower; bounds memory.
const CHUNK: usize = 64;

/// Why images could not be scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// A caption or image does not fit the model.
    #[error("{0}")]
    Request(String),
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
    /// The scores are NaN or infinite.
    #[error("CLIP produced NaN or infinite scores; its weights are damaged, or it overflows")]
    NotFinite,
}

impl From<RequestError> for ScoreError {
    fn from(error: RequestError) -> Self {
        Self::Request(error.to_string())
    }
}

impl From<DecodeError> for ScoreError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Device(message) => Self::Device(message),
            other => Self::Request(other.to_string()),
        }
    }
}

impl Clip {
    /// The score of each image (RGB8, interleaved, of the model's size) for each caption (ids without padding), as
    /// `[caption][image]`.
    ///
    /// # Errors
    /// A caption or image does not fit the model, or the device fails.
    pub fn cosines(&self, captions: &[&[TextToken]], images: &[&[u8]]) -> Result<Vec<Vec<f32>>, ScoreError> {
        if captions.is_empty() || images.is_empty() {
            return Ok(vec![Vec::new(); captions.len()]);
        }
        let (side, device) = (self.image.side(), self.device());
        let bytes = 3 * side * side;
        if let Some(image) = images.iter().find(|image| image.len() != bytes) {
            let got = image.len();
            let message = format!("expected images of {side}×{side} pixels, {bytes} bytes, got {got} bytes");
            return Err(ScoreError::Request(message));
        }
        let texts: Vec<Tensor<2>> =
            captions.chunks(CHUNK).map(|chunk| self.texts(chunk)).collect::<Result<_, _>>()?;
        let images: Vec<Tensor<2>> = images
            .chunks(CHUNK)
            .map(|chunk| self.images(images_to_tensor(chunk, side, side, &device)))
            .collect();
        let images = Tensor::cat(images, 0);
        let [count, _] = images.dims();
        let cosines = Tensor::cat(texts, 0).matmul(images.transpose());
        let cosines: Vec<f32> =
            cosines.try_into_vec_as().map_err(|error| ScoreError::Device(error.to_string()))?;
        if cosines.iter().any(|cosine| !cosine.is_finite()) {
            return Err(ScoreError::NotFinite);
        }
        Ok(cosines.chunks(count).map(<[f32]>::to_vec).collect())
    }
}

/// Indices of the scores in descending order. Ties keep their order.
pub fn best_first(scores: &[f32]) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..scores.len()).collect();
    indices.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    indices
}
