//! Pixels of an image on the page.

/// Pixels of an image.
#[derive(Debug)]
pub struct Shown {
    /// RGBA, the whole square.
    pub rgba: Vec<u8>,
    /// Rows of tokens that were complete: only these are to be seen.
    pub rows: usize,
}
