//! Contact sheets: many pictures with their captions in one, for people to look at.

use std::sync::Arc;

use image::{Rgb, RgbImage, imageops};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

/// One cell: pictures side by side, and a caption below.
pub struct Cell<'a> {
    /// Pictures of equal size, left to right.
    pub images: Vec<&'a RgbImage>,
    /// Text below; cut where the cell ends.
    pub caption: &'a str,
}

/// Space around a cell's pictures, in pixels.
const GAP: u32 = 6;
/// Height of a caption's line, in pixels.
const LINE: u32 = 14;
/// Size of its letters, in pixels.
const LETTERS: u32 = 11;
/// Lines of a caption; the rest is cut.
const LINES: usize = 2;
/// Mean width of a letter as a share of its size: decides where lines break.
const LETTER_WIDTH: f32 = 0.52;
const PAPER: Rgb<u8> = Rgb([244, 244, 244]);

/// Draws the cells in rows of `columns` on light grey. No cells give an empty sheet of one cell's size.
pub fn contact_sheet(cells: &[Cell], columns: usize) -> RgbImage {
    let columns = columns.max(1).min(cells.len().max(1)) as u32;
    let across =
        cells.iter().map(|cell| cell.images.iter().map(|image| image.width()).sum()).max().unwrap_or(0);
    let down = cells.iter().flat_map(|cell| &cell.images).map(|image| image.height()).max().unwrap_or(0);
    let (width, height) = (across + 2 * GAP, down + 2 * GAP + LINE * LINES as u32);
    let rows = (cells.len() as u32).div_ceil(columns).max(1);
    let mut sheet = RgbImage::from_pixel(columns * width, rows * height, PAPER);
    let mut text = String::new();
    for (index, cell) in (0..).zip(cells) {
        let (left, top) = ((index % columns) * width + GAP, (index / columns) * height + GAP);
        let mut x = left;
        for image in &cell.images {
            imageops::replace(&mut sheet, *image, x.into(), top.into());
            x += image.width();
        }
        for (number, line) in (1..).zip(lines(cell.caption, across)) {
            let baseline = top + down + number * LINE - (LINE - LETTERS) / 2;
            text.push_str(&format!(r#"<text x="{left}" y="{baseline}">{}</text>"#, escape(&line)));
        }
    }
    write(&mut sheet, &text);
    sheet
}

/// Breaks a caption at words into as many lines as are drawn.
fn lines(caption: &str, width: u32) -> Vec<String> {
    let room = ((width as f32 / (LETTERS as f32 * LETTER_WIDTH)) as usize).max(1);
    let mut lines = vec![String::new()];
    for word in caption.split_whitespace() {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.truncate(LINES);
    lines.iter().map(|line| line.chars().take(room).collect()).collect()
}

/// Text as XML writes it, without the characters that XML forbids.
fn escape(text: &str) -> String {
    let allowed = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let text: String = text.chars().filter(allowed).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Draws SVG `<text>` elements over the sheet, in a font that comes with the program.
fn write(sheet: &mut RgbImage, text: &str) {
    let (width, height) = sheet.dimensions();
    let document = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-size="{LETTERS}" fill="rgb(40,40,40)">{text}</svg>"#
    );
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let font_family = fonts
        .faces()
        .flat_map(|face| &face.families)
        .map(|(name, _)| name.clone())
        .next()
        .unwrap_or_default();
    let options = usvg::Options { font_family, fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let (Ok(tree), Some(mut layer)) = (usvg::Tree::from_str(&document, &options), Pixmap::new(width, height))
    else {
        return;
    };
    resvg::render(&tree, Transform::identity(), &mut layer.as_mut());
    for (pixel, ink) in sheet.pixels_mut().zip(layer.pixels()) {
        let keep = u16::from(u8::MAX - ink.alpha());
        for (channel, ink) in pixel.0.iter_mut().zip([ink.red(), ink.green(), ink.blue()]) {
            *channel = ink.saturating_add((u16::from(*channel) * keep / 255) as u8);
        }
    }
}
