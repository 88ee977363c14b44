//! Contact sheets: many images with their captions in one image.

use std::sync::Arc;

use image::{Rgb, RgbImage, imageops};
use maud::html;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

/// One cell: images side by side with a caption below.
pub struct Cell<'a> {
    /// Images of equal size, from left to right.
    pub images: Vec<&'a RgbImage>,
    /// The caption, truncated to the size of the cell.
    pub caption: &'a str,
}

/// Space around the images of a cell, in pixels.
const GAP: u32 = 6;
/// Height of a line of the caption, in pixels.
const LINE: u32 = 14;
/// Font size, in pixels.
const FONT_SIZE: u32 = 11;
/// Lines of a caption that are shown.
const LINES: usize = 2;
/// Mean width of a character relative to the font size; decides where lines break.
const CHARACTER_WIDTH: f32 = 0.52;
const BACKGROUND: Rgb<u8> = Rgb([244, 244, 244]);

/// Arranges the cells in rows of `columns` on light grey. Without cells, the sheet has the size of one empty cell.
pub fn contact_sheet(cells: &[Cell], columns: usize) -> RgbImage {
    let columns = columns.max(1).min(cells.len().max(1)) as u32;
    let across =
        cells.iter().map(|cell| cell.images.iter().map(|image| image.width()).sum()).max().unwrap_or(0);
    let down = cells.iter().flat_map(|cell| &cell.images).map(|image| image.height()).max().unwrap_or(0);
    let (width, height) = (across + 2 * GAP, down + 2 * GAP + LINE * LINES as u32);
    let rows = (cells.len() as u32).div_ceil(columns).max(1);
    let mut sheet = RgbImage::from_pixel(columns * width, rows * height, BACKGROUND);
    let mut lines = Vec::new();
    for (index, cell) in (0..).zip(cells) {
        let (left, top) = ((index % columns) * width + GAP, (index / columns) * height + GAP);
        let mut x = left;
        for image in &cell.images {
            imageops::replace(&mut sheet, *image, x.into(), top.into());
            x += image.width();
        }
        for (number, text) in (1..).zip(break_lines(cell.caption, across)) {
            lines.push(Line { left, baseline: top + down + number * LINE - (LINE - FONT_SIZE) / 2, text });
        }
    }
    draw_text(&mut sheet, &lines);
    sheet
}

/// A line of text on the sheet.
struct Line {
    left: u32,
    baseline: u32,
    text: String,
}

/// Breaks a caption at spaces into the lines that are shown.
fn break_lines(caption: &str, width: u32) -> Vec<String> {
    let room = ((width as f32 / (FONT_SIZE as f32 * CHARACTER_WIDTH)) as usize).max(1);
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

/// Draws lines of text over the sheet, in a font that is part of the program.
fn draw_text(sheet: &mut RgbImage, lines: &[Line]) {
    let (width, height) = sheet.dimensions();
    let document = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) font-size=(FONT_SIZE) fill="rgb(40,40,40)" {
            @for Line { left, baseline, text } in lines {
                text x=(left) y=(baseline) { (text.replace(|character| !is_xml(character), "")) }
            }
        }
    };
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let font_family = fonts
        .faces()
        .flat_map(|face| &face.families)
        .map(|(name, _)| name.clone())
        .next()
        .unwrap_or_default();
    let options = usvg::Options { font_family, fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(&document.into_string(), &options);
    let (Ok(tree), Some(mut layer)) = (tree, Pixmap::new(width, height)) else { return };
    resvg::render(&tree, Transform::identity(), &mut layer.as_mut());
    for (pixel, ink) in sheet.pixels_mut().zip(layer.pixels()) {
        let keep = u16::from(u8::MAX - ink.alpha());
        for (channel, ink) in pixel.0.iter_mut().zip([ink.red(), ink.green(), ink.blue()]) {
            *channel = ink.saturating_add((u16::from(*channel) * keep / 255) as u8);
        }
    }
}

/// Whether XML allows the character. Another one would make the whole document invalid, even escaped.
fn is_xml(character: char) -> bool {
    !character.is_control() && !matches!(character, '\u{fffe}' | '\u{ffff}')
}
