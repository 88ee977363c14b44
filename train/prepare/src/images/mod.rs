//! Images with captions as a source: a folder, a WebDataset shard, or a parquet file.
//!
//! | captions of `cat.jpg` | |
//! |---|---|
//! | `cat.txt`, `cat.caption` | one a line, the first is the main one |
//! | `captions.jsonl`, `metadata.csv`, … | see [`lists`]; of several lines for one image the first is the main caption |
//! | `cat.json` | beside it, as img2dataset writes it |
//!
//! Archives in a folder are read like folders. Names are compared without regard to how Unicode composes letters. Hidden files are
//! not read; other files are counted.

mod archive;
mod captioned;
mod files;
mod kind;
mod lists;
mod parquet;
pub mod text;

use std::path::{Path, PathBuf};

use dalle_data::{DataError, MANIFEST, Reason, SourceInfo};

use captioned::{Captioned, Found};
use files::Member;

use crate::source::{Input, LeftOut, RawExample, Source};

/// Images with captions.
pub struct ImageFiles {
    /// A folder, which is read with those in it; a `.tar`, `.tar.gz` or `.parquet` file.
    pub path: PathBuf,
    /// SPDX licence of the images.
    pub license: String,
}

impl Source for ImageFiles {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: "images".to_owned(), license: self.license.clone(), ..SourceInfo::default() }
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input { option: "images", path: self.path.clone(), everything: self.path.is_dir() }]
    }

    fn examples(&self) -> Result<Box<dyn Iterator<Item = Result<RawExample, LeftOut>> + '_>, DataError> {
        check(&self.path)?;
        let mut found = Found::new();
        let mut members = Vec::new();
        let alone = !self.path.is_dir();
        for member in self.listed()? {
            expand(member, alone, &mut members, &mut found)?;
        }
        Captioned::new(members).examples(&mut found);
        Ok(Box::new(found.into_iter()))
    }
}

impl ImageFiles {
    /// The files of the folder, or the one file.
    fn listed(&self) -> Result<Vec<Member>, DataError> {
        if self.path.is_dir() {
            return files::list(&self.path);
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(vec![Member { name, content: crate::content::Content::File(self.path.clone()) }])
    }
}

/// Whether a parquet file lies beside the images of its name, as img2dataset writes its lists of addresses.
fn is_list_of_addresses(path: &Path) -> bool {
    path.with_extension("").is_dir() || path.with_extension("tar").exists()
}

/// Replaces archives and parquet files by what they hold. `alone` says that the file is all that is read.
fn expand(
    member: Member,
    alone: bool,
    members: &mut Vec<Member>,
    found: &mut Found,
) -> Result<(), DataError> {
    let crate::content::Content::File(path) = &member.content else {
        members.push(member);
        return Ok(());
    };
    if archive::stem(&member.name).is_some() {
        let listing = archive::list(&member.name, path)?;
        members.extend(listing.members);
        if let Some(fault) = listing.fault {
            let message = format!("not all of it was read: {fault}");
            found.push(Err(LeftOut::unusable(Reason::Unreadable, member.name, message)));
        }
    } else if kind::ending(&member.name) == "parquet" {
        match parquet::read(&member.name, path) {
            Err(error) if alone => return Err(error),
            Err(error) if !is_list_of_addresses(path) => {
                let message = error.to_string();
                found.push(Err(LeftOut::unusable(Reason::Unreadable, member.name, message)));
            }
            Err(_) | Ok(None) => found.push(Err(LeftOut::OtherFile(".parquet".to_owned()))),
            Ok(Some(table)) => {
                let rows = table.rows.into_iter();
                found.extend(rows.map(|(image, texts)| captioned::of_row(image, &texts)));
                let faults = table.faults.into_iter();
                found.extend(
                    faults.map(|(row, fault)| Err(LeftOut::unusable(Reason::Unreadable, row, fault))),
                );
            }
        }
    } else {
        members.push(member);
    }
    Ok(())
}

/// Refuses what is something else than images, with the option or command that takes it.
fn check(path: &Path) -> Result<(), DataError> {
    let refuse = |message: String| Err(DataError::Option { option: "images", message });
    let at = path.display();
    let metadata = path.metadata().map_err(DataError::io("reading", path))?;
    if !metadata.is_dir() {
        let name = path.to_string_lossy();
        return match archive::stem(&name).is_some() || kind::ending(&name) == "parquet" {
            true => Ok(()),
            false => refuse(format!(
                "expected a folder of images, a WebDataset shard (.tar, .tar.gz) or a parquet file, got {at}"
            )),
        };
    }
    if is_dataset(&path.join(MANIFEST)) {
        return refuse(format!("{at} is a dataset already; the commands that train read it with --data"));
    }
    if path.join("node_modules").is_dir() || path.join("package.json").is_file() {
        return refuse(format!("{at} holds packages; --packages reads them"));
    }
    Ok(())
}

/// Whether a file is the manifest of a dataset.
fn is_dataset(manifest: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Marks {
        #[serde(rename = "format")]
        _format: u32,
        #[serde(rename = "image_size")]
        _image_size: u32,
    }
    let bytes = std::fs::read(manifest).unwrap_or_default();
    serde_json::from_slice::<Marks>(&bytes).is_ok()
}
