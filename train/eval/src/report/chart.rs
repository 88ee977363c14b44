//! Line charts as inline SVG, drawn by `plotters`.
//!
//! Colours are attributes of the SVG elements, which `report.css` overrides to follow light and dark mode.

use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Size of a chart in its own units.
const SIZE: (u32, u32) = (640, 360);
/// Series, and labels and axes: the colours that `report.css` overrides.
const SERIES: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const LABELS: RGBColor = RGBColor(0x5b, 0x60, 0x68);
const AXES: RGBColor = RGBColor(0xdc, 0xda, 0xd5);

static FONT: Once = Once::new();

/// A line through the points (x, y), with both axes from 0. Points with NaN or infinite values are left out.
///
/// # Errors
/// The chart cannot be drawn.
pub fn line_chart(caption: &str, x_name: &str, points: &[(f64, f64)]) -> Result<Markup> {
    // plotters measures text with this font; the page uses its own.
    FONT.call_once(|| {
        // Fails only for an invalid font.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&area, x_name, &points).map_err(|error| anyhow!("cannot draw the chart {caption}: {error}"))?;
    }
    // The element itself is written here: inline SVG needs no namespace, and screen readers need a label.
    let (_, elements) = svg.split_once('>').context("plotters wrote no SVG element")?;
    let elements = elements.trim_end().trim_end_matches("</svg>");
    Ok(html! {
        svg viewBox={ "0 0 " (SIZE.0) " " (SIZE.1) } role="img" aria-label={ (caption) "; the table has the values" } {
            (PreEscaped(elements))
        }
    })
}

fn draw(
    area: &DrawingArea<SVGBackend, Shift>,
    x_name: &str,
    points: &[(f64, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    let largest = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(0.0, f64::max).max(1e-9);
    let (right, top) = (largest(|point| point.0), largest(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(52)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..right * 1.02, 0.0..top * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .disable_x_mesh()
        .bold_line_style(AXES)
        .axis_style(AXES)
        .label_style(("sans-serif", 15).into_font().color(&LABELS))
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| label(*y))
        .x_desc(x_name)
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), SERIES.stroke_width(3)))?;
    chart.draw_series(points.iter().map(|&point| Circle::new(point, 5, SERIES.filled())))?;
    area.present()?;
    Ok(())
}

/// A tick's number without trailing zeros.
fn label(value: f64) -> String {
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
