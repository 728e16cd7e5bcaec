//! `keygen` and `sign`, killed at a system call: the same command again ends well, and the node works.
//! All calls with `ROPEWAY_LONG=1`, else a sample.

use std::fs;
use std::path::Path;
use std::process::Command;

use ropeway_tests::mounts::scratch;
use ropeway_tests::process::{assert_clean, ropeway, said, verb};
use ropeway_tests::strace;

const KILLS: usize = 50;

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

#[test]
fn a_keygen_that_is_killed_at_any_system_call_can_be_done_again() {
    if !strace::available() {
        return;
    }
    for kind in [&["--node", "clinic_a"][..], &["--hub"]] {
        let home = scratch();
        let (dir, trace) = (home.path().join("node"), home.path().join("trace"));
        let command = keygen(&dir, kind);
        succeeds(strace::recording(&command, &trace), "undisturbed");
        let all = strace::recorded(&trace, &dir);
        let (found, wanted) = (all.len(), strace::sample(all, KILLS));
        for call in &wanted {
            empty(&dir);
            let when = format!("keygen {kind:?} killed at {} {}: {}", call.name, call.nth, call.line);
            let _ = call.inject(&command, "signal=KILL").output().unwrap();
            let again = keygen(&dir, kind).output().unwrap();
            // Or it was complete already.
            assert!(again.status.success() || said(&again).contains("R104"), "{when}: {}", said(&again));
            succeeds(verb("push", &dir, &["--payload", "x"]), &when);
            assert_clean(&dir, &when);
            if kind.contains(&"--hub") {
                let clinic = home.path().join("clinic_b");
                empty(&clinic);
                succeeds(keygen(&clinic, &["--node", "clinic_b"]), &when);
                succeeds(sign(&clinic, &dir), &when);
            }
        }
        println!("keygen {kind:?}: killed at {} of {found} system calls", wanted.len());
    }
}

#[test]
fn a_sign_that_is_killed_at_any_system_call_can_be_done_again() {
    if !strace::available() {
        return;
    }
    let home = scratch();
    let path = |name: &str| home.path().join(name);
    succeeds(keygen(&path("hub"), &["--hub"]), "undisturbed");
    succeeds(keygen(&path("clinic_a"), &["--node", "clinic_a"]), "undisturbed");
    let command = sign(&path("clinic_a"), &path("hub"));
    for node in ["hub", "clinic_a"] {
        crate::scenario::copy_files(&path(node), &path(&format!("{node}_kept")));
    }
    succeeds(strace::recording(&command, &path("trace")), "undisturbed");
    let all = strace::recorded(&path("trace"), home.path());
    let (found, wanted) = (all.len(), strace::sample(all, KILLS));
    for call in &wanted {
        for node in ["hub", "clinic_a"] {
            empty(&path(node));
            crate::scenario::copy_files(&path(&format!("{node}_kept")), &path(node));
        }
        let when = format!("sign killed at {} {}: {}", call.name, call.nth, call.line);
        let _ = call.inject(&command, "signal=KILL").output().unwrap();
        succeeds(sign(&path("clinic_a"), &path("hub")), &when);
        // The certificate is one that a sync goes out with; there is nobody at that address.
        let sync = verb("sync", &path("clinic_a"), &["--hub", "127.0.0.1:1"]).output().unwrap();
        assert!(said(&sync).contains("R501"), "{when}: {}", said(&sync));
    }
    println!("sign: killed at {} of {found} system calls", wanted.len());
}
