//! 16-bit values in memory. Arithmetic is always in f32.

/// A type of values in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits with finer steps and less range.
    F16,
}

/// 2¹¹²: between the exponents of f16 and f32.
pub(crate) const F16_SCALE: f32 = f32::from_bits((127 + 112) << 23);

impl Storage {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The bits of the nearest 16-bit value; what is too large becomes infinite.
    pub(crate) fn narrow(self, x: f32) -> u16 {
        match self {
            Self::F16 => half::f16::from_f32_const(x).to_bits(),
            Self::F32 | Self::Bf16 => half::bf16::from_f32_const(x).to_bits(),
        }
    }
}

/// The value of the bits of a bf16.
#[inline(always)]
pub(crate) fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The value of the bits of an f16.
#[inline(always)]
pub(crate) fn widen_f16(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let magnitude = bits & 0x7fff;
    let finite = (f32::from_bits(magnitude << 13) * F16_SCALE).to_bits();
    // An exponent of ones is infinite or NaN in both types.
    let value = if magnitude < 0x7c00 { finite } else { 0x7f80_0000 | magnitude << 13 };
    f32::from_bits(value | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_16_bits_is_read_and_written_as_the_crate_half_does() {
        for bits in 0..=u16::MAX {
            let (f16, bf16) = (half::f16::from_bits(bits), half::bf16::from_bits(bits));
            let same = |got: f32, expected: f32| got == expected || got.is_nan() && expected.is_nan();
            assert!(same(widen_f16(bits), f16.to_f32()), "f16 {bits:x}");
            assert!(same(widen_bf16(bits), bf16.to_f32()), "bf16 {bits:x}");
            if !f16.is_nan() {
                assert_eq!(Storage::F16.narrow(f16.to_f32()), bits);
            }
            if !bf16.is_nan() {
                assert_eq!(Storage::Bf16.narrow(bf16.to_f32()), bits);
            }
        }
        assert_eq!(Storage::F16.narrow(1e6), half::f16::INFINITY.to_bits());
    }
}
