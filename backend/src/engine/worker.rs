//! The engine's loop: takes jobs from the queue, samples all of them together, appends to their logs, scores and decodes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use dalle_model::sample::JobKey;
use dalle_shared::EventKind;

use super::command::{Command, Conversion};
use super::error::EngineError;
use super::heartbeat::Heartbeat;
use super::running::Running;
use super::sampler::Sampler;
use super::speed::Speed;
use crate::jobs::Job;
use crate::queue::Queue;

/// The state of the engine's thread.
pub struct Worker {
    sampler: Box<dyn Sampler>,
    queue: Arc<Queue>,
    speed: Arc<Speed>,
    heartbeat: Arc<Heartbeat>,
    /// Number of tokens of an image.
    image_length: usize,
    max_rows: usize,
    running: HashMap<JobKey, Running>,
    conversions: VecDeque<Conversion>,
    /// No image is scored before this time, unless no job is being sampled.
    next_score: Instant,
}

impl Worker {
    /// An idle engine.
    pub fn new(
        sampler: Box<dyn Sampler>,
        queue: Arc<Queue>,
        speed: Arc<Speed>,
        heartbeat: Arc<Heartbeat>,
        image_length: usize,
        max_rows: usize,
    ) -> Self {
        Self {
            sampler,
            queue,
            speed,
            heartbeat,
            image_length,
            max_rows,
            running: HashMap::new(),
            conversions: VecDeque::new(),
            next_score: Instant::now(),
        }
    }

    /// Runs until it is stopped, or all senders of commands have been dropped.
    ///
    /// # Errors
    /// The device failed.
    pub fn run(&mut self, commands: &Receiver<Command>) -> Result<(), EngineError> {
        while self.collect(commands) {
            self.drop_ended();
            self.admit()?;
            self.step()?;
            self.heartbeat.beat();
            self.score()?;
            self.heartbeat.beat();
            self.convert()?;
            self.heartbeat.beat();
            metrics::gauge!("dalle_rows_running").set(self.sampler.rows() as f64);
            metrics::gauge!("dalle_queue_depth").set(self.queue.len() as f64);
        }
        Ok(())
    }

    /// Receives commands, waiting for one only if there is no work. Returns false if the engine is to stop.
    fn collect(&mut self, commands: &Receiver<Command>) -> bool {
        let idle = self.running.is_empty() && self.conversions.is_empty() && self.queue.len() == 0;
        let mut next = if idle {
            self.heartbeat.rest();
            commands.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            commands.try_recv()
        };
        self.heartbeat.beat();
        loop {
            match next {
                Ok(Command::Wake) => {}
                Ok(Command::Convert(conversion)) => self.conversions.push_back(conversion),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
            next = commands.try_recv();
        }
    }

    /// Removes jobs whose log was ended by another thread, because they were cancelled or abandoned.
    fn drop_ended(&mut self) {
        let sampler = &mut self.sampler;
        self.running.retain(|key, running| {
            let runs = running.job().log.ended().is_none();
            if !runs {
                sampler.remove(*key);
            }
            runs
        });
    }

    /// Starts jobs of the queue while there are free rows.
    fn admit(&mut self) -> Result<(), EngineError> {
        while let Some(job) = self.queue.take(self.max_rows.saturating_sub(self.rows())) {
            tracing::debug!(job = job.key.0, samples = job.request.samples, "started");
            metrics::histogram!("dalle_queue_wait_seconds").record(job.created.elapsed().as_secs_f64());
            match self.sampler.admit(job.key, job.request.clone()) {
                Ok(()) => drop(self.running.insert(job.key, Running::start(job, self.image_length))),
                Err(error) => fail(&job, error)?,
            }
            self.heartbeat.beat();
        }
        Ok(())
    }

    /// Number of rows in use: those being sampled, and one for each complete sample that waits for its score.
    fn rows(&self) -> usize {
        self.sampler.rows() + self.running.values().map(Running::rows_to_score).sum::<usize>()
    }

    /// Samples the next token of every row.
    fn step(&mut self) -> Result<(), EngineError> {
        let rows = self.sampler.rows();
        if rows == 0 {
            return Ok(());
        }
        let begin = Instant::now();
        let outputs = self.sampler.step()?;
        let now = Instant::now();
        metrics::histogram!("dalle_step_seconds").record((now - begin).as_secs_f64());
        metrics::counter!("dalle_tokens_sampled_total").increment(rows as u64);
        for output in outputs {
            let Some(running) = self.running.get_mut(&output.job) else { continue };
            let ended = match output.tokens {
                Ok(tokens) => running.push(&tokens, now),
                Err(error) => {
                    fail(running.job(), error)?;
                    true
                }
            };
            if ended {
                self.running.remove(&output.job);
            }
        }
        self.speed.record(now - begin, self.steps_until_room());
        Ok(())
    }

    /// Number of steps until there is room for the first job of the queue, or if the queue is empty, until a row is free.
    fn steps_until_room(&self) -> usize {
        let needed = self.queue.first_rows().unwrap_or(1);
        let mut free = self.max_rows.saturating_sub(self.rows());
        let mut ends: Vec<(usize, usize)> = self
            .running
            .values()
            .map(|running| (running.steps_left(), running.job().request.rows()))
            .collect();
        ends.sort_unstable();
        let mut steps = 0;
        for (left, rows) in ends {
            if free >= needed {
                break;
            }
            steps = left;
            free += rows;
        }
        steps
    }

    /// Scores at most one image, of the oldest job waiting for a score, so that other jobs are not delayed. While jobs are being
    /// sampled, scoring takes at most half of the time.
    fn score(&mut self) -> Result<(), EngineError> {
        let samples = self.sampler.rows() > 0;
        if samples && Instant::now() < self.next_score {
            return Ok(());
        }
        let waiting = self.running.iter().filter(|(_, running)| running.waits_for_score());
        let Some(key) = waiting.map(|(key, _)| *key).min() else { return Ok(()) };
        let Some(running) = self.running.get_mut(&key) else { return Ok(()) };
        let job = Arc::clone(running.job());
        let Some((sample, tokens)) = running.take_unscored() else { return Ok(()) };
        let begin = Instant::now();
        let scored = self.sampler.score(&job.request.text, tokens);
        let count = tokens.len();
        let taken = begin.elapsed();
        self.next_score = Instant::now() + taken;
        if !samples {
            // The queue waits only for scores.
            let scores = u32::try_from(running.rows_to_score()).unwrap_or(u32::MAX);
            self.speed.record_next_place(taken.saturating_mul(scores));
        }
        let ended = match scored {
            Ok(score) => running.scored(sample, count, score),
            Err(error) => {
                self.sampler.remove(key);
                self.running.remove(&key);
                return fail(&job, error);
            }
        };
        if ended {
            self.running.remove(&key);
        }
        Ok(())
    }

    /// Decodes or encodes at most one image, so that a request for nine does not delay other jobs.
    fn convert(&mut self) -> Result<(), EngineError> {
        // The receiver may have been dropped by now.
        match self.conversions.pop_front() {
            Some(Conversion::Decode { tokens, reply }) if !reply.is_closed() => {
                let _ = reply.send(self.sampler.decode(&tokens)?);
            }
            Some(Conversion::Encode { pixels, reply }) if !reply.is_closed() => {
                let _ = reply.send(self.sampler.encode(&pixels)?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Ends a job with an error.
///
/// # Errors
/// The error itself, if it does not concern only this job.
fn fail(job: &Job, error: impl Into<EngineError>) -> Result<(), EngineError> {
    let error = error.into();
    job.log.append(EventKind::Failed { error: error.report(job.key) });
    if error.is_fatal() { Err(error) } else { Ok(()) }
}
