//! SVG documents from elsewhere as pixels. Nothing but the document is read, and bytes, elements, pixels and time are bounded:
//! a document beyond them is an error, never a long wait or a large memory. Text is drawn in the fonts of this program, so that a
//! document gives the same pixels on every machine. What would be missing in the drawing is an error, too.

mod embedded;
mod error;
mod fonts;
mod limits;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use image::RgbaImage;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, Tree};

use embedded::Embedded;
use error::{MAX_ABANDONED, TIME};

pub use error::SvgError;
pub use limits::MAX_BYTES;

/// Longest side of any rendering in pixels.
const LONGEST_SIDE: f32 = 4096.0;
/// Longest side of the small rendering that finds where the drawing is.
const PROBE: f32 = 96.0;

/// Documents that have taken too long and are still being rendered.
static ABANDONED: AtomicUsize = AtomicUsize::new(0);

/// The frame of a document, premultiplied, at a scale at which what is drawn in it is about `size` pixels wide or high.
///
/// # Errors
/// It is no SVG, too complex, takes too long, or shows nothing.
pub fn render(text: &str, size: f32) -> Result<RgbaImage, SvgError> {
    if ABANDONED.load(Ordering::Relaxed) >= MAX_ABANDONED {
        return Err(SvgError::Busy);
    }
    let (sender, receiver) = channel();
    let text = text.to_owned();
    let worker = thread::spawn(move || {
        // After a timeout there is no receiver; the result is then of no use.
        sender.send(render_here(&text, size)).is_ok()
    });
    match receiver.recv_timeout(TIME) {
        Ok(rendered) => rendered,
        Err(RecvTimeoutError::Disconnected) => Err(SvgError::Failed),
        Err(RecvTimeoutError::Timeout) => {
            ABANDONED.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                let _ = worker.join();
                ABANDONED.fetch_sub(1, Ordering::Relaxed);
            });
            Err(SvgError::TooSlow)
        }
    }
}

fn render_here(text: &str, size: f32) -> Result<RgbaImage, SvgError> {
    let tree = parse(text)?;
    let probe = rasterise(&tree, PROBE)?;
    let (_, _, width, height) = visible(&probe).ok_or(SvgError::Empty)?;
    // As large as makes the drawing, not its frame, the wanted size.
    let drawn = width.max(height) as f32 / PROBE;
    rasterise(&tree, (size / drawn).min(LONGEST_SIDE))
}

fn parse(text: &str) -> Result<Tree, SvgError> {
    let document = limits::parse(text)?;
    let images = Embedded::default();
    let options = usvg::Options {
        dpi: 96.0,
        font_family: fonts::default_family(),
        fontdb: fonts::database(),
        image_href_resolver: images.resolver(),
        ..usvg::Options::default()
    };
    let tree = Tree::from_xmltree(&document, &options)?;
    drop(options);
    images.check()?;
    limits::check_filters(&tree)?;
    fonts::check(tree.root())?;
    Ok(tree)
}

/// The whole frame, its longest side this many pixels.
fn rasterise(tree: &Tree, longest: f32) -> Result<RgbaImage, SvgError> {
    let frame = tree.size();
    let scale = longest / frame.width().max(frame.height());
    let side = |length: f32| (length * scale).ceil().max(1.0) as u32;
    let (width, height) = (side(frame.width()), side(frame.height()));
    let refused = || SvgError::Size(width.max(height));
    let mut pixmap = Pixmap::new(width, height).ok_or_else(refused)?;
    resvg::render(tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    RgbaImage::from_raw(width, height, pixmap.take()).ok_or_else(refused)
}

/// Alpha from which a pixel counts as drawn.
pub const VISIBLE: u8 = 8;

/// Left, top, width and height of what is drawn.
pub fn visible(pixels: &RgbaImage) -> Option<(u32, u32, u32, u32)> {
    let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
    for (x, y, pixel) in pixels.enumerate_pixels() {
        if pixel[3] >= VISIBLE {
            (left, top) = (left.min(x), top.min(y));
            (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
        }
    }
    (left < right).then(|| (left, top, right - left, bottom - top))
}
