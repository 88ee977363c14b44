//! The decoder worker.
