//! Why a document cannot be rendered, and the limits that its messages name.

use std::time::Duration;

use dalle_native::image_file::ImageFileError;
use resvg::usvg::{self, roxmltree};

/// Longest time that one document may take.
pub(super) const TIME: Duration = Duration::from_secs(20);
/// Most documents that have taken too long and are still being rendered. A thread cannot be stopped from outside.
pub(super) const MAX_ABANDONED: usize = 4;

/// Why a document cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum SvgError {
    /// Not an SVG document.
    #[error("not a usable SVG: {0}")]
    Svg(#[from] usvg::Error),
    /// Not well-formed XML, or with too many nodes.
    #[error("not a usable SVG: {0}")]
    Xml(#[from] roxmltree::Error),
    /// It is larger than any drawing.
    #[error("is too complex: {what}; at most {limit} are rendered")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// It shows another file, which is not read.
    #[error("contains an image of another file, which is not read; embed the image in the document")]
    OtherFile,
    /// An image in it cannot be used.
    #[error("contains an image that {0}")]
    Image(ImageFileError),
    /// Its text has letters that no font of the program has.
    #[error("contains the letter “{0}”, which no font of this program has; convert its text to paths")]
    Letter(String),
    /// Nothing visible is drawn.
    #[error("nothing visible is drawn")]
    Empty,
    /// Its sides are so unequal that it cannot be rendered.
    #[error("cannot be rendered at {0} pixels")]
    Size(u32),
    /// It takes too long.
    #[error("takes more than {} seconds to render", TIME.as_secs())]
    TooSlow,
    /// Too many others took too long.
    #[error(
        "not rendered: {MAX_ABANDONED} earlier images take too long and are still being rendered; remove them"
    )]
    Busy,
    /// The renderer failed.
    #[error("the renderer failed on it")]
    Failed,
}
