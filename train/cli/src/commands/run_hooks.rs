//! The images that training writes: the loss curve, and contact sheets of the network's output.

use std::path::Path;

use anyhow::{Context, Result};
use dalle_eval::sheet::{Cell, contact_sheet};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::{Dvae, ImageDecoder, ImageEncoder};
use dalle_model::prior::Prior;
use dalle_model::sample::{self, JobKey, SampleRequest};
use dalle_shared::{ImageToken, SamplingSettings, Tokenizer};
use dalle_train::run_state::History;
use dalle_train::tokens::{decode_image, encode_images};
use dalle_train::training::Hooks;
use image::RgbImage;

use crate::curve;
use crate::png::write_png;

/// Maximum number of cells of a sheet.
pub const CELLS: usize = 16;
/// Cells per row.
const COLUMNS: usize = 4;

/// Renders a sheet of a network's output.
type Sheet<N> = Box<dyn FnMut(&N) -> Result<RgbImage>>;

/// The hooks of all training commands.
pub struct RunHooks<N> {
    sheet: Option<Sheet<N>>,
}

impl<N> Hooks<N> for RunHooks<N> {
    fn plot(&mut self, title: &str, history: &History, run: &Path) -> Result<()> {
        curve::draw(title, history, &run.join("curve.png"))
    }

    fn sheet(&mut self, network: &N, step: u64, run: &Path) -> Result<()> {
        let Some(sheet) = &mut self.sheet else { return Ok(()) };
        write_png(&run.join("sheets").join(format!("step-{step:09}.png")), &sheet(network)?)
    }
}

impl<N> RunHooks<N> {
    /// Hooks for a network without visible output.
    pub fn without_sheets() -> Self {
        Self { sheet: None }
    }
}

impl RunHooks<Dvae> {
    /// Sheets of images of the model's size, each beside its reconstruction from tokens.
    pub fn reconstructions(images: &[RgbImage], config: &ModelConfig) -> Self {
        let (images, grid) = (images.to_vec(), config.geometry().grid);
        let sheet = move |dvae: &Dvae| {
            let encoder = ImageEncoder::new(dvae.encoder.clone());
            let decoder = ImageDecoder::new(dvae.decoder.clone());
            let tokens = encode_images(&encoder, &images)?;
            let decoded = tokens.iter().map(|tokens| decode_image(&decoder, tokens, grid));
            let decoded: Vec<RgbImage> = decoded.collect::<Result<_>>()?;
            let cells = images.iter().zip(&decoded);
            let cells: Vec<Cell> =
                cells.map(|(image, own)| Cell { images: vec![image, own], caption: "" }).collect();
            Ok(contact_sheet(&cells, COLUMNS))
        };
        Self { sheet: Some(Box::new(sheet)) }
    }
}

impl RunHooks<Prior> {
    /// Sheets with a sample of each caption, always with the same seeds.
    pub fn samples(
        captions: Vec<String>,
        tokenizer: Tokenizer,
        decoder: ImageDecoder,
        config: ModelConfig,
    ) -> Self {
        let sheet = move |prior: &Prior| {
            let mut batch = sample::batch(prior.clone(), &config);
            for (caption, key) in captions.iter().zip(0..) {
                let text = tokenizer.encode(caption, config.text_length - 1)?.ids;
                let sampling = SamplingSettings::default();
                let request = SampleRequest { text, samples: 1, seed: key, sampling, prefix: Vec::new() };
                batch.admit(JobKey(key), request)?;
            }
            let mut grids: Vec<Vec<ImageToken>> = vec![Vec::new(); captions.len()];
            while !batch.is_empty() {
                for output in batch.step()? {
                    grids[output.job.0 as usize].extend(output.tokens?);
                }
            }
            let grid = config.geometry().grid;
            let images = grids.iter().map(|tokens| decode_image(&decoder, tokens, grid));
            let images: Vec<RgbImage> = images.collect::<Result<_>>().context("decoding a sample")?;
            let cells = images.iter().zip(&captions);
            let cells: Vec<Cell> =
                cells.map(|(image, caption)| Cell { images: vec![image], caption }).collect();
            Ok(contact_sheet(&cells, COLUMNS))
        };
        Self { sheet: Some(Box::new(sheet)) }
    }
}
