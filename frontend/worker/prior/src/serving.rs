//! The loop over the page's commands and the steps of what is sampled.

use std::collections::HashMap;
use std::sync::Arc;

use dalle_decoder_worker::Failure;
use dalle_decoder_worker::download::message_of;
use dalle_decoder_worker::port::{commands, misread, now, send, send_failure};
use dalle_kernels::prior::Sampler;
use dalle_sampler::{Batch, JobKey, Network, SampleRequest};
use dalle_shared::{
    ErrorCode, EventKind, GenerationEvent, GenerationRequest, Geometry, PriorCommand, PriorReport,
    WorkerFailure,
};
use futures_util::StreamExt;

use crate::loading::load;
use crate::pause::Pauses;
use crate::recorder::Recorder;
use crate::tracing::{Asked, Traced};

/// Steps run for so long before the page's messages are read: as long as a frame, so that Stop is immediate.
const SLICE_MS: f64 = 16.0;

/// Answers the page's commands until the page ends the worker.
pub async fn run(first: &str) {
    // A panic ends this worker.
    std::panic::set_hook(Box::new(|info| send_failure(Failure::of_panic(info.to_string()))));
    if let Err(failure) = serve(first).await {
        send_failure(failure);
    }
}

async fn serve(first: &str) -> Result<(), Failure> {
    let mut commands = commands();
    let PriorCommand::Load { base, files } = serde_json::from_str(first).map_err(|error| misread(&error))?
    else {
        return Err(Failure::new(WorkerFailure::Fault, "the first command of the page must name a model"));
    };
    let pauses = Pauses::new().map_err(|error| Failure::of_running(message_of(&error)))?;
    let prior = Arc::new(load(&base, &files).await?);
    let mut generations = Generations::new(Arc::clone(&prior));
    let mut traced = Traced::new(prior);
    send(&PriorReport::Ready);
    loop {
        let next = if generations.batch.is_empty() && !traced.is_reading() {
            commands.next().await
        } else {
            pauses.pause().await;
            match commands.try_recv() {
                Ok(next) => Some(next),
                Err(error) if error.is_closed() => None,
                Err(_) => {
                    generations.steps()?;
                    traced.steps();
                    continue;
                }
            }
        };
        let Some((command, _)) = next else { return Ok(()) };
        match command {
            PriorCommand::Generate { ticket, request } => generations.begin(ticket, request),
            PriorCommand::Cancel { ticket } => generations.cancel(ticket),
            PriorCommand::Trace { ticket, request } => traced.begin(ticket, request),
            PriorCommand::Choices { ticket, position, settings, most } => {
                traced.ask(Asked { ticket, position, settings, most });
            }
            PriorCommand::Attend { ticket, position, layer } => traced.attend(ticket, position, layer),
            PriorCommand::Load { .. } => {
                let message = "a worker loads one model, and the page named a second";
                return Err(Failure::new(WorkerFailure::Fault, message));
            }
        }
    }
}

/// The prior and what it samples.
struct Generations {
    batch: Batch,
    geometry: Geometry,
    running: HashMap<u64, Running>,
}

struct Running {
    recorder: Recorder,
    began: f64,
}

impl Generations {
    fn new(prior: Arc<Sampler>) -> Self {
        let geometry = prior.geometry();
        Self { batch: Batch::new(prior), geometry, running: HashMap::new() }
    }

    fn cancel(&mut self, ticket: u64) {
        self.batch.remove(JobKey(ticket));
        self.running.remove(&ticket);
    }

    fn begin(&mut self, ticket: u64, request: GenerationRequest) {
        let samples = request.sample_count();
        let mut recorder = Recorder::new(samples, &self.geometry);
        let began = now();
        report(ticket, recorder.event(EventKind::Started));
        let checked = request.validate(&self.geometry).map_err(|error| error.to_string());
        let sampling = request.sampling();
        let GenerationRequest { text, seed, prefix, .. } = request;
        let request = SampleRequest { text, samples, seed: seed.0, sampling, prefix };
        let admitted = checked
            .and_then(|()| self.batch.admit(JobKey(ticket), request).map_err(|error| error.to_string()));
        match admitted {
            Ok(()) => {
                self.running.insert(ticket, Running { recorder, began });
            }
            Err(message) => report(ticket, recorder.failed(ErrorCode::InvalidRequest, message)),
        }
    }

    /// Samples for a slice of time.
    fn steps(&mut self) -> Result<(), Failure> {
        let start = now();
        while !self.batch.is_empty() && now() - start < SLICE_MS {
            let outputs = self.batch.step().map_err(|error| Failure::of_running(error.to_string()))?;
            for output in outputs {
                let ticket = output.job.0;
                let Some(running) = self.running.get_mut(&ticket) else { continue };
                let (event, complete) = running.recorder.take(output);
                let failed = event.as_ref().is_some_and(|event| event.kind.is_last());
                if let Some(event) = event {
                    report(ticket, event);
                }
                if complete {
                    let seconds = (now() - running.began) / 1e3;
                    report(ticket, running.recorder.event(EventKind::Finished { seconds }));
                }
                if complete || failed {
                    self.running.remove(&ticket);
                }
            }
        }
        Ok(())
    }
}

fn report(ticket: u64, event: GenerationEvent) {
    send(&PriorReport::Event { ticket, event });
}
