//! What a measure was measured with: stands in its JSON as `measured_with`, and in small print on its page.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result};
use dalle_model::precision::Precision;
use dalle_shared::files::CLIP;
use dalle_shared::{SamplingSettings, sha256_hex};
use serde::Serialize;

use dalle_data::Dataset;
use dalle_native::ModelFolder;

/// Digits of a hash that a page shows; the JSON has them all.
const SHOWN: usize = 16;

/// Everything that the figures depend on.
#[derive(Debug, Serialize)]
pub struct Provenance {
    /// Version of the command.
    dalle: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Model>,
    /// SHA-256 of the datasets, in the order in which the command takes them.
    datasets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<Sampled>,
    /// SHA-256 of the weights that judge: those of the contrastive model, or of the network behind the features.
    #[serde(skip_serializing_if = "Option::is_none")]
    judge: Option<String>,
    /// The measure's own options, by their names, with their values as they are typed.
    options: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct Model {
    name: String,
    /// The folder's identity, as the server gives it.
    hash: String,
}

#[derive(Debug, Serialize)]
struct Sampled {
    seed: u64,
    #[serde(flatten)]
    settings: SamplingSettings,
    dtype: String,
}

impl Provenance {
    /// A measure on these datasets.
    pub fn new(datasets: &[&Dataset]) -> Self {
        Self {
            dalle: env!("CARGO_PKG_VERSION"),
            model: None,
            datasets: datasets.iter().map(|dataset| dataset.hash()).collect(),
            sampling: None,
            judge: None,
            options: BTreeMap::new(),
        }
    }

    /// … with this option.
    pub fn with(mut self, option: &'static str, value: impl Display) -> Self {
        self.options.insert(option, value.to_string());
        self
    }

    /// … with an option that takes a list.
    pub fn with_list<V: Display>(self, option: &'static str, values: &[V]) -> Self {
        self.with(option, values.iter().map(V::to_string).collect::<Vec<_>>().join(","))
    }

    /// … of this model.
    ///
    /// # Errors
    /// One of its files cannot be read.
    pub fn of(self, folder: &ModelFolder) -> Result<Self> {
        let model = Model { name: folder.config.name.clone(), hash: folder.hash()? };
        Ok(Self { model: Some(model), ..self })
    }

    /// … of samples drawn so.
    pub fn sampled(self, settings: SamplingSettings, seed: u64, dtype: Precision) -> Self {
        Self { sampling: Some(Sampled { seed, settings, dtype: dtype.to_string() }), ..self }
    }

    /// … as the network sees them whose weights are in this file, or in this model folder's contrastive model.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn judged_by(self, weights: &Path) -> Result<Self> {
        let path = if weights.is_dir() { weights.join(CLIP) } else { weights.to_owned() };
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { judge: Some(sha256_hex(&bytes)), ..self })
    }

    /// The same in a line for a page.
    pub fn line(&self) -> String {
        let short = |hash: &str| hash.chars().take(SHOWN).collect::<String>();
        let mut parts = vec![format!("dalle {}", self.dalle)];
        parts.extend(self.model.as_ref().map(|model| format!("model {} {}", model.name, short(&model.hash))));
        parts.extend(self.datasets.iter().map(|hash| format!("dataset {}", short(hash))));
        if let Some(Sampled { seed, settings, dtype }) = &self.sampling {
            parts.push(format!("seed {seed}, temperature {}", settings.temperature));
            parts.extend(settings.top_k.map(|k| format!("top-k {k}")));
            parts.extend(settings.top_p.map(|p| format!("top-p {p}")));
            parts.extend(settings.is_guided().then(|| format!("guidance {}", settings.guidance)));
            parts.push(dtype.clone());
        }
        parts.extend(self.judge.as_ref().map(|hash| format!("judged by weights {}", short(hash))));
        parts.extend(self.options.iter().map(|(option, value)| format!("{option} {value}")));
        parts.join("; ")
    }
}
