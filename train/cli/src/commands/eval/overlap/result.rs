//! The result of `dalle eval overlap`, as its JSON file has it.

use dalle_eval::similarity::psnr;
use serde::Serialize;

/// The JSON file.
#[derive(Serialize)]
pub(super) struct Overlap<'a> {
    pub(super) network: &'static str,
    #[serde(rename = "training_pictures")]
    pub(super) training_images: usize,
    /// Nearest pair first.
    pub(super) pairs: Vec<NamedPair<'a>>,
    /// What --threshold removes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) threshold: Option<Removal>,
}

/// The keys of a held-out image and its nearest training image, and the reconstruction quality of the former.
#[derive(Serialize)]
pub(super) struct NamedPair<'a> {
    pub(super) validation: &'a str,
    pub(super) train: &'a str,
    pub(super) cosine: f32,
    pub(super) squared_error: Option<f64>,
    pub(super) ssim: Option<f64>,
}

/// What a threshold removes, and the reconstruction quality (PSNR in dB, SSIM) of all images and of those that remain.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Removal {
    pub(super) threshold: f32,
    pub(super) removed: usize,
    pub(super) before: Option<(f64, f64)>,
    pub(super) after: Option<(f64, f64)>,
}

impl Overlap<'_> {
    pub(super) fn removal(&self, threshold: f32) -> Removal {
        let removed = self.pairs.iter().take_while(|pair| pair.cosine >= threshold).count();
        let quality = |pairs: &[NamedPair]| -> Option<(f64, f64)> {
            let count = pairs.len() as f64;
            let errors = pairs.iter().map(|pair| pair.squared_error).sum::<Option<f64>>()?;
            let ssim = pairs.iter().map(|pair| pair.ssim).sum::<Option<f64>>()?;
            (count > 0.0).then(|| (psnr(errors / count), ssim / count))
        };
        Removal { threshold, removed, before: quality(&self.pairs), after: quality(&self.pairs[removed..]) }
    }
}
