//! How values of f32 are sent.

use dalle_kernels::formats::{self, F1_6_9, Stored};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The format of values between ranks. Sums are taken in f32, whatever the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wire {
    /// 32 bits: exact.
    #[default]
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits; above 65,504 it is infinite.
    F16,
    /// 16 bits with 6 exponent bits, which saturates at 15.984375 ([`F1_6_9`]).
    F1_6_9,
}

/// Values converted at once: a buffer that stays in the cache.
const BLOCK: usize = 1024;

impl Wire {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::F16, Self::F1_6_9];

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 | Self::F1_6_9 => 2,
        }
    }

    /// Values as bytes, filled up with zeros to `length` values.
    pub(crate) fn encode(self, values: &[f32], length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length * self.bytes()];
        let mut codes = [0; BLOCK];
        for (values, bytes) in values.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK * self.bytes())) {
            let codes = &mut codes[..values.len()];
            match self {
                Self::F32 => {
                    for (value, bytes) in values.iter().zip(bytes.chunks_exact_mut(4)) {
                        bytes.copy_from_slice(&value.to_le_bytes());
                    }
                    continue;
                }
                Self::Bf16 => {
                    let mut halves = [bf16::ZERO; BLOCK];
                    halves[..values.len()].convert_from_f32_slice(values);
                    copy(&halves, codes, |half| half.to_bits());
                }
                Self::F16 => {
                    let mut halves = [f16::ZERO; BLOCK];
                    halves[..values.len()].convert_from_f32_slice(values);
                    copy(&halves, codes, |half| half.to_bits());
                }
                Self::F1_6_9 => {
                    let mut halves = [F1_6_9::default(); BLOCK];
                    formats::encode(values, &mut halves[..values.len()]);
                    copy(&halves, codes, F1_6_9::to_bits);
                }
            }
            for (code, bytes) in codes.iter().zip(bytes.chunks_exact_mut(2)) {
                bytes.copy_from_slice(&code.to_le_bytes());
            }
        }
        bytes
    }

    /// As many values as `values` has room for, from bytes; each goes through `keep` with what is there.
    fn decode_with(self, bytes: &[u8], values: &mut [f32], keep: impl Fn(&mut f32, f32)) {
        let mut block = [0.0; BLOCK];
        for (values, bytes) in values.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK * self.bytes())) {
            let block = &mut block[..values.len()];
            match self {
                Self::F32 => {
                    for (value, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
                        *value = f32::from_le_bytes(*bytes);
                    }
                }
                Self::Bf16 => {
                    let mut halves = [bf16::ZERO; BLOCK];
                    codes(bytes, &mut halves, bf16::from_bits);
                    halves[..values.len()].convert_to_f32_slice(block);
                }
                Self::F16 => {
                    let mut halves = [f16::ZERO; BLOCK];
                    codes(bytes, &mut halves, f16::from_bits);
                    halves[..values.len()].convert_to_f32_slice(block);
                }
                Self::F1_6_9 => {
                    let mut halves = [F1_6_9::default(); BLOCK];
                    codes(bytes, &mut halves, F1_6_9::from_bits);
                    formats::decode(&halves[..values.len()], block);
                }
            }
            for (value, new) in values.iter_mut().zip(block) {
                keep(value, *new);
            }
        }
    }

    /// Reads as many values as `values` has room for.
    pub(crate) fn decode(self, bytes: &[u8], values: &mut [f32]) {
        self.decode_with(bytes, values, |value, new| *value = new);
    }

    /// Reads as many values as `sums` has room for, and adds them.
    pub(crate) fn add(self, bytes: &[u8], sums: &mut [f32]) {
        self.decode_with(bytes, sums, |sum, new| *sum += new);
    }

    /// A value as another rank receives it.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::Bf16 => bf16::from_f32(value).to_f32(),
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::F1_6_9 => F1_6_9::from_f32(value).to_f32(),
        }
    }
}

fn copy<T: Copy>(from: &[T], to: &mut [u16], bits: impl Fn(T) -> u16) {
    for (from, to) in from.iter().zip(to) {
        *to = bits(*from);
    }
}

fn codes<T>(bytes: &[u8], to: &mut [T], from_bits: impl Fn(u16) -> T) {
    for (bytes, to) in bytes.as_chunks().0.iter().zip(to) {
        *to = from_bits(u16::from_le_bytes(*bytes));
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F1_6_9 => "1-6-9",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_values_comes_back_as_each_alone_does() {
        for wire in Wire::ALL {
            for length in [0, 1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17] {
                let values: Vec<f32> = (0..length).map(|i| (i as f32 - 40.5) * 1.618e-3).collect();
                let bytes = wire.encode(&values, length + 5);
                assert_eq!(bytes.len(), (length + 5) * wire.bytes());
                let mut received = vec![1.0; length + 5];
                wire.decode(&bytes, &mut received);
                let rounded = values.iter().map(|value| wire.round(*value)).chain([0.0; 5]);
                assert_eq!(received, rounded.collect::<Vec<_>>(), "{wire}");
                wire.add(&bytes, &mut received);
                assert!(received.iter().zip(&values).all(|(sum, value)| *sum == 2.0 * wire.round(*value)));
            }
        }
    }
}
