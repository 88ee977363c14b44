//! Small packages of drawings, written by the tests that read them.

#![allow(dead_code, reason = "each test binary uses another part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dalle_data::{DataError, Manifest, Options};
use dalle_prepare::{EmojiPackages, FAMILIES, Family, ImageFiles, Source, build};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A drawing of 16×16 with one rectangle in it.
pub fn rectangle(colour: &str, x: u32, y: u32, width: u32, height: u32) -> String {
    format!(r#"<rect fill="{colour}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#)
}

/// A folder that holds packages.
pub struct Packages {
    folder: TempDir,
}

impl Packages {
    /// Just the captions: two apples, a cat, a heart, a hand in two tones, a flag.
    pub fn new() -> Self {
        let packages = Self { folder: tempfile::tempdir().unwrap() };
        let emoji = |hexcode: &str, label: &str, group: u32, tags: &[&str]| {
            let mut record = json!({"hexcode": hexcode, "label": label, "group": group, "subgroup": 0});
            record["tags"] = json!(tags);
            record
        };
        let mut hand = emoji("270B", "raised hand", 0, &["stop"]);
        hand["skins"] = json!([
            {"hexcode": "270B-1F3FB", "label": "raised hand: light skin tone", "group": 0},
            {"hexcode": "270B-1F3FF", "label": "raised hand: dark skin tone", "group": 0},
        ]);
        let base = packages.package("node_modules/emojibase-data", "emojibase-data", "17.0.0", "MIT");
        write(
            &base.join("en/data.json"),
            &json!([
                emoji("1F34E", "red apple", 1, &["apple", "fruit", "red"]),
                emoji("1F34F", "green apple", 1, &["apple", "fruit", "green"]),
                emoji("1F408", "cat", 2, &["pet"]),
                emoji("2764-FE0F", "red heart", 0, &[]),
                hand,
                emoji("1F1EF-1F1F5", "flag: Japan", 3, &["JP"]),
            ])
            .to_string(),
        );
        let message = |(order, key): (usize, &str)| json!({"key": key, "message": key, "order": order});
        let groups = ["people-body", "food-drink", "animals-nature", "flags", "component"];
        write(
            &base.join("en/messages.json"),
            &json!({
                "groups": groups.into_iter().enumerate().map(message).collect::<Vec<_>>(),
                "subgroups": [message((0, "any"))],
            })
            .to_string(),
        );
        packages
    }

    /// Three drawings in the family `fluent-flat`.
    pub fn with_three_drawings() -> Self {
        let packages = Self::new();
        packages.icons(
            "fluent-flat",
            &[
                ("red-apple", &rectangle("red", 2, 2, 4, 4)),
                ("green-apple", &rectangle("green", 2, 2, 8, 4)),
                ("cat", &rectangle("black", 0, 0, 16, 16)),
            ],
            &[],
            &json!({}),
        );
        packages
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A folder with a package.json.
    pub fn package(&self, folder: &str, name: &str, version: &str, license: &str) -> PathBuf {
        let folder = self.root().join(folder);
        let about = json!({"name": name, "version": version, "license": license});
        write(&folder.join("package.json"), &about.to_string());
        folder
    }

    /// The iconify package of a family: drawings, code points of some of them, aliases.
    pub fn icons(
        &self,
        family: &str,
        icons: &[(&str, &str)],
        code_points: &[(&str, &str)],
        aliases: &Value,
    ) -> PathBuf {
        let family = self::family(family);
        let folder =
            self.package(&format!("node_modules/{}", family.package), family.package, "1.2.3", "MIT");
        let bodies: BTreeMap<&str, Value> = icons
            .iter()
            .map(|(name, body)| (*name, json!({"body": body, "hidden": name.starts_with("old-")})))
            .collect();
        let set = json!({"prefix": "p", "width": 16, "height": 16, "icons": bodies, "aliases": aliases});
        write(&folder.join("icons.json"), &set.to_string());
        let code_points: BTreeMap<&str, &str> = code_points.iter().copied().collect();
        write(&folder.join("chars.json"), &json!(code_points).to_string());
        let license = json!({"title": "Apache 2.0", "spdx": "Apache-2.0"});
        let author = json!({"name": "An Artist", "url": "https://example.org/art"});
        write(&folder.join("info.json"), &json!({"author": author, "license": license}).to_string());
        folder
    }

    pub fn input(&self, families: &[&str]) -> EmojiPackages {
        EmojiPackages {
            root: self.root().to_owned(),
            families: families.iter().map(|name| family(name)).collect(),
            groups: None,
            skin_tones: false,
        }
    }
}

/// What a dataset can be built from.
pub trait Input {
    fn sources(&self) -> Result<Vec<Box<dyn Source>>, DataError>;
}

impl Input for EmojiPackages {
    fn sources(&self) -> Result<Vec<Box<dyn Source>>, DataError> {
        self.sources()
    }
}

impl Input for ImageFiles {
    fn sources(&self) -> Result<Vec<Box<dyn Source>>, DataError> {
        let Self { path, license } = self;
        Ok(vec![Box::new(Self { path: path.clone(), license: license.clone() })])
    }
}

pub fn family(name: &str) -> &'static Family {
    FAMILIES.iter().find(|family| family.name == name).unwrap()
}

pub fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

pub fn options() -> Options {
    Options { size: 32, shard_size: 2, backgrounds: 0, val_share: 0.0, seed: 7 }
}

/// Builds without showing progress.
pub fn run(
    input: &impl Input,
    options: &Options,
    out: &Path,
    overwrite: bool,
) -> Result<Manifest, DataError> {
    build(&input.sources()?, options, out, overwrite, &ProgressBar::hidden())
}

/// Names of everything in a folder, hidden or not.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Content of every file of a folder, by name.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    names(folder).into_iter().map(|name| (name.clone(), std::fs::read(folder.join(&name)).unwrap())).collect()
}
