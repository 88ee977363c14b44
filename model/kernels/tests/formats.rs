//! 1-6-9 and 0-6-10 against their definition: every code, and every value of f32.

use dalle_kernels::formats::{F0_6_10, F1_6_9, Stored, accumulate, all_finite, decode, encode};
use rayon::prelude::*;

/// The value of a code by the definition, in f64: significand and exponent, without a look at any f32.
fn defined(magnitude: u32, mantissa: i32) -> f64 {
    let (exponent, significand) =
        ((magnitude >> mantissa) as i32, f64::from(magnitude & ((1 << mantissa) - 1)));
    match exponent {
        0 => significand * 2f64.powi(1 - 60 - mantissa),
        _ => (1.0 + significand * 2f64.powi(-mantissa)) * 2f64.powi(exponent - 60),
    }
}

fn value_169(code: u16) -> f64 {
    let magnitude = defined(u32::from(code & 0x7fff), 9);
    if code & 0x8000 == 0 { magnitude } else { -magnitude }
}

fn decoded<F: Stored>(codes: &[F]) -> Vec<f32> {
    let mut values = vec![0.0; codes.len()];
    decode(codes, &mut values);
    values
}

fn encoded<F: Stored>(values: &[f32]) -> Vec<F> {
    let mut codes = vec![F::default(); values.len()];
    encode(values, &mut codes);
    codes
}

#[test]
fn every_code_has_the_value_of_its_definition_and_comes_back() {
    let codes: Vec<F1_6_9> = (0..=u16::MAX).map(F1_6_9::from_bits).collect();
    for (code, value) in codes.iter().zip(decoded(&codes)) {
        if *code == F1_6_9::NAN {
            assert!(value.is_nan());
        } else {
            assert_eq!(f64::from(value), value_169(code.to_bits()), "{code:?}");
        }
    }
    assert_eq!(encoded::<F1_6_9>(&decoded(&codes)), codes);
    let codes: Vec<F0_6_10> = (0..=u16::MAX).map(F0_6_10::from_bits).collect();
    for (code, value) in codes.iter().zip(decoded(&codes)) {
        if *code == F0_6_10::NAN {
            assert!(value.is_nan());
        } else {
            assert_eq!(f64::from(value), defined(u32::from(code.to_bits()), 10), "{code:?}");
        }
    }
    assert_eq!(encoded::<F0_6_10>(&decoded(&codes)), codes);
}

/// Every f32 that is not negative goes to the nearest code, found by walking through the table of all values.
fn check_all<F: Stored + PartialEq + std::fmt::Debug>(mantissa: i32, greatest: u32, from_bits: fn(u16) -> F) {
    // The first f32 of each code: that at or above the midpoint to the code before, which itself goes to the even code.
    let first = |code: u32| -> u32 {
        if code == 0 {
            return 0;
        }
        let middle = (defined(code - 1, mantissa) + defined(code, mantissa)) / 2.0;
        let bits = (middle as f32).to_bits();
        assert_eq!(f64::from(f32::from_bits(bits)), middle, "f32 holds every midpoint");
        if code.is_multiple_of(2) { bits } else { bits + 1 }
    };
    (0..=greatest).into_par_iter().for_each(|code| {
        let end = if code == greatest { f32::INFINITY.to_bits() + 1 } else { first(code + 1) };
        let mut begin = first(code);
        while begin < end {
            let bits = begin..end.min(begin + (1 << 16));
            begin = bits.end;
            let values: Vec<f32> = bits.map(f32::from_bits).collect();
            let expected = from_bits(code as u16);
            let codes = encoded::<F>(&values);
            if let Some(at) = codes.iter().position(|code| *code != expected) {
                panic!("{:e} became {:?}, expected {expected:?}", values[at], codes[at]);
            }
        }
    });
}

#[test]
fn every_f32_goes_to_the_nearest_value_of_1_6_9() {
    check_all(9, 0x7fff, F1_6_9::from_bits);
}

#[test]
fn every_f32_goes_to_the_nearest_value_of_0_6_10() {
    check_all(10, 0xfffe, F0_6_10::from_bits);
}

#[test]
fn negative_values_mirror_in_1_6_9_and_are_zero_in_0_6_10() {
    let values: Vec<f32> = (0..f32::INFINITY.to_bits()).step_by(997).map(f32::from_bits).collect();
    let negative: Vec<f32> = values.iter().map(|value| -value).collect();
    for (plus, minus) in encoded::<F1_6_9>(&values).into_iter().zip(encoded::<F1_6_9>(&negative)) {
        let expected = if plus.to_bits() == 0 { 0 } else { plus.to_bits() | 0x8000 };
        assert_eq!(minus.to_bits(), expected);
    }
    assert!(encoded::<F0_6_10>(&negative).iter().all(|code| code.to_bits() == 0));
}

#[test]
fn infinity_is_the_largest_value_and_nan_stays() {
    let special =
        [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), -0.0];
    let values = decoded(&encoded::<F1_6_9>(&special));
    assert_eq!(values[..3], [15.984_375, -15.984_375, 15.984_375]);
    assert!(values[3..6].iter().all(|value| value.is_nan()), "{values:?}");
    assert_eq!(values[6].to_bits(), 0, "there is no negative zero");
    let values = decoded(&encoded::<F0_6_10>(&special));
    assert_eq!(values[..3], [15.984_375, 0.0, 15.984_375]);
    assert!(values[3..6].iter().all(|value| value.is_nan()), "{values:?}");
}

#[test]
fn sums_are_taken_in_f32_and_non_finite_values_are_found_wherever_they_are() {
    let mut sums: Vec<F1_6_9> = encoded(&[1.0, -2.0, 0.0]);
    accumulate(&[3.0, 1.0, 1e-3], 0.5, &mut sums);
    assert_eq!(sums, encoded::<F1_6_9>(&[2.5, -1.5, 5e-4]));
    for length in [0, 1, 7, 16, 33] {
        let mut values = vec![f32::MAX; length];
        assert!(all_finite(&values));
        for at in 0..length {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[at] = bad;
                assert!(!all_finite(&values), "{bad} at {at} of {length}");
            }
            values[at] = -f32::MAX;
        }
    }
}
