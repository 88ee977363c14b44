//! What the native programs `dalle` and `dalle-server` share beside the networks: everything about a model that does I/O.
//!
//! - [`ModelFolder`]: a model on disk, opened, checked, loaded and written
//! - [`device`]: a device by its name, such as `cuda:1`, opened and tried
//! - [`memory`]: how much memory a device has free, and the refusal of what does not fit
//! - [`publish`]: files and folders that appear complete or not at all
//!
//! The browser has its own: it downloads a model's files and opens a device through WebGPU.

pub mod device;
mod folder;
pub mod memory;
pub mod publish;

pub use folder::{FolderError, ModelFolder, read_clip_config, read_config, read_tokenizer};
