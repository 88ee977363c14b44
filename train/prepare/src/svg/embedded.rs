//! Images in a document (`data:` addresses), decoded within bounds before the renderer sees them.

use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use dalle_native::image_file::{Bounds, FORMATS, ImageFile, ImageFileError};
use image::ImageFormat;
use resvg::usvg::{ImageHrefResolver, ImageKind};

use super::error::SvgError;

/// Most pixels of all images of a document.
const MAX_PIXELS: u64 = 1 << 24;
/// Longest side of an image in pixels.
const MAX_SIDE: u32 = 1 << 14;

/// The images of one document.
#[derive(Default)]
pub struct Embedded {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pixels: u64,
    fault: Option<ImageFileError>,
}

impl Embedded {
    /// Gives the renderer the images of the document, and no files.
    pub fn resolver(&self) -> ImageHrefResolver<'_> {
        ImageHrefResolver {
            resolve_data: Box::new(|_, data, _| self.image(&data)),
            resolve_string: Box::new(|_, _| None),
        }
    }

    /// Whether all images could be read.
    ///
    /// # Errors
    /// One of them is too large, damaged, or of an unknown kind.
    pub fn check(self) -> Result<(), SvgError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.fault.map_or(Ok(()), |fault| Err(SvgError::Image(fault)))
    }

    fn image(&self, data: &[u8]) -> Option<ImageKind> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = Bounds { formats: &FORMATS, pixels: MAX_PIXELS - state.pixels, side: MAX_SIDE };
        match decode(data, bounds) {
            Ok((pixels, png)) => {
                state.pixels += pixels;
                Some(ImageKind::PNG(Arc::new(png)))
            }
            Err(fault) => {
                state.fault.get_or_insert(fault);
                None
            }
        }
    }
}

/// The number of pixels, and a PNG, which the renderer decodes without loss.
fn decode(data: &[u8], bounds: Bounds) -> Result<(u64, Vec<u8>), ImageFileError> {
    let image = ImageFile::open(data, bounds)?.decode()?.into_rgba8();
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png)?;
    Ok((u64::from(image.width()) * u64::from(image.height()), png.into_inner()))
}
