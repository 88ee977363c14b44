//! Colours of drawings: which one dominates, by name, and drawings in another colour.
//!
//! Colours are compared in Oklab (Björn Ottosson, 2020), in which equal distances look about equally different. A pixel has the
//! name of the nearest sample of a colour.

use image::{Rgba, RgbaImage};

/// A named colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Colour {
    /// Red.
    Red,
    /// Orange.
    Orange,
    /// Yellow.
    Yellow,
    /// Green.
    Green,
    /// Blue.
    Blue,
    /// Purple.
    Purple,
    /// Pink.
    Pink,
    /// Brown.
    Brown,
    /// Black.
    Black,
    /// White.
    White,
    /// Grey.
    Grey,
}

impl Colour {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Purple => "purple",
            Self::Pink => "pink",
            Self::Brown => "brown",
            Self::Black => "black",
            Self::White => "white",
            Self::Grey => "grey",
        }
    }

    /// All colours.
    pub const ALL: [Self; 11] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Blue,
        Self::Purple,
        Self::Pink,
        Self::Brown,
        Self::Black,
        Self::White,
        Self::Grey,
    ];

    fn is_neutral(self) -> bool {
        matches!(self, Self::Black | Self::White | Self::Grey)
    }

    /// The colour that drawings get, in sRGB. Black and white leave room for shading.
    fn paint(self) -> [u8; 3] {
        match self {
            Self::Red => [224, 32, 36],
            Self::Orange => [250, 125, 25],
            Self::Yellow => [255, 210, 55],
            Self::Green => [90, 170, 65],
            Self::Blue => [40, 115, 225],
            Self::Purple => [140, 80, 200],
            Self::Pink => [245, 130, 175],
            Self::Brown => [125, 75, 45],
            Self::Black => [42, 42, 45],
            Self::White => [240, 241, 243],
            Self::Grey => [130, 132, 136],
        }
    }
}

/// Samples in sRGB. Those without a name lie between colours that people call differently.
const SAMPLES: [([u8; 3], Option<Colour>); 63] = [
    ([224, 32, 36], Some(Colour::Red)),
    ([248, 69, 60], Some(Colour::Red)),
    ([180, 20, 36], Some(Colour::Red)),
    ([130, 20, 30], Some(Colour::Red)),
    ([255, 130, 30], Some(Colour::Orange)),
    ([240, 110, 20], Some(Colour::Orange)),
    ([250, 160, 60], Some(Colour::Orange)),
    ([255, 204, 50], Some(Colour::Yellow)),
    ([255, 222, 70], Some(Colour::Yellow)),
    ([250, 235, 110], Some(Colour::Yellow)),
    ([240, 200, 30], Some(Colour::Yellow)),
    ([120, 180, 60], Some(Colour::Green)),
    ([70, 160, 70], Some(Colour::Green)),
    ([40, 110, 50], Some(Colour::Green)),
    ([30, 160, 110], Some(Colour::Green)),
    ([160, 215, 90], Some(Colour::Green)),
    ([90, 110, 40], Some(Colour::Green)),
    ([20, 70, 50], Some(Colour::Green)),
    ([40, 110, 220], Some(Colour::Blue)),
    ([30, 150, 235], Some(Colour::Blue)),
    ([90, 180, 245], Some(Colour::Blue)),
    ([30, 60, 150], Some(Colour::Blue)),
    ([30, 40, 100], Some(Colour::Blue)),
    ([140, 205, 245], Some(Colour::Blue)),
    ([140, 80, 200], Some(Colour::Purple)),
    ([110, 50, 150], Some(Colour::Purple)),
    ([170, 110, 215], Some(Colour::Purple)),
    ([75, 35, 110], Some(Colour::Purple)),
    ([245, 130, 175], Some(Colour::Pink)),
    ([235, 80, 150], Some(Colour::Pink)),
    ([250, 175, 200], Some(Colour::Pink)),
    ([215, 50, 130], Some(Colour::Pink)),
    ([125, 75, 45], Some(Colour::Brown)),
    ([90, 50, 35], Some(Colour::Brown)),
    ([155, 95, 55], Some(Colour::Brown)),
    ([110, 70, 60], Some(Colour::Brown)),
    ([15, 15, 17], Some(Colour::Black)),
    ([45, 45, 48], Some(Colour::Black)),
    ([252, 252, 252], Some(Colour::White)),
    ([232, 234, 237], Some(Colour::White)),
    ([130, 132, 136], Some(Colour::Grey)),
    ([165, 168, 172], Some(Colour::Grey)),
    ([95, 98, 104], Some(Colour::Grey)),
    ([196, 200, 204], Some(Colour::Grey)),
    // Tan, skin, teal, slate, salmon, mauve, peach, cream, light brown, crimson, light grey, dusty and dark mixtures.
    ([205, 150, 90], None),
    ([235, 190, 150], None),
    ([60, 180, 190], None),
    ([90, 115, 135], None),
    ([240, 130, 110], None),
    ([190, 160, 190], None),
    ([250, 205, 165], None),
    ([250, 235, 205], None),
    ([225, 150, 80], None),
    ([240, 165, 95], None),
    ([245, 190, 110], None),
    ([190, 120, 70], None),
    ([240, 45, 95], None),
    ([206, 214, 221], None),
    ([120, 155, 175], None),
    ([175, 205, 215], None),
    ([150, 135, 125], None),
    ([110, 98, 90], None),
    ([55, 71, 79], None),
];

/// A colour in Oklab.
#[derive(Clone, Copy)]
struct Lab {
    lightness: f32,
    a: f32,
    b: f32,
}

impl Lab {
    fn of([red, green, blue]: [u8; 3]) -> Self {
        let linear = |value: u8| {
            let value = f32::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = [red, green, blue].map(linear);
        let long = (0.412_221_46 * red + 0.536_332_55 * green + 0.051_445_995 * blue).cbrt();
        let medium = (0.211_903_5 * red + 0.680_699_5 * green + 0.107_396_96 * blue).cbrt();
        let short = (0.088_302_46 * red + 0.281_718_85 * green + 0.629_978_7 * blue).cbrt();
        Self {
            lightness: 0.210_454_26 * long + 0.793_617_8 * medium - 0.004_072_047 * short,
            a: 1.977_998_5 * long - 2.428_592_2 * medium + 0.450_593_7 * short,
            b: 0.025_904_037 * long + 0.782_771_77 * medium - 0.808_675_77 * short,
        }
    }

    /// The colour in sRGB; colours outside its gamut are clamped.
    fn rgb(self) -> [u8; 3] {
        let long = (self.lightness + 0.396_337_78 * self.a + 0.215_803_76 * self.b).powi(3);
        let medium = (self.lightness - 0.105_561_346 * self.a - 0.063_854_17 * self.b).powi(3);
        let short = (self.lightness - 0.089_484_18 * self.a - 1.291_485_5 * self.b).powi(3);
        let linear = [
            4.076_741_7 * long - 3.307_711_6 * medium + 0.230_969_94 * short,
            -1.268_438 * long + 2.609_757_4 * medium - 0.341_319_4 * short,
            -0.004_196_086_3 * long - 0.703_418_6 * medium + 1.707_614_7 * short,
        ];
        linear.map(|value| {
            let value = value.clamp(0.0, 1.0);
            let value =
                if value <= 0.003_130_8 { value * 12.92 } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 };
            (value * 255.0).round() as u8
        })
    }

    fn distance(self, other: Self) -> f32 {
        (self.lightness - other.lightness).powi(2) + (self.a - other.a).powi(2) + (self.b - other.b).powi(2)
    }

    fn chroma(self) -> f32 {
        self.a.hypot(self.b)
    }

    fn hue(self) -> f32 {
        self.b.atan2(self.a)
    }
}

/// Names colours.
pub struct Palette(Vec<(Lab, Option<Colour>)>);

impl Palette {
    /// All samples.
    pub fn new() -> Self {
        Self(SAMPLES.iter().map(|(rgb, colour)| (Lab::of(*rgb), *colour)).collect())
    }

    fn name(&self, lab: Lab) -> Option<Colour> {
        let nearest = self.0.iter().min_by(|(x, _), (y, _)| lab.distance(*x).total_cmp(&lab.distance(*y)));
        nearest.and_then(|(_, colour)| *colour)
    }

    /// The colour that at least `share` of the opaque pixels have, if few have another hue; of black, white and grey
    /// `neutral_share`. `pixels` are premultiplied.
    pub fn dominant(&self, pixels: &RgbaImage, share: f64, neutral_share: f64) -> Option<Colour> {
        /// Pixels of other hues, in units of those of the colour: a red car has yellow lamps, a parrot has four colours.
        const OTHERS: f64 = 0.35;
        let mut counts: Vec<(Colour, usize)> = Vec::new();
        let (mut all, mut chromatic) = (0_usize, 0_usize);
        for lab in opaque(pixels) {
            all += 1;
            let colour = self.name(lab);
            chromatic += usize::from(match colour {
                Some(colour) => !colour.is_neutral(),
                None => lab.chroma() >= CHROMATIC,
            });
            let Some(colour) = colour else { continue };
            match counts.iter_mut().find(|(counted, _)| *counted == colour) {
                Some((_, count)) => *count += 1,
                None => counts.push((colour, 1)),
            }
        }
        let reaches = |count: usize, share: f64| count as f64 >= share * all as f64;
        let neutral =
            counts.iter().find(|(colour, count)| colour.is_neutral() && reaches(*count, neutral_share));
        if let Some((colour, _)) = neutral {
            return Some(*colour);
        }
        let hues = counts.into_iter().filter(|(colour, _)| !colour.is_neutral());
        let (colour, count) = hues.max_by_key(|(colour, count)| (*count, *colour))?;
        let few_others = (chromatic - count) as f64 <= OTHERS * count as f64;
        (reaches(count, share) && few_others).then_some(colour)
    }

    /// The drawing, of which `from` is the dominant colour, with that colour changed to `to`: its pixels of about this hue are
    /// turned to the hue of the new colour and moved by the difference in lightness and chroma. Outlines, eyes and other
    /// colours stay. None if the colour has no hue, or passes into others.
    pub fn recoloured(&self, pixels: &RgbaImage, from: Colour, to: Colour) -> Option<RgbaImage> {
        /// Hues up to so far from the mean belong to the colour, in radians.
        const NEAR: f32 = 0.7;
        /// A gradient that leaves the hues of the colour would be cut where it does: of a drawing with more pixels than this
        /// around the last of these hues, no other colour is made.
        const CUT: f32 = 0.02;
        /// Width of the hues around the last one, in radians.
        const EDGE: f32 = 0.15;
        if from.is_neutral() {
            return None;
        }
        let mean = mean(opaque(pixels).filter(|lab| self.name(*lab) == Some(from)))?;
        let target = Lab::of(to.paint());
        let turn = target.hue() - mean.hue();
        let stretch = (target.chroma() / mean.chroma().max(CHROMATIC)).min(2.0);
        let lift = target.lightness - mean.lightness;
        let (mut all, mut cut) = (0.0_f32, 0.0);
        let mut changed = pixels.clone();
        for pixel in changed.pixels_mut() {
            let Some((lab, alpha)) = straight(*pixel) else { continue };
            let apart = (lab.hue() - mean.hue()).abs();
            let apart = apart.min(std::f32::consts::TAU - apart);
            all += alpha;
            if lab.chroma() >= CHROMATIC && (apart - NEAR).abs() < EDGE {
                cut += alpha;
            }
            if lab.chroma() < CHROMATIC || apart > NEAR {
                continue;
            }
            let (hue, chroma) = (lab.hue() + turn, lab.chroma() * stretch);
            let lightness = (lab.lightness + lift).clamp(0.0, 1.0);
            let rgb = Lab { lightness, a: chroma * hue.cos(), b: chroma * hue.sin() }.rgb();
            let [red, green, blue] = rgb.map(|value| (f32::from(value) * alpha).round() as u8);
            *pixel = Rgba([red, green, blue, pixel[3]]);
        }
        (cut <= CUT * all).then_some(changed)
    }
}

/// Chroma from which a pixel has a hue.
const CHROMATIC: f32 = 0.04;
/// Alpha from which a pixel counts.
const OPAQUE: u8 = 128;

/// The colours of the pixels that are mostly opaque.
fn opaque(pixels: &RgbaImage) -> impl Iterator<Item = Lab> {
    pixels
        .pixels()
        .filter(|pixel| pixel[3] >= OPAQUE)
        .filter_map(|pixel| straight(*pixel))
        .map(|(lab, _)| lab)
}

/// The colour of a premultiplied pixel, and its alpha from 0 to 1. None if it is transparent.
fn straight(Rgba([red, green, blue, alpha]): Rgba<u8>) -> Option<(Lab, f32)> {
    if alpha == 0 {
        return None;
    }
    let part = f32::from(alpha) / 255.0;
    let straight = |value: u8| (f32::from(value) / part).min(255.0).round() as u8;
    Some((Lab::of([red, green, blue].map(straight)), part))
}

fn mean(colours: impl Iterator<Item = Lab>) -> Option<Lab> {
    let (mut sum, mut count) = (Lab { lightness: 0.0, a: 0.0, b: 0.0 }, 0.0_f32);
    for lab in colours {
        sum = Lab { lightness: sum.lightness + lab.lightness, a: sum.a + lab.a, b: sum.b + lab.b };
        count += 1.0;
    }
    (count > 0.0).then(|| Lab { lightness: sum.lightness / count, a: sum.a / count, b: sum.b / count })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn plain(rgb: [u8; 3], of: u32) -> RgbaImage {
        // The upper rows are black.
        RgbaImage::from_fn(10, 10, |_, y| {
            let [red, green, blue] = if y < of { rgb } else { [0; 3] };
            Rgba([red, green, blue, 255])
        })
    }

    #[test]
    fn oklab_has_the_values_of_its_author() {
        // From the published table of XYZ and Oklab: white is (1, 0, 0).
        let white = Lab::of([255, 255, 255]);
        assert!((white.lightness - 1.0).abs() < 1e-3 && white.chroma() < 1e-3);
        // CSS Color 4 states oklab(62.796% 0.22486 0.12585) for red.
        let red = Lab::of([255, 0, 0]);
        assert!((red.lightness - 0.62796).abs() < 1e-3);
        assert!((red.a - 0.22486).abs() < 1e-3 && (red.b - 0.12585).abs() < 1e-3);
        for rgb in [[10, 200, 30], [255, 255, 255], [3, 3, 9], [120, 60, 200]] {
            assert_eq!(Lab::of(rgb).rgb(), rgb);
        }
    }

    #[test]
    fn a_colour_is_named_only_if_it_dominates() {
        let palette = Palette::new();
        for (rgb, name) in [
            ([220, 20, 40], "red"),
            ([60, 150, 60], "green"),
            ([20, 20, 20], "black"),
            ([240, 240, 242], "white"),
            ([139, 90, 50], "brown"),
            ([255, 210, 60], "yellow"),
        ] {
            assert_eq!(palette.dominant(&plain(rgb, 10), 0.6, 0.6).map(Colour::name), Some(name));
        }
        assert_eq!(palette.dominant(&plain([220, 20, 40], 6), 0.6, 0.6), Some(Colour::Red));
        assert_eq!(palette.dominant(&plain([220, 20, 40], 5), 0.6, 0.6), None);
        assert_eq!(palette.dominant(&plain([60, 180, 190], 10), 0.6, 0.6), None, "teal has several names");
        assert_eq!(palette.dominant(&RgbaImage::new(4, 4), 0.6, 0.6), None);
        // A red car with black tyres and a small blue window; a red and blue one.
        let with_blue = |rows: u32| {
            let mut image = plain([220, 20, 40], 7);
            let upper = image.enumerate_pixels_mut().filter(|(_, y, _)| *y < rows);
            upper.for_each(|(_, _, pixel)| *pixel = Rgba([40, 110, 220, 255]));
            image
        };
        assert_eq!(palette.dominant(&with_blue(1), 0.4, 0.6), Some(Colour::Red));
        assert_eq!(palette.dominant(&with_blue(3), 0.4, 0.6), None);
    }

    #[test]
    fn a_recoloured_drawing_has_the_new_colour_and_keeps_its_outlines() {
        let palette = Palette::new();
        let red = plain([224, 32, 36], 8);
        for to in Colour::ALL.into_iter().filter(|to| *to != Colour::Red) {
            let changed = palette.recoloured(&red, Colour::Red, to).unwrap();
            assert_eq!(palette.dominant(&changed, 0.7, 0.7), Some(to));
            assert_eq!(changed.get_pixel(5, 9), red.get_pixel(5, 9));
        }
        assert!(palette.recoloured(&plain([0; 3], 10), Colour::Black, Colour::Red).is_none());
    }
}
