//! ATTRIBUTION.md of a dataset: who made the works in it, and under which licences. Generated, never written by hand.

use std::fmt::Write;

use dalle_data::Manifest;

/// The whole file, in Markdown.
pub fn render(manifest: &Manifest) -> String {
    let mut text = String::from(
        "# Attribution\n\nThis dataset was made by `dalle data build` from the following works. The images were rendered, \
         cropped and set on plain backgrounds. Licences are SPDX identifiers; their texts are at \
         <https://spdx.org/licenses/>.\n\n| images | made by | licence | from |\n|---|---|---|---|\n",
    );
    let stored = || manifest.sources.iter().filter(|source| source.stored > 0);
    for source in stored() {
        let (author, from) = match &source.info.package {
            Some(package) => (
                package.author.as_deref().unwrap_or("see the project"),
                format!("`{}` {}, <{}>", package.name, package.version, package.url),
            ),
            None => ("their owner", "a folder of images".to_owned()),
        };
        let what = format!("{} × {}", source.stored, source.info.name);
        row(&mut text, &what, author, &source.info.license, &from);
    }
    let mut packages: Vec<_> = stored().filter_map(|source| source.info.captions.as_ref()).collect();
    packages.dedup();
    for captions in packages {
        let from = format!("`{}` {}, <{}>", captions.name, captions.version, captions.url);
        let author = captions.author.as_deref().unwrap_or("see the project");
        row(&mut text, "labels and tags", author, &captions.license, &from);
    }
    text
}

fn row(text: &mut String, what: &str, author: &str, license: &str, from: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| {what} | {author} | {license} | {from} |");
}
