//! Image files as they come: of every known kind, turned by cameras, cut short, damaged, or something else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use dalle_native::image_file::{Bounds, FORMATS, ImageFile, ImageFileError, read_image};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// An image without symmetry and with detail in every part, so that a missing part shows.
fn pattern() -> RgbImage {
    RgbImage::from_fn(96, 64, |x, y| {
        Rgb([(x * 37 % 256) as u8, (y * 91 % 256) as u8, ((x * y + x / 3) % 256) as u8])
    })
}

fn file(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    match format {
        ImageFormat::Tiff => {
            let mut encoder = tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
            encoder.write_image::<tiff::encoder::colortype::RGB8>(96, 64, &pattern()).unwrap();
        }
        _ => DynamicImage::from(pattern()).write_to(&mut bytes, format).unwrap(),
    }
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> Result<RgbImage, ImageFileError> {
    ImageFile::open(bytes, Bounds::FILES)?.decode().map(DynamicImage::into_rgb8)
}

#[test]
fn every_known_kind_is_read_whatever_its_ending() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let path = folder.path().join("image.jfif");
        std::fs::write(&path, file(format)).unwrap();
        let read = read_image(&path).unwrap().into_rgb8();
        let far = |(a, b): (&Rgb<u8>, &Rgb<u8>)| (0..3).any(|channel| a[channel].abs_diff(b[channel]) > 0);
        let different = read.pixels().zip(pattern().pixels()).filter(|pair| far(*pair)).count();
        // A GIF has 256 colours, and JPEG is lossy.
        let exact = !matches!(format, ImageFormat::Jpeg | ImageFormat::Gif);
        assert!(!exact || different == 0, "{format:?}: {different} pixels differ");
        assert_eq!(read.dimensions(), (96, 64), "{format:?}");
    }
}

#[test]
fn a_file_that_is_cut_short_is_refused_at_whatever_byte() {
    for format in FORMATS {
        let whole = file(format);
        let kept = decode(&whole).unwrap();
        for length in (0..whole.len()).rev().take(40).chain((0..whole.len()).step_by(61)) {
            match decode(&whole[..length]) {
                Err(error) => assert!(!error.to_string().is_empty()),
                // Only a mark after the last pixel may be missing, of kinds whose pixels are all there without it.
                Ok(image) => {
                    assert!(
                        matches!(format, ImageFormat::Gif | ImageFormat::Tiff | ImageFormat::Bmp),
                        "{format:?}"
                    );
                    assert!(
                        image == kept,
                        "{format:?} of {length} of {} bytes is half an image",
                        whole.len()
                    );
                }
            }
        }
        for percent in [10, 50, 90] {
            let error = decode(&whole[..whole.len() * percent / 100]).unwrap_err().to_string();
            assert!(error.contains("is cut short") || error.contains("not a usable"), "{format:?}: {error}");
        }
    }
}

#[test]
fn a_jpeg_that_was_filled_up_with_zeros_is_refused() {
    let whole = file(ImageFormat::Jpeg);
    for percent in [30, 50, 80] {
        // What a download looks like whose file was allocated in advance.
        let mut zeros = whole[..whole.len() * percent / 100].to_vec();
        zeros.resize(whole.len(), 0);
        assert!(decode(&zeros).is_err_and(|error| matches!(error, ImageFileError::CutShort)), "{percent} %");
    }
    // Bytes after the end harm nothing: some cameras and programs append them.
    let trailing = [whole.as_slice(), &[0; 100]].concat();
    assert!(decode(&trailing).unwrap() == decode(&whole).unwrap());
}

/// An Exif block in TIFF's form with one entry: orientation (tag 0x0112), a 16-bit number.
fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    tiff[18] = orientation;
    tiff
}

/// The pattern as a camera stores it that was held so that `orientation` makes it upright, by the definition in Exif 2.3.
fn stored(orientation: u8) -> RgbImage {
    let upright = pattern();
    let (width, height) = upright.dimensions();
    let swapped = orientation >= 5;
    let (w, h) = if swapped { (height, width) } else { (width, height) };
    // Where row 0 and column 0 of what is stored lie in the upright image: 1 top left, 2 top right, 3 bottom right, 4 bottom left,
    // 5 left top, 6 right top, 7 right bottom, 8 left bottom.
    RgbImage::from_fn(w, h, |x, y| {
        let (x, y) = if swapped { (y, x) } else { (x, y) };
        let right = [2, 3, 6, 7].contains(&orientation);
        let bottom = [3, 4, 7, 8].contains(&orientation);
        let x = if right { width - 1 - x } else { x };
        let y = if bottom { height - 1 - y } else { y };
        *upright.get_pixel(x, y)
    })
}

#[test]
fn an_image_that_a_camera_marked_as_turned_is_upright() {
    for orientation in 1..=8 {
        let mut jpeg = Cursor::new(Vec::new());
        DynamicImage::from(stored(orientation)).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let mut jpeg = jpeg.into_inner();
        let block = exif(orientation);
        let mut segment = vec![0xFF, 0xE1, 0, (2 + 6 + block.len()) as u8];
        segment.extend(b"Exif\0\0");
        segment.extend(&block);
        jpeg.splice(2..2, segment);
        let read = decode(&jpeg).unwrap();
        assert_eq!(read.dimensions(), (96, 64), "{orientation}");
        let mean: u32 = read
            .pixels()
            .zip(pattern().pixels())
            .map(|(a, b)| (0..3).map(|channel| u32::from(a[channel].abs_diff(b[channel]))).sum::<u32>())
            .sum::<u32>()
            / (96 * 64 * 3);
        assert!(mean < 40, "orientation {orientation}: mean difference {mean}");

        let mut png = Cursor::new(Vec::new());
        DynamicImage::from(stored(orientation)).write_to(&mut png, ImageFormat::Png).unwrap();
        let mut png = png.into_inner();
        let mut chunk = (block.len() as u32).to_be_bytes().to_vec();
        let named = [b"eXIf".as_slice(), &block].concat();
        chunk.extend(&named);
        chunk.extend(crc(&named).to_be_bytes());
        // After the header's chunk.
        png.splice(33..33, chunk);
        assert!(decode(&png).unwrap() == pattern(), "PNG, orientation {orientation}");
    }
}

/// The checksum of PNG's chunks.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}

#[test]
fn other_files_are_named_with_what_to_do() {
    for (bytes, what, remedy) in [
        (b"".as_slice(), "is empty", "download it again"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "HEIC", "heif-convert"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIC", "heif-convert"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF", "avifdec"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "video", "ffmpeg"),
        (b"\xEF\xBB\xBF\n<!DOCTYPE HTML><html>", "web page", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer", "git lfs pull"),
        (b"8BPS\0\x01", "Photoshop", "convert it"),
        (b"%PDF-1.7", "PDF", "convert it"),
        (b"\xFF\x0A\x00", "JPEG XL", "convert it"),
        (b"PK\x03\x04", "zip", "unpack"),
        (b"<?xml version=\"1.0\"?><svg xmlns=\"x\"/>", "SVG", "name it .svg"),
        (b"plain text", "expected one of PNG, JPEG, WebP, GIF, BMP, TIFF", ""),
    ] {
        let error = decode(bytes).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(remedy), "{error}");
    }
}
