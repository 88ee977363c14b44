//! Tokens and places to vectors: the bottom of the prior (section 2.2).
//!
//! The stream has `text_length` text slots and `grid²` image slots. Slot 0 is the start token; slots 1 and up carry the
//! caption, and each slot behind its end carries a padding embedding of its own. So a caption has at most
//! `text_length − 1` ids, every one of them is predicted, and the stream is exactly `text_length + grid²` long.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use dalle_shared::{ImageToken, TextToken};

use super::block::INIT_STD;
use crate::config::ModelConfig;

/// Embeddings of the tokens and of their places.
#[derive(Module, Debug)]
pub struct Embed {
    /// `[text_vocab, D]`.
    text: Param<Tensor<2>>,
    /// One padding embedding for each text slot, `[text_length, D]`; that of slot 0, which no caption reaches, is the
    /// start token.
    padding: Param<Tensor<2>>,
    /// `[text_length, D]`.
    text_position: Param<Tensor<2>>,
    /// `[image_vocab, D]`.
    image: Param<Tensor<2>>,
    /// `[grid, D]`.
    row: Param<Tensor<2>>,
    /// `[grid, D]`.
    column: Param<Tensor<2>>,
}

impl Embed {
    /// Where the embeddings are.
    pub fn device(&self) -> Device {
        self.image.lazy_device()
    }

    /// Random embeddings.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let d = config.prior.d_model();
        let geometry = config.geometry();
        let table = |rows: usize| Initializer::Normal { mean: 0.0, std: INIT_STD }.init([rows, d], device);
        Self {
            text: table(geometry.text_vocab),
            padding: table(geometry.text_length),
            text_position: table(geometry.text_length),
            image: table(geometry.image_vocab),
            row: table(geometry.grid),
            column: table(geometry.grid),
        }
    }

    /// Most ids of a caption, and how many different ones there are.
    pub fn text_sizes(&self) -> (usize, usize) {
        (self.padding.lazy_shape()[0] - 1, self.text.lazy_shape()[0])
    }

    /// Captions, without padding, to all text slots: `[B, text_length, D]`.
    ///
    /// # Panics
    /// If a caption has more than `text_length − 1` ids, or an id outside the vocabulary.
    pub fn text(&self, captions: &[&[TextToken]]) -> Tensor<3> {
        let (vocab, slots) = (self.text.lazy_shape()[0], self.padding.lazy_shape()[0]);
        let mut rows = Vec::with_capacity(captions.len() * slots);
        for caption in captions {
            assert!(caption.len() < slots, "{} caption ids do not fit {} slots", caption.len(), slots - 1);
            rows.extend((0..slots).map(
                |slot| match slot.checked_sub(1).and_then(|place| caption.get(place)) {
                    Some(id) => {
                        assert!(
                            (id.0 as usize) < vocab,
                            "text id {} is outside the vocabulary of {vocab}",
                            id.0
                        );
                        i64::from(id.0)
                    }
                    None => (vocab + slot) as i64,
                },
            ));
        }
        let table = Tensor::cat(vec![self.text.val(), self.padding.val()], 0);
        let rows = Tensor::from_data(TensorData::new(rows, [captions.len() * slots]), &table.device());
        let [_, d] = table.dims();
        table.select(0, rows).reshape([captions.len(), slots, d]) + self.text_position.val().unsqueeze()
    }

    /// Image tokens with the raster position of each, `tokens[b][t]` at `positions[b] + t`, to `[B, T, D]`.
    ///
    /// # Panics
    /// If the rows differ in length, or a token or position is out of range.
    pub fn image(&self, tokens: &[&[ImageToken]], positions: &[usize]) -> Tensor<3> {
        let (vocab, grid) = (self.image.lazy_shape()[0], self.row.lazy_shape()[0]);
        let (b, t) = (tokens.len(), tokens.first().map_or(0, |row| row.len()));
        let (mut ids, mut rows, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for (sample, &start) in tokens.iter().zip(positions) {
            assert!(
                sample.len() == t && start + t <= grid * grid,
                "image rows of unequal length, or too long"
            );
            for (place, token) in sample.iter().enumerate() {
                assert!(
                    usize::from(token.0) < vocab,
                    "image token {} outside the codebook of {vocab}",
                    token.0
                );
                ids.push(i64::from(token.0));
                rows.push(((start + place) / grid) as i64);
                columns.push(((start + place) % grid) as i64);
            }
        }
        let device = self.device();
        let look_up = |table: &Param<Tensor<2>>, index: Vec<i64>| {
            let index: Tensor<1, Int> = Tensor::from_data(TensorData::new(index, [b * t]), &device);
            table.val().select(0, index)
        };
        let sum = look_up(&self.image, ids) + look_up(&self.row, rows) + look_up(&self.column, columns);
        let [_, d] = sum.dims();
        sum.reshape([b, t, d])
    }
}
