//! 16-bit floating-point formats with six exponent bits (appendix D of the paper): [`F1_6_9`] for the running mean, error buffers
//! and what ranks send each other, [`F0_6_10`] for the running variance.
//!
//! Both round to nearest, ties to even, keep subnormal numbers and saturate instead of overflowing: their largest value is
//! 15.984375, and infinity becomes it. NaN stays NaN. `docs/decisions/0013-training-on-a-cluster.md` gives the reasons.
//!
//! ```
//! use dalle_kernels::formats::{F1_6_9, decode, encode};
//!
//! let mut codes = [F1_6_9::default(); 3];
//! encode(&[0.1, -3.0, f32::INFINITY], &mut codes);
//! let mut values = [0.0; 3];
//! decode(&codes, &mut values);
//! assert_eq!(values, [0.099_975_586, -3.0, 15.984_375]);
//! ```

use pulp::{Simd, WithSimd};

use crate::simd::Processor;

/// Exponent bias of both formats: the largest exponent field, 63, is 2³.
const BIAS: u32 = 60;

/// A type that values are kept in between updates.
pub trait Stored: Copy + Default + Send + Sync + 'static {
    /// The nearest value.
    fn from_f32(value: f32) -> Self;
    /// The value, exactly.
    fn to_f32(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

/// 1 sign bit, 6 exponent bits, 9 significand bits. The code of −0 is NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct F1_6_9(u16);

/// 6 exponent bits and 10 significand bits, without sign: negative values become 0. The greatest code is NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct F0_6_10(u16);

impl F1_6_9 {
    const SIGN: u32 = 0x8000;

    /// NaN.
    pub const NAN: Self = Self(0x8000);
    /// The largest value, 15.984375.
    pub const MAX: Self = Self(0x7fff);

    /// The value of a code.
    pub fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The code.
    #[inline(always)]
    pub fn to_bits(self) -> u16 {
        self.0
    }
}

impl F0_6_10 {
    /// NaN.
    pub const NAN: Self = Self(0xffff);
    /// The largest value, 15.984375.
    pub const MAX: Self = Self(0xfffe);

    /// The value of a code.
    pub fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The code.
    #[inline(always)]
    pub fn to_bits(self) -> u16 {
        self.0
    }
}

impl Stored for F1_6_9 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let magnitude = magnitude::<9>(f32::from_bits(bits & 0x7fff_ffff)).min(u32::from(Self::MAX.0));
        let signed = if magnitude == 0 { 0 } else { magnitude | (bits >> 16 & Self::SIGN) };
        Self(if value.is_nan() { Self::NAN.0 } else { signed as u16 })
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        let code = u32::from(self.0);
        let value = value::<9>(code & 0x7fff).to_bits() | (code & Self::SIGN) << 16;
        if self.0 == Self::NAN.0 { f32::NAN } else { f32::from_bits(value) }
    }
}

impl Stored for F0_6_10 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let positive = if value > 0.0 { value } else { 0.0 };
        let code = magnitude::<10>(positive).min(u32::from(Self::MAX.0));
        Self(if value.is_nan() { Self::NAN.0 } else { code as u16 })
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        let value = value::<10>(u32::from(self.0));
        if self.0 == Self::NAN.0 { f32::NAN } else { value }
    }
}

/// A power of two whose last place is that of the formats' subnormal numbers: adding it rounds to them.
const fn subnormal_place(mantissa: u32) -> u32 {
    (127 + 1 - BIAS - mantissa + 23) << 23
}

/// The smallest normal number.
const MIN_NORMAL: f32 = f32::from_bits((127 + 1 - BIAS) << 23);

/// The code of a value that is not negative, which may be above the format's largest.
#[inline(always)]
fn magnitude<const MANTISSA: u32>(value: f32) -> u32 {
    let (bits, shift) = (value.to_bits(), 23 - MANTISSA);
    let even = bits >> shift & 1;
    let normal = (bits + (1 << (shift - 1)) - 1 + even) >> shift;
    let normal = normal.wrapping_sub((127 - BIAS) << MANTISSA);
    let place = subnormal_place(MANTISSA);
    let subnormal = (value + f32::from_bits(place)).to_bits().wrapping_sub(place);
    if value < MIN_NORMAL { subnormal } else { normal }
}

/// The value of a code without its sign.
#[inline(always)]
fn value<const MANTISSA: u32>(code: u32) -> f32 {
    let place = subnormal_place(MANTISSA);
    let subnormal = f32::from_bits(code + place) - f32::from_bits(place);
    let normal = f32::from_bits((code << (23 - MANTISSA)) + ((127 - BIAS) << 23));
    if code < 1 << MANTISSA { subnormal } else { normal }
}

/// Writes values in a format. Both slices have one length.
pub fn encode<F: Stored>(values: &[f32], codes: &mut [F]) {
    struct Encode<'a, F>(&'a [f32], &'a mut [F]);
    impl<F: Stored> WithSimd for Encode<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (value, code) in self.0.iter().zip(self.1) {
                *code = F::from_f32(*value);
            }
        }
    }
    assert_eq!(values.len(), codes.len(), "as many codes as values");
    Processor::detect().run(Encode(values, codes));
}

/// Reads values of a format. Both slices have one length.
pub fn decode<F: Stored>(codes: &[F], values: &mut [f32]) {
    struct Decode<'a, F>(&'a [F], &'a mut [f32]);
    impl<F: Stored> WithSimd for Decode<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (code, value) in self.0.iter().zip(self.1) {
                *value = code.to_f32();
            }
        }
    }
    assert_eq!(values.len(), codes.len(), "as many codes as values");
    Processor::detect().run(Decode(codes, values));
}

/// Adds `factor` · `values` to what is kept, in f32. Both slices have one length.
pub fn accumulate<F: Stored>(values: &[f32], factor: f32, sums: &mut [F]) {
    struct Accumulate<'a, F>(&'a [f32], f32, &'a mut [F]);
    impl<F: Stored> WithSimd for Accumulate<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (value, sum) in self.0.iter().zip(self.2) {
                *sum = F::from_f32(sum.to_f32() + value * self.1);
            }
        }
    }
    assert_eq!(values.len(), sums.len(), "as many sums as values");
    Processor::detect().run(Accumulate(values, factor, sums));
}

/// Whether no value is infinite or NaN.
pub fn all_finite(values: &[f32]) -> bool {
    struct Greatest<'a>(&'a [f32]);
    impl WithSimd for Greatest<'_> {
        type Output = u32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> u32 {
            let mut greatest = 0;
            for value in self.0 {
                greatest = greatest.max(value.to_bits() & 0x7fff_ffff);
            }
            greatest
        }
    }
    Processor::detect().run(Greatest(values)) < f32::INFINITY.to_bits()
}
