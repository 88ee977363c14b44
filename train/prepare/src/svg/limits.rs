//! Bounds on an SVG document, checked before anything of it is built: how large it is, and how large it becomes when every
//! reference is replaced by what it refers to.

use std::collections::HashMap;

use resvg::usvg::Tree;
use resvg::usvg::filter::Kind;
use resvg::usvg::roxmltree::{Document, Node, ParsingOptions};

use super::error::SvgError;

/// Most bytes of a document.
pub const MAX_BYTES: u64 = 2 << 20;
/// Most elements, texts and comments.
const MAX_NODES: u32 = 50_000;
/// Most elements inside one another, references followed.
const MAX_DEPTH: usize = 128;
/// Most attributes of all elements together.
const MAX_ATTRIBUTES: usize = 100_000;
/// Longest value of an attribute in bytes: a path of some twenty thousand points.
const MAX_VALUE: usize = 256 << 10;
/// Most bytes of style sheets.
const MAX_STYLE: usize = 128 << 10;
/// Most bytes of attributes once every reference is replaced by what it refers to.
const MAX_EXPANDED: u64 = 32 << 20;
/// Most octaves of a noise filter. Each doubles the detail: more than these show nothing new.
const MAX_OCTAVES: usize = 12;

/// Refuses a count beyond its limit.
fn bound(count: usize, limit: usize, what: &'static str) -> Result<(), SvgError> {
    if count > limit { Err(SvgError::TooComplex { what, limit }) } else { Ok(()) }
}

/// Parses the XML of a document that is within the bounds.
///
/// # Errors
/// It is not well-formed, beyond a bound, or shows other files.
pub fn parse(text: &str) -> Result<Document<'_>, SvgError> {
    bound(text.len(), MAX_BYTES as usize, "bytes")?;
    // Before parsing, which compares the attributes of an element with one another.
    bound(text.bytes().filter(|&byte| byte == b'=').count(), MAX_ATTRIBUTES, "attributes")?;
    let options = ParsingOptions { allow_dtd: true, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)?;
    for node in document.descendants() {
        let shows_image = matches!(node.tag_name().name(), "image" | "feImage");
        for attribute in node.attributes() {
            if shows_image && attribute.name() == "href" && !attribute.value().trim().is_empty() {
                // An image in the document is bounded by the document.
                match attribute.value().trim_start().starts_with("data:") {
                    true => continue,
                    false => return Err(SvgError::OtherFile),
                }
            }
            bound(attribute.value().len(), MAX_VALUE, "bytes in an attribute")?;
        }
    }
    Expansion::new(&document).check()?;
    Ok(document)
}

/// Refuses filters that take too long.
///
/// # Errors
/// A noise filter has too many octaves.
pub fn check_filters(tree: &Tree) -> Result<(), SvgError> {
    for primitive in tree.filters().iter().flat_map(|filter| filter.primitives()) {
        if let Kind::Turbulence(noise) = primitive.kind() {
            bound(noise.num_octaves() as usize, MAX_OCTAVES, "octaves of noise")?;
        }
    }
    Ok(())
}

/// Sizes of a document's elements with what they refer to, in bytes of attributes.
struct Expansion<'a, 'input> {
    document: &'a Document<'input>,
    ids: HashMap<&'a str, Node<'a, 'input>>,
    /// By node; none while a node is being measured: what refers to itself is not rendered.
    known: HashMap<usize, Option<u64>>,
}

impl<'a, 'input> Expansion<'a, 'input> {
    fn new(document: &'a Document<'input>) -> Self {
        let ids = document.descendants().filter_map(|node| Some((node.attribute("id")?, node))).collect();
        Self { document, ids, known: HashMap::new() }
    }

    fn check(mut self) -> Result<(), SvgError> {
        let mut size = self.size(self.document.root(), 0)?;
        // A rule of a style sheet may apply to every element.
        let mut styles = 0;
        let sheets = self.document.descendants().filter(|node| node.tag_name().name() == "style");
        for text in sheets.filter_map(|node| node.text()) {
            styles += text.len();
            let mut each = 0;
            for target in self.targets(text) {
                each = self.size(target, 0)?.saturating_add(each);
            }
            let elements = self.document.descendants().filter(Node::is_element).count() as u64;
            size = each.saturating_mul(elements).saturating_add(size);
        }
        bound(styles, MAX_STYLE, "bytes of style sheets")?;
        bound(usize::try_from(size).unwrap_or(usize::MAX), MAX_EXPANDED as usize, "bytes with all references")
    }

    fn size(&mut self, node: Node<'a, 'input>, depth: usize) -> Result<u64, SvgError> {
        bound(depth, MAX_DEPTH, "elements inside one another")?;
        let id = node.id().get_usize();
        if let Some(known) = self.known.get(&id) {
            return Ok(known.unwrap_or(0));
        }
        self.known.insert(id, None);
        let mut size = 1;
        for child in node.children() {
            size = self.size(child, depth + 1)?.saturating_add(size);
        }
        for attribute in node.attributes() {
            size = size.saturating_add(attribute.value().len() as u64);
            let referred = match attribute.name() {
                "href" => attribute
                    .value()
                    .strip_prefix('#')
                    .and_then(|id| self.ids.get(id))
                    .copied()
                    .into_iter()
                    .collect(),
                _ => self.targets(attribute.value()),
            };
            // A marker is drawn at each point of a path.
            let times = if attribute.name().starts_with("marker") || attribute.value().contains("marker") {
                node.attributes().map(|attribute| attribute.value().len() as u64).max().unwrap_or(1)
            } else {
                1
            };
            for target in referred {
                size = self.size(target, depth + 1)?.saturating_mul(times).saturating_add(size);
            }
        }
        self.known.insert(id, Some(size));
        Ok(size)
    }

    /// The elements that `url(#…)` names in an attribute or style sheet, but for gradients: these are shared.
    fn targets(&self, text: &str) -> Vec<Node<'a, 'input>> {
        let names = text.split("url(").skip(1).filter_map(|rest| rest.split(')').next());
        names
            .filter_map(|name| self.ids.get(name.trim_matches([' ', '"', '\'']).strip_prefix('#')?).copied())
            .filter(|node| !node.tag_name().name().ends_with("Gradient"))
            .collect()
    }
}
