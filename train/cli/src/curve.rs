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

/// Plots `history` (name → (step, value)) into a PNG. Metrics named `group/member` share a panel, with a legend if they are few; the lines of
/// many are from blue to red in the order of their names. Values that are not finite are left out, and metrics with fewer than two values are not plotted. Without any panel no
/// file is written.
///
/// # Errors
/// The file cannot be written.
pub fn draw(title: &str, history: &History, path: &Path) -> Result<()> {
    let panels = panels(history);
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

/// A metric, or a group of them.
struct Panel<'a> {
    name: &'a str,
    lines: Vec<Line<'a>>,
}

/// A member of a group, or a metric of its own.
struct Line<'a> {
    member: Option<&'a str>,
    /// (step, value).
    points: Vec<(u64, f64)>,
}

impl Panel<'_> {
    /// The name and the last value, or the range of last values.
    fn caption(&self) -> String {
        let last = self.lines.iter().flat_map(|line| line.points.last()).map(|&(_, value)| value);
        let (low, high) = range(last);
        if self.lines.len() == 1 {
            format!("{}: {low:.4}", self.name)
        } else {
            format!("{}: {low:.2} to {high:.2}", self.name)
        }
    }
}

fn panels(history: &History) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel> = Vec::new();
    for (name, points) in history {
        let points: Vec<_> = points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
        if points.len() < 2 {
            continue;
        }
        let (name, member) = match name.split_once('/') {
            Some((group, member)) => (group, Some(member)),
            None => (name.as_str(), None),
        };
        let line = Line { member, points };
        // Members of a group are neighbours, because names are sorted.
        match panels.last_mut() {
            Some(panel) if member.is_some() && panel.name == name => panel.lines.push(line),
            _ => panels.push(Panel { name, lines: vec![line] }),
        }
    }
    panels
}

/// The least and the greatest value.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// Colours that are told apart easily.
const PALETTE: [RGBColor; 6] = [
    RGBColor(36, 99, 179),
    RGBColor(214, 96, 20),
    RGBColor(30, 140, 70),
    RGBColor(190, 40, 110),
    RGBColor(120, 90, 60),
    RGBColor(110, 110, 110),
];

/// The colour of line `index` of `count`: from blue to red, if they are many.
fn colour(index: usize, count: usize) -> RGBColor {
    if count <= PALETTE.len() {
        return PALETTE[index];
    }
    let (first, last) = ([36, 99, 179], [200, 50, 40]);
    let [red, green, blue] = std::array::from_fn(|i| {
        let part = index as f64 / (count - 1) as f64;
        (f64::from(first[i]) + part * (f64::from(last[i]) - f64::from(first[i]))) as u8
    });
    RGBColor(red, green, blue)
}

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
    for (area, panel) in area.split_evenly((rows, columns)).iter().zip(panels) {
        let (low, high) = range(panel.lines.iter().flat_map(|line| &line.points).map(|&(_, value)| value));
        // The margin must not vanish beside large values, because plotters does not terminate on an axis without length.
        let margin = ((high - low) * 0.05).max(high.abs() * 1e-6).max(1e-9);
        let last = panel.lines.iter().flat_map(|line| line.points.last()).map(|&(step, _)| step).max();
        let mut chart = ChartBuilder::on(area)
            .caption(panel.caption(), ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size(64)
            .build_cartesian_2d(0..last.unwrap_or(0).max(1), low - margin..high + margin)?;
        chart.configure_mesh().x_desc("update").light_line_style(WHITE).draw()?;
        let (count, width) = (panel.lines.len(), if panel.lines.len() == 1 { 2 } else { 1 });
        for (index, line) in panel.lines.iter().enumerate() {
            let style = colour(index, count).stroke_width(width);
            let drawn = chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
            if let Some(member) = line.member.filter(|_| count <= PALETTE.len()) {
                drawn.label(member).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
            }
        }
        if count <= PALETTE.len() && panel.lines.iter().any(|line| line.member.is_some()) {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .background_style(WHITE.mix(0.8))
                .label_font(("sans-serif", 15))
                .draw()?;
        }
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_group_share_a_panel_and_single_or_infinite_values_have_none() {
        let line = |values: &[f64]| (1..).zip(values.iter().copied()).collect::<Vec<_>>();
        let history: History = [
            ("loss", line(&[2.0, 1.5])),
            ("scale/0 attention", line(&[13.0, 12.5])),
            ("scale/0 mlp", line(&[13.0, f64::INFINITY, 13.5])),
            ("scales", line(&[1.0, 1.0])),
            ("skipped updates", line(&[1.0])),
        ]
        .map(|(name, values)| (name.to_owned(), values))
        .into();
        let panels = panels(&history);
        let captions: Vec<String> = panels.iter().map(Panel::caption).collect();
        assert_eq!(captions, ["loss: 1.5000", "scale: 12.50 to 13.50", "scales: 1.0000"]);
        let points: Vec<_> = panels[1].lines.iter().map(|line| line.points.clone()).collect();
        assert_eq!(points, [line(&[13.0, 12.5]), vec![(1, 13.0), (3, 13.5)]]);
        let folder = tempfile::tempdir().unwrap();
        draw("groups", &history, &folder.path().join("curve.png")).unwrap();
        assert!(image::open(folder.path().join("curve.png")).unwrap().width() == 1280);
        for count in [1, 6, 7, 128] {
            assert_eq!(colour(0, count), colour(0, 1));
            assert!((1..count).all(|index| colour(index, count) != colour(index - 1, count)), "{count}");
        }
    }
}
