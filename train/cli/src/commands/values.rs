//! What an option may be: checked where it is read, so that the message names the option at fault.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;

use dalle_data::Split;

/// Most pictures of a batch; more fit no device.
const MAX_BATCH: u64 = 1 << 16;
/// Most pictures to measure: the paper's evaluation takes 30,000.
const MAX_COUNT: u64 = 100_000;

/// Pictures in a batch.
pub fn batch() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MAX_BATCH)
}

/// A finite number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    number(text, "a number above 0", |x: f64| x > 0.0 && x.is_finite())
}

/// A finite number, 0 or above.
pub fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number of at least 0", |x: f64| x >= 0.0 && x.is_finite())
}

/// A decay: from 0 to below 1.
pub fn decay(text: &str) -> Result<f64, String> {
    number(text, "a number from 0 to below 1", |x: f64| (0.0..1.0).contains(&x))
}

/// A probability.
pub fn probability(text: &str) -> Result<f32, String> {
    number(text, "a number from 0 to 1", |x: f32| (0.0..=1.0).contains(&x))
}

/// Pictures or captions to measure.
pub fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MAX_COUNT)
}

/// The standard deviation of a blur in pixels.
pub fn radius(text: &str) -> Result<f32, String> {
    number(text, "a radius from 0 to 100 pixels", |x: f32| (0.0..=100.0).contains(&x))
}

/// The cosine of an angle.
pub fn cosine(text: &str) -> Result<f32, String> {
    number(text, "a cosine from -1 to 1", |x: f32| (-1.0..=1.0).contains(&x))
}

/// A part of a dataset.
pub fn split(text: &str) -> Result<Split, String> {
    match text {
        "train" => Ok(Split::Train),
        "val" => Ok(Split::Val),
        _ => Err("expected train or val".to_owned()),
    }
}

/// The path of a picture to write.
pub fn png(text: &str) -> Result<PathBuf, String> {
    ending(text, "png")
}

/// The path of a page to write.
pub fn html(text: &str) -> Result<PathBuf, String> {
    ending(text, "html")
}

fn ending(text: &str, expected: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let right = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(expected));
    if right && !path.is_dir() {
        Ok(path)
    } else {
        Err(format!("expected a file name that ends in .{expected}"))
    }
}

/// The path of another file to write.
pub fn file(text: &str) -> Result<PathBuf, String> {
    if Path::new(text).is_dir() {
        Err("expected a file, this is a folder".to_owned())
    } else {
        Ok(text.into())
    }
}

fn number<T: FromStr + Copy>(text: &str, expected: &str, allowed: impl Fn(T) -> bool) -> Result<T, String> {
    text.parse().ok().filter(|&value| allowed(value)).ok_or_else(|| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_no_training_survives_are_refused() {
        assert_eq!(positive("2e-3"), Ok(2e-3));
        for text in ["0", "-1", "nan", "inf", "1e400", "x", ""] {
            assert!(positive(text).is_err(), "{text}");
        }
        assert_eq!(not_negative("0"), Ok(0.0));
        assert!(not_negative("-0.1").is_err() && not_negative("nan").is_err());
        assert_eq!(decay("0.999"), Ok(0.999));
        assert!(decay("1").is_err() && decay("5").is_err() && decay("nan").is_err());
        assert_eq!(probability("1"), Ok(1.0));
        assert!(probability("2").is_err() && probability("nan").is_err());
    }

    #[test]
    fn a_picture_is_a_png() {
        assert!(png("a/b.PNG").is_ok());
        assert!(png("picture.gif").is_err() && png("picture").is_err());
        assert!(html("page.html").is_ok() && html("page.png").is_err());
    }
}
