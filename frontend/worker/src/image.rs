//! Converts image files, in any format that the browser reads, into the square of pixels that the encoder takes; and RGB8 to RGBA.

use js_sys::Reflect;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, ImageBitmap, OffscreenCanvas, OffscreenCanvasRenderingContext2d};

use crate::download::message_of;
use crate::port::scope;

/// The middle of an image as RGB8, `size × size` pixels, on white where it is transparent. An image of that size stays unchanged.
/// The browser turns photographs upright, as their EXIF data say.
///
/// # Errors
/// A sentence, if the browser cannot read the file.
pub async fn square(file: &JsValue, size: usize) -> Result<Vec<u8>, String> {
    let rgba = draw(file, size).await.map_err(|error| {
        format!(
            "The browser cannot read this file as an image ({})",
            message_of(&error).trim_end_matches('.')
        )
    })?;
    Ok(rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect())
}

async fn draw(file: &JsValue, size: usize) -> Result<Vec<u8>, JsValue> {
    let blob: &Blob = file.dyn_ref().ok_or("it is not a file")?;
    let bitmap: ImageBitmap =
        JsFuture::from(scope().create_image_bitmap_with_blob(blob)?).await?.dyn_into()?;
    let (width, height) = (f64::from(bitmap.width()), f64::from(bitmap.height()));
    let side = width.min(height);
    let canvas = OffscreenCanvas::new(size as u32, size as u32)?;
    let context = canvas.get_context("2d")?.ok_or("the browser has no canvas in workers")?;
    let context: OffscreenCanvasRenderingContext2d = context.dyn_into()?;
    // Large photographs keep more detail.
    Reflect::set(&context, &"imageSmoothingQuality".into(), &"high".into())?;
    let to = size as f64;
    context.set_fill_style_str("white");
    context.fill_rect(0.0, 0.0, to, to);
    let (x, y) = (((width - side) / 2.0).floor(), ((height - side) / 2.0).floor());
    context.draw_image_with_image_bitmap_and_sw_and_sh_and_dx_and_dy_and_dw_and_dh(
        &bitmap, x, y, side, side, 0.0, 0.0, to, to,
    )?;
    bitmap.close();
    Ok(context.get_image_data(0.0, 0.0, to, to)?.data().0)
}

/// Appends RGB8 pixels as RGBA.
pub fn append_rgba(rgb: &[u8], rgba: &mut Vec<u8>) {
    rgba.extend(rgb.as_chunks::<3>().0.iter().flat_map(|rgb| [rgb[0], rgb[1], rgb[2], u8::MAX]));
}
