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
use dalle_model::weights::{WeightsError, read_values};
use indicatif::ProgressBar;

use crate::interrupt::Interrupt;
use crate::metric_log::MetricLog;
use crate::metrics::{Metrics, PendingMetrics, scalars};
use crate::optimizer::AdamWConfig;
use crate::progress::run_bar;
use crate::rank_log::RankLog;
use crate::ranks::Ranks;
use crate::run_folder::{Files, RunFolder};
use crate::run_optimizer::RunOptimizer;
use crate::run_state::{Best, Cause, Halving, History, RunState};
use crate::shards::Compress;
use crate::stage::{Stage, Validation, Warning};

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
    /// How gradients are compressed between machines, if they are.
    pub compression: Option<Compress>,
    /// The ranks that train together. All of them have the same configuration.
    pub ranks: Ranks,
}

/// A run was saved and ended before its last update, as was asked for: not a failure.
#[derive(Debug)]
pub struct Interrupted {
    step: u64,
    steps: u64,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { step, steps } = self;
        write!(f, "interrupted after update {step} of {steps} and saved; the same command continues")
    }
}

impl std::error::Error for Interrupted {}

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
/// Returns the network with averaged weights, and the state of the run. Of several ranks each calls it; the first one writes and shows
/// what all have in common. If a rank's call fails, the others' fail too as soon as it [reports that](Ranks::fail).
///
/// # Errors
/// The run folder cannot be read or written, or belongs to another run; the run diverged; or it was [`Interrupted`] and saved; or
/// another rank failed.
pub fn train<S: Stage>(
    stage: &mut S,
    fresh: S::Network,
    config: &RunConfig,
    hooks: &mut dyn Hooks<S::Network>,
    interrupt: &Interrupt,
) -> Result<(S::Network, RunState)> {
    let fresh = if stage.uses_autodiff() { fresh } else { fresh.valid() };
    let (mut run, mut network) = Run::open(fresh, config)?;
    if run.saved_step.is_some() {
        stage.restore(&run.state.stage)?;
    }
    while run.state.step < config.steps {
        let signals;
        (network, signals) = run.update(stage, network, interrupt)?;
        let (step, stop) = (run.state.step, signals.stop);
        let last = step == config.steps;
        let mut values = BTreeMap::new();
        if last || step.is_multiple_of(config.log_every) {
            values.extend(run.averages(stage, &network)?);
            if let Some(line) = run.rank_log.line(&config.ranks, step)? {
                let written = line.write(run.folder.path());
                run.report_failure(METRICS_FILES, written);
            }
        }
        let best_before = run.state.best;
        if config.validate_every.is_some_and(|every| last || step.is_multiple_of(every)) {
            values.extend(run.validate(stage, &network)?);
        }
        if !values.is_empty() {
            run.record(values, stage);
        }
        if config.sheet_every.is_some_and(|every| last || step.is_multiple_of(every)) {
            let averaged = run.averaged(&network)?;
            if config.ranks.is_first() {
                let written = hooks.sheet(&averaged, step, run.folder.path());
                run.report_failure("contact sheets", written);
            }
        }
        let best = run.state.best != best_before;
        if stop || last || best || signals.save {
            run.state.stage = stage.state();
            run.save(&network, hooks)?;
        }
        if stop && !last {
            run.bar.abandon();
            bail!(Interrupted { step, steps: config.steps });
        }
    }
    run.finish(network)
}

/// What ranks agree on after each update.
struct Signals {
    /// A rank was asked to stop.
    stop: bool,
    /// It is time for a checkpoint.
    save: bool,
}

/// A run between two updates, without its network.
struct Run<'a> {
    config: &'a RunConfig,
    folder: RunFolder,
    optimizer: RunOptimizer,
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
    rank_log: RankLog,
    /// Failed output that has been reported.
    reported: BTreeSet<&'static str>,
}

impl<'a> Run<'a> {
    /// Resumes the run in the folder of `config`, or starts a new one. Also returns its network.
    fn open<M: Module>(fresh: M, config: &'a RunConfig) -> Result<(Self, M)> {
        let ranks = &config.ranks;
        let mut folder = RunFolder::join(&config.run);
        ranks.by_first(|| {
            folder = RunFolder::open(&config.run)?;
            Ok(Vec::new())
        })?;
        let options = (&config.identity, config.steps, config.log_every, config.validate_every);
        ranks
            .agree("settings", &serde_json::to_vec(&(options, config.plateau_patience, config.halvings))?)?;
        let (mut state, network, optimizer, saved_step);
        if let Some(checkpoint) = folder.newest_of_all(&config.identity, ranks)? {
            (state, network, optimizer) =
                RunOptimizer::restore(checkpoint, (config.optimizer, config.compression), ranks, fresh)?;
            saved_step = Some(state.step);
            ensure!(
                state.step <= config.steps,
                "--steps: {} stands at update {}; expected at least that, got {}",
                config.run.display(),
                state.step,
                config.steps
            );
            if ranks.is_first() {
                log_line(format_args!(
                    "resuming {} at update {} of {}",
                    config.run.display(),
                    state.step,
                    config.steps
                ));
            }
        } else {
            network = fresh;
            network.visit(&mut Initialise);
            optimizer = RunOptimizer::new(config.optimizer, config.compression, ranks, &network);
            state = RunState::new(config.identity.clone(), config.steps);
            saved_step = None;
        }
        if ranks.others().is_some() {
            let mut values = Vec::new();
            read_values(&network, &mut values);
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            ranks.agree("weights", &bytes)?;
        }
        if ranks.is_first() {
            folder.keep(&config.files)?;
        }
        if let Some(halvings) = config.halvings {
            halve_by_hand(&mut state, halvings, ranks)?;
        }
        let mut run = Self {
            config,
            metric_log: None,
            rank_log: RankLog::new(ranks),
            folder,
            optimizer,
            pending: PendingMetrics::default(),
            bar: if ranks.is_first() { run_bar(config.steps, state.step) } else { ProgressBar::hidden() },
            state,
            saved: Instant::now(),
            saved_step,
            reported: BTreeSet::new(),
        };
        if ranks.is_first() {
            match MetricLog::open(run.folder.path(), &run.state.history, run.state.step) {
                Ok(log) => run.metric_log = Some(log),
                Err(error) => run.report_failure(METRICS_FILES, Err(error)),
            }
        }
        Ok((run, network))
    }

    /// Computes and applies one update.
    fn update<S: Stage>(
        &mut self,
        stage: &mut S,
        network: S::Network,
        interrupt: &Interrupt,
    ) -> Result<(S::Network, Signals)> {
        let (start, step) = (Instant::now(), self.state.step);
        let (gradients, metrics) = stage.gradients(&network, step)?;
        let learning_rate = stage.learning_rate(step) * self.state.learning_rate_factor();
        let (network, norm) = self.optimizer.step(network, gradients, learning_rate)?;
        let network = stage.after_update(network);
        let (metrics, signals) = self.agree(metrics, interrupt)?;
        self.state.step += 1;
        if norm.is_finite() {
            self.state.skipped_in_a_row = 0;
            self.state.averages.add("gradient norm", norm);
            self.pending.add(metrics, &mut self.state.averages);
        } else {
            self.state.skipped += 1;
            self.state.skipped_in_a_row += 1;
            let most = stage.most_skipped();
            ensure!(
                self.state.skipped_in_a_row < most,
                "diverged: the gradients of the last {most} updates, to {}, were not finite; start a new --run with a \
                 smaller --learning-rate{}",
                self.state.step,
                self.other_remedy()
            );
        }
        self.state.updates = self.optimizer.updates();
        self.state.seconds += start.elapsed().as_secs_f64();
        self.rank_log.update();
        self.bar.set_position(self.state.step);
        Ok((network, signals))
    }

    /// The sums of metrics over ranks, and what all ranks are to do after the update.
    fn agree(&self, metrics: Metrics, interrupt: &Interrupt) -> Result<(Metrics, Signals)> {
        let ranks = &self.config.ranks;
        let due = ranks.is_first() && self.saved.elapsed() > Duration::from_secs(self.config.save_seconds);
        let own = Signals { stop: interrupt.is_raised(), save: due };
        if ranks.others().is_none() {
            return Ok((metrics, own));
        }
        let signals = [own.stop, own.save].map(|signal| f32::from(u8::from(signal)));
        let (names, values): (Vec<_>, Vec<_>) = metrics.into_iter().unzip();
        let values = values.into_iter().map(|value| value.into_scalar::<f32>());
        let sums = ranks.sum(signals.into_iter().chain(values).collect())?;
        let (signals, sums) = sums.split_at(2);
        let sums: Vec<_> = names.into_iter().zip(sums.iter().map(|sum| f64::from(*sum))).collect();
        Ok((scalars(&sums), Signals { stop: signals[0] > 0.0, save: signals[1] > 0.0 }))
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
        let (extra, _) = self.agree(extra, &Interrupt::default())?;
        self.pending.add(extra, &mut self.state.averages);
        self.pending.read(&mut self.state.averages);
        if let Some(error) = self.optimizer.compression_error()? {
            self.state.averages.add("compression error", error);
        }
        for (name, value) in stage.log_values() {
            self.state.averages.add(&name, value);
        }
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
        let averaged = self.averaged(network)?;
        let Validation { loss, others } = stage.validate(&averaged)?;
        let (names, values): (Vec<_>, Vec<_>) = std::iter::once(("loss", loss)).chain(others).unzip();
        let values = self.config.ranks.sum_exactly(values)?;
        let loss = values[0];
        if self.state.best.is_none_or(|best| loss < best.loss) && loss.is_finite() {
            self.state.best = Some(Best { step, loss });
            self.state.stale = 0;
        } else {
            self.state.stale += 1;
        }
        if self.config.plateau_patience.is_some_and(|patience| self.state.stale >= patience) {
            self.state.stale = 0;
            self.state.halvings.push(Halving { step, cause: Cause::Plateau });
            self.show(format_args!("halving the learning rate from update {step} on: a plateau"));
        }
        self.state.seconds += start.elapsed().as_secs_f64();
        let finite = names.into_iter().zip(values).filter(|(_, value)| value.is_finite());
        Ok(finite.map(|(name, value)| (format!("validation {name}"), value)).collect())
    }

    /// The network with averaged weights, without autodiff.
    fn averaged<M: Module>(&self, network: &M) -> Result<M> {
        Ok(self.optimizer.averaged(network.clone())?.valid())
    }

    /// Shows a line, once of all ranks.
    fn show(&self, line: std::fmt::Arguments) {
        if self.config.ranks.is_first() {
            self.bar.suspend(|| log_line(line));
        }
    }

    /// Adds values to the history and the metrics files, shows them, and shows new warnings.
    fn record<S: Stage>(&mut self, values: BTreeMap<String, f64>, stage: &S) {
        let step = self.state.step;
        // Not the members of groups, which may be many.
        let shown = values.iter().filter(|(name, _)| !name.contains('/'));
        let line = shown.map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join("  ");
        // Without a terminal there is no progress bar.
        if self.config.ranks.is_first() && !std::io::stderr().is_terminal() {
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
                self.show(format_args!("WARNING: {text}"));
                self.state.warnings.insert(kind.to_owned(), text);
            }
        }
    }

    /// Reports failed output once. The run continues.
    fn report_failure(&mut self, what: &'static str, result: Result<()>) {
        if let Err(error) = result
            && self.reported.insert(what)
        {
            self.show(format_args!("dalle: the run continues without {what}: {error:#}"));
        }
    }

    /// Saves a checkpoint and plots the curve.
    fn save<M: Module>(&mut self, network: &M, hooks: &mut dyn Hooks<M>) -> Result<()> {
        self.pending.read(&mut self.state.averages);
        let saved = self.optimizer.save(&self.folder, &self.state, network, &self.config.ranks);
        saved.map_err(|error| self.divergence_or(error))?;
        if self.config.ranks.is_first() {
            let kinds = self.state.warnings.keys().map(String::as_str);
            let title: Vec<&str> = std::iter::once(self.config.title.as_str()).chain(kinds).collect();
            let drawn = hooks.plot(&title.join("; "), &self.state.history, self.folder.path());
            self.report_failure("its curve", drawn);
        }
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
        Ok((self.optimizer.averaged(network)?, self.state))
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
fn halve_by_hand(state: &mut RunState, halvings: usize, ranks: &Ranks) -> Result<()> {
    let before = state.halvings.iter().filter(|halving| halving.cause == Cause::ByHand).count();
    ensure!(
        halvings >= before,
        "--halvings: expected at least {before}, the number of manual halvings so far, got {halvings}"
    );
    for _ in before..halvings {
        // This is a remedy for divergence, so updates skipped at the higher rate no longer count.
        state.skipped_in_a_row = 0;
        state.halvings.push(Halving { step: state.step, cause: Cause::ByHand });
        if ranks.is_first() {
            log_line(format_args!("halving the learning rate from update {} on", state.step));
        }
    }
    Ok(())
}
