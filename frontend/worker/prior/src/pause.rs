//! Pauses, in which the browser delivers messages to the worker.

use std::cell::RefCell;
use std::rc::Rc;

use futures_channel::oneshot::{Sender, channel};
use wasm_bindgen::prelude::*;
use web_sys::{MessageChannel, MessageEvent, MessagePort};

/// Makes pauses. A message that it sends to itself arrives after those of the page; timers would wait four milliseconds.
pub struct Pauses {
    port: MessagePort,
    waiting: Rc<RefCell<Option<Sender<()>>>>,
    _on_message: Closure<dyn Fn(MessageEvent)>,
}

impl Pauses {
    /// # Errors
    /// The browser has no message channels.
    pub fn new() -> Result<Self, JsValue> {
        let channel = MessageChannel::new()?;
        let waiting = Rc::new(RefCell::new(None::<Sender<()>>));
        let on_message = Closure::<dyn Fn(MessageEvent)>::new({
            let waiting = Rc::clone(&waiting);
            move |_| {
                if let Some(sender) = waiting.take() {
                    let _ = sender.send(());
                }
            }
        });
        channel.port1().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        Ok(Self { port: channel.port2(), waiting, _on_message: on_message })
    }

    /// Lets the browser deliver what has arrived.
    pub async fn pause(&self) {
        let (sender, receiver) = channel();
        self.waiting.replace(Some(sender));
        if self.port.post_message(&JsValue::NULL).is_ok() {
            let _ = receiver.await;
        }
    }
}
