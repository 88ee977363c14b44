//! The training loop of all stages: resumes, updates, logs, validates, saves, and stops on request.
//!
//! ```text
//! let (network, state) = train(&mut stage, fresh, &config, &mut hooks, &Interrupt::listen()?)?;
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, bail, ensure};
use dalle_data::log_line;
use dalle_model::burn::module::{Module, ModuleVisitor, Param};
use dalle_model::burn::tensor::Tensor;
use dalle_model::weights::WeightsError;
use indicatif::ProgressBar;

use crate::checkpoint::{Files, RunFolder};
use crate::interrupt::Interrupt;
use crate::metric_log::MetricLog;
use crate::metrics::PendingMetrics;
use crate::optimizer::{AdamW, AdamWConfig};
use crate::progress::run_bar;
use crate::run_state::{Best, Cause, Halving, History, RunState};
use crate::stage::{Stage, Validation, Warning};

/// A run has diverged after this many updates in a row whose gradients are not finite. Fewer may be due to single examples.
const MAX_SKIPPED: u64 = 20;

/// The output of [`MetricLog`] in messages.
const METRICS_FILES: &str = "its metrics files";

/// Configuration of a run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Heading of the curve.
    pub title: String,
    /// Total number of updates.
    pub steps: u64,
    /// Updates between two logs. Logged values are averages over them.
    pub log_every: u64,
    /// Updates between two validations; None for no validation. The best checkpoint is kept.
    pub validate_every: Option<u64>,
    /// Validations without improvement after which the learning rate is halved; None to never halve it.
    pub plateau_patience: Option<u64>,
    /// Updates between two contact sheets of the network's output; None for no sheets.
    pub sheet_every: Option<u64>,
    /// Seconds between two checkpoints.
    pub save_seconds: u64,
    /// Total number of manual halvings of the learning rate, over all starts of the run; None to leave it unchanged.
    pub halvings: Option<usize>,
    /// The run's folder.
    pub run: PathBuf,
    /// The settings that determine the result of an update. A run resumes only with the same ones; the other fields may differ.
    pub identity: serde_json::Value,
    /// Configurations and tokenizer of the network, which `dalle export` needs besides a checkpoint.
    pub files: Files,
    /// Hyper-parameters of the optimizer.
    pub optimizer: AdamWConfig,
}

/// Callbacks for output that needs libraries this crate does not have. An error is shown once and does not end the run.
pub trait Hooks<N> {
    /// Plots the history of the run into the folder `run`. Called after each checkpoint.
    ///
    /// # Errors
    /// The plot cannot be written.
    fn plot(&mut self, title: &str, history: &History, run: &Path) -> Result<()>;

    /// Writes a contact sheet of the network's output after update `step` into the folder `run`. The network has averaged weights and
    /// no autodiff.
    ///
    /// # Errors
    /// There is no output, or it cannot be written.
    fn sheet(&mut self, network: &N, step: u64, run: &Path) -> Result<()>;
}

/// Trains `fresh`, or continues from the run folder's newest checkpoint, until the end of the run.
///
/// Returns the network with averaged weights, and the state of the run.
///
/// # Errors
/// The run folder cannot be read or written, or belongs to another run; the run diverged; or it was interrupted and saved.
pub fn train<S: Stage>(
    stage: &mut S,
    fresh: S::Network,
    config: &RunConfig,
    hooks: &mut dyn Hooks<S::Network>,
    interrupt: &Interrupt,
) -> Result<(S::Network, RunState)> {
    let (mut run, mut network) = Run::open(fresh, config)?;
    while run.state.step < config.steps {
        network = run.update(stage, network)?;
        let (step, stop) = (run.state.step, interrupt.is_raised());
        let last = step == config.steps;
        let mut values = BTreeMap::new();
        if last || step.is_multiple_of(config.log_every) {
            values.extend(run.averages(stage, &network)?);
        }
        let best_before = run.state.best;
        if config.validate_every.is_some_and(|every| last || step.is_multiple_of(every)) {
            values.extend(run.validate(stage, &network)?);
        }
        if !values.is_empty() {
            run.record(values, stage);
        }
        if config.sheet_every.is_some_and(|every| last || step.is_multiple_of(every)) {
            let written = hooks.sheet(&run.averaged(&network), step, run.folder.path());
            run.report_failure("contact sheets", written);
        }
        let best = run.state.best != best_before;
        if stop || last || best || run.saved.elapsed() > Duration::from_secs(config.save_seconds) {
            run.save(&network, hooks)?;
        }
        if stop && !last {
            run.bar.abandon();
            bail!(
                "interrupted after update {} of {} and saved; the same command continues",
                run.state.step,
                config.steps
            );
        }
    }
    run.finish(network)
}

/// A run between two updates, without its network.
struct Run<'a> {
    config: &'a RunConfig,
    folder: RunFolder,
    optimizer: AdamW,
    state: RunState,
    /// Metrics since the last log that are still on the device.
    pending: PendingMetrics,
    bar: ProgressBar,
    /// Time of the last checkpoint.
    saved: Instant,
    /// Number of updates after which it was saved.
    saved_step: Option<u64>,
    /// None if the files could not be opened.
    metric_log: Option<MetricLog>,
    /// Failed output that has been reported.
    reported: BTreeSet<&'static str>,
}

impl<'a> Run<'a> {
    /// Resumes the run in the folder of `config`, or starts a new one. Also returns its network.
    fn open<M: Module>(fresh: M, config: &'a RunConfig) -> Result<(Self, M)> {
        let folder = RunFolder::open(&config.run)?;
        let mut network = fresh;
        let mut optimizer = AdamW::new(config.optimizer);
        let mut state = RunState::new(config.identity.clone(), config.steps);
        let mut saved_step = None;
        if let Some(resumed) = folder.resume(&config.identity, config.optimizer, network.clone())? {
            (state, network, optimizer) = resumed;
            saved_step = Some(state.step);
            ensure!(
                state.step <= config.steps,
                "--steps: {} stands at update {}; expected at least that, got {}",
                config.run.display(),
                state.step,
                config.steps
            );
            log_line(format_args!(
                "resuming {} at update {} of {}",
                config.run.display(),
                state.step,
                config.steps
            ));
        } else {
            network.visit(&mut Initialise);
        }
        folder.keep(&config.files)?;
        if let Some(halvings) = config.halvings {
            halve_by_hand(&mut state, halvings)?;
        }
        let mut run = Self {
            config,
            metric_log: None,
            folder,
            optimizer,
            pending: PendingMetrics::default(),
            bar: run_bar(config.steps, state.step),
            state,
            saved: Instant::now(),
            saved_step,
            reported: BTreeSet::new(),
        };
        match MetricLog::open(run.folder.path(), &run.state.history, run.state.step) {
            Ok(log) => run.metric_log = Some(log),
            Err(error) => run.report_failure(METRICS_FILES, Err(error)),
        }
        Ok((run, network))
    }

    /// Computes and applies one update.
    fn update<S: Stage>(&mut self, stage: &mut S, network: S::Network) -> Result<S::Network> {
        let (start, step) = (Instant::now(), self.state.step);
        let (gradients, metrics) = stage.gradients(&network, step)?;
        let learning_rate = stage.learning_rate(step) * self.state.learning_rate_factor();
        let (network, norm) = self.optimizer.step(network, gradients, learning_rate);
        let network = stage.after_update(network);
        self.state.step += 1;
        if norm.is_finite() {
            self.state.skipped_in_a_row = 0;
            self.state.averages.add("gradient norm", norm);
            self.pending.add(metrics, &mut self.state.averages);
        } else {
            self.state.skipped += 1;
            self.state.skipped_in_a_row += 1;
            ensure!(
                self.state.skipped_in_a_row < MAX_SKIPPED,
                "diverged: the gradients of the last {MAX_SKIPPED} updates, to {}, were not finite; start a new --run with a \
                 smaller --learning-rate{}",
                self.state.step,
                self.other_remedy()
            );
        }
        self.state.updates = self.optimizer.updates();
        self.state.seconds += start.elapsed().as_secs_f64();
        self.bar.set_position(self.state.step);
        Ok(network)
    }

    /// A second remedy for a run that has diverged, if it has a checkpoint.
    fn other_remedy(&self) -> String {
        let more = self.state.halvings.iter().filter(|halving| halving.cause == Cause::ByHand).count() + 1;
        self.saved_step.map_or_else(String::new, |step| {
            format!(
                ", or continue from the checkpoint after update {step} with half the rate: --halvings {more}"
            )
        })
    }

    /// The averages of metrics since the last log.
    fn averages<S: Stage>(&mut self, stage: &mut S, network: &S::Network) -> Result<BTreeMap<String, f64>> {
        let start = Instant::now();
        let extra = stage.extra_metrics(network, self.state.step - 1)?;
        self.pending.add(extra, &mut self.state.averages);
        self.pending.read(&mut self.state.averages);
        let skipped = std::mem::take(&mut self.state.skipped);
        if skipped > 0 {
            self.state.averages.add("skipped updates", skipped as f64);
        }
        self.state.seconds += start.elapsed().as_secs_f64();
        Ok(self.state.averages.take())
    }

    /// Computes metrics on held-out data. Records the best loss, and halves the learning rate on a plateau.
    fn validate<S: Stage>(&mut self, stage: &mut S, network: &S::Network) -> Result<BTreeMap<String, f64>> {
        let (start, step) = (Instant::now(), self.state.step);
        let Validation { loss, others } = stage.validate(&self.averaged(network))?;
        if self.state.best.is_none_or(|best| loss < best.loss) && loss.is_finite() {
            self.state.best = Some(Best { step, loss });
            self.state.stale = 0;
        } else {
            self.state.stale += 1;
        }
        if self.config.plateau_patience.is_some_and(|patience| self.state.stale >= patience) {
            self.state.stale = 0;
            self.state.halvings.push(Halving { step, cause: Cause::Plateau });
            self.bar.suspend(|| {
                log_line(format_args!("halving the learning rate from update {step} on: a plateau"));
            });
        }
        self.state.seconds += start.elapsed().as_secs_f64();
        let values = std::iter::once(("loss", loss)).chain(others).filter(|(_, value)| value.is_finite());
        Ok(values.map(|(name, value)| (format!("validation {name}"), value)).collect())
    }

    /// The network with averaged weights, without autodiff.
    fn averaged<M: Module>(&self, network: &M) -> M {
        self.optimizer.averaged(network.clone()).valid()
    }

    /// Adds values to the history and the metrics files, shows them, and shows new warnings.
    fn record<S: Stage>(&mut self, values: BTreeMap<String, f64>, stage: &S) {
        let step = self.state.step;
        let shown: Vec<String> = values.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        let line = shown.join("  ");
        // Without a terminal there is no progress bar.
        if !std::io::stderr().is_terminal() {
            log_line(format_args!("update {step}  {line}"));
        }
        self.bar.set_message(line);
        let written = self.metric_log.as_mut().map_or(Ok(()), |log| log.write(step, &values));
        self.report_failure(METRICS_FILES, written);
        for (name, value) in values {
            self.state.history.entry(name).or_default().push((step, value));
        }
        for Warning { kind, text } in stage.warnings(&self.state.history) {
            if !self.state.warnings.contains_key(kind) {
                let text = format!("after update {step}, {text}");
                self.bar.suspend(|| log_line(format_args!("WARNING: {text}")));
                self.state.warnings.insert(kind.to_owned(), text);
            }
        }
    }

    /// Reports failed output once. The run continues.
    fn report_failure(&mut self, what: &'static str, result: Result<()>) {
        if let Err(error) = result
            && self.reported.insert(what)
        {
            self.bar.suspend(|| log_line(format_args!("dalle: the run continues without {what}: {error:#}")));
        }
    }

    /// Saves a checkpoint and plots the curve.
    fn save<M: Module>(&mut self, network: &M, hooks: &mut dyn Hooks<M>) -> Result<()> {
        self.pending.read(&mut self.state.averages);
        self.folder.save(&self.state, network, &self.optimizer).map_err(|error| self.divergence_or(error))?;
        let kinds = self.state.warnings.keys().map(String::as_str);
        let title: Vec<&str> = std::iter::once(self.config.title.as_str()).chain(kinds).collect();
        let drawn = hooks.plot(&title.join("; "), &self.state.history, self.folder.path());
        self.report_failure("its curve", drawn);
        (self.saved, self.saved_step) = (Instant::now(), Some(self.state.step));
        Ok(())
    }

    /// `error` of saving a checkpoint, explained if the weights are not finite. They are checked only here, where they are read
    /// anyway: from NaN or infinite weights no finite gradients follow, so all later updates are skipped.
    fn divergence_or(&self, error: Error) -> Error {
        match error.downcast_ref() {
            Some(WeightsError::NotFinite(tensor)) => anyhow!(
                "diverged: the weights after update {} are not finite (`{tensor}`) and were not saved; start a new --run with a \
                 smaller --learning-rate{}",
                self.state.step,
                self.other_remedy()
            ),
            _ => error,
        }
    }

    /// Returns the network with averaged weights, and the state.
    fn finish<M: Module>(self, network: M) -> Result<(M, RunState)> {
        ensure!(
            self.state.updates > 0,
            "diverged: the gradients of all {} updates were not finite, so nothing was trained; start a new --run with a smaller \
             --learning-rate",
            self.state.step
        );
        self.bar.finish();
        Ok((self.optimizer.averaged(network), self.state))
    }
}

/// Initialises parameters in the module's order. By default Burn initialises a parameter when it is first used, so initial weights
/// would depend on the order of use, and on code that seeds the device's generator in between.
struct Initialise;

impl ModuleVisitor for Initialise {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
}

/// Halves the learning rate until the total number of manual halvings is `halvings`. The option is a total rather than an increment,
/// so that repeating the same command does not halve again.
fn halve_by_hand(state: &mut RunState, halvings: usize) -> Result<()> {
    let before = state.halvings.iter().filter(|halving| halving.cause == Cause::ByHand).count();
    ensure!(
        halvings >= before,
        "--halvings: expected at least {before}, the number of manual halvings so far, got {halvings}"
    );
    for _ in before..halvings {
        // This is a remedy for divergence, so updates skipped at the higher rate no longer count.
        state.skipped_in_a_row = 0;
        state.halvings.push(Halving { step: state.step, cause: Cause::ByHand });
        log_line(format_args!("halving the learning rate from update {} on", state.step));
    }
    Ok(())
}
