//! Files that are taken for images and are something else, with what to do.

/// A kind of file that is not read as an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What it is, with its article.
    pub what: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const CONVERT: &str = "convert it to JPEG or PNG";

/// Kinds by how they begin.
const BY_START: [(&[u8], &str, &str); 19] = [
    (b"version https://git-lfs", "a Git LFS pointer, not the image", "run `git lfs pull` where it lies"),
    (b"\x00\x05\x16\x07", "metadata of macOS", "copy the image beside it, without `._` in its name"),
    (b"8BPS", "a Photoshop document", CONVERT),
    (b"%PDF", "a PDF document", CONVERT),
    (b"%!PS", "a PostScript document", CONVERT),
    (b"\x00\x00\x01\x00", "an icon", CONVERT),
    (b"\xFF\x0A", "a JPEG XL image", CONVERT),
    (b"\x00\x00\x00\x0CJXL ", "a JPEG XL image", CONVERT),
    (b"\x00\x00\x00\x0CjP  ", "a JPEG 2000 image", CONVERT),
    (b"\xFF\x4F\xFF\x51", "a JPEG 2000 image", CONVERT),
    (b"qoif", "a QOI image", CONVERT),
    (b"DDS ", "a texture", CONVERT),
    (b"gimp xcf", "a GIMP document", CONVERT),
    (b"#?RADIANCE", "a Radiance image", CONVERT),
    (b"\x76\x2F\x31\x01", "an OpenEXR image", CONVERT),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"\x1F\x8B", "compressed with gzip", "unpack it with gunzip"),
    (b"\x1A\x45\xDF\xA3", "a video", "extract frames from it, for example with ffmpeg"),
    (b"<svg", "an SVG drawing", "name it .svg"),
];

/// Beginnings of web pages, in lower case.
const WEB: [&[u8]; 4] = [b"<!doctype html", b"<html", b"<head", b"<body"];

impl Foreign {
    /// The kind of a file; none if it is unknown.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if let Some(kind) = Self::by_brand(bytes) {
            return Some(kind);
        }
        let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = text.trim_ascii_start();
        let begins =
            |start: &[u8]| text.get(..start.len()).is_some_and(|got| got.eq_ignore_ascii_case(start));
        if WEB.into_iter().any(begins) {
            return Some(Self {
                what: "a web page, not an image: its download failed",
                remedy: "download it again",
            });
        }
        if begins(b"<?xml") && text.windows(4).take(1 << 12).any(|part| part == b"<svg") {
            return Some(Self { what: "an SVG drawing", remedy: "name it .svg" });
        }
        let known = BY_START.iter().find(|(start, ..)| bytes.starts_with(start) || text.starts_with(start));
        known.map(|&(_, what, remedy)| Self { what, remedy })
    }

    /// Kinds in the container of MPEG-4, by the brands that the file lists.
    fn by_brand(bytes: &[u8]) -> Option<Self> {
        if bytes.get(4..8) != Some(b"ftyp") {
            return None;
        }
        let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let brands = bytes.get(8..length.clamp(8, 256).min(bytes.len()))?;
        let has = |wanted: &[&[u8]]| brands.chunks_exact(4).any(|brand| wanted.contains(&brand));
        let (what, remedy) = if has(&[b"avif", b"avis"]) {
            ("an AVIF image", "convert it to PNG, for example with `avifdec in.avif out.png`")
        } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
            (
                "a HEIC photo",
                "convert it to JPEG, for example with `heif-convert in.heic out.jpg`; on an iPhone, Settings, Camera, Formats, \
                 “Most Compatible” takes JPEGs",
            )
        } else {
            ("a video", "extract frames from it, for example with ffmpeg")
        };
        Some(Self { what, remedy })
    }
}
