//! The loop that all stages share: resume, update, log, draw the curve, save, stop when asked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use dalle_data::say;
use indicatif::ProgressBar;

use crate::checkpoint::{Files, RunFolder};
use crate::interrupt::Interrupt;
use crate::optimizer::{AdamW, AdamWConfig};
use crate::progress::run_bar;
use crate::run_state::{Cause, Halving, History, RunState};
use crate::stage::{Stage, Warning};

/// Updates in a row whose gradients are not finite after which a run has diverged: fewer may be an accident.
const MAX_SKIPPED: u64 = 20;

/// How long, how often, where.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Heading of the curve.
    pub title: String,
    /// Updates in all.
    pub steps: u64,
    /// Updates between two logged values, which are means over them.
    pub log_every: u64,
    /// Seconds between two checkpoints.
    pub save_seconds: u64,
    /// Times that the learning rate is halved by hand, in all starts of the run together; nothing changes it without.
    pub halvings: Option<usize>,
    /// The run's folder.
    pub run: PathBuf,
    /// What decides the result of an update; a run resumes only with the same. What else is here may differ.
    pub settings: serde_json::Value,
    /// Configurations and tokenizer of the network: small files that `dalle export` needs beside a checkpoint.
    pub files: Files,
    /// Hyper-parameters of the optimizer.
    pub optimizer: AdamWConfig,
    /// Plots the history into a PNG file under a title. A parameter, so that this crate needs no plotting library.
    pub draw_curve: fn(&str, &History, &Path) -> Result<()>,
}

/// Trains `fresh`, or what the run folder has of it, to the end of the config.
///
/// Returns the network with averaged weights, and the run's state.
///
/// # Errors
/// The run folder cannot be read or written, or was made with other settings; or the run was interrupted (and saved).
pub fn train<S: Stage>(
    stage: &mut S,
    fresh: S::Network,
    config: &RunConfig,
    interrupt: &Interrupt,
) -> Result<(S::Network, RunState)> {
    let folder = RunFolder::open(&config.run)?;
    let mut network = fresh;
    let mut optimizer = AdamW::new(config.optimizer);
    let mut state = RunState::new(config.settings.clone(), config.steps);
    if let Some(resumed) = folder.resume(&config.settings, config.optimizer, network.clone())? {
        (state, network, optimizer) = resumed;
        ensure!(
            state.step <= config.steps,
            "--steps: {} stands at update {}; expected at least that, got {}",
            config.run.display(),
            state.step,
            config.steps
        );
        say(format_args!("resuming {} at update {} of {}", config.run.display(), state.step, config.steps));
    }
    folder.keep(&config.files)?;
    if let Some(halvings) = config.halvings {
        halve_by_hand(&mut state, halvings)?;
    }
    let bar = run_bar(config.steps, state.step);
    let mut saved = Instant::now();
    let mut plot_failed = false;
    while state.step < config.steps {
        let begun = Instant::now();
        let (gradients, metrics) = stage.gradients(&network, state.step)?;
        let norm;
        let learning_rate = stage.learning_rate(state.step) * state.learning_rate_factor();
        (network, norm) = optimizer.step(network, gradients, learning_rate);
        network = stage.after_update(network);
        if norm.is_finite() {
            state.skipped_in_a_row = 0;
            state.averages.add("gradient norm", norm);
            for (name, value) in metrics {
                state.averages.add(name, f64::from(value.into_scalar::<f32>()));
            }
        } else {
            state.skipped += 1;
            state.skipped_in_a_row += 1;
            let skipped = state.skipped_in_a_row;
            ensure!(
                skipped < MAX_SKIPPED,
                "diverged: the gradients of the last {skipped} updates, to {}, were not finite; start a new --run with a \
                 smaller --step-size (the last checkpoint is kept)",
                state.step + 1
            );
        }
        let logged = (state.step + 1).is_multiple_of(config.log_every) || state.step + 1 == config.steps;
        if logged {
            for (name, value) in stage.extra_metrics(&network, state.step)? {
                state.averages.add(name, f64::from(value.into_scalar::<f32>()));
            }
        }
        state.step += 1;
        state.updates = optimizer.updates();
        state.seconds += begun.elapsed().as_secs_f64();
        if logged {
            let skipped = std::mem::take(&mut state.skipped);
            if skipped > 0 {
                state.averages.add("skipped updates", skipped as f64);
            }
            let line = state.averages.flush(state.step, &mut state.history);
            eprint_if_not_terminal(state.step, &line);
            bar.set_message(line);
            warn(&stage.warnings(&state.history), &mut state, &bar);
        }
        bar.set_position(state.step);
        let stop = interrupt.is_raised();
        if stop || state.step == config.steps || saved.elapsed() > Duration::from_secs(config.save_seconds) {
            folder.save(&state, &network, &optimizer)?;
            let curve = folder.path().join("curve.png");
            if let Err(error) = (config.draw_curve)(&heading(config, &state), &state.history, &curve)
                && !std::mem::replace(&mut plot_failed, true)
            {
                bar.suspend(|| say(format_args!("dalle: the run goes on without its curve: {error:#}")));
            }
            saved = Instant::now();
        }
        if stop && state.step < config.steps {
            bar.abandon();
            bail!(
                "interrupted after update {} of {} and saved; the same command continues",
                state.step,
                config.steps
            );
        }
    }
    ensure!(
        state.updates > 0,
        "diverged: the gradients of all {} updates were not finite, so nothing was trained; start a new --run with a smaller \
         --step-size",
        state.step
    );
    bar.finish();
    Ok((optimizer.averaged(network), state))
}

/// Halves the learning rate until it has been halved `halvings` times by hand. A number in all, and not one more at each start,
/// so that the same command continues the run.
fn halve_by_hand(state: &mut RunState, halvings: usize) -> Result<()> {
    let before = state.halvings.iter().filter(|halving| halving.cause == Cause::ByHand).count();
    ensure!(
        halvings >= before,
        "--halvings: the learning rate was halved {before} times by hand; expected at least that, got {halvings}"
    );
    for _ in before..halvings {
        state.halvings.push(Halving { step: state.step, cause: Cause::ByHand });
        say(format_args!("halving the learning rate from update {} on", state.step));
    }
    Ok(())
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
fn heading(config: &RunConfig, state: &RunState) -> String {
    let kinds = state.warnings.keys().map(String::as_str);
    std::iter::once(config.title.as_str()).chain(kinds).collect::<Vec<_>>().join("; ")
}

/// Progress bars hide where nobody watches; a log still wants its lines.
fn eprint_if_not_terminal(step: u64, line: &str) {
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        say(format_args!("update {step}  {line}"));
    }
}
