//! `dalle data fetch`: the packages of a recipe, downloaded by the clients of their registries.
//!
//! Each package gets a folder `NAME-VERSION`. A download is unpacked only if its size and SHA-256 are those of the recipe, and the
//! folder appears complete or not at all, with a list of the hashes of its files. So an interrupted fetch resumes where it
//! stopped, and damaged folders are fetched again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dalle_data::read_json;
use dalle_shared::{sha256_hex, to_hex};
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::recipe::{Client, Package};

/// Name of the list of a fetched folder's files.
const FILES: &str = "fetched.json";
/// Timeout of a client. The largest package has 16 MB.
const TIME: Duration = Duration::from_secs(600);
/// Interval at which a running client is polled.
const POLL: Duration = Duration::from_millis(50);
/// Bytes of a client's message that are shown.
const SHOWN: usize = 300;

/// Why a package cannot be fetched. Messages follow the name of the package.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client is not installed.
    #[error("`{program}` was not found; install it ({remedy})")]
    NoClient {
        /// The client.
        program: &'static str,
        /// How to install it.
        remedy: &'static str,
    },
    /// The client could not download it.
    #[error("`{command}` failed{message}; check the network connection, then run the same command again")]
    Client {
        /// The command line.
        command: String,
        /// The last line of the client's output, after a colon.
        message: String,
    },
    /// The client takes too long.
    #[error(
        "`{command}` took more than {} minutes; check the network connection, then run the same command again",
        TIME.as_secs() / 60
    )]
    TooSlow {
        /// The command line.
        command: String,
    },
    /// Something else was downloaded.
    #[error(
        "expected {expected} as in the recipe, got {got}; the registry's file has changed, or the recipe is wrong"
    )]
    Other {
        /// What the recipe says.
        expected: String,
        /// What was downloaded.
        got: String,
    },
    /// The file system returned an error.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io { action, path, source }
}

/// What a fetched folder holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    /// SHA-256 of the downloaded file.
    archive: String,
    /// SHA-256 of each file, by its path in the folder.
    files: BTreeMap<String, String>,
}

/// The folder of a package in `out`.
pub fn folder(package: &Package, out: &Path) -> PathBuf {
    let name = package.name.trim_start_matches('@').replace('/', "-");
    // A Debian version may have a colon, which some file systems do not allow.
    out.join(format!("{name}-{}", package.version.replace([':', '~', '/'], "_")))
}

/// Whether the package is there, as this recipe wants it and with every file as it was fetched.
pub fn is_fetched(package: &Package, out: &Path) -> bool {
    let folder = folder(package, out);
    let listed: Result<Files, _> = read_json(&folder.join(FILES), "a list of fetched files");
    listed.is_ok_and(|listed| {
        listed.archive == package.sha256.to_lowercase()
            && hashes(&folder).is_ok_and(|found| found == listed.files)
    })
}

/// Downloads and unpacks a package into `out`, replacing a damaged or different folder of the same name.
///
/// # Errors
/// Its client is missing, fails or takes too long, the file is not that of the recipe, or a file cannot be written. Nothing in
/// `out` has changed then.
pub fn fetch(package: &Package, out: &Path) -> Result<(), FetchError> {
    fs::create_dir_all(out).map_err(io_error("creating", out))?;
    let work =
        tempfile::Builder::new().prefix(".fetch-").tempdir_in(out).map_err(io_error("creating", out))?;
    let download = work.path().join("download");
    fs::create_dir(&download).map_err(io_error("creating", &download))?;
    run(&mut package.client.download(package, &download), package.client)?;
    let archive = only_file(&download)?;
    check(package, &archive)?;
    let unpacked = work.path().join("unpacked");
    fs::create_dir(&unpacked).map_err(io_error("creating", &unpacked))?;
    match package.client.unpack(&archive, &unpacked) {
        Some(mut command) => run(&mut command, package.client)?,
        None => untar(&archive, &unpacked)?,
    }
    let files = hashes(&unpacked).map_err(io_error("reading", &unpacked))?;
    let files = Files { archive: package.sha256.to_lowercase(), files };
    let list = unpacked.join(FILES);
    let json =
        serde_json::to_vec_pretty(&files).map_err(io::Error::from).map_err(io_error("writing", &list))?;
    fs::write(&list, json).map_err(io_error("writing", &list))?;
    let target = folder(package, out);
    if target.exists() {
        fs::remove_dir_all(&target).map_err(io_error("replacing", &target))?;
    }
    fs::rename(&unpacked, &target).map_err(io_error("creating", &target))
}

impl Client {
    /// The program, and how to install it.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Npm => ("npm", "it comes with Node.js; on Debian: apt-get install npm"),
            Self::Pip => ("pip", "it comes with Python; on Debian: apt-get install python3-pip"),
            Self::AptGet => ("apt-get", "Debian packages need Debian or a system derived from it"),
        }
    }

    /// Downloads the file of a package into a folder, and nothing that it depends on. No script of it is run.
    fn download(self, package: &Package, folder: &Path) -> Command {
        let (program, _) = self.program();
        let Package { name, version, .. } = package;
        let mut command = Command::new(program);
        match self {
            Self::Npm => {
                command.args(["pack", "--silent", "--ignore-scripts", "--pack-destination", "."]);
                command.arg(format!("{name}@{version}"))
            }
            Self::Pip => command
                .args(["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", "."])
                .arg(format!("{name}=={version}")),
            Self::AptGet => command.args(["download", "--quiet"]).arg(format!("{name}={version}")),
        };
        command.current_dir(folder);
        command
    }

    /// The command that unpacks a file; none for a tar archive.
    fn unpack(self, archive: &Path, folder: &Path) -> Option<Command> {
        match self {
            Self::Npm => None,
            Self::Pip => {
                let mut command = Command::new("pip");
                command.args(["install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target"]);
                command.arg(folder).arg(archive);
                Some(command)
            }
            Self::AptGet => {
                let mut command = Command::new("dpkg-deb");
                command.arg("--extract").arg(archive).arg(folder);
                Some(command)
            }
        }
    }
}

/// Runs a client until it ends.
fn run(command: &mut Command, client: Client) -> Result<(), FetchError> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let mut messages = tempfile::tempfile().map_err(io_error("creating", &std::env::temp_dir()))?;
    let output = messages.try_clone().map_err(io_error("creating", &std::env::temp_dir()))?;
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn();
    let mut child = child.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let (program, remedy) = client.program();
            FetchError::NoClient { program, remedy }
        }
        _ => FetchError::Client { command: line.clone(), message: format!(": {error}") },
    })?;
    let begun = Instant::now();
    let status: ExitStatus = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < TIME => thread::sleep(POLL),
            _ => {
                // It may have ended by itself meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Err(FetchError::TooSlow { command: line });
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    Err(FetchError::Client { command: line, message: last_words(&mut messages) })
}

/// The last line that a client wrote.
fn last_words(messages: &mut File) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = Vec::new();
    let length = messages.seek(SeekFrom::End(0)).unwrap_or(0);
    let from = length.saturating_sub(4096);
    if messages.seek(SeekFrom::Start(from)).and_then(|_| messages.read_to_end(&mut text)).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&text);
    match text.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!(": {}", line.chars().take(SHOWN).collect::<String>()),
        None => String::new(),
    }
}

/// The one file that a client downloaded.
fn only_file(folder: &Path) -> Result<PathBuf, FetchError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let files: Vec<PathBuf> =
        entries.map_err(io_error("listing", folder))?.into_iter().map(|entry| entry.path()).collect();
    match <[PathBuf; 1]>::try_from(files) {
        Ok([file]) => Ok(file),
        Err(files) => {
            Err(FetchError::Other { expected: "one file".to_owned(), got: format!("{} files", files.len()) })
        }
    }
}

/// Checks size and hash of a downloaded file.
fn check(package: &Package, archive: &Path) -> Result<(), FetchError> {
    let bytes = fs::metadata(archive).map_err(io_error("reading", archive))?.len();
    if bytes != package.bytes {
        let (expected, got) = (format!("{} bytes", package.bytes), format!("{bytes}"));
        return Err(FetchError::Other { expected, got });
    }
    let got = file_hash(archive).map_err(io_error("reading", archive))?;
    if got != package.sha256.to_lowercase() {
        return Err(FetchError::Other { expected: format!("SHA-256 {}", package.sha256), got });
    }
    Ok(())
}

/// Unpacks a gzipped tar archive. Paths that lead out of the folder are refused by `tar`.
fn untar(archive: &Path, folder: &Path) -> Result<(), FetchError> {
    let file = File::open(archive).map_err(io_error("reading", archive))?;
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    tar.set_preserve_mtime(false);
    tar.unpack(folder).map_err(io_error("unpacking", archive))
}

fn file_hash(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(to_hex(&digest.finalize()))
}

/// The hashes of all files of a folder but the list of them. A link counts as what it names.
fn hashes(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                hashes.insert(name, sha256_hex(fs::read_link(&path)?.to_string_lossy().as_bytes()));
            } else if name != FILES {
                hashes.insert(name, file_hash(&path)?);
            }
        }
    }
    Ok(hashes)
}
