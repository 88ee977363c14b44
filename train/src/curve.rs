//! Loss curves as a picture: one panel for each logged value.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Once;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

static FONT: Once = Once::new();

/// Draws `history` (name → (step, value)) into a PNG. Nothing is drawn of an empty history.
///
/// # Errors
/// The file cannot be written.
pub fn draw(title: &str, history: &BTreeMap<String, Vec<(u64, f64)>>, path: &Path) -> Result<()> {
    let panels: Vec<_> = history.iter().filter(|(_, points)| points.len() > 1).collect();
    if panels.is_empty() {
        return Ok(());
    }
    FONT.call_once(|| {
        // Always succeeds: the font is part of the program.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let wrong = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(columns);
    let size = (640 * columns as u32, 40 + 300 * rows as u32);
    let area = BitMapBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE).map_err(|error| wrong(&error))?;
    let area = area.titled(title, ("sans-serif", 22)).map_err(|error| wrong(&error))?;
    for (panel, (name, points)) in area.split_evenly((rows, columns)).iter().zip(panels) {
        let (low, high) =
            points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &(_, value)| {
                (low.min(value), high.max(value))
            });
        let margin = ((high - low) * 0.05).max(1e-9);
        let last = points.last().map_or(0, |&(step, _)| step);
        let mut chart = ChartBuilder::on(panel)
            .caption(
                format!("{name}: {:.4}", points.last().map_or(0.0, |&(_, value)| value)),
                ("sans-serif", 18),
            )
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size(64)
            .build_cartesian_2d(0..last.max(1), low - margin..high + margin)
            .map_err(|error| wrong(&error))?;
        chart
            .configure_mesh()
            .x_desc("update")
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| wrong(&error))?;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), RGBColor(36, 99, 179).stroke_width(2)))
            .map_err(|error| wrong(&error))?;
    }
    area.present().map_err(|error| wrong(&error))
}
