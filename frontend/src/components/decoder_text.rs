//! Where the decoder stands, in words.

use dalle_shared::{DecoderDevice, WorkerPart};

use crate::decoder::DecoderState;
use crate::format;

/// A few words, for the header and for an image that has no pixels yet.
pub fn short(state: &DecoderState) -> String {
    match state {
        DecoderState::Waiting => "Decoder: waiting".to_owned(),
        DecoderState::Loading { part, loaded, total } => {
            let what = match part {
                WorkerPart::Program => "Decoder",
                WorkerPart::Weights => "Weights",
                WorkerPart::Encoder => "Encoder",
            };
            match total {
                Some(total) => format!("{what}: {} of {}", format::bytes(*loaded), format::bytes(*total)),
                None => format!("{what}: {}", format::bytes(*loaded)),
            }
        }
        DecoderState::Starting(device) => format!("Starting on {}", name(device)),
        DecoderState::Ready { device, .. } => name(device),
        DecoderState::Failed(_) => "No decoder".to_owned(),
    }
}

/// What it is, and why it decodes where it does.
pub fn long(state: &DecoderState) -> String {
    match state {
        DecoderState::Ready { device, decode_ms } => {
            let why = match device {
                DecoderDevice::Cpu { why } => format!(", because {why}"),
                DecoderDevice::Webgpu { .. } => String::new(),
            };
            format!(
                "This browser decodes tokens to pixels on {}{why}. An image takes {decode_ms:.0} ms.",
                name(device)
            )
        }
        _ => "The decoder turns tokens into pixels in this browser.".to_owned(),
    }
}

/// The share of the present download in percent, for a bar.
pub fn share(state: &DecoderState) -> f64 {
    match *state {
        DecoderState::Loading { loaded, total: Some(total), .. } if total > 0 => {
            loaded as f64 / total as f64 * 100.0
        }
        DecoderState::Waiting | DecoderState::Loading { .. } => 0.0,
        _ => 100.0,
    }
}

fn name(device: &DecoderDevice) -> String {
    match device {
        DecoderDevice::Webgpu { adapter } => format!("WebGPU: {adapter}"),
        DecoderDevice::Cpu { .. } => "CPU (wasm SIMD)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_says_what_it_is_and_how_far() {
        let loading = |part, total| DecoderState::Loading { part, loaded: 425_000, total };
        assert_eq!(short(&loading(WorkerPart::Program, Some(3_800_000))), "Decoder: 425 kB of 3.8 MB");
        assert_eq!(short(&loading(WorkerPart::Weights, None)), "Weights: 425 kB");
        assert_eq!(share(&loading(WorkerPart::Program, Some(850_000))), 50.0);
        assert_eq!(share(&loading(WorkerPart::Program, None)), 0.0);
    }

    #[test]
    fn the_cpu_says_why_it_decodes() {
        let device = DecoderDevice::Cpu { why: "this browser offers no WebGPU adapter".into() };
        let text = long(&DecoderState::Ready { device, decode_ms: 61.4 });
        assert!(
            text.contains("because this browser offers no WebGPU adapter. An image takes 61 ms."),
            "{text}"
        );
    }
}
