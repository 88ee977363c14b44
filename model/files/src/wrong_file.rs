//! Recognises files that are not the weights they are taken for, because a download went wrong.

/// Number of bytes at the start of a file that are enough to recognise it.
pub const FILE_START: usize = 512;

/// What a file is, if its first bytes are those of something that is often stored in place of weights, and what to do. Completes a
/// sentence that begins with the file's name.
pub fn wrong_file(start: &[u8]) -> Option<&'static str> {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let begins = |what: &[u8]| text.get(..what.len()).is_some_and(|start| start.eq_ignore_ascii_case(what));
    if begins(b"version https://git-lfs") {
        return Some("is a Git LFS pointer instead of the file itself; fetch the file with `git lfs pull`");
    }
    if [&b"<!doctype"[..], b"<html", b"<head", b"<?xml", b"<error"].into_iter().any(begins) {
        return Some(
            "is a web page (HTML or XML), such as an error message or a login; download the file itself, and check its size",
        );
    }
    let others: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "is compressed with gzip; decompress it with `gunzip`"),
        (b"BZh", "is compressed with bzip2; decompress it with `bunzip2`"),
        (b"\xfd7zXZ", "is compressed with xz; decompress it with `unxz`"),
        (b"\x89HDF", "is an HDF5 file of Keras; convert it to safetensors"),
        (b"GGUF", "is a GGUF file of llama.cpp; convert it to safetensors"),
    ];
    others.into_iter().find_map(|(magic, what)| start.starts_with(magic).then_some(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_downloads_are_recognised_and_weights_are_not() {
        for (start, what) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"[..], "git lfs pull"),
            (b"\n  <!DOCTYPE html><html>Access denied</html>", "web page"),
            (b"\xef\xbb\xbf<HTML>", "web page"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "web page"),
            (b"\x1f\x8b\x08", "gunzip"),
        ] {
            let found = wrong_file(start);
            assert!(found.is_some_and(|found| found.contains(what)), "{what}: {found:?}");
        }
        for weights in [&b""[..], b"PK\x03\x04", b"\x80\x02}q", b"\x40\0\0\0\0\0\0\0{\"a\":"] {
            assert_eq!(wrong_file(weights), None);
        }
    }
}
