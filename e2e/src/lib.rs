//! End-to-end tests of the built programs, and of the page in a real browser.
//!
//! This crate only contains `tests/browser`. It uses the project from outside, through HTTP, the page and the commands.
