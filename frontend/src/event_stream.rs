//! The event stream of a generation, read with `fetch`.

use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{AbortController, AbortSignal, ReadableStreamDefaultReader};

use crate::api;
use crate::follower::Signal;
use crate::problem::Problem;
use crate::sse::Parser;

/// An open stream. Dropping it closes the connection.
pub struct EventStream(Option<AbortController>);

impl EventStream {
    /// Opens the stream at `url`, to continue after event `after`. `listen` is called with all that happens to it.
    pub fn open(url: &str, after: Option<u64>, listen: impl Fn(Signal) + 'static) -> Self {
        let url = after.map_or_else(|| url.to_owned(), |after| format!("{url}?after={after}"));
        let abort = AbortController::new().ok();
        let signal = abort.as_ref().map(AbortController::signal);
        spawn_local(async move {
            let end = read(&url, signal.as_ref(), &listen).await;
            listen(Signal::Closed(end));
        });
        Self(abort)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if let Some(abort) = &self.0 {
            abort.abort();
        }
    }
}

async fn read(url: &str, signal: Option<&AbortSignal>, listen: &impl Fn(Signal)) -> Result<(), Problem> {
    let response = api::events(url, signal).await?;
    listen(Signal::Opened);
    // 204: the log has ended and all of it was read.
    let Some(body) = response.body() else { return Ok(()) };
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let mut parser = Parser::default();
    // A broken connection is an error here, and ends the stream like its end.
    while let Ok(chunk) = JsFuture::from(reader.read()).await {
        let Some(bytes) = bytes(&chunk) else { break };
        listen(Signal::Alive);
        match parser.feed(&bytes) {
            Ok(messages) => {
                for message in messages {
                    listen(Signal::Event(serde_json::from_str(&message).map_err(|error| error.to_string())));
                }
            }
            Err(_) => listen(Signal::Event(Err("an event is longer than this page accepts".to_owned()))),
        }
    }
    Ok(())
}

/// The bytes of a chunk; None at the end of the stream.
fn bytes(chunk: &JsValue) -> Option<Vec<u8>> {
    let value = Reflect::get(chunk, &"value".into()).ok()?;
    value.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec)
}
