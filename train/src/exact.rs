//! Exact reading of numbers from JSON, for the state of a run.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

/// Reads a number exactly. serde_json alone can be off by one in the last place, and a resumed run must log what an undisturbed one
/// logs.
pub(crate) fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = Box::<RawValue>::deserialize(deserializer)?;
    number.get().parse().map_err(D::Error::custom)
}
