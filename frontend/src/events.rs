//! The event stream of a generation as a Rust stream.

use dalle_shared::GenerationEvent;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use wasm_bindgen::prelude::*;
use web_sys::{EventSource, MessageEvent};

/// The names of [`dalle_shared::EventKind`].
const NAMES: [&str; 6] = ["started", "tokens", "scored", "finished", "cancelled", "failed"];

/// What the stream says.
#[derive(Debug)]
pub enum Signal {
    /// An event, or that it could not be read.
    Event(Result<GenerationEvent, String>),
    /// The connection broke. Nothing comes after this.
    Lost,
}

/// An open stream; dropping it closes the connection.
///
/// The browser's own reconnecting is not used: it knows neither the difference between a server that is gone and one that
/// has forgotten, nor an end of patience.
pub struct Events {
    source: EventSource,
    /// What comes, in order.
    pub signals: UnboundedReceiver<Signal>,
    _on_event: Closure<dyn Fn(MessageEvent)>,
    _on_error: Closure<dyn Fn()>,
}

impl Events {
    /// Opens the stream at `url`, to continue after event `after`.
    ///
    /// # Errors
    /// If the browser refuses the address.
    pub fn open(url: &str, after: Option<u64>) -> Result<Self, JsValue> {
        let source = match after {
            Some(after) => EventSource::new(&format!("{url}?after={after}"))?,
            None => EventSource::new(url)?,
        };
        let (sender, signals) = unbounded();
        let on_event = Closure::new(on_event(sender.clone()));
        for name in NAMES {
            source.add_event_listener_with_callback(name, on_event.as_ref().unchecked_ref())?;
        }
        let on_error = Closure::new({
            let source = source.clone();
            move || {
                source.close();
                let _ = sender.unbounded_send(Signal::Lost);
            }
        });
        source.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        Ok(Self { source, signals, _on_event: on_event, _on_error: on_error })
    }
}

fn on_event(sender: UnboundedSender<Signal>) -> impl Fn(MessageEvent) {
    move |message| {
        // An `error` frame of the server is no MessageEvent of ours; everything else has text.
        if let Some(text) = message.data().as_string() {
            let event = serde_json::from_str(&text).map_err(|error| error.to_string());
            let _ = sender.unbounded_send(Signal::Event(event));
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.source.set_onerror(None);
        self.source.close();
    }
}
