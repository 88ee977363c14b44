//! An evaluation result as a web page: figures, tables, charts and images in a single HTML file that loads nothing else.
//!
//! A [`Report`] is filled from top to bottom and works in light and dark mode, on small screens and with screen readers. Text is
//! escaped by `maud`.

mod chart;

use std::io::Cursor;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{ImageFormat, RgbImage};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::sheet::Cell;

const STYLE: &str = include_str!("report.css");
const MARKS: &str = include_str!("marks.js");
/// Content security policy: browsers load nothing for the page.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'";

/// A page under construction.
pub struct Report {
    title: String,
    lead: String,
    body: Vec<Part>,
}

/// A part of a page.
enum Part {
    /// A heading with a paragraph.
    Section { heading: String, text: String },
    /// Another report, with its title as the heading.
    Chapter(Report),
    /// Anything else.
    Other(Markup),
}

impl Report {
    /// A page with a heading and a sentence that explains it.
    pub fn new(title: &str, lead: &str) -> Self {
        Self { title: title.to_owned(), lead: lead.to_owned(), body: Vec::new() }
    }

    /// The main figures: name, value and explanation.
    pub fn figures(&mut self, figures: &[(&str, String, &str)]) {
        self.add(html! {
            dl.figures {
                @for (name, value, meaning) in figures {
                    div { dt { (name) } dd { strong { (value) } span { (meaning) } } }
                }
            }
        });
    }

    /// A heading with a paragraph.
    pub fn section(&mut self, heading: &str, text: &str) {
        self.body.push(Part::Section { heading: heading.to_owned(), text: text.to_owned() });
    }

    /// A table. The first cell of each row is the row's heading.
    pub fn table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>]) {
        self.add(table("numbers", caption, head, rows));
    }

    /// A table of text, whose cells break into lines. The first cell of each row is the row's heading.
    pub fn wide_table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>]) {
        self.add(table("text", caption, head, rows));
    }

    /// A line chart through points (x, y), with both axes from 0. Points with NaN or infinite values are left out.
    ///
    /// # Errors
    /// The chart cannot be drawn.
    pub fn chart(&mut self, caption: &str, x_name: &str, points: &[(f64, f64)]) -> Result<()> {
        let svg = chart::line_chart(caption, x_name, points)?;
        self.add(html! { figure.chart { (svg) figcaption { (caption) } } });
        Ok(())
    }

    /// Images side by side with their captions. `roles` says what each image of a cell is.
    ///
    /// # Errors
    /// An image cannot be encoded.
    pub fn images(&mut self, roles: &[&str], cells: &[Cell]) -> Result<()> {
        let cells = cells.iter().map(|cell| figure(roles, cell)).collect::<Result<Vec<_>>>()?;
        self.add(html! { ul.images { @for cell in cells { li { (cell) } } } });
        Ok(())
    }

    /// Images with their captions, each of which can be marked as right or wrong. The page counts the marks, keeps them in the
    /// browser under `identity`, and saves them as JSON. Captions differ. A page has at most one such part.
    ///
    /// # Errors
    /// An image cannot be encoded.
    pub fn marked_images(&mut self, roles: &[&str], cells: &[Cell], identity: &str) -> Result<()> {
        let figures = cells.iter().map(|cell| figure(roles, cell)).collect::<Result<Vec<_>>>()?;
        let captions: Vec<&str> = cells.iter().map(|cell| cell.caption).collect();
        let data = serde_json::json!({ "captions": captions, "identity": identity });
        // `<` is the only character that could end the script element.
        let data = data.to_string().replace('<', "\\u003c");
        self.add(html! {
            div.marks {
                output #count aria-live="polite" {}
                a #save download="marks.json" { "Save the marks" }
                button #clear type="button" { "Clear all marks" }
            }
            ul.images.marked {
                @for (index, (cell, figure)) in cells.iter().zip(figures).enumerate() {
                    li {
                        (figure)
                        fieldset.mark aria-label=(cell.caption) {
                            @for value in ["right", "wrong"] {
                                label { input type="radio" name={ "mark-" (index) } value=(value); (value) }
                            }
                        }
                    }
                }
            }
            script type="application/json" #captions { (PreEscaped(data)) }
            script { (PreEscaped(MARKS)) }
        });
        Ok(())
    }

    /// Any other part of the page.
    pub fn add(&mut self, part: Markup) {
        self.body.push(Part::Other(part));
    }

    /// Another report as a chapter of this one.
    pub fn chapter(&mut self, report: Self) {
        self.body.push(Part::Chapter(report));
    }

    /// The parts; headings are those of a chapter, if it is one.
    fn parts(&self, is_chapter: bool) -> Markup {
        html! {
            @for part in &self.body {
                @match part {
                    Part::Section { heading, text } => {
                        @if is_chapter { h3 { (heading) } } @else { h2 { (heading) } }
                        p { (text) }
                    },
                    Part::Chapter(report) => section {
                        h2 { (report.title) }
                        p.lead { (report.lead) }
                        (report.parts(true))
                    },
                    Part::Other(markup) => (markup),
                }
                "\n"
            }
        }
    }

    /// The HTML file. `command` is the command line that reproduces it, `provenance` what the result depends on.
    pub fn finish(self, command: &str, provenance: &str) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        header { h1 { (self.title) } p.lead { (self.lead) } }
                        "\n"
                        (self.parts(false))
                    }
                    footer { p { "Made by " code { (command) } } p { (provenance) } }
                }
            }
        };
        page.into_string()
    }
}

/// A table. The first cell of each row is the row's heading.
fn table(class: &str, caption: &str, head: &[&str], rows: &[Vec<String>]) -> Markup {
    html! {
        div.table role="region" aria-label=(caption) tabindex="0" {
            table class=(class) {
                caption { (caption) }
                thead { tr { @for name in head { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One cell: its images side by side, and its caption.
fn figure(roles: &[&str], cell: &Cell) -> Result<Markup> {
    let urls = cell.images.iter().map(|image| data_url(image)).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        figure {
            div.row {
                @for ((image, url), role) in cell.images.iter().zip(urls).zip(roles) {
                    img src=(url) alt={ (role) ": " (cell.caption) } title=(role) width=(image.width()) height=(image.height())
                        loading="lazy";
                }
            }
            figcaption { (cell.caption) }
        }
    })
}

fn data_url(image: &RgbImage) -> Result<String> {
    let mut png = Vec::new();
    image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).context("cannot encode an image")?;
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_has_the_headings_below_those_of_its_page() {
        let mut chapter = Report::new("Chapter <1>", "its lead");
        chapter.section("Inner", "text");
        let mut page = Report::new("Page", "lead");
        page.section("Outer", "text");
        page.chapter(chapter);
        let html = page.finish("dalle", "p");
        let headings = ["<h1>Page</h1>", "<h2>Outer</h2>", "<h2>Chapter &lt;1&gt;</h2>", "<h3>Inner</h3>"];
        let positions: Vec<usize> = headings.iter().map(|heading| html.find(heading).unwrap()).collect();
        assert!(positions.is_sorted(), "{positions:?}");
        assert!(html.contains("<title>Page</title>") && html.contains("<p class=\"lead\">its lead</p>"));
    }

    #[test]
    fn images_to_mark_have_two_choices_each_and_captions_cannot_end_the_script() {
        let image = RgbImage::new(2, 2);
        let captions = ["a dog", "</script><b>"];
        let cells: Vec<Cell> =
            captions.iter().map(|caption| Cell { images: vec![&image], caption }).collect();
        let mut report = Report::new("T", "lead");
        report.marked_images(&["sample"], &cells, "model 1").unwrap();
        let html = report.finish("dalle", "p");
        assert_eq!(html.matches("type=\"radio\"").count(), 4);
        for name in ["mark-0", "mark-1"] {
            assert_eq!(html.matches(&format!("name=\"{name}\"")).count(), 2);
        }
        assert_eq!(html.matches("</script>").count(), 2, "the data and the script");
        let (_, rest) = html.split_once("type=\"application/json\">").unwrap();
        let data: serde_json::Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
        assert_eq!(data, serde_json::json!({ "captions": captions, "identity": "model 1" }));
    }

    #[test]
    fn a_page_holds_its_images_and_no_text_becomes_markup() {
        let image = RgbImage::from_pixel(2, 3, image::Rgb([1, 2, 3]));
        let mut report = Report::new("<b>\"T\" & co", "lead");
        let caption = "a <script>alert(\"x\")</script>";
        report.images(&["true"], &[Cell { images: vec![&image], caption }]).unwrap();
        report.table("caption", &["a", "b"], &[vec!["1 < 2".into(), "3".into()]]);
        report.chart("<curve>", "<x>", &[(0.0, 1.0), (8.0, f64::NAN), (4.0, 2.0)]).unwrap();
        let html = report.finish("dalle eval", "model <x>");
        assert!(html.contains("<title>&lt;b&gt;&quot;T&quot; &amp; co</title>"));
        assert!(!html.contains("<script") && !html.contains("http:") && !html.contains("https:"));
        assert!(html.contains("<p>model &lt;x&gt;</p></footer>"));
        assert!(html.contains("<th scope=\"row\">1 &lt; 2</th><td>3</td>"));
        assert!(html.contains("alt=\"true: a &lt;script&gt;") && !html.contains("NaN"));
        assert!(html.contains("&lt;curve&gt;") && html.contains("&lt;x&gt;"));
        assert!(!html.contains("<curve>") && !html.contains("<x>"));
        let (_, rest) = html.split_once("data:image/png;base64,").unwrap();
        let png = BASE64_STANDARD.decode(rest.split_once('"').unwrap().0).unwrap();
        assert!(image::load_from_memory(&png).unwrap().to_rgb8() == image);
    }
}
