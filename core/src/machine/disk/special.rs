//! Recognises paths that are not regular files: devices, named pipes, sockets, and the descriptors of a process.
//!
//! Such paths store nothing, so they cannot be synced, cut or replaced: renaming a file over `/dev/null` would remove
//! it for the whole machine. Outputs ask here before they treat a path as a file.

use std::fs;
use std::path::Path;

/// Directories whose names are the open descriptors of a process.
const DESCRIPTORS: [&str; 3] = ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd"];

/// Whether bytes written to `path` are not stored: it is neither a regular file, nor a directory, nor a free name.
#[must_use]
pub fn is_special(path: &Path) -> bool {
    if path == Path::new("/dev/stdout") || path == Path::new("/dev/stderr") {
        return true;
    }
    if DESCRIPTORS.iter().any(|dir| path.starts_with(dir)) {
        return true;
    }
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_descriptors_are_special_and_files_are_not() {
        for path in [
            "/dev/null",
            "/dev/stdout",
            "/dev/stderr",
            "/dev/fd/1",
            "/proc/self/fd/2",
        ] {
            assert!(is_special(Path::new(path)), "{path}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        assert!(!is_special(dir.path()));
        assert!(!is_special(&file));
        fs::write(&file, b"x").unwrap();
        assert!(!is_special(&file));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(is_special(&link));
        let socket = dir.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(is_special(&socket));
    }
}
