//! Writes logged values as TensorBoard event files, for `tensorboard --logdir RUN`.
//!
//! Implemented here, because the format is two checksums and three protobuf messages, and the crates for it need a protobuf compiler
//! or an HTTP client to build. A file is a series of records (length, its checksum, an `Event`, its checksum).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An open event file.
#[derive(Debug)]
pub(crate) struct EventFile(File);

impl EventFile {
    /// Creates a file in `folder` for values after update `step`. TensorBoard then ignores values of later updates in older files,
    /// which a killed run may have logged.
    pub(crate) fn begin(folder: &Path, step: u64) -> io::Result<Self> {
        let (now, process) = (now(), std::process::id());
        let name = format!("events.out.tfevents.{:010}.{process}.{step}", now as u64);
        let mut file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
        file.write_all(&record(&version(now)))?;
        file.write_all(&record(&start(now, step + 1)))?;
        Ok(Self(file))
    }

    /// Writes values logged after update `step`.
    pub(crate) fn write<'a>(
        &mut self,
        step: u64,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) -> io::Result<()> {
        self.0.write_all(&record(&scalars(now(), step, values)))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    // A clock set before 1970 gives 0.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Frames an event as a record with checksums.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length, masked_crc(&length).as_slice(), event, &masked_crc(event)].concat()
}

fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// `Event { wall_time, file_version }`, the first event of a file.
fn version(time: f64) -> Vec<u8> {
    [double(1, time), message(3, b"brain.Event:2")].concat()
}

/// `Event { wall_time, step, session_log: SessionLog { status: START } }`: values from `step` on replace older ones.
fn start(time: f64, step: u64) -> Vec<u8> {
    [double(1, time), integer(2, step), message(7, &integer(1, 1))].concat()
}

/// `Event { wall_time, step, summary: Summary { value: [Value { tag, simple_value }] } }`.
fn scalars<'a>(time: f64, step: u64, values: impl Iterator<Item = (&'a str, f64)>) -> Vec<u8> {
    let values =
        values.map(|(tag, value)| message(1, &[message(1, tag.as_bytes()), float(2, value as f32)].concat()));
    let summary: Vec<u8> = values.flatten().collect();
    [double(1, time), integer(2, step), message(5, &summary)].concat()
}

/// A protobuf varint: seven bits per byte, lowest first.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

// Protobuf fields: number and wire type, then the content.
fn integer(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn float(field: u64, value: f32) -> Vec<u8> {
    [varint(field << 3 | 5), value.to_le_bytes().to_vec()].concat()
}

fn message(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_file_has_the_bytes_that_tensorboard_writes() {
        let begin = 1.75e9;
        let events = [
            version(begin),
            start(begin + 0.5, 151),
            scalars(begin + 1.25, 200, [("gradient norm", 0.1), ("loss", -3e30)].into_iter()),
            scalars(begin + 2.0, 3_000_000_000, [("τ", 0.0625)].into_iter()),
        ];
        let ours: Vec<u8> = events.iter().flat_map(|event| record(event)).collect();
        assert!(ours == include_bytes!("../tests/fixtures/event_file/expected.tfevents"));
    }
}
