//! The engine's loop: take jobs from the queue, step them all together, append to their logs, decode.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use dalle_model::sample::JobKey;
use dalle_shared::EventKind;

use super::{Command, Decode, EngineError, Running, Sampler, Speed};
use crate::jobs::Job;
use crate::queue::Queue;

/// The state of the engine's thread.
pub struct Worker {
    sampler: Box<dyn Sampler>,
    queue: Arc<Queue>,
    speed: Arc<Speed>,
    /// Tokens of a picture.
    image_length: usize,
    max_rows: usize,
    running: HashMap<JobKey, Running>,
    decodes: VecDeque<Decode>,
    /// Before this time no picture is scored, unless there is nothing else to do.
    next_score: Instant,
}

impl Worker {
    /// An idle engine.
    pub fn new(
        sampler: Box<dyn Sampler>,
        queue: Arc<Queue>,
        speed: Arc<Speed>,
        image_length: usize,
        max_rows: usize,
    ) -> Self {
        Self {
            sampler,
            queue,
            speed,
            image_length,
            max_rows,
            running: HashMap::new(),
            decodes: VecDeque::new(),
            next_score: Instant::now(),
        }
    }

    /// Works until told to stop, or until nobody can send commands any more.
    ///
    /// # Errors
    /// The device's failure, after which nothing can be expected of it.
    pub fn run(&mut self, commands: &Receiver<Command>) -> Result<(), EngineError> {
        while self.collect(commands) {
            self.drop_ended();
            self.admit()?;
            self.step()?;
            self.score()?;
            self.decode();
            metrics::gauge!("dalle_rows_running").set(self.sampler.rows() as f64);
            metrics::gauge!("dalle_queue_depth").set(self.queue.len() as f64);
        }
        Ok(())
    }

    /// Takes the commands that have come, waiting for one only if there is nothing to do. False: stop.
    fn collect(&mut self, commands: &Receiver<Command>) -> bool {
        let idle = self.running.is_empty() && self.decodes.is_empty() && self.queue.len() == 0;
        let mut next =
            if idle { commands.recv().map_err(|_| TryRecvError::Disconnected) } else { commands.try_recv() };
        loop {
            match next {
                Ok(Command::Wake) => {}
                Ok(Command::Decode(decode)) => self.decodes.push_back(decode),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
            next = commands.try_recv();
        }
    }

    /// Frees the rows of jobs whose log was ended by somebody else: cancelled, abandoned.
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

    fn admit(&mut self) -> Result<(), EngineError> {
        while let Some(job) = self.queue.take(self.max_rows.saturating_sub(self.rows())) {
            tracing::debug!(job = %job.id, samples = job.request.samples, "started");
            match self.sampler.admit(job.key, job.request.clone()) {
                Ok(()) => drop(self.running.insert(job.key, Running::start(job, self.image_length))),
                Err(error) => fail(&job, error)?,
            }
        }
        Ok(())
    }

    /// Rows that are taken: those that are sampled, and the samples that are complete and wait for their scores.
    fn rows(&self) -> usize {
        self.sampler.rows() + self.running.values().map(Running::rows_to_score).sum::<usize>()
    }

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
        let steps_left = self.running.values().map(Running::steps_left).min().unwrap_or(0);
        self.speed.record(now - begin, steps_left);
        Ok(())
    }

    /// Scores one picture at most, of the oldest job that waits for it, for the same reason; while others sample, no more than
    /// half of the time.
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
            // Nothing but scores stands between the queue and a place.
            self.speed.record(taken, running.rows_to_score());
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

    /// Decodes one picture at most, so that a sheet of nine does not hold the steps of others up for long.
    fn decode(&mut self) {
        if let Some(Decode { tokens, reply }) = self.decodes.pop_front()
            && !reply.is_closed()
        {
            // The receiver may leave at any time; its picture is then nobody's.
            let _ = reply.send(self.sampler.decode(&tokens));
        }
    }
}

/// Ends a job with an error.
///
/// # Errors
/// The error itself, if it is not of this job alone.
fn fail(job: &Job, error: impl Into<EngineError>) -> Result<(), EngineError> {
    let error = error.into();
    job.log.append(EventKind::Failed { error: error.report(job.key) });
    if error.is_fatal() { Err(error) } else { Ok(()) }
}
