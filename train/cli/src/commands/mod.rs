//! The subcommands of `dalle`: each file holds the arguments of one (`Args`) and what it does (`run`).

pub mod bench;
pub mod caption;
pub mod clip;
pub mod data;
pub mod dvae;
pub mod eval;
pub mod import;
mod outputs;
pub mod plan;
pub mod prior;
mod run;
pub mod sample;
mod sampling;
pub mod tokenizer;
mod values;
