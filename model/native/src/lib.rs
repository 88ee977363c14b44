//! The I/O that the native programs `dalle` and `dalle-server` share: model folders, devices, memory checks and atomic writes.
//!
//! - [`ModelFolder`]: opens, checks, loads and writes a model on disk
//! - [`device`]: opens a device by its name, such as `cuda:1`
//! - [`image_file`]: image files from elsewhere, whole and upright
//! - [`memory`]: reads a device's free memory, and refuses what does not fit
//! - [`publish`]: files and folders that appear complete or not at all
//!
//! The browser does not use it: there the page downloads a model's files and WebGPU opens the device.

pub mod device;
mod folder;
pub mod image_file;
pub mod memory;
pub mod publish;

pub use folder::{FolderError, ModelFolder, Origin, read_clip_config, read_config, read_tokenizer};
