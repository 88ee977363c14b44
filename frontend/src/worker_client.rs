//! The page's end of the message port to the decoder worker.

use dalle_shared::{DecoderCommand, DecoderFailure, DecoderProgram, DecoderReport};
use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{ErrorEvent, MessageEvent, Worker, WorkerOptions, WorkerType};

/// A running worker. Dropping it ends it.
pub struct WorkerClient {
    worker: Worker,
    _on_message: Closure<dyn Fn(MessageEvent)>,
    _on_error: Closure<dyn Fn(ErrorEvent)>,
}

impl WorkerClient {
    /// Starts a worker with this program. Each report goes to `listen`, with pixels if it has some; so does a crash, as
    /// [`DecoderReport::Failed`].
    ///
    /// # Errors
    /// If the browser refuses to start it.
    pub fn start(
        program: DecoderProgram,
        listen: impl Fn(DecoderReport, Vec<u8>) + Clone + 'static,
    ) -> Result<Self, JsValue> {
        let options = WorkerOptions::new();
        options.set_name(program.name());
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options("worker.js", &options)?;
        let on_message = Closure::new({
            let listen = listen.clone();
            move |event: MessageEvent| {
                let (report, pixels) = read(&Array::from(&event.data()));
                listen(report, pixels);
            }
        });
        let on_error = Closure::new(move |event: ErrorEvent| listen(crash(&event.message()), Vec::new()));
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        Ok(Self { worker, _on_message: on_message, _on_error: on_error })
    }

    /// Sends a command. If that fails, the worker has crashed, which it reports itself.
    pub fn send(&self, command: &DecoderCommand) {
        self.send_with(command, &JsValue::NULL);
    }

    /// Sends a command with an attachment.
    pub fn send_with(&self, command: &DecoderCommand, attached: &JsValue) {
        if let Ok(json) = serde_json::to_string(command) {
            let _ = self.worker.post_message(&Array::of2(&json.into(), attached));
        }
    }
}

impl Drop for WorkerClient {
    fn drop(&mut self) {
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.worker.terminate();
    }
}

fn read(message: &Array) -> (DecoderReport, Vec<u8>) {
    let json = message.get(0).as_string().unwrap_or_default();
    let report = serde_json::from_str(&json).unwrap_or_else(|error| DecoderReport::Failed {
        reason: DecoderFailure::Fault,
        message: format!("the page could not read a report of its decoder: {error}"),
    });
    let buffer = message.get(1);
    let pixels = if buffer.is_null() { Vec::new() } else { Uint8Array::new(&buffer).to_vec() };
    (report, pixels)
}

/// The report of a worker that crashed without one. WebAssembly traps in this way when it runs out of memory.
fn crash(message: &str) -> DecoderReport {
    let trapped = ["unreachable", "memory", "RangeError"].iter().any(|word| message.contains(word));
    DecoderReport::Failed {
        reason: if trapped { DecoderFailure::Memory } else { DecoderFailure::Fault },
        message: format!("the decoder stopped ({message})"),
    }
}
