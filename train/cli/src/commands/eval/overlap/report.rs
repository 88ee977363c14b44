//! The report of `dalle eval overlap`, with a slider for the threshold.

use anyhow::Result;
use dalle_eval::report::Report;
use dalle_eval::sheet::Cell;
use maud::{Markup, PreEscaped, html};

use super::super::output::{SHOWN, first_of, percent};
use super::result::{Overlap, Removal};

const SCRIPT: &str = include_str!("threshold.js");
/// Start of the slider, unless --threshold is set.
const START: f32 = 0.95;
/// Thresholds in the table.
const THRESHOLDS: [f32; 6] = [0.99, 0.97, 0.95, 0.9, 0.85, 0.8];

/// Builds the report.
///
/// # Errors
/// An image cannot be encoded.
pub fn report(result: &Overlap, shown: &[Cell]) -> Result<Report> {
    let mut report = Report::new(
        "Overlap of held-out and training images",
        "Each held-out image beside its nearest training image, nearest pair first. Move the threshold to where the two are no longer \
         duplicates.",
    );
    report.figures(&[
        ("Held-out images", result.pairs.len().to_string(), "each with its nearest training image"),
        ("Training images", result.training_images.to_string(), "searched"),
        ("Features", result.network.to_owned(), "compared by cosine similarity"),
    ]);
    report.table(
        "Removed images for each threshold, and the reconstruction quality (PSNR, SSIM) of all held-out images and of those that remain",
        &["cosine of at least", "removed", "share", "before", "after"],
        &threshold_rows(result),
    );
    let first = first_of(shown, result.pairs.len());
    report.section("Pairs", &format!("Left: the held-out image. Right: its nearest training image.{first}"));
    report.add(slider(result));
    report.images(&["held-out image", "nearest training image"], shown)?;
    report.add(script(result));
    let rows: Vec<Vec<String>> = result
        .pairs
        .iter()
        .take(SHOWN)
        .map(|pair| vec![pair.validation.to_owned(), pair.train.to_owned(), format!("{:.3}", pair.cosine)])
        .collect();
    report.section("Keys", "The same pairs by their keys in the datasets.");
    report.table(
        "Held-out images and their nearest training images",
        &["held-out", "training", "cosine"],
        &rows,
    );
    Ok(report)
}

/// The rows of the table: the fixed thresholds and that of --threshold.
fn threshold_rows(result: &Overlap) -> Vec<Vec<String>> {
    let mut thresholds = THRESHOLDS.to_vec();
    thresholds.extend(result.threshold.map(|removal| removal.threshold));
    thresholds.sort_by(|a, b| b.total_cmp(a));
    thresholds.dedup();
    let quality = |quality: Option<(f64, f64)>| {
        quality.map_or("–".to_owned(), |(psnr, ssim)| format!("{psnr:.2} dB, {ssim:.4}"))
    };
    let row = |Removal { threshold, removed, before, after }| {
        let share = percent(removed as f64 / result.pairs.len() as f64);
        vec![format!("{threshold:.3}"), removed.to_string(), share, quality(before), quality(after)]
    };
    thresholds.iter().map(|&threshold| row(result.removal(threshold))).collect()
}

fn slider(result: &Overlap) -> Markup {
    let lowest = result.pairs.last().map_or(0.0, |pair| pair.cosine).max(0.0);
    let lowest = format!("{:.3}", (lowest * 1000.0).floor() / 1000.0);
    let start = format!("{:.3}", result.threshold.map_or(START, |removal| removal.threshold));
    html! {
        div.threshold {
            label for="threshold" { "Cosine threshold" }
            input #threshold type="range" min=(lowest) max="1" step="0.001" value=(start);
            output #removed for="threshold" aria-live="polite" {}
            a #list download="removed.txt" { "Save the keys of the removed images" }
        }
    }
}

fn script(result: &Overlap) -> Markup {
    let data = serde_json::json!({ "pairs": result.pairs, "noun": "held-out images" });
    // `<` is the only character that could end the script element.
    let data = data.to_string().replace('<', "\\u003c");
    html! {
        script type="application/json" #pairs { (PreEscaped(data)) }
        script { (PreEscaped(SCRIPT)) }
    }
}
