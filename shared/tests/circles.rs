//! No crate of this workspace has a circle of files: files that use each other's items, directly or through others.
//!
//! The test reads the source as tokens. A file depends on the files that define the items it names, by `use` or by a path. These are no
//! dependencies: `mod x;`, a re-export, documentation, tests, and the name of a module without an item. An item that a file re-exports
//! counts as defined in the file it comes from.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Path of a module or an item within its crate, without `crate`.
type Name = Vec<String>;

/// A file: one module, with the modules in braces that it contains.
#[derive(Default)]
struct Source {
    path: PathBuf,
    /// Names that it imports or re-exports, what they stand for, and whether others can import them from here.
    imports: Vec<(String, Name)>,
    /// Items of modules that it imports with `*`.
    globs: Vec<Name>,
    /// Names of its items.
    items: BTreeSet<String>,
    /// Paths that it uses.
    uses: Vec<Name>,
}

/// The files of a crate, by module.
type Crate = BTreeMap<Name, Source>;

#[test]
fn no_crate_has_a_circle_of_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = String::new();
    let mut files = 0;
    for entry in crate_roots(&root) {
        let mut modules = Crate::new();
        read(&entry, &entry.with_file_name(""), &Vec::new(), &mut modules);
        files += modules.len();
        for circle in circles(&dependencies(&modules)) {
            let path = |name: &Name| modules[name].path.strip_prefix(&root).unwrap().display().to_string();
            for (from, to, item) in circle {
                writeln!(found, "{} uses {}: {}", path(from), path(to), item.join("::")).unwrap();
            }
        }
    }
    assert!(files > 200, "only {files} files were found");
    assert!(found.is_empty(), "files that depend on each other; move what they share:\n{found}");
}

#[test]
fn circles_are_found_through_imports_paths_and_reexports() {
    let crate_of = |files: &[(&str, &str)]| -> Crate {
        let parsed = files.iter().map(|(name, text)| {
            let module: Name = name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            let mut source = Source::default();
            scan(text.parse().unwrap(), &module, &mut source, &mut Vec::new());
            (module, source)
        });
        parsed.collect()
    };
    let number = |files: &[(&str, &str)]| circles(&dependencies(&crate_of(files))).len();
    let a = ("a", "pub struct A; impl A { fn b(&self) { crate::b::b() } }");
    assert_eq!(number(&[("", "mod a; mod b;"), a, ("b", "use crate::{a::A}; pub fn b() {}")]), 1);
    assert_eq!(number(&[("", "mod a; mod b;"), a, ("b", "use super::a::*; pub fn b(_: A) {}")]), 1);
    assert_eq!(number(&[("", "mod a; mod b;"), a, ("b", "use crate::a; pub fn b() { a::A; }")]), 1);
    assert_eq!(number(&[("", "pub use a::A; mod a; mod b;"), a, ("b", "use crate::A; pub fn b() {}")]), 1);
    assert_eq!(number(&[("", "pub use a::*; mod a; mod b;"), a, ("b", "use crate::A; pub fn b() {}")]), 1);
    assert_eq!(number(&[("", "mod a; fn f() { a::g() }"), ("a", "pub fn g() { super::f() }")]), 1);
    assert_eq!(
        number(&[("", "pub use a::A; mod a; fn f(a: A) {}"), ("a", "pub struct A; use super::f;")]),
        1
    );
    assert_eq!(number(&[("", "mod a; mod b;"), a, ("b", "/// [`crate::a::A`]\npub fn b() {}")]), 0);
    assert_eq!(
        number(&[
            ("", "mod a; mod b;"),
            a,
            ("b", "pub fn b() {} #[cfg(test)] mod tests { use super::super::a::A; }")
        ]),
        0
    );
    assert_eq!(number(&[("", "pub use a::A; mod a; fn f() {}"), ("a", "pub struct A; use super::f;")]), 0);
}

/// `lib.rs` or `main.rs` of every crate in the workspace.
fn crate_roots(root: &Path) -> Vec<PathBuf> {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let folders = members.split('"').skip(1).step_by(2);
    let entries =
        folders.flat_map(|folder| ["lib.rs", "main.rs"].map(|file| root.join(folder).join("src").join(file)));
    entries.filter(|entry| entry.exists()).collect()
}

/// Reads the file of `module` and the files of the modules that it declares, which are in `folder`.
fn read(file: &Path, folder: &Path, module: &Name, modules: &mut Crate) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut source = Source { path: file.to_owned(), ..Source::default() };
    let mut declared = Vec::new();
    scan(text.parse().unwrap(), module, &mut source, &mut declared);
    modules.insert(module.clone(), source);
    for child in declared {
        let inner = folder.join(child[module.len()..].join("/"));
        let [file, folder_file] = [inner.with_extension("rs"), inner.join("mod.rs")];
        read(if file.exists() { &file } else { &folder_file }, &inner, &child, modules);
    }
}

/// Reads the tokens of `module`, and adds the modules whose declarations end in `;` to `declared`.
fn scan(tokens: TokenStream, module: &Name, source: &mut Source, declared: &mut Vec<Name>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut at, mut public) = (0, false);
    while at < tokens.len() {
        let word = word(&tokens, at);
        if is(&tokens, at, '#') {
            let attribute = at + 1 + usize::from(is(&tokens, at + 1, '!'));
            let text = tokens.get(attribute).map(ToString::to_string).unwrap_or_default();
            at = attribute + 1;
            if text.replace(' ', "") == "[cfg(test)]" {
                at = end_of_item(&tokens, at);
            }
        } else if word == "pub" {
            public = true;
            at += 1;
            at += usize::from(
                matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis),
            );
        } else if word == "use" {
            let end = end_of_item(&tokens, at);
            let mut paths = Vec::new();
            tree(&tokens[at + 1..end - 1], &Vec::new(), &mut paths);
            for (path, alias) in paths {
                let path = absolute(&path, module);
                if alias == "*" {
                    source.globs.push(path.clone());
                } else {
                    source.imports.push((alias, path.clone()));
                }
                if !public {
                    source.uses.push(path);
                }
            }
            (at, public) = (end, false);
        } else if word == "mod" {
            let child: Name = module.iter().cloned().chain([self::word(&tokens, at + 1)]).collect();
            source.imports.push((self::word(&tokens, at + 1), child.clone()));
            match tokens.get(at + 2) {
                Some(TokenTree::Group(body)) => scan(body.stream(), &child, source, declared),
                _ => declared.push(child),
            }
            (at, public) = (at + 3, false);
        } else if ["struct", "enum", "trait", "type", "fn", "const", "static", "union"]
            .contains(&word.as_str())
        {
            source.items.insert(self::word(&tokens, at + 1));
            (at, public) = (at + 1, false);
        } else if let Some(TokenTree::Group(group)) = tokens.get(at) {
            scan(group.stream(), module, source, declared);
            at += 1;
        } else if word.is_empty() {
            at += 1;
        } else {
            let mut path = vec![word];
            let mut next = at + 1;
            while is(&tokens, next, ':')
                && is(&tokens, next + 1, ':')
                && !self::word(&tokens, next + 2).is_empty()
            {
                path.push(self::word(&tokens, next + 2));
                next += 3;
            }
            // A field or method has the name of an item by chance.
            let called = is(&tokens, next, '!') || matches!(tokens.get(next), Some(TokenTree::Group(_)));
            let type_name = path[0].starts_with(char::is_uppercase);
            let after = at
                .checked_sub(1)
                .is_some_and(|before| is(&tokens, before, '.') || self::word(&tokens, before) == "fn");
            if !after && (path.len() > 1 || called || type_name) {
                source.uses.push(absolute(&path, module));
            }
            at = next;
        }
    }
}

/// The paths of a `use` tree, with the names that they get.
fn tree(tokens: &[TokenTree], prefix: &Name, paths: &mut Vec<(Name, String)>) {
    let mut path = prefix.clone();
    let mut alias = None;
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(ident) if ident == "as" => {
                alias = Some(word(tokens, at + 1));
                at += 1;
            }
            TokenTree::Ident(ident) if ident == "self" && !path.is_empty() => {}
            TokenTree::Ident(ident) => path.push(ident.to_string()),
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in
                    inner.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','))
                {
                    tree(part, &path, paths);
                }
                return;
            }
            TokenTree::Punct(star) if star.as_char() == '*' => alias = Some("*".to_owned()),
            _ => {}
        }
        at += 1;
    }
    if let Some(last) = path.last().cloned() {
        paths.push((path, alias.unwrap_or(last)));
    }
}

/// The path from the crate's root. A path that starts with neither `crate`, `self` nor `super` is taken from `module`; if it is an item
/// of another crate, nothing has its name.
fn absolute(path: &Name, module: &Name) -> Name {
    let mut start = module.clone();
    let mut rest = path.as_slice();
    while let Some(first) = rest.first() {
        match first.as_str() {
            "crate" => start.clear(),
            "super" => drop(start.pop()),
            "self" => {}
            _ => break,
        }
        rest = &rest[1..];
    }
    start.into_iter().chain(rest.iter().cloned()).collect()
}

fn word(tokens: &[TokenTree], at: usize) -> String {
    match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => ident.to_string(),
        _ => String::new(),
    }
}

fn is(tokens: &[TokenTree], at: usize, expected: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == expected)
}

/// Index after the item at `at`: after its `;` or its braces.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let imports =
        (at..tokens.len()).map(|at| word(tokens, at)).find(|word| word != "pub") == Some("use".to_owned());
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !imports,
        _ => false,
    };
    tokens[at..].iter().position(ends).map_or(tokens.len(), |length| at + length + 1)
}

/// For each file the files that it depends on, and an item of each.
fn dependencies(modules: &Crate) -> BTreeMap<&Name, BTreeMap<&Name, Name>> {
    let of = |(module, source): (&'_ Name, &'_ Source)| {
        let files = source.uses.iter().filter_map(|path| Some((definer(modules, path, 0)?, path.clone())));
        files.filter(|(file, _)| *file != module).collect()
    };
    modules.iter().map(|(module, source)| (module, of((module, source)))).collect()
}

/// The file that defines the item at `path`, if it is one of this crate and no module.
fn definer<'a>(modules: &'a Crate, path: &[String], depth: usize) -> Option<&'a Name> {
    let known = (0..=path.len()).rev().find(|&length| modules.contains_key(&path[..length]))?;
    let (module, source) = modules.get_key_value(&path[..known])?;
    let (item, rest) = path[known..].split_first()?;
    if source.items.contains(item) {
        return Some(module);
    }
    if depth > 8 {
        return None;
    }
    let follow = |target: &Name| {
        let target: Name = target.iter().chain(rest).cloned().collect();
        (target != path).then(|| definer(modules, &target, depth + 1)).flatten()
    };
    if let Some((_, target)) = source.imports.iter().find(|(name, _)| name == item) {
        return follow(target);
    }
    let through = |glob: &Name| {
        let target: Name = glob.iter().chain([item]).chain(rest).cloned().collect();
        (target != path).then(|| definer(modules, &target, depth + 1)).flatten()
    };
    source.globs.iter().find_map(through)
}

type Edge<'a> = (&'a Name, &'a Name, &'a Name);

/// The dependencies within each group of files that depend on each other.
fn circles<'a>(dependencies: &'a BTreeMap<&'a Name, BTreeMap<&'a Name, Name>>) -> Vec<Vec<Edge<'a>>> {
    let reach = |start: &'a Name| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(file) = open.pop() {
            open.extend(dependencies[file].keys().copied().filter(|file| seen.insert(*file)));
        }
        seen
    };
    let reached: BTreeMap<&Name, BTreeSet<&Name>> =
        dependencies.keys().map(|file| (*file, reach(file))).collect();
    let groups: BTreeSet<Vec<&Name>> = dependencies
        .keys()
        .map(|file| reached[file].iter().copied().filter(|other| reached[other].contains(file)).collect())
        .filter(|group: &Vec<&Name>| group.len() > 1)
        .collect();
    let edges = |group: Vec<&'a Name>| {
        let all =
            group.iter().flat_map(|&from| dependencies[from].iter().map(move |(to, item)| (from, *to, item)));
        all.filter(|(_, to, _)| group.contains(to)).collect()
    };
    groups.into_iter().map(edges).collect()
}
