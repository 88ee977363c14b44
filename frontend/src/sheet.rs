//! A contact sheet: images in rows with their captions, drawn on a canvas by the fonts of the system, so that a caption may be in any
//! script.

use dalle_shared::ImageMetadata;
use js_sys::Reflect;
use web_sys::CanvasRenderingContext2d;

use crate::canvas;

/// Pixels along an image.
const SIDE: usize = 256;
/// Pixels between images, and around them.
const GAP: usize = 24;
/// Pixels of a line of text.
const LINE: usize = 24;
/// Lines of a caption. What is longer ends with an ellipsis.
const LINES: usize = 2;
/// Most images in a row.
const COLUMNS: usize = 6;

/// An image on the sheet.
pub struct Item {
    /// RGBA pixels of a square.
    pub rgba: Vec<u8>,
    /// Its caption.
    pub caption: String,
    /// A line below the caption.
    pub note: String,
}

/// The PNG file of a sheet; None if the browser cannot draw it, or there is nothing to draw.
pub fn png(items: &[Item], metadata: Option<&ImageMetadata>) -> Option<Vec<u8>> {
    let columns = columns(items.len());
    let rows = items.len().div_ceil(columns.max(1));
    if rows == 0 {
        return None;
    }
    let cell = SIDE + (LINES + 1) * LINE + GAP / 2;
    let canvas = canvas::create(columns * (SIDE + GAP) + GAP, rows * (cell + GAP) + GAP)?;
    let context = canvas::context(&canvas)?;
    context.set_fill_style_str("#fffefb");
    context.fill_rect(0.0, 0.0, f64::from(canvas.width()), f64::from(canvas.height()));
    for (index, item) in items.iter().enumerate() {
        let (left, top) = (GAP + index % columns * (SIDE + GAP), GAP + index / columns * (cell + GAP));
        draw(&context, item, left as f64, top as f64)?;
    }
    canvas::png(&canvas, metadata)
}

fn draw(context: &CanvasRenderingContext2d, item: &Item, left: f64, top: f64) -> Option<()> {
    let image = canvas::of_pixels(&item.rgba)?;
    let side = SIDE as f64;
    canvas::smooth(context);
    context.draw_image_with_html_canvas_element_and_dw_and_dh(&image, left, top, side, side).ok()?;
    let middle = left + side / 2.0;
    context.set_text_align("center");
    context.set_text_baseline("middle");
    let direction = if is_right_to_left(&item.caption) { "rtl" } else { "ltr" };
    let _ = Reflect::set(context, &"direction".into(), &direction.into());
    context.set_font("italic 18px ui-serif, Georgia, \"Liberation Serif\", \"Noto Serif\", serif");
    context.set_fill_style_str("#1f1e1b");
    let width = |text: &str| context.measure_text(text).map_or(0.0, |measured| measured.width());
    let lines = wrap(&item.caption, side, LINES, width);
    for (line, text) in lines.iter().enumerate() {
        context.fill_text(text, middle, top + side + (line * LINE + LINE) as f64).ok()?;
    }
    let _ = Reflect::set(context, &"direction".into(), &"ltr".into());
    context.set_font("13px system-ui, \"Segoe UI\", Roboto, \"Liberation Sans\", sans-serif");
    context.set_fill_style_str("#66635b");
    context.fill_text(&item.note, middle, top + side + (lines.len() * LINE + LINE) as f64).ok()
}

/// How many of `count` images are in a row: the sheet is a little wider than high.
fn columns(count: usize) -> usize {
    (1..=COLUMNS).find(|columns| columns * columns >= count).unwrap_or(COLUMNS)
}

/// A text in at most `most` lines of `width`, by the widths that `measure` returns. Scripts without spaces are broken anywhere.
fn wrap(text: &str, width: f64, most: usize, measure: impl Fn(&str) -> f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if measure(&longer) <= width {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for letter in word.chars() {
            if !line.is_empty() && measure(&format!("{line}{letter}")) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(letter);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            while !last.is_empty() && measure(&format!("{last}…")) > width {
                last.pop();
            }
            last.push('…');
        }
    }
    lines
}

/// Whether the first letter of a text belongs to a script that is written from right to left.
fn is_right_to_left(text: &str) -> bool {
    let right = |c: char| matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}');
    text.chars().find(|c| c.is_alphabetic()).is_some_and(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each character is one wide.
    fn wrapped(text: &str, width: usize) -> Vec<String> {
        wrap(text, width as f64, 2, |text| text.chars().count() as f64)
    }

    #[test]
    fn a_caption_is_broken_between_words_and_cut_with_an_ellipsis() {
        assert_eq!(wrapped("a red apple", 20), ["a red apple"]);
        assert_eq!(wrapped("a  red\napple", 6), ["a red", "apple"]);
        assert_eq!(wrapped("a red apple on a table", 6), ["a red", "apple…"]);
        assert_eq!(wrapped("Donaudampf", 4), ["Dona", "uda…"]);
        assert_eq!(wrapped("一个红色的苹果", 4), ["一个红色", "的苹果"]);
        assert_eq!(wrapped("", 4), [""; 0]);
    }

    #[test]
    fn the_first_letter_decides_the_direction() {
        assert!(is_right_to_left("« تفاحة حمراء »") && is_right_to_left("3 תפוחים"));
        assert!(!is_right_to_left("red تفاحة") && !is_right_to_left("🍎 12"));
    }

    #[test]
    fn a_sheet_is_about_square_and_at_most_six_wide() {
        assert_eq!([1, 2, 4, 5, 9, 30, 36, 37, 300].map(columns), [1, 2, 2, 3, 3, 6, 6, 6, 6]);
    }
}
