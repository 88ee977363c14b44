//! What stands out from the background of an image: masks, and objects cut out of it.

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage};

use crate::background::{border, distance, median};

/// Squared distance in sRGB from which a pixel belongs to the foreground: 40 in one channel.
const APART: u32 = 40 * 40;
/// Side of a coarse mask.
const COARSE: u32 = 16;
/// Space around an object that is cut out, relative to its longer side.
const MARGIN: f32 = 0.1;

/// The share of foreground in each cell of a grid of 16×16, row by row. The background is the median colour of the border.
pub fn coarse_mask(image: &RgbImage) -> Vec<f32> {
    let mask = mask(image, median(border(image)));
    let coarse = imageops::resize(&mask, COARSE, COARSE, FilterType::Triangle);
    coarse.as_raw().iter().map(|&value| f32::from(value) / 255.0).collect()
}

/// The two halves of an image: left and right, or above and below.
pub fn halves(image: &RgbImage, side_by_side: bool) -> [RgbImage; 2] {
    let (width, height) = image.dimensions();
    let (x, y) = if side_by_side { (width / 2, 0) } else { (0, height / 2) };
    let (half_width, half_height) = (width - x, height - y);
    let part = |x, y| imageops::crop_imm(image, x, y, half_width, half_height).to_image();
    [part(0, 0), part(x, y)]
}

/// The foreground of `part`, an image or a part of one, centred on a white square with a margin. `background` is the colour that
/// the foreground stands out from. None without foreground.
pub fn object(part: &RgbImage, background: [u8; 3]) -> Option<RgbImage> {
    let mask = mask(part, background);
    let inside = || mask.enumerate_pixels().filter(|(_, _, value)| value.0[0] > 0);
    let (left, top) = (inside().map(|(x, _, _)| x).min()?, inside().map(|(_, y, _)| y).min()?);
    let (right, bottom) = (inside().map(|(x, _, _)| x).max()?, inside().map(|(_, y, _)| y).max()?);
    let (width, height) = (right - left + 1, bottom - top + 1);
    let margin = (width.max(height) as f32 * MARGIN).ceil() as u32;
    let side = width.max(height) + 2 * margin;
    let (x, y) = ((side - width) / 2, (side - height) / 2);
    let mut square = RgbImage::from_pixel(side, side, Rgb([255; 3]));
    for (at_x, at_y, _) in inside() {
        square.put_pixel(at_x - left + x, at_y - top + y, *part.get_pixel(at_x, at_y));
    }
    Some(square)
}

/// The background of an image: the median colour of its border.
pub fn background(image: &RgbImage) -> [u8; 3] {
    median(border(image))
}

/// 255 where a pixel stands out from `background`, or is enclosed by such pixels in its row and its column: white eyes on white
/// paper belong to the face.
fn mask(image: &RgbImage, background: [u8; 3]) -> GrayImage {
    let (width, height) = image.dimensions();
    let apart = |x: u32, y: u32| distance(image.get_pixel(x, y).0, background) > APART;
    let ends = |positions: &mut dyn Iterator<Item = u32>| {
        positions
            .fold(None, |ends: Option<(u32, u32)>, at| Some(ends.map_or((at, at), |(first, _)| (first, at))))
    };
    let rows: Vec<_> = (0..height).map(|y| ends(&mut (0..width).filter(|x| apart(*x, y)))).collect();
    let columns: Vec<_> = (0..width).map(|x| ends(&mut (0..height).filter(|y| apart(x, *y)))).collect();
    let within =
        |ends: Option<(u32, u32)>, at: u32| ends.is_some_and(|(first, last)| (first..=last).contains(&at));
    GrayImage::from_fn(width, height, |x, y| {
        let inside = within(rows[y as usize], x) && within(columns[x as usize], y);
        Luma([if inside { 255 } else { 0 }])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINK: Rgb<u8> = Rgb([250, 200, 214]);

    /// Red boxes with a pink hole on pink.
    fn picture(boxes: &[(u32, u32, u32, u32)]) -> RgbImage {
        RgbImage::from_fn(64, 64, |x, y| {
            let inside = |margin: u32| {
                boxes.iter().any(|&(left, top, width, height)| {
                    (left + margin..left + width - margin).contains(&x)
                        && (top + margin..top + height - margin).contains(&y)
                })
            };
            if inside(0) && !inside(3) { Rgb([220, 30, 30]) } else { PINK }
        })
    }

    #[test]
    fn objects_are_cut_out_with_their_holes_on_white() {
        let image = picture(&[(10, 20, 20, 10)]);
        let cut = object(&image, background(&image)).unwrap();
        // 20 pixels and a margin of 2 on both sides.
        assert_eq!(cut.dimensions(), (24, 24));
        let count = |colour: Rgb<u8>| cut.pixels().filter(|pixel| **pixel == colour).count();
        assert_eq!(count(Rgb([255; 3])), 24 * 24 - 20 * 10);
        assert_eq!(count(PINK), 14 * 4, "the hole belongs to the object");
        assert!(object(&RgbImage::from_pixel(9, 9, PINK), PINK.0).is_none());
    }

    #[test]
    fn halves_meet_in_the_middle() {
        let image = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, 0]));
        let [left, right] = halves(&image, true);
        assert_eq!((left.dimensions(), right.dimensions()), ((4, 8), (4, 8)));
        assert_eq!((right.get_pixel(0, 0).0, right.get_pixel(3, 7).0), ([4, 0, 0], [7, 7, 0]));
        let [above, below] = halves(&image, false);
        assert_eq!((above.dimensions(), below.get_pixel(7, 0).0), ((8, 4), [7, 4, 0]));
    }

    #[test]
    fn a_coarse_mask_is_the_share_of_foreground_in_each_cell() {
        let mask = coarse_mask(&picture(&[(8, 8, 16, 16)]));
        assert_eq!(mask.len(), 256);
        assert!((mask.iter().sum::<f32>() - 16.0).abs() < 0.1, "16×16 of 64×64 pixels are 16 of 256 cells");
        assert!(mask[2 * 16 + 2] > 0.7 && mask[10 * 16 + 10] == 0.0);
    }
}
