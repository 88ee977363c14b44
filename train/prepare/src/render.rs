//! A drawing or photo becomes a square picture: rendered, cropped to what is drawn, centred, set on a background.

use std::path::PathBuf;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageReader, Rgb, RgbImage, Rgba, RgbaImage};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

/// Where a picture comes from.
#[derive(Clone, Debug)]
pub enum Art {
    /// An SVG document.
    Svg {
        /// Its text.
        text: String,
        /// What to do after rendering.
        turn: Turn,
    },
    /// A file: SVG by its ending, else a bitmap.
    File(PathBuf),
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

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Not an SVG document that can be rendered.
    #[error("not a usable SVG: {0}")]
    Svg(#[from] usvg::Error),
    /// Not a bitmap that can be read.
    #[error("not a usable picture (PNG, JPEG or WebP): {0}")]
    Bitmap(#[from] image::ImageError),
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Nothing visible is drawn.
    #[error("nothing visible is drawn")]
    Empty,
    /// Its sides are so unequal that it cannot be rendered.
    #[error("cannot be rendered at {0} pixels")]
    Size(u32),
}

/// Rendering before reduction is this many times larger: edges become smooth.
const SUPERSAMPLING: f32 = 2.0;
/// Longest side of the small rendering that finds where the drawing is.
const PROBE: f32 = 96.0;
/// Longest side of any rendering: a tiny drawing in a large frame is enlarged from here.
const LARGEST: f32 = 4096.0;
/// Alpha from which a pixel counts as drawn.
const VISIBLE: u8 = 8;
/// Difference in a colour channel that the eye notices at once.
const DIFFERENT: u8 = 40;
/// Share of the picture's side left free at each edge around a drawing.
const MARGIN: f32 = 1.0 / 32.0;

/// A square picture with premultiplied alpha, waiting for its background.
pub struct Cutout {
    pixels: RgbaImage,
    opaque: bool,
}

impl Cutout {
    /// Makes the picture, `size` pixels wide and high.
    ///
    /// # Errors
    /// It cannot be read or rendered, or nothing is to be seen.
    pub fn new(art: &Art, size: u32) -> Result<Self, RenderError> {
        match art {
            Art::Svg { text, turn } => Self::svg(text, *turn, size),
            Art::File(path) if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg")) => {
                let bytes = std::fs::read(path)?;
                let text = String::from_utf8(bytes).map_err(|_| usvg::Error::NotAnUtf8Str)?;
                Self::svg(&text, Turn::default(), size)
            }
            Art::File(path) => {
                let bitmap = ImageReader::open(path)?.with_guessed_format()?.decode()?;
                Self::bitmap(&bitmap, size)
            }
        }
    }

    fn svg(text: &str, turn: Turn, size: u32) -> Result<Self, RenderError> {
        let options = usvg::Options { dpi: 96.0, ..usvg::Options::default() };
        let tree = usvg::Tree::from_str(text, &options)?;
        let probe = rasterise(&tree, PROBE)?;
        let (_, _, width, height) = visible(&probe).ok_or(RenderError::Empty)?;
        // As large as makes the drawing, not its frame, the wanted size.
        let drawn = width.max(height) as f32 / PROBE;
        let pixels = rasterise(&tree, (size as f32 * SUPERSAMPLING / drawn).min(LARGEST))?;
        Self::framed(&turned(pixels, turn), size)
    }

    /// An opaque bitmap is a photo: its middle square. One with holes is a drawing: cropped to what is drawn.
    fn bitmap(bitmap: &DynamicImage, size: u32) -> Result<Self, RenderError> {
        if bitmap.to_rgba8().pixels().all(|pixel| pixel[3] == u8::MAX) {
            let square = bitmap.resize_to_fill(size, size, FilterType::Lanczos3);
            return Ok(Self { pixels: square.to_rgba8(), opaque: true });
        }
        let mut pixels = bitmap.to_rgba8();
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
        Ok(Self { pixels: square, opaque: false })
    }

    /// Whether the drawing can be told from this background: half of what is drawn differs from it. Never true of a photo,
    /// which no background can be seen behind.
    pub fn stands_out_from(&self, background: [u8; 3]) -> bool {
        let picture = self.on(background);
        let drawn = self.pixels.pixels().zip(picture.pixels()).filter(|(pixel, _)| pixel[3] >= VISIBLE);
        let (mut all, mut different) = (0, 0);
        for (_, Rgb(shown)) in drawn {
            all += 1;
            let distance = shown.iter().zip(background).map(|(a, b)| a.abs_diff(b)).max();
            different += u32::from(distance >= Some(DIFFERENT));
        }
        !self.opaque && 2 * different >= all
    }

    /// The picture on a background of one colour.
    pub fn on(&self, background: [u8; 3]) -> RgbImage {
        RgbImage::from_fn(self.pixels.width(), self.pixels.height(), |x, y| {
            let Rgba([red, green, blue, alpha]) = *self.pixels.get_pixel(x, y);
            let over = |front: u8, back: u8| front.saturating_add(multiply(back, u8::MAX - alpha));
            Rgb([over(red, background[0]), over(green, background[1]), over(blue, background[2])])
        })
    }
}

/// `value · alpha / 255`, rounded.
fn multiply(value: u8, alpha: u8) -> u8 {
    let product = u16::from(value) * u16::from(alpha);
    ((product + 127) / 255) as u8
}

/// The whole frame of an SVG, its longest side this many pixels, premultiplied.
fn rasterise(tree: &usvg::Tree, longest: f32) -> Result<RgbaImage, RenderError> {
    let frame = tree.size();
    let scale = longest / frame.width().max(frame.height());
    let side = |length: f32| (length * scale).ceil().max(1.0) as u32;
    let (width, height) = (side(frame.width()), side(frame.height()));
    let refused = || RenderError::Size(width.max(height));
    let mut pixmap = Pixmap::new(width, height).ok_or_else(refused)?;
    resvg::render(tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    RgbaImage::from_raw(width, height, pixmap.take()).ok_or_else(refused)
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

/// Left, top, width and height of what is drawn.
fn visible(pixels: &RgbaImage) -> Option<(u32, u32, u32, u32)> {
    let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
    for (x, y, pixel) in pixels.enumerate_pixels() {
        if pixel[3] >= VISIBLE {
            (left, top) = (left.min(x), top.min(y));
            (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
        }
    }
    (left < right).then(|| (left, top, right - left, bottom - top))
}
