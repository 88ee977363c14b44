//! Scores for choosing: the cosine between a caption and each picture, from −1 to 1.

use burn::tensor::Tensor;
use dalle_shared::TextToken;

use super::Clip;
use crate::dvae::pixels::images_to_tensor;

/// Captions or pictures that go through a tower at once; a bound on memory.
const CHUNK: usize = 64;

/// Captions and pictures that do not fit the model, or a model that gives no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// Something out of range.
    #[error("{0}")]
    Request(String),
    /// The device could not run or be read.
    #[error("the device failed: {0}")]
    Device(String),
    /// NaN: damaged weights, or overflow in 16 bits.
    #[error("the contrastive model gave scores that are no numbers; its weights are damaged or overflow")]
    NotFinite,
}

impl Clip {
    /// The score of each picture (RGB8, interleaved rows, of the model's size) for each caption (ids without padding):
    /// `[caption][picture]`.
    ///
    /// # Errors
    /// A caption or picture does not fit the model, or the device fails.
    pub fn cosines(
        &self,
        captions: &[&[TextToken]],
        pictures: &[&[u8]],
    ) -> Result<Vec<Vec<f32>>, ScoreError> {
        if captions.is_empty() || pictures.is_empty() {
            return Ok(vec![Vec::new(); captions.len()]);
        }
        self.check(captions, pictures)?;
        let (side, device) = (self.image.side(), self.device());
        let texts: Vec<Tensor<2>> = captions.chunks(CHUNK).map(|chunk| self.texts(chunk)).collect();
        let images: Vec<Tensor<2>> = pictures
            .chunks(CHUNK)
            .map(|chunk| self.images(images_to_tensor(chunk, side, side, &device)))
            .collect();
        let cosines = Tensor::cat(texts, 0).matmul(Tensor::cat(images, 0).transpose());
        let cosines: Vec<f32> =
            cosines.try_into_vec_as().map_err(|error| ScoreError::Device(error.to_string()))?;
        if cosines.iter().any(|cosine| !cosine.is_finite()) {
            return Err(ScoreError::NotFinite);
        }
        Ok(cosines.chunks(pictures.len()).map(<[f32]>::to_vec).collect())
    }

    fn check(&self, captions: &[&[TextToken]], pictures: &[&[u8]]) -> Result<(), ScoreError> {
        let (vocab, longest, side) = (self.text.vocab(), self.text.longest(), self.image.side());
        let refuse = |message| Err(ScoreError::Request(message));
        if let Some(caption) = captions.iter().find(|caption| caption.len() > longest) {
            return refuse(format!("expected at most {longest} text ids, got {}", caption.len()));
        }
        if let Some(id) = captions.iter().copied().flatten().find(|id| id.0 as usize >= vocab) {
            return refuse(format!("text id {} is not below the vocabulary's {vocab}", id.0));
        }
        if let Some(picture) = pictures.iter().find(|picture| picture.len() != 3 * side * side) {
            return refuse(format!(
                "expected pictures of {side}×{side} pixels, {} bytes, got {} bytes",
                3 * side * side,
                picture.len()
            ));
        }
        Ok(())
    }
}

/// The places of some scores, the best first; of equals the one that comes first.
pub fn best_first(scores: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    places
}
