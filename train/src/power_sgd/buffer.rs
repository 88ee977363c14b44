//! Error buffers.

use dalle_kernels::formats::{F1_6_9, accumulate, decode};

/// How an error buffer is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 16 bits, 1-6-9.
    #[default]
    F1_6_9,
}

/// The values of a matrix.
pub(super) enum Buffer {
    F32(Vec<f32>),
    F1_6_9(Vec<F1_6_9>),
}

impl Buffer {
    pub fn zeros(precision: Precision, length: usize) -> Self {
        match precision {
            Precision::F32 => Self::F32(vec![0.0; length]),
            Precision::F1_6_9 => Self::F1_6_9(vec![F1_6_9::default(); length]),
        }
    }

    pub fn values(&self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.clone(),
            Self::F1_6_9(codes) => {
                let mut values = vec![0.0; codes.len()];
                decode(codes, &mut values);
                values
            }
        }
    }

    /// Adds `factor` · `values`.
    pub fn add(&mut self, values: &[f32], factor: f32) {
        match self {
            Self::F32(sums) => accumulate(values, factor, sums),
            Self::F1_6_9(sums) => accumulate(values, factor, sums),
        }
    }

    pub fn clear(&mut self) {
        match self {
            Self::F32(values) => values.fill(0.0),
            Self::F1_6_9(codes) => codes.fill(F1_6_9::default()),
        }
    }
}
