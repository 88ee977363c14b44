//! The input of the prior's first layer: embeddings of tokens and of their positions (section 2.2).
//!
//! The stream has `text_length` text slots and `grid²` image slots. Slot 0 is the start token, the caption starts at slot 1, and
//! every text slot after the caption has its own padding embedding. A caption therefore has at most `text_length − 1` ids, each of
//! which is predicted.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use dalle_shared::{Geometry, ImageToken, RequestError, TextToken, check_prefix, check_text};

use crate::config::{DOWNSAMPLING, ModelConfig};
use crate::transformer::INIT_STD;

/// The embeddings.
#[derive(Module, Debug)]
pub struct Embed {
    /// `[text_vocab, D]`.
    text: Param<Tensor<2>>,
    /// Padding embeddings of the text slots, `[text_length, D]`. Slot 0 is never padded; its row is the start token.
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
    /// The device of the weights.
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

    /// The sizes of the stream.
    pub fn geometry(&self) -> Geometry {
        let rows = |table: &Param<Tensor<2>>| table.lazy_shape()[0];
        let grid = rows(&self.row);
        Geometry {
            text_length: rows(&self.padding),
            text_vocab: rows(&self.text),
            grid,
            image_vocab: rows(&self.image),
            image_size: DOWNSAMPLING * grid,
        }
    }

    /// Embeds captions (ids without padding) into all text slots: `[B, text_length, D]`.
    ///
    /// # Errors
    /// A caption has more than `text_length − 1` ids, or an id that is not in the vocabulary.
    pub fn text(&self, captions: &[&[TextToken]]) -> Result<Tensor<3>, RequestError> {
        let geometry = self.geometry();
        let (vocab, slots) = (geometry.text_vocab, geometry.text_length);
        let mut rows = Vec::with_capacity(captions.len() * slots);
        for caption in captions {
            check_text(caption, &geometry)?;
            let padding = (caption.len() + 1..slots).map(|slot| vocab + slot);
            rows.push(vocab);
            rows.extend(caption.iter().map(|id| id.0 as usize).chain(padding));
        }
        let table = Tensor::cat(vec![self.text.val(), self.padding.val()], 0);
        let [_, d] = table.dims();
        let embedded = table.clone().select(0, indices(rows, &table.device()));
        Ok(embedded.reshape([captions.len(), slots, d]) + self.text_position.val().unsqueeze())
    }

    /// Embeds image tokens, `tokens[b][t]` at raster position `positions[b] + t`: `[B, T, D]`.
    ///
    /// # Errors
    /// A token is not in the codebook, or an image has more than `grid²`.
    ///
    /// # Panics
    /// If the rows differ in length, or one exceeds the grid.
    pub fn image(&self, tokens: &[&[ImageToken]], positions: &[usize]) -> Result<Tensor<3>, RequestError> {
        let geometry = self.geometry();
        let grid = geometry.grid;
        let (b, t) = (tokens.len(), tokens.first().map_or(0, |row| row.len()));
        let (mut ids, mut rows, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for (sample, &start) in tokens.iter().zip(positions) {
            check_prefix(sample, &geometry)?;
            assert!(sample.len() == t, "rows of image tokens differ in length");
            assert!(start + t <= geometry.image_length(), "more image tokens than the grid has cells");
            ids.extend(sample.iter().map(|token| usize::from(token.0)));
            rows.extend((start..start + t).map(|position| position / grid));
            columns.extend((start..start + t).map(|position| position % grid));
        }
        let device = self.device();
        let look_up = |table: &Param<Tensor<2>>, rows| table.val().select(0, indices(rows, &device));
        let sum = look_up(&self.image, ids) + look_up(&self.row, rows) + look_up(&self.column, columns);
        let [_, d] = sum.dims();
        Ok(sum.reshape([b, t, d]))
    }
}

/// Row indices as a tensor.
fn indices(rows: Vec<usize>, device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
    let length = rows.len();
    Tensor::from_data(TensorData::new(rows, [length]), device)
}
