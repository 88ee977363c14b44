//! A model that is evaluated, and a dataset that it is evaluated on: loaded once, for one metric or for all.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use dalle_eval::catalogue::Catalogue;
use dalle_eval::feature_bank::FeatureBank;
use dalle_eval::features;
use dalle_eval::generator::Generator;
use dalle_eval::one_and_best::{self, OneAndBest, Selection};
use dalle_eval::reranking::ClipScorer;
use dalle_model::Device;
use dalle_model::precision::Precision;
use dalle_native::ModelFolder;
use dalle_shared::SamplingSettings;
use dalle_train::progress::bar;

use super::super::options::DeviceArgs;
use super::super::sample::MAX_BEST_OF;
use super::caption_args::SeededSampling;
use super::output::{Measured, OutputArgs};
use super::provenance::Provenance;

/// Options of the metrics of samples that need a dataset and a feature network.
#[derive(clap::Args)]
pub struct SessionArgs {
    /// Model folder.
    #[arg(long)]
    pub model: PathBuf,
    /// The dataset that the model was trained on.
    #[arg(long)]
    pub data: PathBuf,
    /// Feature network: weights of EfficientNet-Lite0, or of Inception v3 with torchvision's names.
    #[arg(long)]
    pub features: PathBuf,
    #[command(flatten)]
    pub sampling: SeededSampling,
    #[command(flatten)]
    pub outputs: OutputArgs,
    #[command(flatten)]
    pub on: DeviceArgs,
}

/// How many samples the best is selected from, as an option.
#[derive(clap::Args)]
pub struct BestOfArgs {
    /// Samples per caption; the best by CLIP score is shown, if the model has CLIP, and otherwise the only one.
    #[arg(long, default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BEST_OF))]
    pub best_of: usize,
}

/// A loaded model.
pub struct Session {
    /// The model folder.
    pub folder: ModelFolder,
    /// The networks that sample.
    pub generator: Generator,
    /// CLIP, if the model has one.
    pub scorer: Option<ClipScorer>,
    /// Sampling settings.
    pub settings: SamplingSettings,
    /// Seed of the first sample of each caption.
    pub seed: u64,
    /// The type that the prior computes with.
    pub dtype: Precision,
    /// The device of feature networks and classifiers.
    pub device: Device,
}

impl Session {
    /// Loads a model.
    ///
    /// # Errors
    /// The folder lacks a file or is damaged, an option is out of range, or the device has too little memory.
    pub fn open(model: &Path, sampling: &SeededSampling, on: DeviceArgs) -> Result<Self> {
        let folder = ModelFolder::open(model)?;
        let settings = sampling.settings(&folder)?;
        let scorer = if folder.has_clip()? { Some(ClipScorer::load(&folder, on.device)?) } else { None };
        let generator = Generator::load(&folder, on.device, on.dtype)?;
        let (seed, dtype, device) = (sampling.seed, on.dtype, on.device.open()?);
        Ok(Self { folder, generator, scorer, settings, seed, dtype, device })
    }

    /// The model's image size.
    pub fn image_size(&self) -> usize {
        self.generator.config.image_size
    }

    /// Samples captions.
    ///
    /// # Errors
    /// A caption or setting is out of range, or the device fails.
    pub fn sample(&mut self, captions: &[String], best_of: usize) -> Result<Vec<OneAndBest>> {
        let Self { scorer, settings, seed, .. } = self;
        let selection = Selection { scorer: scorer.as_ref(), best_of, settings: *settings, seed: *seed };
        let progress = bar((captions.len() * selection.samples()) as u64, "sampling images");
        let samples = one_and_best::sample(&mut self.generator, captions, selection, |done| {
            progress.set_position(done as u64);
        })?;
        progress.finish_and_clear();
        Ok(samples)
    }

    /// The number of samples per caption that [`Session::sample`] selects from.
    pub fn best_of(&self, best_of: usize) -> usize {
        if self.scorer.is_some() { best_of } else { 1 }
    }
}

/// Runs one metric: checks the outputs, loads dataset, model and feature network, measures, writes and prints. `options` adds the
/// metric's own options to the provenance.
///
/// # Errors
/// An option, the dataset or the model does not fit, the device fails, or a file cannot be written.
pub fn run(
    args: &SessionArgs,
    options: impl FnOnce(Provenance) -> Provenance,
    measure: impl FnOnce(&Catalogue, &mut Session, &mut FeatureBank) -> Result<Measured>,
) -> Result<()> {
    args.outputs.check(&[])?;
    let catalogue = Catalogue::open(&args.data)?;
    let mut session = Session::open(&args.model, &args.sampling, args.on)?;
    let mut bank = FeatureBank::new(features::open(&args.features, &session.device)?, session.image_size());
    let provenance = Provenance::new(&[&catalogue.dataset])
        .model(&session.folder)?
        .sampling(session.settings, session.seed, args.on.dtype)
        .weights(&args.features)?;
    let measured = measure(&catalogue, &mut session, &mut bank)?;
    finish(&args.outputs, measured, &options(provenance))
}

/// Writes and prints a measured metric.
///
/// # Errors
/// A file cannot be written.
pub fn finish(outputs: &OutputArgs, measured: Measured, provenance: &Provenance) -> Result<()> {
    use std::io::Write;

    let summary = measured.summary.join("\n");
    let written = outputs.write_measured(measured, provenance)?;
    writeln!(std::io::stdout(), "{summary}\nsee {written}")?;
    Ok(())
}
