//! A measure as one page: figures, tables, curves and pictures in a single HTML file that asks nobody for anything.
//!
//! A [`Report`] is filled from top to bottom; every text is escaped here. It reads in light and dark, on a phone and on a
//! projector, by eye and by screen reader.

use std::fmt::{Display, Write};
use std::io::Cursor;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{ImageFormat, RgbImage};

use crate::sheet::Cell;

const STYLE: &str = include_str!("report.css");
/// The page's own promise, kept by the browser: nothing is loaded from anywhere.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'";

/// Size of a chart's drawing area and the space for its labels, in units of its own.
const CHART: (f64, f64) = (640.0, 300.0);
const MARGIN: (f64, f64) = (40.0, 64.0);

/// A page in the making.
pub struct Report {
    title: String,
    body: String,
}

impl Report {
    /// A page with a heading and a sentence that says what it is about.
    pub fn new(title: &str, lead: &str) -> Self {
        let body =
            format!("<header><h1>{}</h1><p class=\"lead\">{}</p></header>\n", escape(title), escape(lead));
        Self { title: title.to_owned(), body }
    }

    /// The figures to see first: name, value, and what it means.
    pub fn figures(&mut self, figures: &[(&str, String, &str)]) {
        self.body.push_str("<dl class=\"figures\">\n");
        for (name, value, meaning) in figures {
            self.add(format_args!(
                "<div><dt>{}</dt><dd><strong>{}</strong><span>{}</span></dd></div>\n",
                escape(name),
                escape(value),
                escape(meaning)
            ));
        }
        self.body.push_str("</dl>\n");
    }

    /// A heading with a paragraph.
    pub fn section(&mut self, heading: &str, text: &str) {
        self.add(format_args!("<h2>{}</h2>\n<p>{}</p>\n", escape(heading), escape(text)));
    }

    /// A table; the first cell of each row is its heading.
    pub fn table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>]) {
        self.add(format_args!(
            "<div class=\"table\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\"><table><caption>{0}</caption>\n<thead><tr>",
            escape(caption)
        ));
        for name in head {
            self.add(format_args!("<th scope=\"col\">{}</th>", escape(name)));
        }
        self.body.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let (open, close) = if index == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
                self.add(format_args!("<{open}>{}</{close}>", escape(cell)));
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// A curve through points (x, y), from 0 on both axes. Points that are not finite are left out.
    pub fn chart(&mut self, caption: &str, x_name: &str, points: &[(f64, f64)]) {
        let points: Vec<(f64, f64)> =
            points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        let end = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(0.0, f64::max).max(1e-9);
        let (right, top) = (end(|point| point.0), end(|point| point.1) * 1.08);
        let place = |(x, y): (f64, f64)| {
            (MARGIN.0 + x / right * CHART.0, 16.0 + CHART.1 - y.max(0.0) / top * CHART.1)
        };
        let (base, (width, height)) =
            (16.0 + CHART.1, (CHART.0 + MARGIN.0 + 40.0, CHART.1 + MARGIN.1 + 16.0));
        self.add(format_args!(
            "<figure class=\"chart\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{0}; the table has the \
             values\"><path class=\"axis\" d=\"M{1} 16V{base}H{2}\"/>",
            escape(caption),
            MARGIN.0,
            MARGIN.0 + CHART.0
        ));
        let line: Vec<String> =
            points.iter().map(|&point| place(point)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(format_args!("<polyline points=\"{}\"/>", line.join(" ")));
        for (index, &point) in points.iter().enumerate() {
            let (x, y) = place(point);
            // Beside the point, where the line does not go next.
            let falls = points.get(index + 1).is_some_and(|next| next.1 < point.1);
            let (aside, anchor) = if falls { (x + 9.0, "start") } else { (x, "middle") };
            self.add(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/><text x=\"{aside:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                y - 12.0,
                short(point.1),
                base + 28.0,
                short(point.0)
            ));
        }
        self.add(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></svg><figcaption>{}</figcaption></figure>\n",
            MARGIN.0 + CHART.0 / 2.0,
            height - 4.0,
            escape(x_name),
            escape(caption)
        ));
    }

    /// Pictures side by side with their captions. `roles` says what each of a cell's pictures is.
    ///
    /// # Errors
    /// A picture cannot be encoded.
    pub fn pictures(&mut self, roles: &[&str], cells: &[Cell]) -> Result<()> {
        self.body.push_str("<ul class=\"pictures\">\n");
        for cell in cells {
            self.add(format_args!("<li>{}</li>\n", figure(roles, cell)?));
        }
        self.body.push_str("</ul>\n");
        Ok(())
    }

    /// HTML that is part of the program, or made with [`escape`] and [`figure`].
    pub fn html(&mut self, html: &str) {
        self.body.push_str(html);
    }

    /// The whole file. `made_by` is the command that makes it again, `made_with` what it was made with.
    pub fn finish(self, made_by: &str, made_with: &str) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
             content=\"{POLICY}\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta \
             name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}\
             </main>\n<footer><p>Made by <code>{}</code></p><p>{}</p></footer>\n</body>\n</html>\n",
            escape(&self.title),
            self.body,
            escape(made_by),
            escape(made_with)
        )
    }

    fn add(&mut self, text: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.body, "{text}");
    }
}

/// One cell: its pictures side by side and its caption.
///
/// # Errors
/// A picture cannot be encoded.
pub fn figure(roles: &[&str], cell: &Cell) -> Result<String> {
    let mut html = String::from("<figure><div class=\"images\">");
    for (image, role) in cell.images.iter().zip(roles) {
        let (width, height) = image.dimensions();
        let alt = escape(&format!("{role}: {}", cell.caption));
        write!(
            html,
            "<img src=\"{}\" alt=\"{alt}\" title=\"{}\" width=\"{width}\" height=\"{height}\" loading=\"lazy\">",
            data_url(image)?,
            escape(role)
        )?;
    }
    write!(html, "</div><figcaption>{}</figcaption></figure>", escape(cell.caption))?;
    Ok(html)
}

/// Text as it stands in HTML, in attributes too.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number of about three digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn data_url(picture: &RgbImage) -> Result<String> {
    let mut png = Vec::new();
    picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).context("cannot encode a picture")?;
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_its_pictures_and_no_text_becomes_markup() {
        let picture = RgbImage::from_pixel(2, 3, image::Rgb([1, 2, 3]));
        let mut report = Report::new("<b>\"T\" & co", "lead");
        let caption = "a <script>alert(\"x\")</script>";
        report.pictures(&["true"], &[Cell { images: vec![&picture], caption }]).unwrap();
        report.table("caption", &["a", "b"], &[vec!["1 < 2".into(), "3".into()]]);
        report.chart("curve", "x", &[(0.0, 1.0), (8.0, f64::NAN), (4.0, 2.0)]);
        let html = report.finish("dalle eval", "model <x>");
        assert!(html.contains("<title>&lt;b&gt;&quot;T&quot; &amp; co</title>"));
        assert!(!html.contains("<script") && !html.contains("http:") && !html.contains("https:"));
        assert!(html.contains("<p>model &lt;x&gt;</p></footer>"));
        assert!(html.contains("<th scope=\"row\">1 &lt; 2</th><td>3</td>"));
        assert!(html.contains("alt=\"true: a &lt;script&gt;") && !html.contains("NaN"));
        let (_, rest) = html.split_once("data:image/png;base64,").unwrap();
        let png = BASE64_STANDARD.decode(rest.split_once('"').unwrap().0).unwrap();
        assert!(image::load_from_memory(&png).unwrap().to_rgb8() == picture);
    }
}
