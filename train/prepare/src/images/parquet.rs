//! Parquet files of images, such as Hugging Face's datasets: a column of images and one of captions.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use dalle_data::DataError;
use parquet::basic::Type as Physical;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use tempfile::NamedTempFile;

use super::files::Member;
use super::lists;
use crate::content::{Archive, Content};

/// Names of columns of images that are no structures.
const IMAGE: [&str; 9] = ["image", "img", "jpg", "jpeg", "png", "webp", "picture", "image_bytes", "bytes"];

/// The images of a file.
#[derive(Default)]
pub struct Table {
    /// Images with their captions.
    pub rows: Vec<(Member, Vec<String>)>,
    /// Rows that cannot be used, and why.
    pub faults: Vec<(String, String)>,
}

/// Which columns are read.
struct Columns {
    image: String,
    captions: Vec<String>,
    projection: Type,
}

/// Reads a file. The images are copied into a temporary file, since they are read in random order. None if it has no images, as the
/// lists of addresses that img2dataset writes beside its shards.
///
/// # Errors
/// It has images and cannot be read, or there is no room for the temporary file.
pub fn read(name: &str, path: &Path) -> Result<Option<Table>, DataError> {
    let malformed = |error: parquet::errors::ParquetError| {
        DataError::malformed(
            path,
            format!(
                "expected a parquet file without compression or compressed with snappy, gzip or lz4, got: {error}; copy or download \
                 it again, or write it again so"
            ),
        )
    };
    if !path.metadata().map_err(DataError::io("reading", path))?.is_file() {
        return Err(DataError::malformed(path, "not a regular file"));
    }
    let file = File::open(path).map_err(DataError::io("reading", path))?;
    let reader = SerializedFileReader::new(file).map_err(malformed)?;
    let Some(columns) = Columns::of(reader.metadata().file_metadata().schema()) else { return Ok(None) };
    let folder = std::env::temp_dir();
    let no_room = || DataError::io("copying images into a temporary file of", &folder);
    let mut copy = NamedTempFile::new().map_err(no_room())?;
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let mut rows = Vec::new();
    let mut table = Table::default();
    let mut offset = 0;
    for (row, number) in reader.get_row_iter(Some(columns.projection.clone())).map_err(malformed)?.zip(0..) {
        let row = row.map_err(malformed)?;
        let RowContent { bytes, path, captions } = columns.find(&row);
        let file = path.and_then(|path| Some(path.rsplit(['/', '\\']).next()?.to_owned()));
        let name = match file {
            Some(file) if !file.is_empty() => format!("{stem}/{number:07}-{file}"),
            _ => format!("{stem}/{number:07}"),
        };
        let Some(bytes) = bytes else {
            table.faults.push((name, "its row holds no image, expected its bytes".to_owned()));
            continue;
        };
        copy.write_all(&bytes).map_err(no_room())?;
        rows.push((name, offset, bytes.len() as u64, captions));
        offset += bytes.len() as u64;
    }
    let archive = Arc::new(Archive::Temporary(copy));
    let rows = rows.into_iter().map(|(name, offset, length, captions)| {
        let content = Content::Part { archive: Arc::clone(&archive), offset, length };
        (Member { name, content }, captions)
    });
    table.rows = rows.collect();
    Ok(Some(table))
}

/// What a row holds.
#[derive(Default)]
struct RowContent {
    bytes: Option<Vec<u8>>,
    path: Option<String>,
    captions: Vec<String>,
}

impl Columns {
    /// The columns of images and captions in a schema; none if it has no images.
    fn of(schema: &Type) -> Option<Self> {
        let fields = schema.get_fields();
        let image = fields.iter().find(|field| is_image(field))?;
        let ranks = fields.iter().filter_map(|field| Some((lists::rank(field.name())?, field)));
        let best = ranks.clone().map(|(rank, _)| rank).min();
        let captions: Vec<&TypePtr> =
            ranks.filter(|(rank, _)| Some(*rank) == best).map(|(_, field)| field).collect();
        let kept: Vec<TypePtr> = captions.iter().copied().chain([image]).map(Arc::clone).collect();
        // In the order of the file.
        let kept = fields.iter().filter(|field| kept.iter().any(|kept| kept.name() == field.name()));
        let projection = Type::group_type_builder(schema.name()).with_fields(kept.cloned().collect()).build();
        Some(Self {
            image: image.name().to_owned(),
            captions: captions.iter().map(|field| field.name().to_owned()).collect(),
            projection: projection.ok()?,
        })
    }

    fn find(&self, row: &Row) -> RowContent {
        let mut found = RowContent::default();
        for (name, field) in row.get_column_iter() {
            if *name == self.image {
                match field {
                    Field::Bytes(bytes) => found.bytes = Some(bytes.data().to_vec()),
                    Field::Group(image) => {
                        for (name, field) in image.get_column_iter() {
                            match (name.as_str(), field) {
                                ("bytes", Field::Bytes(bytes)) => found.bytes = Some(bytes.data().to_vec()),
                                ("path", Field::Str(path)) => found.path = Some(path.clone()),
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
            } else if self.captions.contains(name) {
                found.captions.extend(texts(field));
            }
        }
        found
    }
}

/// Whether a column holds image files: Hugging Face's structure of bytes and path, or bytes under a usual name.
fn is_image(field: &TypePtr) -> bool {
    if field.is_group() {
        return field.get_fields().iter().any(|part| part.name() == "bytes" && is_bytes(part));
    }
    is_bytes(field) && IMAGE.contains(&field.name().to_lowercase().as_str())
}

fn is_bytes(field: &TypePtr) -> bool {
    let text = field.get_basic_info().logical_type_ref().is_some()
        || field.get_basic_info().converted_type() != parquet::basic::ConvertedType::NONE;
    field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY && !text
}

/// A text, or a list of texts.
fn texts(field: &Field) -> Vec<String> {
    match field {
        Field::Str(text) => vec![text.clone()],
        Field::ListInternal(list) => list.elements().iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}
