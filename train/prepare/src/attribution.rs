//! ATTRIBUTION.md of a dataset: who made what went in, and under which licence. Generated, never written by hand.

use std::fmt::Write;

use dalle_data::Manifest;

/// The whole file, in Markdown.
pub fn render(manifest: &Manifest) -> String {
    let mut text = String::from(
        "# Attribution\n\nThis dataset was made by `dalle data build` from the following works. The pictures were rendered, \
         cropped and set on plain backgrounds. Licences are SPDX identifiers; their texts are at \
         <https://spdx.org/licenses/>.\n\n| pictures | made by | licence | from |\n|---|---|---|---|\n",
    );
    for source in manifest.sources.iter().filter(|source| source.stored > 0) {
        let (author, from) = match &source.package {
            Some(package) => (
                package.author.as_deref().unwrap_or("see the project"),
                format!("`{}` {}, <{}>", package.name, package.version, package.url),
            ),
            None => ("their owner", "a folder of pictures".to_owned()),
        };
        row(&mut text, &format!("{} × {}", source.stored, source.name), author, &source.license, &from);
    }
    if let Some(captions) = &manifest.captions {
        let from = format!("`{}` {}, <{}>", captions.name, captions.version, captions.url);
        row(
            &mut text,
            "labels and tags",
            captions.author.as_deref().unwrap_or("see the project"),
            &captions.license,
            &from,
        );
    }
    text
}

fn row(text: &mut String, what: &str, author: &str, license: &str, from: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| {what} | {author} | {license} | {from} |");
}
