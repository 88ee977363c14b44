//! The page: a caption becomes text tokens here, image tokens on the server, and pixels in the decoder worker.
//!
//! - [`components`] show [`state::App`], which is all that the page knows
//! - [`startup`] finds the server and its model, [`generation`] follows a generation through [`api`], [`event_stream`] and [`log`]
//! - [`reconnect`] says when a stream that ended early is opened again, and when it is given up; [`sse`] parses it
//! - [`ranking`] says which of the pictures drawn are shown large
//! - [`decoding`] feeds the decoder worker through [`worker_client`] as [`schedule`] says; [`canvas`] draws
//! - [`spelling`] lets scripts ask how captions become ids
//! - [`start`] is what pictures begin with: rows of a person's own picture, or of one drawn before
//! - [`link`] and [`session`] let a generation be shared and survive a reload; [`packing`] makes tokens short enough for a link
//! - [`problem`] puts what went wrong into sentences
//!
//! It holds no network: Burn is in the worker's WebAssembly, which loads beside this one.

mod api;
mod browser;
mod canvas;
mod components;
mod decoding;
mod event_stream;
mod format;
mod generation;
mod link;
mod log;
mod packing;
mod palette;
mod problem;
mod ranking;
mod reconnect;
mod schedule;
mod session;
mod spelling;
mod sse;
mod start;
mod startup;
mod state;
mod worker_client;

fn main() {
    console_error_panic_hook::set_once();
    leptos::mount::mount_to_body(components::Page);
}
