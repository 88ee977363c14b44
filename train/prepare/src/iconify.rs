//! Iconify's `icons.json`: one SVG body for each icon of a set.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;

use super::render::{Art, Turn};
use dalle_data::{DataError, read_json};

/// A drawing of a set, without caption.
pub struct Icon {
    /// Its name in the set.
    pub name: String,
    /// Its code points, if the package lists them.
    pub code_points: Option<String>,
    /// Other names of the same drawing.
    pub synonyms: Vec<String>,
    /// The drawing.
    pub art: Art,
    /// Whether another drawing has replaced it; sets keep such drawings for old links.
    pub hidden: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IconSet {
    icons: BTreeMap<String, Body>,
    #[serde(default)]
    aliases: BTreeMap<String, Alias>,
    #[serde(flatten)]
    frame: Frame,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    body: String,
    #[serde(default)]
    hidden: bool,
    #[serde(flatten)]
    frame: Frame,
    #[serde(flatten)]
    turn: RawTurn,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alias {
    parent: String,
    #[serde(default)]
    hidden: bool,
    #[serde(flatten)]
    turn: RawTurn,
}

/// The part of the plane that an icon shows. Missing values are those of the set, then iconify's defaults.
#[derive(Clone, Copy, Deserialize)]
struct Frame {
    left: Option<f32>,
    top: Option<f32>,
    width: Option<f32>,
    height: Option<f32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTurn {
    #[serde(default)]
    h_flip: bool,
    #[serde(default)]
    v_flip: bool,
    #[serde(default)]
    rotate: u8,
}

impl From<RawTurn> for Turn {
    fn from(raw: RawTurn) -> Self {
        Self { flip_horizontal: raw.h_flip, flip_vertical: raw.v_flip, quarter_turns: raw.rotate % 4 }
    }
}

/// Side of an icon whose set does not state one.
const DEFAULT_SIDE: f32 = 16.0;

/// Reads the icons of an unpacked package, ordered by name.
///
/// # Errors
/// `icons.json` is missing or no icon set.
pub fn read(folder: &Path) -> Result<Vec<Icon>, DataError> {
    let set: IconSet = read_json(&folder.join("icons.json"), "an iconify icon set")?;
    let chars = folder.join("chars.json");
    let chars: BTreeMap<String, String> =
        if chars.exists() { read_json(&chars, "iconify's list of characters")? } else { BTreeMap::new() };
    let mut code_points: HashMap<&str, &str> = HashMap::new();
    for (points, name) in &chars {
        code_points.entry(name).or_insert(points);
    }

    // An alias is another name of a drawing, or a drawing of its own if it turns or flips it.
    let mut synonyms: HashMap<&str, Vec<String>> = HashMap::new();
    let mut turned = Vec::new();
    for (name, alias) in &set.aliases {
        match (set.icons.get(&alias.parent), Turn::from(alias.turn)) {
            (Some(_), turn) if turn == Turn::default() => {
                synonyms.entry(&alias.parent).or_default().push(name.clone());
            }
            (Some(parent), turn) => turned.push((name, alias.hidden || parent.hidden, parent, turn)),
            (None, _) => {}
        }
    }

    let straight = set.icons.iter().map(|(name, icon)| (name, icon.hidden, icon, Turn::from(icon.turn)));
    let mut icons: Vec<Icon> = straight
        .chain(turned)
        .map(|(name, hidden, icon, turn)| Icon {
            name: name.clone(),
            code_points: code_points.get(name.as_str()).map(|&points| points.to_owned()),
            synonyms: synonyms.remove(name.as_str()).unwrap_or_default(),
            art: Art::Svg { text: document(&icon.body, icon.frame, set.frame), turn },
            hidden,
        })
        .collect();
    icons.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(icons)
}

/// The SVG document of an icon's body.
fn document(body: &str, icon: Frame, set: Frame) -> String {
    let side = |icon: Option<f32>, set: Option<f32>, default| icon.or(set).unwrap_or(default);
    let (left, top) = (side(icon.left, set.left, 0.0), side(icon.top, set.top, 0.0));
    let width = side(icon.width, set.width, DEFAULT_SIDE);
    let height = side(icon.height, set.height, DEFAULT_SIDE);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>"#
    )
}
