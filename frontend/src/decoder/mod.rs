//! The lifecycle of the decoder workers and the order in which images are decoded, as a state machine.
//!
//! The small program for the CPU starts first. If it finds a GPU, a second worker loads the program for GPUs in the meantime, and
//! replaces the first once it has decoded faster.
//!
//! [`Decoder::on`] takes a [`DecoderInput`] and returns the [`DecoderEffect`]s that the caller executes. It has no access to workers,
//! clock or page: the caller passes the time, and answers with further inputs.

mod messages;

use dalle_shared::{
    DecoderDevice, DecoderReport, DeviceChoice, ImageToken, WorkerFailure, WorkerPart, WorkerProgram,
};

pub use messages::{DecoderEffect, DecoderInput, DecoderState, Study, Timer, Upload};

use crate::problem::{self, Problem};
use crate::schedule::{Next, Schedule};

/// Longest wait for a GPU's first decode, which compiles its shaders. Some drivers never come back.
const GPU_PATIENCE_MS: f64 = 45_000.0;

/// What the worker is decoding.
#[derive(Clone, Debug, PartialEq)]
enum Work {
    /// So many rows of an image.
    Image { image: usize, rows: usize },
    /// The prefix.
    Prefix(Vec<ImageToken>),
    /// A grid of a study.
    Study(Study, Vec<ImageToken>),
    /// Something for a generation that is no longer displayed.
    Outdated,
}

/// The decoder as the page knows it.
#[derive(Debug, Default)]
pub struct Decoder {
    state: DecoderState,
    choice: DeviceChoice,
    worker: u64,
    /// The worker that loads the program for GPUs meanwhile.
    gpu: Option<u64>,
    /// Number of the latest worker.
    workers: u64,
    /// Milliseconds of the present worker's fastest decode.
    fastest_ms: f64,
    schedule: Schedule,
    work: Option<Work>,
    prefix: Vec<ImageToken>,
    prefix_shown: bool,
    /// What is still to be decoded of studies.
    studies: Vec<(Study, Vec<ImageToken>)>,
    /// Ticket of the upload that is being encoded, or waits for the worker.
    upload: Option<u64>,
    upload_state: Option<Upload>,
    decode_ms: Option<f64>,
    next_ticket: u64,
    resting: bool,
}

impl Decoder {
    /// Where the decoder stands.
    pub fn state(&self) -> &DecoderState {
        &self.state
    }

    /// Whether every image that is shown large is decoded as far as its tokens are complete.
    pub fn is_settled(&self) -> bool {
        self.schedule.is_settled()
    }

    /// Milliseconds of the latest decode of this generation.
    pub fn decode_ms(&self) -> Option<f64> {
        self.decode_ms
    }

    /// How far the upload is, if there is one.
    pub fn upload(&self) -> Option<Upload> {
        self.upload_state
    }

    /// Takes an input at time `now` (milliseconds).
    pub fn on(&mut self, now: f64, input: DecoderInput) -> Vec<DecoderEffect> {
        let mut effects = Vec::new();
        match input {
            DecoderInput::Start(choice) => self.start(choice, &mut effects),
            DecoderInput::Report { worker, report } if worker == self.worker => {
                self.report(now, report, &mut effects);
            }
            DecoderInput::Report { worker, report } if Some(worker) == self.gpu => {
                self.gpu_report(worker, report, &mut effects);
            }
            DecoderInput::Report { .. } => {}
            DecoderInput::Elapsed(Timer::Gpu { worker }) => {
                let message = "WebGPU did not finish its first decode";
                if worker == self.worker && matches!(self.state, DecoderState::Starting(_)) {
                    self.fail(WorkerFailure::Gpu, message.to_owned(), &mut effects);
                } else if Some(worker) == self.gpu {
                    self.drop_gpu(message, &mut effects);
                }
            }
            DecoderInput::Elapsed(Timer::Rest) => self.resting = false,
            DecoderInput::Expect { images, rows } => self.expect(images, rows),
            DecoderInput::Complete(rows) => {
                for (image, rows) in rows.into_iter().enumerate() {
                    self.schedule.complete(image, rows);
                }
            }
            DecoderInput::Given { image, rows } => self.schedule.given(image, rows),
            DecoderInput::Enlarge(images) => self.schedule.enlarge(&images),
            DecoderInput::Prefix(tokens) => {
                self.prefix = tokens;
                self.prefix_shown = false;
            }
            DecoderInput::Study(study, tokens) => {
                self.studies.retain(|(other, _)| !other.is_like(study));
                self.studies.push((study, tokens));
            }
            DecoderInput::Upload => {
                let ticket = self.ticket();
                self.upload = Some(ticket);
                self.upload_state = Some(Upload::Encoding);
                if self.is_ready() {
                    effects.push(DecoderEffect::Encode { ticket });
                }
            }
            DecoderInput::DropUpload => self.drop_upload(),
        }
        self.decode_next(now, &mut effects);
        effects
    }

    fn start(&mut self, choice: DeviceChoice, effects: &mut Vec<DecoderEffect>) {
        self.worker = self.next_worker();
        self.gpu = None;
        self.choice = choice;
        self.state = DecoderState::Waiting;
        self.interrupt();
        self.schedule.lost();
        let program = match choice {
            DeviceChoice::Webgpu => WorkerProgram::Webgpu,
            DeviceChoice::Auto | DeviceChoice::Cpu => WorkerProgram::Cpu,
        };
        effects.push(DecoderEffect::StartWorker { worker: self.worker, program, choice });
    }

    fn next_worker(&mut self) -> u64 {
        self.workers += 1;
        self.workers
    }

    fn expect(&mut self, images: usize, rows: usize) {
        self.schedule = Schedule::new(images, rows);
        self.decode_ms = None;
        // The worker is busy with what it decodes until it answers.
        if let Some(work) = &mut self.work {
            self.schedule.hold();
            if matches!(work, Work::Image { .. }) {
                *work = Work::Outdated;
            }
        }
    }

    fn report(&mut self, now: f64, report: DecoderReport, effects: &mut Vec<DecoderEffect>) {
        match report {
            DecoderReport::Progress { part: WorkerPart::Encoder, loaded, total } => {
                let fetching = Upload::Fetching { loaded, total };
                let upload = if total == Some(loaded) { Upload::Encoding } else { fetching };
                self.upload_state = self.upload_state.map(|_| upload);
            }
            DecoderReport::Progress { part, loaded, total } => {
                self.state = DecoderState::Loading { part, loaded, total };
            }
            DecoderReport::Starting { device } => {
                if matches!(device, DecoderDevice::Webgpu { .. }) {
                    effects.push(DecoderEffect::Wait(Timer::Gpu { worker: self.worker }, GPU_PATIENCE_MS));
                }
                self.state = DecoderState::Starting(device);
            }
            DecoderReport::Ready { device, decode_ms } => {
                self.ready(device, decode_ms, effects);
            }
            DecoderReport::GpuFound => {
                let on_cpu =
                    matches!(&self.state, DecoderState::Ready { device: DecoderDevice::Cpu { .. }, .. });
                if self.choice == DeviceChoice::Auto && self.gpu.is_none() && on_cpu {
                    let worker = self.next_worker();
                    self.gpu = Some(worker);
                    effects.push(DecoderEffect::StartGpu { worker });
                }
            }
            DecoderReport::Pixels { ticket: _, decode_ms } => self.pixels(now, decode_ms, effects),
            DecoderReport::Encoded { ticket, tokens } if self.upload == Some(ticket) => {
                self.drop_upload();
                effects.push(DecoderEffect::Encoded(tokens));
            }
            DecoderReport::NotEncoded { ticket, message } if self.upload == Some(ticket) => {
                self.drop_upload();
                effects.push(DecoderEffect::Notice(problem::not_encoded(&message)));
            }
            DecoderReport::Encoded { .. } | DecoderReport::NotEncoded { .. } => {}
            DecoderReport::Failed { reason, message } => self.fail(reason, message, effects),
        }
    }

    fn ready(&mut self, device: DecoderDevice, decode_ms: f64, effects: &mut Vec<DecoderEffect>) {
        self.fastest_ms = decode_ms;
        self.state = DecoderState::Ready { device, decode_ms };
        effects.extend(self.upload.map(|ticket| DecoderEffect::Encode { ticket }));
    }

    /// A report of the worker that loads the program for GPUs while the CPU decodes.
    fn gpu_report(&mut self, worker: u64, report: DecoderReport, effects: &mut Vec<DecoderEffect>) {
        match report {
            DecoderReport::Starting { .. } => {
                effects.push(DecoderEffect::Wait(Timer::Gpu { worker }, GPU_PATIENCE_MS));
            }
            DecoderReport::Ready { device, decode_ms } if decode_ms < self.fastest_ms => {
                (self.worker, self.gpu) = (worker, None);
                // What the other worker was doing is done again.
                self.interrupt();
                self.schedule.lost();
                effects.push(DecoderEffect::UseGpu);
                self.ready(device, decode_ms, effects);
            }
            DecoderReport::Ready { decode_ms, .. } => {
                let why = format!("WebGPU is slower here: an image takes {decode_ms:.0} ms");
                self.drop_gpu(&why, effects);
            }
            DecoderReport::Failed { message, .. } => {
                self.drop_gpu(&format!("WebGPU failed: {message}"), effects);
            }
            _ => {}
        }
    }

    /// Stays on the CPU, and notes why.
    fn drop_gpu(&mut self, reason: &str, effects: &mut Vec<DecoderEffect>) {
        self.gpu = None;
        effects.push(DecoderEffect::EndGpu);
        if let DecoderState::Ready { device: DecoderDevice::Cpu { why }, .. } = &mut self.state {
            reason.clone_into(why);
        }
    }

    fn pixels(&mut self, now: f64, decode_ms: f64, effects: &mut Vec<DecoderEffect>) {
        self.fastest_ms = self.fastest_ms.min(decode_ms);
        if let DecoderState::Ready { decode_ms, .. } = &mut self.state {
            *decode_ms = self.fastest_ms;
        }
        match self.work.take() {
            Some(Work::Image { image, rows }) => {
                self.schedule.decoded(image, rows, now, decode_ms);
                self.decode_ms = Some(decode_ms);
                effects.push(DecoderEffect::ShowImage { image, rows });
            }
            Some(Work::Prefix(tokens)) => {
                self.schedule.lost();
                if tokens == self.prefix {
                    self.prefix_shown = true;
                    effects.push(DecoderEffect::ShowPrefix);
                }
            }
            Some(Work::Study(study, _)) => {
                self.schedule.lost();
                effects.push(DecoderEffect::ShowStudy(study));
            }
            Some(Work::Outdated) => self.schedule.lost(),
            None => {}
        }
    }

    /// Ends the workers. A GPU that was not asked for is replaced by the CPU; every other failure is the person's to know.
    fn fail(&mut self, reason: WorkerFailure, message: String, effects: &mut Vec<DecoderEffect>) {
        let on_gpu = matches!(
            &self.state,
            DecoderState::Starting(DecoderDevice::Webgpu { .. })
                | DecoderState::Ready { device: DecoderDevice::Webgpu { .. }, .. }
        );
        if self.choice == DeviceChoice::Auto && (on_gpu || reason == WorkerFailure::Gpu) {
            effects.push(DecoderEffect::Notice(problem::gpu_replaced(&message)));
            return self.start(DeviceChoice::Cpu, effects);
        }
        effects.push(DecoderEffect::EndWorker);
        self.gpu = None;
        self.state = DecoderState::Failed(Problem::Decoder(reason, message));
        // The upload may have been too much for it: it is not tried again and again.
        self.drop_upload();
    }

    fn drop_upload(&mut self) {
        self.upload = None;
        self.upload_state = None;
    }

    /// Gives an idle worker its next task.
    fn decode_next(&mut self, now: f64, effects: &mut Vec<DecoderEffect>) {
        if !self.is_ready() || self.work.is_some() {
            return;
        }
        if !self.prefix.is_empty() && !self.prefix_shown {
            self.schedule.hold();
            self.work = Some(Work::Prefix(self.prefix.clone()));
            let ticket = self.ticket();
            effects.push(DecoderEffect::DecodePrefix { ticket, tokens: self.prefix.clone() });
            return;
        }
        let urgent = |(study, _): &(Study, _)| !study.can_wait();
        if let Some(index) = self.studies.iter().position(urgent) {
            return self.decode_study(index, effects);
        }
        match self.schedule.next(now) {
            Next::Decode { image, rows } => {
                self.work = Some(Work::Image { image, rows });
                let ticket = self.ticket();
                effects.push(DecoderEffect::DecodeImage { ticket, image });
            }
            // One timer at a time: when it is over, the schedule is asked again.
            Next::Rest(ms) if !self.resting => {
                self.resting = true;
                effects.push(DecoderEffect::Wait(Timer::Rest, ms));
            }
            Next::Nothing if !self.studies.is_empty() => self.decode_study(0, effects),
            Next::Rest(_) | Next::Nothing => {}
        }
    }

    fn decode_study(&mut self, index: usize, effects: &mut Vec<DecoderEffect>) {
        let (study, tokens) = self.studies.remove(index);
        self.schedule.hold();
        self.work = Some(Work::Study(study, tokens.clone()));
        let ticket = self.ticket();
        effects.push(DecoderEffect::DecodeStudy { ticket, stages: study.has_stages(), tokens });
    }

    /// The worker loses what it is decoding.
    fn interrupt(&mut self) {
        if let Some(Work::Study(study, tokens)) = self.work.take()
            && !self.studies.iter().any(|(other, _)| other.is_like(study))
        {
            self.studies.insert(0, (study, tokens));
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, DecoderState::Ready { .. })
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }
}

#[cfg(test)]
mod tests;
