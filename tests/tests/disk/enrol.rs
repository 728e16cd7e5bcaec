//! `keygen` and `sign`, disturbed at a system call: the same command again ends well, and the node works.
//! All calls with `ROPEWAY_LONG=1`, else a sample.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ropeway_tests::mounts::scratch;
use ropeway_tests::process::{assert_clean, ropeway, said, verb};
use ropeway_tests::strace;
use tempfile::TempDir;

use crate::disturb::{Fault, Subject, every_call};
use crate::scenario::{assert_no_litter, copy_files, keys_in};

const KILLS: usize = 24;

/// Both verbs, for the tests in which a call fails.
pub(crate) fn subjects(home: &dyn Fn() -> TempDir) -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(Keygen { home: home(), kind: &["--node", "clinic_a"] }),
        Box::new(Keygen { home: home(), kind: &["--hub"] }),
        Box::new(Sign::new(home())),
    ]
}

fn succeeds(mut command: Command, when: &str) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{when}: {}", said(&output));
}

fn keygen(dir: &Path, kind: &[&str]) -> Command {
    let mut command = ropeway(["keygen"]);
    command.arg(dir).args(kind);
    command
}

fn sign(node: &Path, hub: &Path) -> Command {
    let mut command = ropeway(["sign"]);
    command.arg(node.join("tls/node.csr")).arg("--ca").arg(hub);
    command
}

fn empty(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

struct Keygen {
    home: TempDir,
    kind: &'static [&'static str],
}

impl Keygen {
    fn dir(&self) -> PathBuf {
        self.home.path().join("node")
    }
}

impl Subject for Keygen {
    fn name(&self) -> String {
        format!("keygen {:?}", self.kind)
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn reset(&self) {
        empty(&self.dir());
    }

    fn command(&self) -> Command {
        keygen(&self.dir(), self.kind)
    }

    fn judge(&self, _: &Output, _: bool, when: &str) {
        let dir = self.dir();
        let again = self.command().output().unwrap();
        // Or it was complete already.
        assert!(again.status.success() || said(&again).contains("R104"), "{when}: {}", said(&again));
        succeeds(verb("push", &dir, &["--payload", "x"]), when);
        assert_clean(&dir, when);
        assert_no_litter(&dir, when);
        assert_eq!(keys_in(&dir.join("keys")).len(), 1, "{when}: one key, and it opens the keyring");
        if self.kind.contains(&"--hub") {
            let clinic = self.home.path().join("clinic_b");
            empty(&clinic);
            succeeds(keygen(&clinic, &["--node", "clinic_b"]), when);
            succeeds(sign(&clinic, &dir), when);
        }
    }
}

struct Sign {
    home: TempDir,
}

impl Sign {
    fn new(home: TempDir) -> Self {
        let s = Self { home };
        succeeds(keygen(&s.path("hub"), &["--hub"]), "undisturbed");
        succeeds(keygen(&s.path("clinic_a"), &["--node", "clinic_a"]), "undisturbed");
        for node in ["hub", "clinic_a"] {
            copy_files(&s.path(node), &s.path(&format!("{node}_kept")));
        }
        s
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Subject for Sign {
    fn name(&self) -> String {
        "sign".to_owned()
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn reset(&self) {
        for node in ["hub", "clinic_a"] {
            empty(&self.path(node));
            copy_files(&self.path(&format!("{node}_kept")), &self.path(node));
        }
    }

    fn command(&self) -> Command {
        sign(&self.path("clinic_a"), &self.path("hub"))
    }

    fn judge(&self, _: &Output, _: bool, when: &str) {
        succeeds(self.command(), when);
        // The certificate is one that a sync goes out with; there is nobody at that address.
        let sync = verb("sync", &self.path("clinic_a"), &["--hub", "127.0.0.1:1"]).output().unwrap();
        assert!(said(&sync).contains("R501"), "{when}: {}", said(&sync));
        assert_no_litter(&self.path("clinic_a"), when);
    }
}

#[test]
fn a_keygen_that_is_killed_at_any_system_call_can_be_done_again() {
    if strace::available() {
        for kind in [&["--node", "clinic_a"][..], &["--hub"]] {
            every_call(&Keygen { home: scratch(), kind }, Fault::Kill, KILLS);
        }
    }
}

#[test]
fn a_sign_that_is_killed_at_any_system_call_can_be_done_again() {
    if strace::available() {
        every_call(&Sign::new(scratch()), Fault::Kill, KILLS);
    }
}
