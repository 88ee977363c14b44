//! Plots metrics as an image, one panel per metric.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::png::write_png;
use dalle_train::run_state::History;

static FONT: Once = Once::new();

/// Plots `history` (name → (step, value)) into a PNG. Values that are not finite are left out, and metrics with fewer than two values
/// are not plotted. Without any panel no file is written.
///
/// # Errors
/// The file cannot be written.
pub fn draw(title: &str, history: &History, path: &Path) -> Result<()> {
    let finite = |points: &[(u64, f64)]| -> Vec<(u64, f64)> {
        points.iter().copied().filter(|(_, value)| value.is_finite()).collect()
    };
    let panels: Vec<Panel> = history
        .iter()
        .map(|(name, points)| (name, finite(points)))
        .filter(|(_, points)| points.len() > 1)
        .collect();
    if panels.is_empty() {
        return Ok(());
    }
    FONT.call_once(|| {
        // Cannot fail: the font is part of the program.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(columns);
    let size = (640 * columns as u32, 40 + 300 * rows as u32);
    let mut pixels = vec![0; size.0 as usize * size.1 as usize * 3];
    paint(title, &panels, &mut pixels, size)
        .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))?;
    let image = RgbImage::from_raw(size.0, size.1, pixels).context("the curve's buffer has another size")?;
    write_png(path, &image)
}

/// A name and its (step, value) pairs.
type Panel<'a> = (&'a String, Vec<(u64, f64)>);

fn paint(
    title: &str,
    panels: &[Panel],
    pixels: &mut [u8],
    size: (u32, u32),
) -> Result<(), Box<dyn std::error::Error>> {
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(columns);
    let area = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(title, ("sans-serif", 22))?;
    for (panel, (name, points)) in area.split_evenly((rows, columns)).iter().zip(panels) {
        let (low, high) =
            points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &(_, value)| {
                (low.min(value), high.max(value))
            });
        // The margin must not vanish beside large values, because plotters does not terminate on an axis without length.
        let margin = ((high - low) * 0.05).max(high.abs() * 1e-6).max(1e-9);
        let last = points.last().map_or(0, |&(step, _)| step);
        let mut chart = ChartBuilder::on(panel)
            .caption(
                format!("{name}: {:.4}", points.last().map_or(0.0, |&(_, value)| value)),
                ("sans-serif", 18),
            )
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size(64)
            .build_cartesian_2d(0..last.max(1), low - margin..high + margin)?;
        chart.configure_mesh().x_desc("update").light_line_style(WHITE).draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), RGBColor(36, 99, 179).stroke_width(2)))?;
    }
    area.present()?;
    Ok(())
}
