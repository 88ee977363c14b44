//! The fonts that text in drawings is set in. They are part of the program: Ubuntu (Latin, Greek, Cyrillic), Hack, and two of
//! symbols. The fonts of the machine are not used, so that a document gives the same pixels everywhere.

use std::sync::{Arc, LazyLock};

use resvg::usvg::fontdb::Database;
use resvg::usvg::{Group, Node};

use super::error::SvgError;

/// The database, and the family of its first font.
static FONTS: LazyLock<(Arc<Database>, String)> = LazyLock::new(|| {
    let mut fonts = Database::new();
    let mut families = Vec::new();
    for font in [
        epaint_default_fonts::UBUNTU_LIGHT,
        epaint_default_fonts::HACK_REGULAR,
        epaint_default_fonts::NOTO_EMOJI_REGULAR,
        epaint_default_fonts::EMOJI_ICON,
    ] {
        fonts.load_font_data(font.to_vec());
        families.extend(fonts.faces().last().and_then(|face| Some(face.families.first()?.0.clone())));
    }
    let first = families.first().cloned().unwrap_or_default();
    let monospace = families.get(1).cloned().unwrap_or_default();
    fonts.set_serif_family(first.clone());
    fonts.set_sans_serif_family(first.clone());
    fonts.set_cursive_family(first.clone());
    fonts.set_fantasy_family(first.clone());
    fonts.set_monospace_family(monospace);
    (Arc::new(fonts), first)
});

/// All fonts.
pub fn database() -> Arc<Database> {
    Arc::clone(&FONTS.0)
}

/// The font of text that names none.
pub fn default_family() -> String {
    FONTS.1.clone()
}

/// Refuses a drawing with a letter that would be shown as a box.
///
/// # Errors
/// The letter.
pub fn check(group: &Group) -> Result<(), SvgError> {
    for node in group.children() {
        match node {
            Node::Group(group) => check(group)?,
            Node::Text(text) => {
                let glyphs = text.layouted().iter().flat_map(|span| &span.positioned_glyphs);
                let shows = |text: &str| text.chars().any(|c| !c.is_whitespace() && !c.is_control());
                if let Some(missing) = glyphs.into_iter().find(|glyph| glyph.id.0 == 0 && shows(&glyph.text))
                {
                    return Err(SvgError::Letter(missing.text.trim().to_owned()));
                }
            }
            _ => {}
        }
        let mut inner = Ok(());
        if !matches!(node, Node::Text(_)) {
            node.subroots(|group| {
                if inner.is_ok() {
                    inner = check(group);
                }
            });
        }
        inner?;
    }
    Ok(())
}
