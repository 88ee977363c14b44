//! Parsers of option values. They check ranges while clap parses, so that the error names the option.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;

/// Largest batch; no device fits more.
const MAX_BATCH: u64 = 1 << 16;
/// Largest number of images to evaluate; the paper's evaluation uses 30,000.
const MAX_COUNT: u64 = 100_000;

/// Most manual halvings: after as many, no update changes an f32 weight.
const MAX_HALVINGS: u64 = 64;

/// A number of halvings of the learning rate.
pub fn halvings() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=MAX_HALVINGS)
}

/// A batch size.
pub fn batch() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MAX_BATCH)
}

/// How gradients are compressed between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerSgdRank {
    /// Not at all.
    Off,
    /// By matrices of this many columns for each rank's rows.
    Columns(usize),
    /// By as many as in the paper, if that is faster.
    Auto,
}

/// `off`, `auto` or a number of columns.
pub fn power_sgd_rank(text: &str) -> Result<PowerSgdRank, String> {
    match text {
        "off" => Ok(PowerSgdRank::Off),
        "auto" => Ok(PowerSgdRank::Auto),
        _ => match text.parse() {
            Ok(columns @ 1..=65_536) => Ok(PowerSgdRank::Columns(columns)),
            _ => Err("expected `off`, `auto` or a number from 1 to 65536".to_owned()),
        },
    }
}

/// A finite number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    number(text, "a number above 0", |x: f64| x > 0.0 && x.is_finite())
}

/// A finite number of at least 0.
pub fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number of at least 0", |x: f64| x >= 0.0 && x.is_finite())
}

/// A decay, from 0 to below 1.
pub fn decay(text: &str) -> Result<f64, String> {
    number(text, "a number from 0 to below 1", |x: f64| (0.0..1.0).contains(&x))
}

/// A probability, from 0 to 1.
pub fn probability(text: &str) -> Result<f32, String> {
    number(text, "a number from 0 to 1", |x: f32| (0.0..=1.0).contains(&x))
}

/// A number of images or captions to evaluate.
pub fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MAX_COUNT)
}

/// The radius of a blur: its standard deviation in pixels.
pub fn radius(text: &str) -> Result<f32, String> {
    number(text, "a radius from 0 to 100 pixels", |x: f32| (0.0..=100.0).contains(&x))
}

/// A cosine similarity, from −1 to 1.
pub fn cosine(text: &str) -> Result<f32, String> {
    number(text, "a cosine from -1 to 1", |x: f32| (-1.0..=1.0).contains(&x))
}

/// The path of a PNG file to write.
pub fn png(text: &str) -> Result<PathBuf, String> {
    ending(text, "png")
}

/// The path of an HTML file to write.
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

/// The path of any other file to write.
pub fn file(text: &str) -> Result<PathBuf, String> {
    if Path::new(text).is_dir() { Err("expected a file, got a folder".to_owned()) } else { Ok(text.into()) }
}

fn number<T: FromStr + Copy>(text: &str, expected: &str, allowed: impl Fn(T) -> bool) -> Result<T, String> {
    text.parse().ok().filter(|&value| allowed(value)).ok_or_else(|| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_break_training_are_refused() {
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
    fn file_names_need_the_right_ending() {
        assert!(png("a/b.PNG").is_ok());
        assert!(png("picture.gif").is_err() && png("picture").is_err());
        assert!(html("page.html").is_ok() && html("page.png").is_err());
    }
}
