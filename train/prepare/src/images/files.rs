//! The files of a folder, by their names in it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use dalle_data::DataError;

use crate::content::Content;

/// A file with its name: a path relative to the folder or archive, with `/`.
pub struct Member {
    /// The name, for messages.
    pub name: String,
    /// Its bytes.
    pub content: Content,
}

/// Files that systems and programs leave in folders.
const SYSTEM: [&str; 11] = [
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "$recycle.bin",
    "system volume information",
    "@eadir",
    "lost+found",
    "#recycle",
    "__pycache__",
];

/// Whether a file or folder is hidden or the system's own: people do not see it, so it is no training data.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || SYSTEM.contains(&name.to_lowercase().as_str())
}

/// All files below a folder but for hidden ones, sorted by name. Links are followed; a folder that is reached twice is read once.
///
/// # Errors
/// A folder cannot be listed.
pub fn list(root: &Path) -> Result<Vec<Member>, DataError> {
    let mut walk = Walk { root, seen: HashSet::new(), linked: Vec::new(), files: Vec::new() };
    walk.folder(root)?;
    // After all others: a link into the folder itself gives nothing new.
    while let Some(linked) = walk.linked.pop() {
        walk.folder(&linked)?;
    }
    let mut files = walk.files;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

struct Walk<'a> {
    root: &'a Path,
    /// Folders that were listed, without links.
    seen: HashSet<PathBuf>,
    /// Links to folders.
    linked: Vec<PathBuf>,
    files: Vec<Member>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path) -> Result<(), DataError> {
        let real = folder.canonicalize().map_err(DataError::io("listing", folder))?;
        if !self.seen.insert(real) {
            return Ok(());
        }
        for entry in fs::read_dir(folder).map_err(DataError::io("listing", folder))? {
            let entry = entry.map_err(DataError::io("listing", folder))?;
            if is_hidden(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type().map_err(DataError::io("listing", folder))?;
            if kind.is_dir() {
                self.folder(&path)?;
            } else if kind.is_symlink() && path.is_dir() {
                self.linked.push(path);
            } else {
                let name = path.strip_prefix(self.root).unwrap_or(&path);
                let name = name.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
                self.files.push(Member { name, content: Content::File(path) });
            }
        }
        Ok(())
    }
}
