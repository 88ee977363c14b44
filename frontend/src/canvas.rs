//! Drawing tokens and pixels on the canvases of an image.

use dalle_shared::ImageToken;
use wasm_bindgen::{Clamped, JsCast, JsValue};
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, ImageData};

use crate::palette::colour;
use crate::state::Shown;

/// Side of a token's cell in canvas pixels: sharp at any size of the page.
fn cell(grid: usize) -> usize {
    (512 / grid).max(16)
}

/// Side of the canvas of a grid in pixels.
pub fn grid_side(grid: usize) -> usize {
    grid * cell(grid)
}

/// Draws the tokens `from..` of a grid; `from` 0 clears the canvas first.
pub fn draw_tokens(canvas: &HtmlCanvasElement, tokens: &[ImageToken], from: usize, grid: usize) {
    let Some(context) = context(canvas) else { return };
    if from == 0 {
        context.clear_rect(0.0, 0.0, f64::from(canvas.width()), f64::from(canvas.height()));
    }
    let cell = cell(grid);
    let gap = cell / 8;
    let side = (cell - gap) as f64;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        let [r, g, b] = colour(token.0);
        let at = |index: usize| (index * cell + gap / 2) as f64;
        context.set_fill_style_str(&format!("rgb({r} {g} {b})"));
        context.fill_rect(at(index % grid), at(index / grid), side, side);
    }
}

/// Draws tokens on a canvas with one pixel for each.
pub fn draw_mosaic(canvas: &HtmlCanvasElement, tokens: &[ImageToken], grid: usize) {
    let Some(context) = context(canvas) else { return };
    let mut rgba: Vec<u8> = tokens
        .iter()
        .flat_map(|token| {
            let [r, g, b] = colour(token.0);
            [r, g, b, u8::MAX]
        })
        .collect();
    rgba.resize(grid * grid * 4, 0);
    if let Ok(data) = ImageData::new_with_u8_clamped_array(Clamped(&rgba), grid as u32) {
        let _ = context.put_image_data(&data, 0.0, 0.0);
    }
}

/// Draws the rows of an image whose tokens are known. The lowest of them still changes a little with those below, so it fades out
/// until the image is whole.
pub fn draw_pixels(canvas: &HtmlCanvasElement, shown: Option<&Shown>, grid: usize) {
    let Some(context) = context(canvas) else { return };
    let side = canvas.width() as usize;
    let Some(shown) = shown.filter(|shown| shown.rgba.len() == side * side * 4) else {
        context.clear_rect(0.0, 0.0, f64::from(canvas.width()), f64::from(canvas.height()));
        return;
    };
    let mut rgba = shown.rgba.clone();
    if shown.rows < grid {
        let row = side / grid;
        let end = shown.rows * row;
        for (y, line) in rgba.chunks_exact_mut(side * 4).enumerate() {
            let depth = (end as f64 - y as f64 - 0.5) / row as f64;
            let alpha = (depth.clamp(0.0, 1.0) * 255.0) as u8;
            line.iter_mut().skip(3).step_by(4).for_each(|value| *value = alpha);
        }
    }
    if let Ok(data) = ImageData::new_with_u8_clamped_array(Clamped(&rgba), canvas.width()) {
        let _ = context.put_image_data(&data, 0.0, 0.0);
    }
}

/// The canvas as the data URL of a PNG.
pub fn png(canvas: &HtmlCanvasElement) -> Result<String, JsValue> {
    canvas.to_data_url_with_type("image/png")
}

fn context(canvas: &HtmlCanvasElement) -> Option<CanvasRenderingContext2d> {
    canvas.get_context("2d").ok()??.dyn_into().ok()
}
