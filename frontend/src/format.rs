//! Numbers and names as people read them.

/// Bytes with a fitting unit: `947 B`, `4.4 MB`.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.0} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

/// A count with its thousands apart: `16 384` (narrow no-break space).
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A large count in words: `12.1 billion`, `3.4 million`, `950 thousand`.
pub fn large(number: u64) -> String {
    match number {
        1_000_000_000.. => format!("{:.1} billion", number as f64 / 1e9),
        1_000_000.. => format!("{:.1} million", number as f64 / 1e6),
        10_000.. => format!("{:.0} thousand", number as f64 / 1e3),
        _ => count(number),
    }
}

/// A duration: `0.4 s`, `12.3 s`, `2 min 05 s`.
pub fn seconds(duration: f64) -> String {
    // What would round up to a minute is one.
    if duration < 59.95 {
        format!("{duration:.1} s")
    } else {
        let whole = duration.round() as u64;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// A rate without false precision: `7.4`, `183`.
pub fn rate(per_second: f64) -> String {
    if per_second < 9.95 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}

/// A cosine: `0.63`, `−0.05`.
pub fn score(cosine: f32) -> String {
    format!("{cosine:.2}").replace('-', "\u{2212}")
}

/// A probability: `31 %`, `0.4 %`, `< 0.1 %`.
pub fn percent(probability: f64) -> String {
    match probability * 100.0 {
        percent if percent >= 9.95 => format!("{percent:.0}\u{a0}%"),
        percent if percent >= 0.1 => format!("{percent:.1}\u{a0}%"),
        _ => "<\u{a0}0.1\u{a0}%".to_owned(),
    }
}

/// One thing or several: `1 image`, `4 images`.
pub fn plural(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", count(number as u64)) }
}

/// A file's name from caption and seed, safe on every system: `a-red-fox_42.png`.
pub fn file_name(caption: &str, seed: u64, extension: &str) -> String {
    const LONGEST: usize = 60;
    let mut slug = String::new();
    for c in caption.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            if slug.len() + c.len_utf8() > LONGEST {
                break;
            }
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    let slug = if slug.is_empty() { "image" } else { slug };
    format!("{slug}_{seed}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!([bytes(947), bytes(12_400), bytes(4_400_000)], ["947 B", "12 kB", "4.4 MB"]);
        assert_eq!(
            [count(7), count(1024), count(12_345_678)],
            ["7", "1\u{202f}024", "12\u{202f}345\u{202f}678"]
        );
        assert_eq!(
            [large(12_090_000_000), large(3_400_000), large(9_999)],
            ["12.1 billion", "3.4 million", "9\u{202f}999"]
        );
        assert_eq!(
            [seconds(0.44), seconds(59.94), seconds(59.96), seconds(125.0)],
            ["0.4 s", "59.9 s", "1 min 00 s", "2 min 05 s"]
        );
        assert_eq!([rate(7.44), rate(9.96), rate(183.2)], ["7.4", "10", "183"]);
        assert_eq!(
            [percent(0.314), percent(0.0414), percent(1e-6)].map(|text| text.replace('\u{a0}', " ")),
            ["31 %", "4.1 %", "< 0.1 %"]
        );
        assert_eq!([score(0.634), score(-0.05)], ["0.63", "\u{2212}0.05"]);
        assert_eq!([plural(1, "token"), plural(2048, "token")], ["1 token", "2\u{202f}048 tokens"]);
    }

    #[test]
    fn file_names_hold_no_separator_and_are_never_empty() {
        assert_eq!(file_name("A red  fox!", 42, "png"), "a-red-fox_42.png");
        assert_eq!(file_name("../../etc/passwd", 0, "png"), "etc-passwd_0.png");
        assert_eq!(file_name("¿?", 1, "json"), "image_1.json");
        assert!(file_name(&"long ".repeat(99), 1, "png").len() < 80);
        assert_eq!(file_name("éé 中文", 3, "png"), "éé-中文_3.png");
    }
}
