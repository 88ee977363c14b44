//! The page: a caption becomes text tokens here, image tokens on the server or in the prior worker, and pixels in the decoder worker.
//!
//! Pure, and tested natively; each state machine takes inputs and returns effects:
//!
//! - [`generation`]: from the request to the last token, with [`follower`] for the event stream ([`log`], [`reconnect`]) and
//!   [`ranking`] for which images are shown large
//! - [`decoder`]: the decoder worker's life, and with [`schedule`] what it decodes next
//! - [`prior`]: the prior in this browser, which takes the server's place; [`place`] says which of them samples
//! - [`form`]: from what is typed to a request; [`link`], [`packing`] and [`session`]: a generation as an address, and stored;
//!   [`metadata`]: as a PNG file
//! - [`history`]: the images that this browser keeps
//! - [`subject`]: the image that is explained; [`codebook`]: what its codes look like; [`stages`]: what the decoder makes of it;
//!   [`fidelity`]: how close an image is to another; [`lessons`]: cards that go with it
//! - [`vocabulary`]: what the model learned; [`model_card`]: what it cannot do
//! - [`phase`], [`problem`], [`format`], [`palette`], [`sse`]: words, colours, parsing
//!
//! With the browser:
//!
//! - [`controller`] executes the effects, through [`api`], [`event_stream`], [`worker_client`], [`storage`] and [`archive`], and shows where
//!   the machines stand in [`state::App`]; [`actions`] and [`startup`] give it inputs
//! - [`model_files`] deletes cached files of models that are no longer used
//! - [`explain`] holds what the explanation of an image shows, and changes it
//! - [`components`] show [`state::App`]; [`canvas`] paints tokens and pixels, [`sheet`] contact sheets
//! - [`spelling`] lets scripts ask how captions become ids
//!
//! It holds no network: those are in the workers' WebAssembly, which loads beside this one.

mod actions;
mod api;
mod archive;
mod browser;
mod canvas;
mod codebook;
mod components;
mod controller;
mod decoder;
mod event_stream;
mod explain;
mod fidelity;
mod follower;
mod form;
mod format;
mod generation;
mod history;
mod lessons;
mod link;
mod log;
mod metadata;
mod model;
mod model_card;
mod model_files;
mod packing;
mod palette;
mod phase;
mod place;
mod prior;
mod problem;
mod ranking;
mod reconnect;
mod saved;
mod schedule;
mod session;
mod sheet;
mod shown;
mod spelling;
mod sse;
mod stages;
mod startup;
mod state;
mod storage;
mod subject;
mod ticket;
mod vocabulary;
mod worker_client;

fn main() {
    console_error_panic_hook::set_once();
    leptos::mount::mount_to_body(components::Page);
}
