//! An image as training sees it: a drawing or photo as a square, cropped to what is drawn, centred, on a background.

use std::io::Read;

use dalle_native::image_file::{Bounds, ImageFile, ImageFileError, MAX_BYTES};
use flate2::read::GzDecoder;
use image::imageops::{self, FilterType};
use image::{DynamicImage, GenericImageView, Rgb, RgbImage, Rgba, RgbaImage};

use crate::budget::Budget;
use crate::content::Content;
use crate::images::text;
use crate::svg::{self, SvgError, VISIBLE, visible};

/// Bytes of image files in the memory of all threads.
static FILES: Budget = Budget::new(512 << 20);
/// Bytes of decoded images in the memory of all threads. The largest image alone takes about this.
static PIXELS: Budget = Budget::new(1 << 30);

/// Where the pixels of an image come from.
#[derive(Clone, Debug)]
pub enum Art {
    /// An SVG document.
    Svg {
        /// Its text.
        text: String,
        /// What to do after rendering.
        turn: Turn,
    },
    /// A file.
    File {
        /// Its bytes.
        content: Content,
        /// Whether it is an SVG document, perhaps compressed, and no bitmap.
        svg: bool,
    },
}

impl Art {
    /// A file of this name: an SVG by its ending, else a bitmap.
    pub fn file(content: Content, name: &str) -> Self {
        let ending = name.rsplit('.').next().unwrap_or_default().to_lowercase();
        Self::File { content, svg: matches!(ending.as_str(), "svg" | "svgz") }
    }
}

/// Flips, then quarter turns clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Mirror left and right.
    pub flip_horizontal: bool,
    /// Mirror top and bottom.
    pub flip_vertical: bool,
    /// Quarter turns clockwise, 0–3.
    pub quarter_turns: u8,
}

/// Why an image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Not an SVG document that can be rendered.
    #[error(transparent)]
    Svg(#[from] SvgError),
    /// No text.
    #[error("not a usable SVG: it {0}")]
    Encoding(String),
    /// Not an image file that can be read.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// Nothing visible is drawn.
    #[error("nothing visible is drawn")]
    Empty,
    /// Only drawings with a transparent background can be combined.
    #[error("expected a drawing with a transparent background, got a photo")]
    NotADrawing,
    /// The result could not be encoded.
    #[error("cannot be encoded: {0}")]
    Encode(#[from] image::ImageError),
}

/// Rendering before reduction is this many times larger: edges become smooth.
const SUPERSAMPLING: f32 = 2.0;
/// Difference in a colour channel that the eye notices at once.
const DIFFERENT: u8 = 40;
/// Part of the image's side that is left free at each edge around a drawing.
const MARGIN: f32 = 1.0 / 32.0;
/// Drawings that are made to fit a box are first rendered this many times larger than it.
const LARGER: f32 = 1.5;
/// Longest side of a photo in units of the shorter one; the ends of a longer one are cut before it is resized. Only the middle
/// square is used, and a strip of one by a million pixels would be enlarged with its whole length.
const LONGEST: u32 = 4;

/// A square image with premultiplied alpha, before it is put on a background.
pub struct Cutout {
    pixels: RgbaImage,
    opaque: bool,
    enlarged: bool,
}

impl Cutout {
    /// Reads or renders the image, `size` pixels wide and high.
    ///
    /// # Errors
    /// It cannot be read or rendered, or shows nothing.
    pub fn new(art: &Art, size: u32) -> Result<Self, RenderError> {
        match art {
            Art::Svg { text, turn } => Self::svg(text, *turn, size),
            Art::File { content, svg: true } => {
                let text = text::decode(&svg_bytes(content)?).map_err(RenderError::Encoding)?;
                Self::svg(&text, Turn::default(), size)
            }
            Art::File { content, svg: false } => {
                // Waiting for pixels while holding bytes is safe: who holds pixels never waits for bytes.
                let _bytes = FILES.reserve(content.length().min(MAX_BYTES));
                let bytes = content.read(MAX_BYTES)?;
                let file = ImageFile::open(&bytes, Bounds::FILES)?;
                let _pixels = PIXELS.reserve(file.memory());
                Self::bitmap(file.decode()?, size)
            }
        }
    }

    /// Whether the file has fewer pixels than the image.
    pub fn enlarged(&self) -> bool {
        self.enlarged
    }

    fn svg(text: &str, turn: Turn, size: u32) -> Result<Self, RenderError> {
        let pixels = svg::render(text, size as f32 * SUPERSAMPLING)?;
        Self::framed(&turned(pixels, turn), size)
    }

    /// An opaque bitmap is a photo: its middle square is used. A transparent one is a drawing: it is cropped to what is drawn.
    fn bitmap(bitmap: DynamicImage, size: u32) -> Result<Self, RenderError> {
        let enlarged = bitmap.width().min(bitmap.height()) < size;
        let bitmap = match bitmap.color().has_alpha() {
            false => bitmap,
            true => {
                let pixels = bitmap.into_rgba8();
                if pixels.pixels().any(|pixel| pixel[3] != u8::MAX) {
                    return Ok(Self { enlarged, ..Self::drawing(pixels, size)? });
                }
                pixels.into()
            }
        };
        let square = middle(bitmap).resize_to_fill(size, size, FilterType::Lanczos3);
        Ok(Self { pixels: square.into_rgba8(), opaque: true, enlarged })
    }

    fn drawing(mut pixels: RgbaImage, size: u32) -> Result<Self, RenderError> {
        for Rgba([red, green, blue, alpha]) in pixels.pixels_mut() {
            for channel in [red, green, blue] {
                *channel = multiply(*channel, *alpha);
            }
        }
        Self::framed(&pixels, size)
    }

    /// Crops to what is visible, fits that into the square less its margin, and centres it.
    fn framed(pixels: &RgbaImage, size: u32) -> Result<Self, RenderError> {
        let (left, top, width, height) = visible(pixels).ok_or(RenderError::Empty)?;
        let inner = (size as f32 * (1.0 - 2.0 * MARGIN)).round();
        let scale = inner / width.max(height) as f32;
        let fit = |side: u32| ((side as f32 * scale).round() as u32).clamp(1, size);
        let crop = imageops::crop_imm(pixels, left, top, width, height).to_image();
        // A tent filter never leaves the range of its inputs, so premultiplied colours stay below their alpha.
        let small = imageops::resize(&crop, fit(width), fit(height), FilterType::Triangle);
        let mut square = RgbaImage::new(size, size);
        let (x, y) = ((size - small.width()) / 2, (size - small.height()) / 2);
        imageops::replace(&mut square, &small, x.into(), y.into());
        Ok(Self { pixels: square, opaque: false, enlarged: false })
    }

    /// The drawing cropped to what is drawn, as large as fits into `width` by `height` pixels, without a margin.
    ///
    /// # Errors
    /// See [`Cutout::new`]. A photo has no shape of its own and is [`RenderError::NotADrawing`].
    pub fn fitted(art: &Art, width: u32, height: u32) -> Result<Self, RenderError> {
        // With its margin the drawing is a little smaller than the square; the square is as large as makes it fit.
        let whole = Self::new(art, ((width.max(height)) as f32 * LARGER).ceil() as u32)?;
        if whole.opaque {
            return Err(RenderError::NotADrawing);
        }
        let (left, top, drawn_width, drawn_height) = visible(&whole.pixels).ok_or(RenderError::Empty)?;
        let scale = (width as f32 / drawn_width as f32).min(height as f32 / drawn_height as f32);
        let fit = |side: u32, limit: u32| ((side as f32 * scale).round() as u32).clamp(1, limit);
        let crop = imageops::crop_imm(&whole.pixels, left, top, drawn_width, drawn_height).to_image();
        let pixels =
            imageops::resize(&crop, fit(drawn_width, width), fit(drawn_height, height), FilterType::Triangle);
        Ok(Self { pixels, opaque: false, enlarged: whole.enlarged })
    }

    /// Several drawings on one transparent square, each with its upper left corner at `(x, y)`.
    pub fn composed(size: u32, parts: &[(&Self, u32, u32)]) -> Self {
        let mut square = RgbaImage::new(size, size);
        for (part, x, y) in parts {
            imageops::replace(&mut square, &part.pixels, i64::from(*x), i64::from(*y));
        }
        Self { pixels: square, opaque: false, enlarged: false }
    }

    /// The same drawing with other pixels.
    pub fn with_pixels(&self, pixels: RgbaImage) -> Self {
        Self { pixels, opaque: self.opaque, enlarged: self.enlarged }
    }

    /// Its pixels, premultiplied.
    pub fn pixels(&self) -> &RgbaImage {
        &self.pixels
    }

    /// Whether the drawing is visible on this background: half of its pixels differ from it. Never true of a photo, which
    /// covers its background.
    pub fn stands_out_from(&self, background: [u8; 3]) -> bool {
        let image = self.on(background);
        let drawn = self.pixels.pixels().zip(image.pixels()).filter(|(pixel, _)| pixel[3] >= VISIBLE);
        let (mut all, mut different) = (0, 0);
        for (_, Rgb(shown)) in drawn {
            all += 1;
            let distance = shown.iter().zip(background).map(|(a, b)| a.abs_diff(b)).max();
            different += u32::from(distance >= Some(DIFFERENT));
        }
        !self.opaque && 2 * different >= all
    }

    /// The image on a background of one colour.
    pub fn on(&self, background: [u8; 3]) -> RgbImage {
        RgbImage::from_fn(self.pixels.width(), self.pixels.height(), |x, y| {
            let Rgba([red, green, blue, alpha]) = *self.pixels.get_pixel(x, y);
            let over = |front: u8, back: u8| front.saturating_add(multiply(back, u8::MAX - alpha));
            Rgb([over(red, background[0]), over(green, background[1]), over(blue, background[2])])
        })
    }
}

/// The document of an SVG file, unpacked if it is compressed.
fn svg_bytes(content: &Content) -> Result<Vec<u8>, RenderError> {
    let bytes = content.read(svg::MAX_BYTES)?;
    if !bytes.starts_with(&[0x1F, 0x8B]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes.as_slice())
        .take(svg::MAX_BYTES + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| RenderError::Encoding(format!("cannot be unpacked: {error}")))?;
    Ok(unpacked)
}

/// `value · alpha / 255`, rounded.
fn multiply(value: u8, alpha: u8) -> u8 {
    let product = u16::from(value) * u16::from(alpha);
    ((product + 127) / 255) as u8
}

/// The middle of a photo whose sides are very unequal; others as they are.
fn middle(photo: DynamicImage) -> DynamicImage {
    let (width, height) = photo.dimensions();
    let longest = width.min(height).saturating_mul(LONGEST);
    let (cut_width, cut_height) = (width.min(longest), height.min(longest));
    if (cut_width, cut_height) == (width, height) {
        return photo;
    }
    photo.crop_imm((width - cut_width) / 2, (height - cut_height) / 2, cut_width, cut_height)
}

fn turned(pixels: RgbaImage, turn: Turn) -> RgbaImage {
    let mut pixels = pixels;
    if turn.flip_horizontal {
        imageops::flip_horizontal_in_place(&mut pixels);
    }
    if turn.flip_vertical {
        imageops::flip_vertical_in_place(&mut pixels);
    }
    match turn.quarter_turns {
        1 => imageops::rotate90(&pixels),
        2 => imageops::rotate180(&pixels),
        3 => imageops::rotate270(&pixels),
        _ => pixels,
    }
}
