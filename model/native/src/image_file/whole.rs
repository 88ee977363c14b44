//! Whether the end of a file is there. Decoders stop at the last pixel, and some fill what is missing.

use image::ImageFormat;

/// Whether the file reaches its end mark. Kinds without a mark count as whole: their decoders report missing pixels.
pub fn is_whole(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Jpeg => jpeg(bytes),
        ImageFormat::Png => png(bytes),
        ImageFormat::WebP => webp(bytes),
        _ => true,
    }
}

/// Walks over segments and scans to the mark EOI. A preview inside a segment has its own mark, which does not count.
fn jpeg(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xFF)) else {
            return false;
        };
        at += found + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xD9) => return true,
            // A fill byte: the mark may follow.
            Some(0xFF) => {}
            // In a scan: an escaped FF, a restart; elsewhere a mark without a segment.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => at += 1,
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else { return false };
                at += 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

/// Walks over the chunks to IEND.
fn png(bytes: &[u8]) -> bool {
    /// Bytes of a chunk beside its data: length, name, checksum.
    const AROUND: usize = 12;
    let mut at = 8;
    while let Some(&[a, b, c, d, e, f, g, h]) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let end = at.saturating_add(length).saturating_add(AROUND);
        if end > bytes.len() {
            return false;
        }
        if [e, f, g, h] == *b"IEND" {
            return true;
        }
        at = end;
    }
    false
}

/// Compares the size in the header.
fn webp(bytes: &[u8]) -> bool {
    let Some(&[a, b, c, d]) = bytes.get(4..8) else { return false };
    bytes.len() as u64 >= 8 + u64::from(u32::from_le_bytes([a, b, c, d]))
}
