//! The emoji families that `dalle data build` knows: the package of each, and the word for its style in captions.

use std::fmt;
use std::str::FromStr;

/// How a package stores its drawings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One `icons.json` with an SVG body for each icon (iconify).
    Iconify,
    /// One bitmap for each code point, in this folder of the package.
    Bitmaps(&'static str),
}

/// Drawings in one style.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name on the command line and in records.
    pub name: &'static str,
    /// Package on npm.
    pub package: &'static str,
    /// How the package stores its drawings.
    pub format: Format,
    /// The word for its style in captions: "a flat emoji of rocket".
    pub style: &'static str,
    /// The design that it is a variant of: families of one design show the same shapes.
    pub design: &'static str,
    /// Who drew it, if the package does not say.
    pub artist: Option<&'static str>,
    /// Whether it is used by default: the coloured ones are.
    pub default: bool,
}

/// All known families.
pub static FAMILIES: [Family; 8] = [
    Family::iconify("noto", "noto", "@iconify-json/noto", "noto"),
    Family::iconify("blob", "blob", "@iconify-json/noto-v1", "blob"),
    Family::iconify("fluent-flat", "fluent", "@iconify-json/fluent-emoji-flat", "flat"),
    Family {
        name: "fluent-3d",
        package: "@lobehub/fluent-emoji-3d",
        format: Format::Bitmaps("assets"),
        style: "3d",
        design: "fluent",
        artist: Some("Microsoft Corporation"),
        default: true,
    },
    Family::iconify("twemoji", "twemoji", "@iconify-json/twemoji", "twemoji"),
    Family::iconify("emojione", "emojione", "@iconify-json/emojione", "emojione"),
    Family::iconify("streamline", "streamline", "@iconify-json/streamline-emojis", "outline"),
    Family {
        default: false,
        ..Family::iconify(
            "fluent-high-contrast",
            "fluent",
            "@iconify-json/fluent-emoji-high-contrast",
            "high contrast",
        )
    },
];

impl Family {
    const fn iconify(
        name: &'static str,
        design: &'static str,
        package: &'static str,
        style: &'static str,
    ) -> Self {
        Self { name, package, format: Format::Iconify, style, design, artist: None, default: true }
    }

    /// The families that are used by default.
    pub fn defaults() -> Vec<&'static Self> {
        FAMILIES.iter().filter(|family| family.default).collect()
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for &'static Family {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
            format!("expected one of {}, got `{name}`", known.join(", "))
        })
    }
}
