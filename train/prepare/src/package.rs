//! Unpacked npm packages: finding them in a folder, and reading their metadata.
//!
//! Two layouts are found: `npm install`'s (`node_modules/@scope/name/package.json`) and a tarball's
//! (`anything/package/package.json`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dalle_data::{DataError, PackageInfo, read_json};
use serde::Deserialize;

/// How deep below the given folder a `package.json` may lie: `node_modules/@scope/name`, with one level to spare.
const DEPTH: usize = 4;

/// An unpacked package.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its folder.
    pub folder: PathBuf,
    /// Its metadata.
    pub info: PackageInfo,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct PackageJson {
    version: Option<String>,
    license: Option<String>,
    author: Option<Author>,
    homepage: Option<String>,
}

/// npm allows both notations.
#[derive(Deserialize)]
#[serde(untagged)]
enum Author {
    Text(String),
    Person { name: String },
}

#[derive(Deserialize)]
struct IconSetInfo {
    author: Option<IconSetAuthor>,
    license: Option<IconSetLicense>,
}

#[derive(Deserialize)]
struct IconSetAuthor {
    name: String,
    url: Option<String>,
}

#[derive(Deserialize)]
struct IconSetLicense {
    spdx: Option<String>,
}

/// The packages under a folder.
pub struct Packages {
    root: PathBuf,
    by_name: BTreeMap<String, Vec<PathBuf>>,
}

impl Packages {
    /// Lists the packages under `root`.
    ///
    /// # Errors
    /// `root` cannot be read.
    pub fn find(root: &Path) -> Result<Self, DataError> {
        let mut packages = Self { root: root.to_owned(), by_name: BTreeMap::new() };
        packages.search(root, 0)?;
        Ok(packages)
    }

    fn search(&mut self, folder: &Path, depth: usize) -> Result<(), DataError> {
        // A folder without a package.json, or with one without a name, is not a package.
        if let Ok(Named { name }) = read_json(&folder.join("package.json"), "a package.json") {
            self.by_name.entry(name).or_default().push(folder.to_owned());
        }
        if depth == DEPTH {
            return Ok(());
        }
        let mut children = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(DataError::io("listing", folder))? {
            let entry = entry.map_err(DataError::io("listing", folder))?;
            // Links are followed: some package managers build node_modules of links. The depth bounds cycles.
            let path = entry.path();
            if path.is_dir() {
                children.push(path);
            }
        }
        children.sort();
        children.iter().try_for_each(|child| self.search(child, depth + 1))
    }

    /// The package called `name`.
    ///
    /// # Errors
    /// It is missing, found twice, or does not state version and licence.
    pub fn get(&self, name: &'static str) -> Result<Package, DataError> {
        let folder = match self.by_name.get(name).map(Vec::as_slice) {
            None | Some([]) => {
                return Err(DataError::MissingPackage { package: name, folder: self.root.clone() });
            }
            Some([folder]) => folder.clone(),
            Some([first, second, ..]) => {
                return Err(DataError::AmbiguousPackage {
                    package: name,
                    first: first.clone(),
                    second: second.clone(),
                });
            }
        };
        let path = folder.join("package.json");
        let package: PackageJson = read_json(&path, "a package.json")?;
        let version = package
            .version
            .ok_or_else(|| DataError::malformed(&path, "expected a `version`, there is none"))?;
        let mut info = PackageInfo {
            name: name.to_owned(),
            url: package.homepage.unwrap_or_else(|| format!("https://www.npmjs.com/package/{name}")),
            version,
            license: String::new(),
            author: package.author.map(|author| match author {
                Author::Text(text) => text.split(['<', '(']).next().unwrap_or_default().trim().to_owned(),
                Author::Person { name } => name,
            }),
        };
        let mut license = package.license;
        let about = folder.join("info.json");
        if about.exists() {
            let about: IconSetInfo = read_json(&about, "the info.json of an iconify package")?;
            license = about.license.and_then(|license| license.spdx).or(license);
            if let Some(author) = about.author {
                info.author = Some(author.name);
                info.url = author.url.unwrap_or(info.url);
            }
        }
        info.license = license.ok_or_else(|| {
            DataError::malformed(
                &path,
                "expected a `license`, there is none; images without a licence are not used",
            )
        })?;
        Ok(Package { folder, info })
    }
}
