//! Where a demo's nodes live: a temporary folder that also goes when the user presses Ctrl-C.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_std::{Error, IoContext, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tempfile::TempDir;

/// The folder; dropping it removes it, unless it was asked to stay.
pub(super) struct Folder {
    path: PathBuf,
    temporary: Option<(TempDir, Handle)>,
}

impl Folder {
    /// Uses `keep`, which must be new or empty, or makes a temporary folder.
    pub(super) fn new(keep: Option<&Path>) -> Result<Folder> {
        if let Some(path) = keep {
            fs::create_dir_all(path).at("making", path)?;
            if fs::read_dir(path).at("listing", path)?.next().is_some() {
                return Err(Error::at(Code::BadArgument, path, "the directory is not empty"));
            }
            return Ok(Folder { path: path.to_owned(), temporary: None });
        }
        let folder = tempfile::Builder::new().prefix("ropeway-demo-").tempdir();
        let folder = folder.map_err(|e| Error::io("making a temporary directory", e))?;
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| Error::io("listening for signals", e))?;
        let (path, handle) = (folder.path().to_owned(), signals.handle());
        let doomed = path.clone();
        let watch = move || {
            if let Some(signal) = signals.forever().next() {
                remove(&doomed);
                // Ends the process as the signal does where nobody listens for it.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        };
        let spawned = thread::Builder::new().name("demo-signals".into()).spawn(watch);
        spawned.map_err(|e| Error::io("starting a thread", e))?;
        Ok(Folder { path, temporary: Some((folder, handle)) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it stays at the end.
    pub(super) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some((_, signals)) = &self.temporary {
            signals.close();
        }
    }
}

/// The nodes still work in there and may make files meanwhile, so once may not be enough.
fn remove(path: &Path) {
    for _ in 0..20 {
        if fs::remove_dir_all(path).is_ok() || !path.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_kept_one_stays() {
        let folder = Folder::new(None).unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("x"), "").unwrap();
        assert!(!folder.is_kept());
        drop(folder);
        assert!(!path.exists());

        let tmp = tempfile::tempdir().unwrap();
        let kept = tmp.path().join("a/b");
        drop(Folder::new(Some(&kept)).unwrap());
        assert!(Folder::new(Some(&kept)).unwrap().is_kept());
        fs::write(kept.join("x"), "").unwrap();
        assert_eq!(Folder::new(Some(&kept)).err().map(|e| e.code), Some(Code::BadArgument));
    }
}
