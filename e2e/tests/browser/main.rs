//! The running whole: the server that is shipped, the page in Chromium, and the command `dalle` to compare with.
//!
//! One file for each thing that must hold; [`fixture`] is what they stand on. Each test has its own server and browser, so
//! they run in any order, side by side or one by one. A wait that ends in vain leaves a screenshot and says where.

mod access;
mod apart;
mod busy;
#[path = "../../../shared/tests/captions/mod.rs"]
mod captions;
mod choosing;
mod drawing;
mod fixture;
mod keyboard;
mod looks;
mod reloading;
mod restarting;
mod spelling;
mod starting;
mod stopping;
mod streaming;
mod webgpu;
