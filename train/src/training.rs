//! The loop that all stages share: resume, update, log, draw the curve, save, stop when asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::Tensor;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use dalle_data::say;

use crate::checkpoint::{History, RunFolder, RunState};
use crate::optimizer::{AdamW, AdamWConfig};

/// Updates in a row whose gradients may be infinite or not a number: more are no accident.
const MAX_SKIPPED: u64 = 20;

/// What a shell reports of a program that Ctrl-C ended: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 128 + 2;

/// Values worth logging, by name, all of shape `[1]`.
pub type Values = Vec<(&'static str, Tensor<1>)>;

/// What is wrong with a run that goes on nevertheless.
#[derive(Clone, Debug)]
pub struct Warning {
    /// Each kind is said once.
    pub kind: &'static str,
    /// What was expected, what came, what to do.
    pub text: String,
}

/// What is trained, as the loop sees it: the dVAE, the prior, or the contrastive model.
pub trait Stage {
    /// What is trained.
    type Network: Module;

    /// The loss of update `step` (to be descended), and values worth logging, of which means are shown. A function of the
    /// network, the stage's data and `step` alone, so that a resumed run continues as if it had not stopped.
    fn loss(&mut self, network: &Self::Network, step: u64) -> Result<(Tensor<1>, Values)>;

    /// Further values, too dear for every update: asked for after the last one before each log.
    fn inspect(&mut self, _network: &Self::Network, _step: u64) -> Result<Values> {
        Ok(Vec::new())
    }

    /// What everything logged so far says is wrong.
    fn warnings(&self, _history: &History) -> Vec<Warning> {
        Vec::new()
    }

    /// Step size of update `step`.
    fn step_size(&self, step: u64) -> f64;

    /// The network behind an update, with the parameters that have bounds within them.
    fn within_bounds(&self, network: Self::Network) -> Self::Network {
        network
    }
}

/// How long, how often, where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Heading of the curve.
    pub title: String,
    /// Updates in all.
    pub steps: u64,
    /// Updates between two logged values, which are means over them.
    pub log_every: u64,
    /// Seconds between two checkpoints.
    pub save_seconds: u64,
    /// The run's folder.
    pub run: PathBuf,
    /// Recorded in the checkpoints; a run resumes only with the same.
    pub settings: serde_json::Value,
    /// The optimizer's.
    pub optimizer: AdamWConfig,
    /// Plots the history into a PNG file under a title. A parameter, so that this crate needs no plotting library.
    pub draw_curve: fn(&str, &History, &Path) -> Result<()>,
}

/// Trains `fresh`, or what the run folder has of it, to the end of the plan.
///
/// Returns the network with averaged weights, and the run's state.
///
/// # Errors
/// The run folder cannot be read or written, or was made with other settings; or the run was interrupted (and saved).
pub fn train<S: Stage>(stage: &mut S, fresh: S::Network, plan: &Plan) -> Result<(S::Network, RunState)> {
    // Before the folder is there: whoever sees it may press Ctrl-C.
    let interrupted = interruption()?;
    let folder = RunFolder::open(&plan.run)?;
    let mut network = fresh;
    let mut optimizer = AdamW::new(plan.optimizer);
    let mut state = RunState {
        settings: plan.settings.clone(),
        step: 0,
        updates: 0,
        seconds: 0.0,
        history: History::new(),
        warnings: BTreeMap::new(),
    };
    if let Some(resumed) = folder.resume(&plan.settings, plan.optimizer, network.clone())? {
        (state, network, optimizer) = resumed;
        say(format_args!("resuming {} at update {} of {}", plan.run.display(), state.step, plan.steps));
    }
    let bar = progress_bar(plan.steps, state.step);
    let mut saved = Instant::now();
    let mut means = Means::default();
    let mut skipped = 0;
    while state.step < plan.steps {
        let begun = Instant::now();
        let (loss, values) = stage.loss(&network, state.step)?;
        let gradients = loss.backward();
        let norm;
        (network, norm) = optimizer.step(network, &gradients, stage.step_size(state.step));
        network = stage.within_bounds(network);
        skipped = if norm.is_finite() { 0 } else { skipped + 1 };
        ensure!(
            skipped < MAX_SKIPPED && (skipped == 0 || state.step + 1 < plan.steps),
            "diverged: the gradients of the last {skipped} updates, to {}, were not finite; start a new --run with a smaller \
             --step-size (the last checkpoint is kept)",
            state.step + 1
        );
        means.add("gradient norm", norm);
        for (name, value) in values {
            means.add(name, f64::from(value.into_scalar::<f32>()));
        }
        let logged = (state.step + 1).is_multiple_of(plan.log_every) || state.step + 1 == plan.steps;
        if logged {
            for (name, value) in stage.inspect(&network, state.step)? {
                means.add(name, f64::from(value.into_scalar::<f32>()));
            }
        }
        state.step += 1;
        state.updates = optimizer.updates();
        state.seconds += begun.elapsed().as_secs_f64();
        if logged {
            bar.set_message(means.flush(state.step, &mut state.history));
            warn(&stage.warnings(&state.history), &mut state, &bar);
        }
        bar.set_position(state.step);
        let stop = interrupted.load(Ordering::Relaxed);
        if stop || state.step == plan.steps || saved.elapsed() > Duration::from_secs(plan.save_seconds) {
            folder.save(&state, &network, &optimizer)?;
            (plan.draw_curve)(&heading(plan, &state), &state.history, &folder.path().join("curve.png"))?;
            saved = Instant::now();
        }
        if stop && state.step < plan.steps {
            bar.abandon();
            bail!(
                "interrupted after update {} of {} and saved; the same command continues",
                state.step,
                plan.steps
            );
        }
    }
    bar.finish();
    Ok((optimizer.averaged(network), state))
}

/// Says what was not said before, and keeps it with the run.
fn warn(warnings: &[Warning], state: &mut RunState, bar: &ProgressBar) {
    for Warning { kind, text } in warnings {
        if !state.warnings.contains_key(*kind) {
            let text = format!("after update {}, {text}", state.step);
            bar.suspend(|| say(format_args!("WARNING: {text}")));
            state.warnings.insert((*kind).to_owned(), text);
        }
    }
}

/// The curve's heading: the plan's title and what was warned of.
fn heading(plan: &Plan, state: &RunState) -> String {
    let kinds = state.warnings.keys().map(String::as_str);
    std::iter::once(plan.title.as_str()).chain(kinds).collect::<Vec<_>>().join("; ")
}

/// A flag that Ctrl-C raises; a second Ctrl-C ends the program at once.
fn interruption() -> Result<Arc<AtomicBool>> {
    let raised = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&raised);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            // Without the system's tidying up: it would take LibTorch away from under the update in work.
            signal_hook::low_level::exit(INTERRUPTED);
        }
        say(format_args!("\nsaving after the update in work; press Ctrl-C again to stop without"));
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(raised)
}

/// A bar over `length` things.
pub fn bar(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} left {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The bar of a run of `steps` updates that stands at `step`.
fn progress_bar(steps: u64, step: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_position(step);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} left {eta} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.reset_eta();
    bar
}

/// Running means of named values.
#[derive(Default)]
struct Means(BTreeMap<&'static str, (f64, u64)>);

impl Means {
    fn add(&mut self, name: &'static str, value: f64) {
        let (sum, count) = self.0.entry(name).or_default();
        *sum += value;
        *count += 1;
    }

    /// Moves the means into `history` and shows them in a line.
    fn flush(&mut self, step: u64, history: &mut History) -> String {
        let mut line = Vec::new();
        for (name, (sum, count)) in std::mem::take(&mut self.0) {
            let mean = sum / count as f64;
            line.push(format!("{name} {mean:.4}"));
            history.entry(name.to_owned()).or_default().push((step, mean));
        }
        let line = line.join("  ");
        eprint_if_not_terminal(step, &line);
        line
    }
}

/// Progress bars hide where nobody watches; a log still wants its lines.
fn eprint_if_not_terminal(step: u64, line: &str) {
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        say(format_args!("update {step}  {line}"));
    }
}

/// Which example comes when: every epoch a new permutation, a function of the seed alone.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    count: usize,
    epoch: Option<u64>,
    permutation: Vec<usize>,
}

impl Order {
    /// An order over `count` examples.
    pub fn new(seed: u64, count: usize) -> Self {
        Self { seed, count, epoch: None, permutation: Vec::new() }
    }

    /// The examples of update `step` in batches of `batch`.
    pub fn batch(&mut self, step: u64, batch: usize) -> Vec<usize> {
        let first = step * batch as u64;
        (first..first + batch as u64).map(|place| self.at(place)).collect()
    }

    fn at(&mut self, place: u64) -> usize {
        let epoch = place / self.count as u64;
        if self.epoch != Some(epoch) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(epoch);
            self.permutation = (0..self.count).collect();
            self.permutation.shuffle(&mut rng);
            self.epoch = Some(epoch);
        }
        self.permutation[(place % self.count as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_everything_once_and_starts_anywhere_alike() {
        let mut order = Order::new(1, 10);
        let mut first: Vec<usize> = (0..5).flat_map(|step| order.batch(step, 2)).collect();
        assert_eq!(Order::new(1, 10).batch(3, 2), first[6..8]);
        let second: Vec<usize> = (5..10).flat_map(|step| order.batch(step, 2)).collect();
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }
}
