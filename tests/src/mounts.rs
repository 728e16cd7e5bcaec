//! File systems for a test: small, full, without power. Root only; tests say so and end where
//! there is none.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::said;

/// Runs a command and gives what it printed.
fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output: Output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{program} {args:?}: {}", said(&output)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Says why a test is skipped, if it is.
fn or_skip<T>(what: &str, made: Result<T, String>) -> Option<T> {
    made.inspect_err(|e| println!("skipped: {what} cannot be made here: {e}")).ok()
}

/// Files for a test that asks nothing of the disk itself: in memory where that is possible.
#[must_use]
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A file system in memory with a size. Unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    /// Where it is.
    pub at: PathBuf,
}

impl Tmpfs {
    /// Mounts one of `bytes` at `at`, which is made; `None`, and a message, without the right to.
    #[must_use]
    pub fn mount(at: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let size = format!("size={bytes},mode=0700");
        let mounted = run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", at.to_str()?]);
        or_skip("a tmpfs", mounted).map(|_| Self { at: at.to_owned() })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// A real ext4 on a loop device over an image file, whose power can be cut.
#[derive(Debug)]
pub struct Ext4 {
    /// Where it is mounted.
    pub at: PathBuf,
    /// The image.
    pub image: PathBuf,
    device: String,
}

impl Ext4 {
    /// Makes one of `bytes` in the folder `home`; `None`, and a message, where that cannot be.
    /// Everything that the file system itself needs is written, the rest of the image is a hole.
    #[must_use]
    pub fn make(home: &Path, bytes: u64) -> Option<Self> {
        or_skip("an ext4 on a loop device", Self::try_make(home, bytes))
    }

    fn try_make(home: &Path, bytes: u64) -> Result<Self, String> {
        // What the tests will need once it is there.
        run("perl", &["-e", "1"])?;
        run("debugfs", &["-V"])?;
        run("fallocate", &["--version"])?;
        let (image, at) = (home.join("image"), home.join("card"));
        File::create(&image).and_then(|f| f.set_len(bytes)).map_err(|e| e.to_string())?;
        fs::create_dir(&at).map_err(|e| e.to_string())?;
        let path = image.to_str().ok_or("path")?;
        let lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", "-N", "512", "-J", "size=4", "-E", lazy, path])?;
        let device = run("losetup", &["--find", "--show", path])?;
        let disk = Self { at, image, device };
        disk.mount()?;
        Ok(disk)
    }

    /// The loop device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-t", "ext4", "-o", "noatime", &self.device, self.at.to_str().ok_or("path")?]).map(|_| ())
    }

    /// The power goes: from now on every call fails, and what was not synced is gone. That is
    /// `EXT4_IOC_SHUTDOWN` with the flag 2, "do not flush the journal"; perl, because the call
    /// takes a pointer, and Rust without unsafe code has no such call.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn cut_power(&self) -> Result<(), String> {
        const SHUTDOWN: &str = "my $flag = pack('L', 2); open(my $f, '<', $ARGV[0]) or die $!; \
            defined(ioctl($f, 0x8004587d, $flag)) or die $!";
        run("perl", &["-e", SHUTDOWN, self.at.to_str().ok_or("path")?]).map(|_| ())
    }

    /// The power comes back: mounted again, with what the device holds. Nobody may have a file open
    /// there.
    ///
    /// # Errors
    /// If it cannot be mounted.
    pub fn power_on(&self) -> Result<(), String> {
        let at = self.at.to_str().ok_or("path")?;
        let mut unmounted = run("umount", &[at]);
        for _ in 0..100 {
            // A child that another test is just starting holds copies of our files for an instant.
            if unmounted.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            unmounted = run("umount", &[at]);
        }
        unmounted?;
        self.mount()
    }

    /// After [`Ext4::cut_power`], while somebody has files open there: the same card, put in once more, with what
    /// the device holds. Who had it before keeps the one that is gone.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn put_back(&mut self) -> Result<(), String> {
        let at = self.at.to_str().ok_or("path")?;
        run("umount", &["-l", at])?;
        // The kernel does not mount a file system anew as long as it is in use: so the card is another one.
        let again = self.image.with_extension("again");
        fs::copy(&self.image, &again).map_err(|e| e.to_string())?;
        let device = run("losetup", &["--find", "--show", again.to_str().ok_or("path")?])?;
        let _ = run("losetup", &["-d", &self.device]);
        (self.image, self.device) = (again, device);
        self.mount()
    }

    /// Mounted read-only from now on, as the kernel does with a card that fails.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn read_only(&self) -> Result<(), String> {
        run("mount", &["-o", "remount,ro", self.at.to_str().ok_or("path")?]).map(|_| ())
    }

    /// Makes everything in it durable.
    ///
    /// # Errors
    /// If it cannot.
    pub fn sync(&self) -> Result<(), String> {
        run("sync", &["-f", self.at.to_str().ok_or("path")?]).map(|_| ())
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

/// A file that fills a disk up. The room is back when it is dropped.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// Fills the disk that the folder is on, but for `free` bytes.
    #[must_use]
    pub fn fill(folder: &Path, free: u64) -> Self {
        let path = folder.join("ballast");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
        let mut len = 0;
        for size in [1 << 20, 4096] {
            let zeros = vec![1; size];
            // What a file system says at the end differs; that it ends is enough.
            while let Ok(n @ 1..) = file.write(&zeros) {
                len += n as u64;
            }
        }
        // A file system that gives out room late has done so now.
        let _ = file.sync_all();
        file.set_len(len.saturating_sub(free)).unwrap();
        let _ = file.sync_all();
        Self { path }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // Emptied first: a child that another test is just starting may hold it open for an instant.
        let _ = OpenOptions::new().write(true).truncate(true).open(&self.path);
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = self.path.parent() {
            let _ = run("sync", &["-f", folder.to_str().unwrap_or(".")]);
        }
    }
}
