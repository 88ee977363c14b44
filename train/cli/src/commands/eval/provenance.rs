//! What a result depends on: `measured_with` in its JSON file, and the footer of its report.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result};
use dalle_data::Dataset;
use dalle_model::precision::Precision;
use dalle_native::ModelFolder;
use dalle_shared::files::CLIP;
use dalle_shared::{SamplingSettings, sha256_hex};
use serde::Serialize;

/// Digits of a hash in a report; the JSON file has all of them.
const SHOWN: usize = 16;

/// Everything that a result depends on.
#[derive(Debug, Serialize)]
pub struct Provenance {
    /// Version of the command.
    dalle: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ModelHash>,
    /// SHA-256 of the datasets, in the order of the command's options.
    datasets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<SampledWith>,
    /// SHA-256 of the weights of CLIP or of the feature network.
    #[serde(skip_serializing_if = "Option::is_none", rename = "judge")]
    weights: Option<String>,
    /// Other options of the metric, as they are typed.
    options: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct ModelHash {
    name: String,
    /// The hash of the model folder, as reported by the server.
    hash: String,
}

#[derive(Debug, Serialize)]
struct SampledWith {
    seed: u64,
    #[serde(flatten)]
    settings: SamplingSettings,
    dtype: String,
}

impl Provenance {
    /// Records the datasets.
    pub fn new(datasets: &[&Dataset]) -> Self {
        Self {
            dalle: env!("CARGO_PKG_VERSION"),
            model: None,
            datasets: datasets.iter().map(|dataset| dataset.hash()).collect(),
            sampling: None,
            weights: None,
            options: BTreeMap::new(),
        }
    }

    /// Records an option.
    pub fn option(mut self, option: &'static str, value: impl Display) -> Self {
        self.options.insert(option, value.to_string());
        self
    }

    /// Records an option with a list of values.
    pub fn list<V: Display>(self, option: &'static str, values: &[V]) -> Self {
        self.option(option, values.iter().map(V::to_string).collect::<Vec<_>>().join(","))
    }

    /// Records the model.
    ///
    /// # Errors
    /// One of its files cannot be read.
    pub fn model(self, folder: &ModelFolder) -> Result<Self> {
        let model = ModelHash { name: folder.config.name.clone(), hash: folder.hash()? };
        Ok(Self { model: Some(model), ..self })
    }

    /// Records the sampling settings.
    pub fn sampling(self, settings: SamplingSettings, seed: u64, dtype: Precision) -> Self {
        Self { sampling: Some(SampledWith { seed, settings, dtype: dtype.to_string() }), ..self }
    }

    /// Records the weights of a feature network: a weights file, or CLIP in a model folder.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn weights(self, path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join(CLIP) } else { path.to_owned() };
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { weights: Some(sha256_hex(&bytes)), ..self })
    }

    /// One line for a report.
    pub fn line(&self) -> String {
        let short = |hash: &str| hash.chars().take(SHOWN).collect::<String>();
        let mut parts = vec![format!("dalle {}", self.dalle)];
        parts.extend(self.model.as_ref().map(|model| format!("model {} {}", model.name, short(&model.hash))));
        parts.extend(self.datasets.iter().map(|hash| format!("dataset {}", short(hash))));
        if let Some(SampledWith { seed, settings, dtype }) = &self.sampling {
            parts.push(format!("seed {seed}, temperature {}", settings.temperature));
            parts.extend(settings.top_k.map(|k| format!("top-k {k}")));
            parts.extend(settings.top_p.map(|p| format!("top-p {p}")));
            parts.extend(settings.is_guided().then(|| format!("guidance {}", settings.guidance)));
            parts.push(dtype.clone());
        }
        parts.extend(self.weights.as_ref().map(|hash| format!("feature weights {}", short(hash))));
        parts.extend(self.options.iter().map(|(option, value)| format!("{option} {value}")));
        parts.join("; ")
    }
}
