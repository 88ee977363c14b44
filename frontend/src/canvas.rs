//! Drawing tokens and pixels on the canvases of an image.

use dalle_shared::{ImageMetadata, ImageToken, TokenStep, write_metadata};
use js_sys::Reflect;
use leptos::prelude::{document, window};
use wasm_bindgen::{Clamped, JsCast};
use wasm_bindgen_futures::JsFuture;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, ImageBitmap, ImageData};

use crate::browser;
use crate::codebook::{Codebook, TILE};
use crate::explain::Colouring;
use crate::palette::colour;
use crate::shown::Shown;
use crate::subject::surprise;

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

/// Tokens as they are explained.
pub struct Cells<'a> {
    /// Those that are there.
    pub tokens: &'a [ImageToken],
    /// The grid's side.
    pub grid: usize,
    /// What the colours say.
    pub colouring: Colouring,
    /// What codes look like, as far as it is known.
    pub codebook: &'a Codebook,
    /// How the tokens were chosen, as far as it is known.
    pub steps: &'a [TokenStep],
}

/// Side of a cell of [`draw_cells`] in canvas pixels: a tile twice as large.
pub const CELL: usize = 2 * TILE;

/// Draws tokens with [`CELL`] pixels for each.
pub fn draw_cells(canvas: &HtmlCanvasElement, cells: &Cells) {
    let Some(context) = context(canvas) else { return };
    let side = cells.grid * CELL;
    let mut rgba = vec![0; side * side * 4];
    for (index, token) in cells.tokens.iter().enumerate() {
        let tile = match cells.colouring {
            Colouring::Tiles => cells.codebook.tile(*token),
            Colouring::Codes | Colouring::Surprise => None,
        };
        let [r, g, b, a] = match (cells.colouring, cells.steps.get(index)) {
            (Colouring::Surprise, Some(step)) => shade(step),
            (Colouring::Surprise, None) => [0; 4],
            _ => {
                let [r, g, b] = colour(token.0);
                [r, g, b, u8::MAX]
            }
        };
        let (top, left) = (index / cells.grid * CELL, index % cells.grid * CELL);
        // The last line and column of a cell stay free.
        for y in 0..CELL - 1 {
            for x in 0..CELL - 1 {
                let at = ((top + y) * side + left + x) * 4;
                let pixel = tile.map_or([r, g, b, a], |tile| {
                    let from = (y / 2 * TILE + x / 2) * 3;
                    [tile[from], tile[from + 1], tile[from + 2], u8::MAX]
                });
                rgba[at..at + 4].copy_from_slice(&pixel);
            }
        }
    }
    put(&context, &rgba, side);
}

/// The shade of a token: the less sure the prior was, the stronger.
fn shade(step: &TokenStep) -> [u8; 4] {
    [196, 82, 40, (surprise(step) * 230.0) as u8 + 12]
}

/// Draws a tick for each token, one pixel wide.
pub fn draw_ticks(canvas: &HtmlCanvasElement, steps: &[TokenStep]) {
    let Some(context) = context(canvas) else { return };
    let width = canvas.width() as usize;
    let mut rgba: Vec<u8> = steps.iter().take(width).flat_map(shade).collect();
    rgba.resize(width * 4, 0);
    put(&context, &rgba, width);
}

/// Draws the pixels of the first `known` tokens.
pub fn draw_moment(canvas: &HtmlCanvasElement, rgba: &[u8], known: usize, grid: usize) {
    let Some(context) = context(canvas) else { return };
    let side = canvas.width() as usize;
    if rgba.len() != side * side * 4 {
        return;
    }
    let cell = (side / grid).max(1);
    let mut shown = rgba.to_vec();
    for (index, pixel) in shown.chunks_exact_mut(4).enumerate() {
        if index / side / cell * grid + index % side / cell >= known {
            pixel[3] = 0;
        }
    }
    put(&context, &shown, side);
}

/// Draws one tile, or clears the canvas.
pub fn draw_tile(canvas: &HtmlCanvasElement, tile: Option<&[u8]>) {
    let Some(context) = context(canvas) else { return };
    let rgba: Vec<u8> = match tile {
        Some(tile) => tile.chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], u8::MAX]).collect(),
        None => vec![0; TILE * TILE * 4],
    };
    put(&context, &rgba, TILE);
}

/// Draws how far two images differ, the more the darker. However small a difference is, it can be told from none.
pub fn draw_difference(canvas: &HtmlCanvasElement, a: &[u8], b: &[u8]) {
    let Some(context) = context(canvas) else { return };
    let differ = |(a, b): (&[u8], &[u8])| {
        let most = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
        [196, 82, 40, if most == 0 { 0 } else { most.saturating_mul(4).max(40) }]
    };
    let rgba: Vec<u8> = a.chunks_exact(4).zip(b.chunks_exact(4)).flat_map(differ).collect();
    put(&context, &rgba, canvas.width() as usize);
}

/// Draws the weights of cells: full for the largest. Cells that are not seen stay empty.
pub fn draw_weights(canvas: &HtmlCanvasElement, weights: &[(usize, f32)], grid: usize) {
    let Some(context) = context(canvas) else { return };
    let most = weights.iter().map(|(_, weight)| *weight).fold(f32::MIN_POSITIVE, f32::max);
    let mut rgba = vec![0; grid * grid * 4];
    for (cell, weight) in weights {
        if let Some(pixel) = rgba.get_mut(cell * 4..cell * 4 + 4) {
            // A cell that is seen can be told from one that is not, however small its weight.
            pixel.copy_from_slice(&[196, 82, 40, (weight / most * 215.0) as u8 + 40]);
        }
    }
    put(&context, &rgba, grid);
}

/// Draws tiles in rows of `columns`, those of `used` as they are and the others faded.
pub fn draw_tiles(
    canvas: &HtmlCanvasElement,
    order: &[ImageToken],
    codebook: &Codebook,
    columns: usize,
    used: impl Fn(ImageToken) -> bool,
) {
    let Some(context) = context(canvas) else { return };
    let (width, height) = (canvas.width() as usize, canvas.height() as usize);
    let mut rgba = vec![0; width * height * 4];
    let step = TILE + 1;
    for (index, token) in order.iter().enumerate() {
        let Some(tile) = codebook.tile(*token) else { continue };
        let (top, left) = (index / columns * step, index % columns * step);
        let alpha = if used(*token) { u8::MAX } else { 70 };
        for (pixel, rgb) in tile.chunks_exact(3).enumerate() {
            let at = ((top + pixel / TILE) * width + left + pixel % TILE) * 4;
            if let Some(to) = rgba.get_mut(at..at + 4) {
                to.copy_from_slice(&[rgb[0], rgb[1], rgb[2], alpha]);
            }
        }
    }
    put(&context, &rgba, width);
}

fn put(context: &CanvasRenderingContext2d, rgba: &[u8], width: usize) {
    if let Ok(data) = ImageData::new_with_u8_clamped_array(Clamped(rgba), width as u32) {
        let _ = context.put_image_data(&data, 0.0, 0.0);
    }
}

/// A canvas that is not on the page.
pub fn create(width: usize, height: usize) -> Option<HtmlCanvasElement> {
    let canvas: HtmlCanvasElement = document().create_element("canvas").ok()?.dyn_into().ok()?;
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    Some(canvas)
}

/// A canvas with these RGBA pixels of a square.
pub fn of_pixels(rgba: &[u8]) -> Option<HtmlCanvasElement> {
    let side = (rgba.len() / 4).isqrt();
    let canvas = create(side, side)?;
    put(&context(&canvas)?, rgba, side);
    Some(canvas)
}

/// The canvas `times` as large.
pub fn enlarged(canvas: &HtmlCanvasElement, times: u32) -> Option<HtmlCanvasElement> {
    let large = create((canvas.width() * times) as usize, (canvas.height() * times) as usize)?;
    let (width, height) = (f64::from(large.width()), f64::from(large.height()));
    let context = context(&large)?;
    smooth(&context);
    context.draw_image_with_html_canvas_element_and_dw_and_dh(canvas, 0.0, 0.0, width, height).ok()?;
    Some(large)
}

/// Images are scaled as well as the browser can.
pub fn smooth(context: &CanvasRenderingContext2d) {
    // Not every browser knows it.
    let _ = Reflect::set(context, &"imageSmoothingQuality".into(), &"high".into());
}

/// The canvas as a PNG file, with metadata if it has some.
pub fn png(canvas: &HtmlCanvasElement, metadata: Option<&ImageMetadata>) -> Option<Vec<u8>> {
    let address = canvas.to_data_url_with_type("image/png").ok()?;
    // Each character of the answer is a byte.
    let bytes: Vec<u8> =
        window().atob(address.split_once(',')?.1).ok()?.chars().map(|byte| byte as u8).collect();
    match metadata {
        Some(metadata) => write_metadata(&bytes, metadata).ok(),
        None => Some(bytes),
    }
}

/// The RGBA pixels of a PNG file; None if the browser cannot read it.
pub async fn pixels_of(png: &[u8]) -> Option<Vec<u8>> {
    let bitmap = window().create_image_bitmap_with_blob(&browser::blob(png, "image/png")?).ok()?;
    let bitmap: ImageBitmap = JsFuture::from(bitmap).await.ok()?.dyn_into().ok()?;
    let (width, height) = (bitmap.width(), bitmap.height());
    let context = context(&create(width as usize, height as usize)?)?;
    context.draw_image_with_image_bitmap(&bitmap, 0.0, 0.0).ok()?;
    let data = context.get_image_data(0.0, 0.0, width.into(), height.into()).ok()?;
    Some(data.data().0)
}

/// The drawing context of a canvas.
pub fn context(canvas: &HtmlCanvasElement) -> Option<CanvasRenderingContext2d> {
    canvas.get_context("2d").ok()??.dyn_into().ok()
}
