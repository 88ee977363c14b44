//! The page's end of the message port to a worker.

use dalle_shared::{WorkerFailure, WorkerProgram, WorkerReport};
use js_sys::{Array, Uint8Array};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;
use web_sys::{ErrorEvent, MessageEvent, Worker, WorkerOptions, WorkerType};

use crate::browser;

/// A running worker. Dropping it ends it.
pub struct WorkerClient {
    worker: Worker,
    _on_message: Closure<dyn Fn(MessageEvent)>,
    _on_error: Closure<dyn Fn(ErrorEvent)>,
}

impl WorkerClient {
    /// Starts a worker with this program. Each report goes to `listen`, with pixels if it has some; so does a crash, as
    /// [`WorkerReport::Failed`].
    ///
    /// # Errors
    /// If the browser refuses to start it.
    pub fn start<R: DeserializeOwned + From<WorkerReport>>(
        program: WorkerProgram,
        listen: impl Fn(R, Vec<u8>) + Clone + 'static,
    ) -> Result<Self, JsValue> {
        let options = WorkerOptions::new();
        options.set_name(program.name());
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options(&browser::meta("worker").unwrap_or_default(), &options)?;
        let on_message = Closure::new({
            let listen = listen.clone();
            move |event: MessageEvent| {
                let (report, pixels) = read(&Array::from(&event.data()));
                listen(report, pixels);
            }
        });
        let on_error =
            Closure::new(move |event: ErrorEvent| listen(crash(&event.message()).into(), Vec::new()));
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        Ok(Self { worker, _on_message: on_message, _on_error: on_error })
    }

    /// Sends a command. If that fails, the worker has crashed, which it reports itself.
    pub fn send(&self, command: &impl Serialize) {
        self.send_with(command, &JsValue::NULL);
    }

    /// Sends a command with an attachment.
    pub fn send_with(&self, command: &impl Serialize, attached: &JsValue) {
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

fn read<R: DeserializeOwned + From<WorkerReport>>(message: &Array) -> (R, Vec<u8>) {
    let json = message.get(0).as_string().unwrap_or_default();
    let report = serde_json::from_str(&json).unwrap_or_else(|error| {
        let message = format!("the page could not read a report of its worker: {error}");
        WorkerReport::Failed { reason: WorkerFailure::Fault, message }.into()
    });
    let buffer = message.get(1);
    let pixels = if buffer.is_null() { Vec::new() } else { Uint8Array::new(&buffer).to_vec() };
    (report, pixels)
}

/// The report of a worker that crashed without one. WebAssembly traps in this way when it runs out of memory.
fn crash(message: &str) -> WorkerReport {
    let trapped = ["unreachable", "memory", "RangeError"].iter().any(|word| message.contains(word));
    WorkerReport::Failed {
        reason: if trapped { WorkerFailure::Memory } else { WorkerFailure::Fault },
        message: format!("a worker stopped ({message})"),
    }
}
