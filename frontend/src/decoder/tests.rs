//! The machine with a fake worker.

use super::*;

fn gpu() -> DecoderDevice {
    DecoderDevice::Webgpu { adapter: "A".into() }
}

fn cpu() -> DecoderDevice {
    DecoderDevice::Cpu { why: "w".into() }
}

/// Sends an input at time 0.
fn on(decoder: &mut Decoder, input: DecoderInput) -> Vec<DecoderEffect> {
    decoder.on(0.0, input)
}

/// A report of the present worker.
fn report(decoder: &mut Decoder, report: DecoderReport) -> Vec<DecoderEffect> {
    let worker = decoder.worker;
    on(decoder, DecoderInput::Report { worker, report })
}

fn ready(decoder: &mut Decoder, device: DecoderDevice) -> Vec<DecoderEffect> {
    report(decoder, DecoderReport::Starting { device: device.clone() });
    report(decoder, DecoderReport::Ready { device, decode_ms: 10.0 })
}

fn failed(reason: WorkerFailure) -> DecoderReport {
    DecoderReport::Failed { reason, message: "m".into() }
}

/// A decoder on the CPU, for two images of two rows.
fn decoder() -> Decoder {
    let mut decoder = Decoder::default();
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Cpu));
    ready(&mut decoder, cpu());
    on(&mut decoder, DecoderInput::Expect { images: 2, rows: 2 });
    decoder
}

fn pixels(decoder: &mut Decoder) -> Vec<DecoderEffect> {
    report(decoder, DecoderReport::Pixels { ticket: 0, decode_ms: 10.0 })
}

/// The image that the effects ask to decode.
fn decoded(effects: &[DecoderEffect]) -> Option<usize> {
    effects.iter().find_map(|effect| match effect {
        DecoderEffect::DecodeImage { image, .. } => Some(*image),
        _ => None,
    })
}

#[test]
fn the_timer_of_an_earlier_start_leaves_a_newer_worker_alone() {
    let mut decoder = Decoder::default();
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Webgpu));
    let effects = report(&mut decoder, DecoderReport::Starting { device: gpu() });
    let [DecoderEffect::Wait(old, _)] = effects[..] else { panic!("{effects:?}") };
    report(&mut decoder, failed(WorkerFailure::Gpu));
    assert!(matches!(decoder.state(), DecoderState::Failed(_)));

    // The person tries again, and the newer worker starts while the old timer still runs.
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Webgpu));
    let effects = report(&mut decoder, DecoderReport::Starting { device: gpu() });
    let [DecoderEffect::Wait(new, _)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(on(&mut decoder, DecoderInput::Elapsed(old)), []);
    assert_eq!(decoder.state(), &DecoderState::Starting(gpu()));
    assert!(on(&mut decoder, DecoderInput::Elapsed(new)).contains(&DecoderEffect::EndWorker));
}

#[test]
fn a_gpu_that_never_comes_back_is_replaced_by_the_cpu_unless_it_was_asked_for() {
    for (choice, replaced) in [(DeviceChoice::Auto, true), (DeviceChoice::Webgpu, false)] {
        let mut decoder = Decoder::default();
        on(&mut decoder, DecoderInput::Start(choice));
        report(&mut decoder, DecoderReport::Starting { device: gpu() });
        let effects = on(&mut decoder, DecoderInput::Elapsed(Timer::Gpu { worker: 1 }));
        let (program, choice) = (WorkerProgram::Cpu, DeviceChoice::Cpu);
        let started = DecoderEffect::StartWorker { worker: 2, program, choice };
        assert_eq!(effects.contains(&started), replaced, "{effects:?}");
        assert_eq!(matches!(decoder.state(), DecoderState::Failed(_)), !replaced);
    }
}

#[test]
fn a_gpu_that_is_ready_in_time_is_left_alone() {
    let mut decoder = Decoder::default();
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Auto));
    ready(&mut decoder, gpu());
    assert_eq!(on(&mut decoder, DecoderInput::Elapsed(Timer::Gpu { worker: 1 })), []);
    assert!(matches!(decoder.state(), DecoderState::Ready { .. }));
}

#[test]
fn reports_of_an_earlier_worker_are_ignored() {
    let mut decoder = decoder();
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Cpu));
    let late = DecoderInput::Report { worker: 1, report: failed(WorkerFailure::Fault) };
    assert_eq!(on(&mut decoder, late), []);
    assert_eq!(decoder.state(), &DecoderState::Waiting);
}

#[test]
fn images_are_decoded_one_at_a_time_and_settle() {
    let mut decoder = decoder();
    let effects = on(&mut decoder, DecoderInput::Complete(vec![2, 2]));
    assert_eq!(decoded(&effects), Some(0));
    assert_eq!(on(&mut decoder, DecoderInput::Complete(vec![2, 2])), [], "the worker is busy");
    assert!(!decoder.is_settled());
    let effects = pixels(&mut decoder);
    assert_eq!(effects[0], DecoderEffect::ShowImage { image: 0, rows: 2 });
    assert_eq!(decoded(&effects), Some(1));
    assert_eq!(pixels(&mut decoder), [DecoderEffect::ShowImage { image: 1, rows: 2 }]);
    assert!(decoder.is_settled());
}

#[test]
fn a_decode_for_an_earlier_generation_is_not_shown() {
    let mut decoder = decoder();
    on(&mut decoder, DecoderInput::Complete(vec![2, 0]));
    on(&mut decoder, DecoderInput::Expect { images: 1, rows: 2 });
    assert_eq!(on(&mut decoder, DecoderInput::Complete(vec![2])), [], "the worker is still busy");
    let effects = pixels(&mut decoder);
    assert!(!effects.iter().any(|effect| matches!(effect, DecoderEffect::ShowImage { .. })), "{effects:?}");
    assert_eq!(decoded(&effects), Some(0));
    assert_eq!(pixels(&mut decoder), [DecoderEffect::ShowImage { image: 0, rows: 2 }]);
}

#[test]
fn a_worker_that_failed_leaves_its_image_to_the_next() {
    let mut decoder = decoder();
    on(&mut decoder, DecoderInput::Complete(vec![2, 0]));
    report(&mut decoder, failed(WorkerFailure::Memory));
    assert!(!decoder.is_settled());
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Cpu));
    assert_eq!(decoded(&ready(&mut decoder, cpu())), Some(0));
}

#[test]
fn previews_rest_with_one_timer() {
    let mut decoder = decoder();
    on(&mut decoder, DecoderInput::Complete(vec![1, 1]));
    let effects = pixels(&mut decoder);
    assert!(effects.contains(&DecoderEffect::Wait(Timer::Rest, 10.0)), "{effects:?}");
    assert_eq!(decoder.on(5.0, DecoderInput::Complete(vec![1, 1])), [], "one timer is enough");
    assert_eq!(decoded(&decoder.on(10.0, DecoderInput::Elapsed(Timer::Rest))), Some(1));
}

#[test]
fn a_prefix_is_decoded_first_and_shown_if_it_is_still_wanted() {
    let prefix = |ids: &[u16]| DecoderInput::Prefix(ids.iter().copied().map(ImageToken).collect());
    let mut decoder = decoder();
    on(&mut decoder, DecoderInput::Complete(vec![2, 0]));
    assert_eq!(on(&mut decoder, prefix(&[1, 2])), [], "the worker is busy");
    let effects = pixels(&mut decoder);
    assert!(matches!(effects[1], DecoderEffect::DecodePrefix { .. }), "{effects:?}");
    on(&mut decoder, prefix(&[3, 4]));
    let effects = pixels(&mut decoder);
    assert!(
        matches!(effects[..], [DecoderEffect::DecodePrefix { .. }]),
        "another one is wanted: {effects:?}"
    );
    assert_eq!(pixels(&mut decoder), [DecoderEffect::ShowPrefix]);
    assert_eq!(on(&mut decoder, prefix(&[])), []);
}

#[test]
fn an_upload_waits_for_the_worker_and_is_sent_again_to_the_next() {
    let mut decoder = Decoder::default();
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Auto));
    assert_eq!(on(&mut decoder, DecoderInput::Upload), []);
    let effects = ready(&mut decoder, gpu());
    let [DecoderEffect::Encode { ticket }] = effects[..] else { panic!("{effects:?}") };
    report(&mut decoder, DecoderReport::Progress { part: WorkerPart::Encoder, loaded: 1, total: Some(2) });
    assert_eq!(decoder.upload(), Some(Upload::Fetching { loaded: 1, total: Some(2) }));
    // The GPU fails: the CPU gets the upload too.
    report(&mut decoder, failed(WorkerFailure::Gpu));
    assert_eq!(ready(&mut decoder, cpu()), [DecoderEffect::Encode { ticket }]);
    let tokens = vec![ImageToken(1)];
    let encoded = DecoderReport::Encoded { ticket, tokens: tokens.clone() };
    assert_eq!(report(&mut decoder, encoded), [DecoderEffect::Encoded(tokens)]);
    assert_eq!(decoder.upload(), None);
}

#[test]
fn an_upload_that_was_dropped_is_not_taken() {
    let mut decoder = decoder();
    let effects = on(&mut decoder, DecoderInput::Upload);
    let [DecoderEffect::Encode { ticket }] = effects[..] else { panic!("{effects:?}") };
    on(&mut decoder, DecoderInput::DropUpload);
    assert_eq!(report(&mut decoder, DecoderReport::Encoded { ticket, tokens: Vec::new() }), []);
    on(&mut decoder, DecoderInput::Upload);
    assert_eq!(report(&mut decoder, DecoderReport::NotEncoded { ticket, message: "m".into() }), []);
    assert_eq!(decoder.upload(), Some(Upload::Encoding), "the answer was for the first");
}

/// A decoder on the CPU whose worker found a GPU, and the report of the GPU's worker.
fn with_gpu() -> (Decoder, impl Fn(&mut Decoder, DecoderReport) -> Vec<DecoderEffect>) {
    let mut decoder = Decoder::default();
    let effects = on(&mut decoder, DecoderInput::Start(DeviceChoice::Auto));
    let (program, choice) = (WorkerProgram::Cpu, DeviceChoice::Auto);
    assert_eq!(effects, [DecoderEffect::StartWorker { worker: 1, program, choice }]);
    ready(&mut decoder, cpu());
    assert_eq!(report(&mut decoder, DecoderReport::GpuFound), [DecoderEffect::StartGpu { worker: 2 }]);
    on(&mut decoder, DecoderInput::Expect { images: 2, rows: 2 });
    (decoder, |decoder, report| on(decoder, DecoderInput::Report { worker: 2, report }))
}

fn gpu_ready(decode_ms: f64) -> DecoderReport {
    DecoderReport::Ready { device: gpu(), decode_ms }
}

#[test]
fn the_cpu_decodes_until_the_gpu_is_ready_and_then_the_gpu_goes_on() {
    let (mut decoder, gpus) = with_gpu();
    let progress = DecoderReport::Progress { part: WorkerPart::Program, loaded: 1, total: None };
    assert_eq!(gpus(&mut decoder, progress), []);
    assert!(matches!(decoder.state(), DecoderState::Ready { device: DecoderDevice::Cpu { .. }, .. }));
    assert_eq!(decoded(&on(&mut decoder, DecoderInput::Complete(vec![2, 0]))), Some(0));
    let effects = on(&mut decoder, DecoderInput::Upload);
    let [DecoderEffect::Encode { ticket }] = effects[..] else { panic!("{effects:?}") };
    gpus(&mut decoder, DecoderReport::Starting { device: gpu() });

    let effects = gpus(&mut decoder, gpu_ready(9.0));
    assert_eq!(effects[..2], [DecoderEffect::UseGpu, DecoderEffect::Encode { ticket }]);
    assert_eq!(decoded(&effects), Some(0), "what the CPU was decoding is decoded again");
    assert_eq!(decoder.state(), &DecoderState::Ready { device: gpu(), decode_ms: 9.0 });
    assert_eq!(gpus(&mut decoder, DecoderReport::GpuFound), [], "no second program for GPUs is started");
    let late = DecoderReport::Pixels { ticket: 1, decode_ms: 10.0 };
    assert_eq!(
        on(&mut decoder, DecoderInput::Report { worker: 1, report: late }),
        [],
        "the CPU's worker is gone"
    );
    assert_eq!(pixels(&mut decoder)[0], DecoderEffect::ShowImage { image: 0, rows: 2 });

    // A GPU that fails later is replaced by the CPU, for good.
    let effects = report(&mut decoder, failed(WorkerFailure::Gpu));
    let (program, choice) = (WorkerProgram::Cpu, DeviceChoice::Cpu);
    assert!(effects.contains(&DecoderEffect::StartWorker { worker: 3, program, choice }), "{effects:?}");
    ready(&mut decoder, cpu());
    assert_eq!(report(&mut decoder, DecoderReport::GpuFound), []);
}

#[test]
fn a_gpu_that_is_slower_or_fails_or_never_comes_back_leaves_the_cpu_at_work() {
    let cases: [(DecoderInput, &str); 3] = [
        (DecoderInput::Report { worker: 2, report: gpu_ready(11.0) }, "slower here: an image takes 11 ms"),
        (DecoderInput::Report { worker: 2, report: failed(WorkerFailure::Memory) }, "WebGPU failed: m"),
        (DecoderInput::Elapsed(Timer::Gpu { worker: 2 }), "did not finish"),
    ];
    for (input, words) in cases {
        let (mut decoder, gpus) = with_gpu();
        on(&mut decoder, DecoderInput::Complete(vec![2, 2]));
        let effects = gpus(&mut decoder, DecoderReport::Starting { device: gpu() });
        assert!(matches!(effects[..], [DecoderEffect::Wait(Timer::Gpu { worker: 2 }, _)]), "{effects:?}");
        assert_eq!(on(&mut decoder, input), [DecoderEffect::EndGpu]);
        let DecoderState::Ready { device: DecoderDevice::Cpu { why }, .. } = decoder.state() else {
            panic!("{:?}", decoder.state())
        };
        assert!(why.contains(words), "{why}");
        assert_eq!(pixels(&mut decoder)[0], DecoderEffect::ShowImage { image: 0, rows: 2 });
        assert_eq!(gpus(&mut decoder, gpu_ready(1.0)), [], "it has ended");
    }
}

#[test]
fn a_start_ends_the_search_for_a_gpu() {
    let (mut decoder, gpus) = with_gpu();
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Cpu));
    assert_eq!(gpus(&mut decoder, gpu_ready(1.0)), []);
    assert_eq!(on(&mut decoder, DecoderInput::Elapsed(Timer::Gpu { worker: 2 })), []);
    assert_eq!(decoder.state(), &DecoderState::Waiting);
}

#[test]
fn the_time_of_a_decode_is_that_of_the_fastest() {
    let mut decoder = decoder();
    for (decode_ms, shown) in [(12.0, 10.0), (4.0, 4.0), (5.0, 4.0)] {
        on(&mut decoder, DecoderInput::Expect { images: 1, rows: 1 });
        on(&mut decoder, DecoderInput::Complete(vec![1]));
        report(&mut decoder, DecoderReport::Pixels { ticket: 0, decode_ms });
        assert_eq!(decoder.state(), &DecoderState::Ready { device: cpu(), decode_ms: shown });
        assert_eq!(decoder.decode_ms(), Some(decode_ms));
    }
}

#[test]
fn what_explains_an_image_is_decoded_at_once_and_the_codebook_when_nothing_else_is() {
    let mut decoder = decoder();
    on(&mut decoder, DecoderInput::Complete(vec![2, 0]));
    let tokens = |token: u16| vec![ImageToken(token); 4];
    assert_eq!(on(&mut decoder, DecoderInput::Study(Study::Sheet(0), tokens(9))), []);
    assert_eq!(on(&mut decoder, DecoderInput::Study(Study::Moment(1), tokens(1))), []);
    // A later moment takes the place of one that still waits.
    assert_eq!(on(&mut decoder, DecoderInput::Study(Study::Moment(2), tokens(2))), []);
    on(&mut decoder, DecoderInput::Complete(vec![2, 2]));
    let effects = pixels(&mut decoder);
    assert_eq!(effects[0], DecoderEffect::ShowImage { image: 0, rows: 2 });
    assert!(
        matches!(&effects[1], DecoderEffect::DecodeStudy { tokens: asked, .. } if *asked == tokens(2)),
        "{effects:?}"
    );
    let effects = pixels(&mut decoder);
    assert_eq!((&effects[0], decoded(&effects)), (&DecoderEffect::ShowStudy(Study::Moment(2)), Some(1)));
    let effects = pixels(&mut decoder);
    assert!(
        matches!(effects.last(), Some(DecoderEffect::DecodeStudy { tokens: asked, .. }) if *asked == tokens(9)),
        "{effects:?}"
    );
    // Stages are asked for as such.
    on(&mut decoder, DecoderInput::Study(Study::Stages(4), tokens(4)));
    on(&mut decoder, DecoderInput::Study(Study::Changed(1, ImageToken(7)), tokens(7)));
    let effects = pixels(&mut decoder);
    assert!(matches!(effects.last(), Some(DecoderEffect::DecodeStudy { stages: true, .. })), "{effects:?}");
    let effects = pixels(&mut decoder);
    assert_eq!(effects[0], DecoderEffect::ShowStudy(Study::Stages(4)));
    // A worker that is replaced has lost it.
    on(&mut decoder, DecoderInput::Start(DeviceChoice::Cpu));
    let effects = ready(&mut decoder, cpu());
    assert!(matches!(effects.last(), Some(DecoderEffect::DecodeStudy { .. })), "{effects:?}");
    assert_eq!(pixels(&mut decoder), [DecoderEffect::ShowStudy(Study::Changed(1, ImageToken(7)))]);
}
