//! The worker's end of the message port to the page.

use dalle_shared::{WorkerFailure, WorkerReport};
use futures_channel::mpsc::{UnboundedReceiver, unbounded};
use js_sys::{Array, Uint8Array};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;
use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

use crate::failure::Failure;

/// This worker's global scope.
pub fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Sends a report without pixels. A failure to send cannot be reported.
pub fn send(report: &impl Serialize) {
    if let Ok(json) = serde_json::to_string(report) {
        let _ = scope().post_message(&Array::of2(&json.into(), &JsValue::NULL));
    }
}

/// Sends a report with pixels. The buffer is transferred, not copied.
pub fn send_pixels(report: &impl Serialize, pixels: &[u8]) {
    if let Ok(json) = serde_json::to_string(report) {
        let buffer = Uint8Array::from(pixels).buffer();
        let message = Array::of2(&json.into(), &buffer);
        let _ = scope().post_message_with_transfer(&message, &Array::of1(&buffer));
    }
}

/// Sends a failure.
pub fn send_failure(failure: Failure) {
    send(&WorkerReport::Failed { reason: failure.reason, message: failure.message });
}

/// All further commands of the page in order, each with its attachment.
pub fn commands<C: DeserializeOwned + 'static>() -> UnboundedReceiver<(C, JsValue)> {
    let (sender, receiver) = unbounded();
    let listener = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
        let message = Array::from(&event.data());
        match serde_json::from_str(&message.get(0).as_string().unwrap_or_default()) {
            Ok(command) => {
                let _ = sender.unbounded_send((command, message.get(1)));
            }
            Err(error) => send_failure(misread(&error)),
        }
    });
    scope().set_onmessage(Some(listener.as_ref().unchecked_ref()));
    // The listener lives as long as the worker.
    listener.forget();
    receiver
}

/// The failure of a command that cannot be read.
pub fn misread(error: &serde_json::Error) -> Failure {
    let message = format!("the worker could not read a command of the page: {error}");
    Failure::new(WorkerFailure::Fault, message)
}

/// Milliseconds of the browser's clock.
pub fn now() -> f64 {
    scope().performance().map_or_else(js_sys::Date::now, |clock| clock.now())
}
