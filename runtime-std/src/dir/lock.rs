//! One process at a time works on a data directory.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use ropeway_core::code::Code;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::DataDir;
use crate::error::{Error, IoContext, Result};

const TRIES: u32 = 4;
const TRY_AGAIN: Duration = Duration::from_millis(3);

/// Holds the directory until it is dropped or the process ends, however it ends: the kernel frees
/// it. It belongs to the open file, so the same process cannot take it twice either.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock at once or not at all.
    ///
    /// # Errors
    /// [`Code::Locked`] naming the holder's process id; [`Code::NotInitialised`] if there is no
    /// such directory; [`Code::Io`].
    pub fn acquire(dir: &DataDir) -> Result<Self> {
        let path = dir.lock();
        if !super::exists(dir.root())? {
            return Err(Error::at(Code::NotInitialised, dir.root(), "there is no such directory"));
        }
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let (mut file, writable) = match opened {
            // A card at the end of its life: nothing can be written, what it holds can still be sent. The
            // lock is the kernel's, not the file's content.
            Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => (File::open(&path).at("opening", &path)?, false),
            other => (other.at("opening", &path)?, true),
        };
        let mut tries = 0;
        while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            tries += 1;
            match e {
                // Somebody may be asking just now who holds it, which takes microseconds.
                Errno::WOULDBLOCK if tries < TRIES => std::thread::sleep(TRY_AGAIN),
                Errno::WOULDBLOCK => return Err(locked(&file, dir.root())),
                e => return Err(std::io::Error::from(e)).at("locking", &path),
            }
        }
        if writable {
            file.set_len(0).at("writing", &path)?;
            writeln!(file, "{}", std::process::id()).at("writing", &path)?;
        }
        Ok(Self { _file: file })
    }

    /// The process that holds the directory now, `None` if it is free or cannot be told.
    #[must_use]
    pub fn holder(dir: &DataDir) -> Option<u32> {
        let file = File::open(dir.lock()).ok()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => read_pid(&file),
            _ => None,
        }
    }
}

fn locked(file: &File, root: &Path) -> Error {
    match read_pid(file) {
        Some(pid) => Error::at(Code::Locked, root, format!("process {pid} works on it")),
        None => Error::at(Code::Locked, root, "another process works on it"),
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::process::{Command, Stdio};

    #[test]
    fn a_directory_is_held_once_even_within_one_process() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        let held = DirLock::acquire(&dir).unwrap();
        let e = DirLock::acquire(&dir).unwrap_err();
        assert_eq!(e.code, Code::Locked);
        assert!(e.context.contains(&format!("process {}", std::process::id())), "{e}");
        assert_eq!(DirLock::holder(&dir), Some(std::process::id()));
        drop(held);
        // A child that another test starts has our descriptors until it has become its program.
        let released = (0..5000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            DirLock::holder(&dir).is_none()
        });
        assert!(released);
        DirLock::acquire(&dir).unwrap();
    }

    #[test]
    fn asking_who_holds_it_keeps_nobody_out() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        drop(DirLock::acquire(&dir).unwrap());
        let asking = File::open(dir.lock()).unwrap();
        flock(&asking, FlockOperation::NonBlockingLockShared).unwrap();
        let answered = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1));
            drop(asking);
        });
        DirLock::acquire(&dir).unwrap();
        answered.join().unwrap();
    }

    #[test]
    fn another_process_is_named_and_its_death_frees_the_directory() {
        const VAR: &str = "ROPEWAY_TEST_LOCK_DIR";
        if let Some(root) = std::env::var_os(VAR) {
            let _held = DirLock::acquire(&DataDir::new(root)).unwrap();
            println!("\nheld");
            std::thread::sleep(std::time::Duration::from_secs(60));
            return;
        }
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        let test = "dir::lock::tests::another_process_is_named_and_its_death_frees_the_directory";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(VAR, tmp.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        assert!(out.lines().any(|l| l.unwrap() == "held"));
        let e = DirLock::acquire(&dir).unwrap_err();
        assert_eq!(e.code, Code::Locked);
        assert!(e.context.contains(&format!("process {}", child.id())), "{e}");
        child.kill().unwrap();
        child.wait().unwrap();
        DirLock::acquire(&dir).unwrap();
    }
}
