//! Writes logged values into the run folder for other programs: `metrics.jsonl`, one line of JSON per log, and TensorBoard event
//! files.
//!
//! This program never reads them. At every start both are rewritten from the history in the checkpoint, so that they contain what an
//! undisturbed run logs.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use dalle_native::publish::write_file;
use serde::Serialize;

use crate::event_file::EventFile;
use crate::run_state::History;

/// Name of the file of logged values.
const METRICS: &str = "metrics.jsonl";

/// The two open files.
#[derive(Debug)]
pub(crate) struct MetricLog {
    lines: File,
    events: EventFile,
}

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    step: u64,
    #[serde(flatten)]
    values: &'a BTreeMap<String, f64>,
}

impl Line<'_> {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl MetricLog {
    /// Opens the files in the folder `run` and writes what was logged until update `step`.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn open(run: &Path, history: &History, step: u64) -> Result<Self> {
        let mut logs: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
        for (name, values) in history {
            for &(step, value) in values {
                logs.entry(step).or_default().insert(name.clone(), value);
            }
        }
        let lines = logs.iter().map(|(&step, values)| Line { step, values }.to_bytes());
        let path = run.join(METRICS);
        write_file(&path, &lines.collect::<Result<Vec<_>>>()?.concat())?;
        let lines = OpenOptions::new().append(true).open(&path);
        let lines = lines.with_context(|| format!("cannot write {}", path.display()))?;
        let events = EventFile::begin(run, step)
            .with_context(|| format!("cannot write an event file for TensorBoard in {}", run.display()))?;
        Ok(Self { lines, events })
    }

    /// Writes values logged after update `step`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write(&mut self, step: u64, values: &BTreeMap<String, f64>) -> Result<()> {
        self.lines.write_all(&Line { step, values }.to_bytes()?)?;
        self.events.write(step, values.iter().map(|(name, &value)| (name.as_str(), value)))?;
        Ok(())
    }
}
