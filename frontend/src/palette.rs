//! A colour for each codebook entry: equal tokens have equal colours, different ones mostly different colours.
//!
//! The colours are arbitrary: they show repetition and structure in a grid, not what an entry looks like.

/// Steps of lightness and chroma, so that ids with similar hues still differ.
const LIGHTNESS: [f64; 4] = [0.52, 0.61, 0.70, 0.79];
const CHROMA: [f64; 3] = [0.045, 0.07, 0.095];

/// sRGB of a token.
pub fn colour(token: u16) -> [u8; 3] {
    // Multiples of the golden ratio modulo 1 (Weyl's sequence) spread successive ids evenly over the hues.
    let spread = |factor: f64| (f64::from(token) * factor).fract();
    let lightness = LIGHTNESS[(spread(0.754_877_666_246_693) * LIGHTNESS.len() as f64) as usize];
    let chroma = CHROMA[(spread(0.569_840_290_998_053) * CHROMA.len() as f64) as usize];
    oklch_to_srgb(lightness, chroma, spread(0.618_033_988_749_895))
}

/// Ottosson's OKLCH, a perceptual colour space, to sRGB. The hue is in turns, 0 to 1.
fn oklch_to_srgb(lightness: f64, chroma: f64, hue: f64) -> [u8; 3] {
    let (a, b) = (chroma * sine(hue + 0.25), chroma * sine(hue));
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
    .map(|linear| {
        let linear = linear.clamp(0.0, 1.0);
        let gamma = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * root(linear) - 0.055 };
        (gamma * 255.0).round() as u8
    })
}

/// The sine of an angle in turns. Like [`root`] exact enough for colours, where the library's would add 10 kB to the page.
fn sine(turns: f64) -> f64 {
    // To a quarter turn on either side of 0, then the Taylor series.
    let turns = turns - turns.round();
    let quarter = if turns > 0.25 {
        0.5 - turns
    } else if turns < -0.25 {
        -0.5 - turns
    } else {
        turns
    };
    let x = quarter * std::f64::consts::TAU;
    let square = x * x;
    let series = |term: f64, n: f64| 1.0 - square / (n * (n + 1.0)) * term;
    x * [10.0, 8.0, 6.0, 4.0, 2.0].into_iter().fold(1.0, series)
}

/// The power 1/2.4 of a number from 0.003 to 1: its fourth root times its sixth root.
fn root(number: f64) -> f64 {
    let square = number.sqrt();
    // Newton's method for the cube root of the square root.
    let cube = (0..8).fold(1.0, |root: f64, _| (2.0 * root + square / (root * root)) / 3.0);
    square.sqrt() * cube
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greys_and_primaries_of_oklch() {
        assert_eq!(oklch_to_srgb(0.0, 0.0, 0.0), [0, 0, 0]);
        assert_eq!(oklch_to_srgb(1.0, 0.0, 0.0), [255, 255, 255]);
        // CSS Color 4: red is oklch(0.62796 0.25768 29.234°).
        let red = oklch_to_srgb(0.62796, 0.25768, 29.234 / 360.0);
        assert!(red[0] == 255 && red[1] <= 1 && red[2] <= 1, "{red:?}");
    }

    #[test]
    fn sines_and_roots_are_those_of_the_library() {
        for step in -100..=200 {
            let turns = f64::from(step) / 100.0;
            let expected = (turns * std::f64::consts::TAU).sin();
            assert!((sine(turns) - expected).abs() < 1e-6, "{turns}: {} {expected}", sine(turns));
        }
        for step in 1..=320 {
            let number = f64::from(step) / 320.0;
            let expected = number.powf(1.0 / 2.4);
            assert!((root(number) - expected).abs() < 1e-6, "{number}: {} {expected}", root(number));
        }
    }

    #[test]
    fn nearby_ids_differ_visibly() {
        for token in 0..8191 {
            let (a, b) = (colour(token), colour(token + 1));
            let distance: i32 = (0..3).map(|i| (i32::from(a[i]) - i32::from(b[i])).abs()).sum();
            assert!(distance > 24, "{token}: {a:?} {b:?}");
        }
    }
}
