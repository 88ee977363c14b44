//! Tests of the running whole: the programs as they are shipped, and the page in a real browser.
//!
//! This crate holds nothing but `tests/browser`, which sees the project only from outside: HTTP, the page, the commands.
