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
    let hue = spread(0.618_033_988_749_895) * std::f64::consts::TAU;
    let lightness = LIGHTNESS[(spread(0.754_877_666_246_693) * LIGHTNESS.len() as f64) as usize];
    let chroma = CHROMA[(spread(0.569_840_290_998_053) * CHROMA.len() as f64) as usize];
    oklch_to_srgb(lightness, chroma, hue)
}

/// Ottosson's OKLCH, a perceptual colour space, to sRGB.
fn oklch_to_srgb(lightness: f64, chroma: f64, hue: f64) -> [u8; 3] {
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
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
        let gamma =
            if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
        (gamma * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greys_and_primaries_of_oklch() {
        assert_eq!(oklch_to_srgb(0.0, 0.0, 0.0), [0, 0, 0]);
        assert_eq!(oklch_to_srgb(1.0, 0.0, 0.0), [255, 255, 255]);
        // CSS Color 4: red is oklch(0.62796 0.25768 29.234°).
        let red = oklch_to_srgb(0.62796, 0.25768, 29.234_f64.to_radians());
        assert!(red[0] == 255 && red[1] <= 1 && red[2] <= 1, "{red:?}");
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
