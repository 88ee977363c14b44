//! The subcommands of `dalle`. Each module has the arguments of one (`Args`) and its entry point (`run`).

pub mod bench;
pub mod caption;
pub mod clip;
pub mod curve;
pub mod data;
pub mod dvae;
mod dvae_train;
pub mod eval;
pub mod export;
pub mod finetune;
pub mod import;
pub mod info;
mod options;
mod outputs;
pub mod plan;
mod plan_cluster;
pub mod prior;
mod ranks;
mod run;
mod run_hooks;
pub mod sample;
pub mod tokenizer;
mod training_data;
mod values;

pub use ranks::ShownByFirst;
