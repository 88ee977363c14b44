//! What a file is by the ending of its name.

use super::lists;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image, perhaps of a kind that is not read, which is then named.
    Image,
    /// Text, which may be captions.
    Text,
    /// JSON or a table, which may be a list of captions.
    List,
    /// Something else.
    Other,
}

/// Endings of images.
const IMAGES: [&str; 41] = [
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "jif", "pjpeg", "pjp", "webp", "gif", "bmp", "dib", "tif",
    "tiff", "svg", "svgz", "avif", "heic", "heif", "hif", "jxl", "jp2", "j2k", "psd", "ico", "tga", "qoi",
    "exr", "hdr", "dds", "xcf", "eps", "cr2", "cr3", "nef", "arw", "dng", "raf", "orf", "rw2",
];

/// Endings of cameras' raw files. Some are TIFFs that show nothing but a small preview.
const RAW: [&str; 8] = ["cr2", "cr3", "nef", "arw", "dng", "raf", "orf", "rw2"];

/// Names of texts about a folder.
const ABOUT: [&str; 16] = [
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "credits",
    "attribution",
    "authors",
    "changelog",
    "contributing",
    "requirements",
    "classes",
    "labels",
    "notes",
    "urls",
    "todo",
];

/// The ending of a name in lower case, without the dot; empty if there is none.
pub fn ending(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).unwrap_or_default()
}

/// The name without its ending.
pub fn stem(name: &str) -> &str {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[start..].rfind('.') {
        Some(dot) if dot > 0 => &name[..start + dot],
        _ => name,
    }
}

/// What a file of this name is.
pub fn of(name: &str) -> Kind {
    match ending(name).as_str() {
        "txt" | "caption" | "text" => Kind::Text,
        ending if lists::is_list(ending) => Kind::List,
        ending if IMAGES.contains(&ending) => Kind::Image,
        _ => Kind::Other,
    }
}

/// Whether it is a camera's raw file.
pub fn is_raw(name: &str) -> bool {
    RAW.contains(&ending(name).as_str())
}

/// Whether it is a text about the folder, such as a licence.
pub fn is_about(name: &str) -> bool {
    let file = stem(name).rsplit('/').next().unwrap_or_default().to_lowercase();
    ABOUT.iter().any(|about| {
        file == *about || file.starts_with(&format!("{about}_")) || file.starts_with(&format!("{about}-"))
    })
}
