//! The built `ropeway` command, as people and scripts meet it.
// clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn ropeway<const N: usize>(dir: &Path, args: [&str; N]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ropeway"));
    command.current_dir(dir).args(args).stdin(Stdio::null());
    for name in ["RUST_LOG", "CLICOLOR_FORCE", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    let text = stdout(output);
    assert_eq!((text.lines().count(), stderr(output).as_str()), (1, ""), "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Every file's path, permissions and contents.
fn files(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            all.push((path.clone(), mode, fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_deployment_is_made_with_keygen_and_sign() {
    let tmp = tempfile::tempdir().unwrap();
    let run = |args: [&str; 4]| ropeway(tmp.path(), args);
    let made = ropeway(tmp.path(), ["keygen", "hub", "--hub"]);
    assert_eq!((made.status.code(), stderr(&made).as_str()), (Some(0), ""));
    assert!(stdout(&made).starts_with("made a hub in hub: node hub, new deployment "), "{}", stdout(&made));
    let made = run(["keygen", "a", "--node", "clinic_a"]);
    assert_eq!(made.status.code(), Some(0));
    assert!(stdout(&made).contains("ropeway sign a/tls/node.csr --ca HUBDIR"), "{}", stdout(&made));
    for (path, mode, _) in files(tmp.path()) {
        let is_secret = path.extension().is_some_and(|e| e == "key" || e == "ndjson")
            || path.ends_with("lock")
            || path.ends_with("keyring");
        assert_eq!(mode, if is_secret { 0o600 } else { 0o644 }, "{path:?}");
    }

    let signed = run(["sign", "a/tls/node.csr", "--ca", "hub"]);
    assert_eq!((signed.status.code(), stderr(&signed).as_str()), (Some(0), ""));
    for says in ["signed clinic_a as a clinic of deployment ", "a/tls/node.crt\n", "a/tls/ca.crt\n"] {
        assert!(stdout(&signed).contains(says), "{}", stdout(&signed));
    }
    let read = |name: &str| fs::read(tmp.path().join(name)).unwrap();
    assert_eq!(read("a/tls/ca.crt"), read("hub/tls/ca.crt"));
    assert!(read("a/tls/node.crt").starts_with(b"-----BEGIN CERTIFICATE-----"));
}

#[test]
fn a_second_keygen_is_refused_and_changes_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    ropeway(tmp.path(), ["keygen", "hub", "--hub", "--name", "thimphu"]);
    let before = files(tmp.path());
    let again = ropeway(tmp.path(), ["keygen", "hub", "--hub"]);
    assert_eq!((again.status.code(), stdout(&again).as_str()), (Some(1), ""));
    let expected = "error: R104 already initialised: hub: it has a node.json\n  hint: Choose another directory; ";
    assert!(stderr(&again).starts_with(expected), "{}", stderr(&again));
    assert_eq!(ropeway(tmp.path(), ["keygen", "hub", "--node", "x"]).status.code(), Some(1));
    assert_eq!(files(tmp.path()), before);
}

#[test]
fn a_name_is_signed_for_one_key_unless_the_device_was_replaced() {
    let tmp = tempfile::tempdir().unwrap();
    ropeway(tmp.path(), ["keygen", "hub", "--hub"]);
    for device in ["old", "new"] {
        ropeway(tmp.path(), ["keygen", device, "--node", "clinic_a"]);
    }
    assert_eq!(ropeway(tmp.path(), ["sign", "old/tls/node.csr", "--ca", "hub"]).status.code(), Some(0));
    let taken = ropeway(tmp.path(), ["sign", "new/tls/node.csr", "--ca", "hub"]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(stderr(&taken).starts_with("error: R213 name taken: new/tls/node.csr: "), "{}", stderr(&taken));
    assert!(!tmp.path().join("new/tls/node.crt").exists());
    let args = ["sign", "new/tls/node.csr", "--ca", "hub", "--replace", "--quiet"];
    let replaced = ropeway(tmp.path(), args);
    assert_eq!((replaced.status.code(), stdout(&replaced).as_str()), (Some(0), ""));

    let not_a_ca = ropeway(tmp.path(), ["sign", "new/tls/node.csr", "--ca", "old", "--json"]);
    assert_eq!((not_a_ca.status.code(), &json(&not_a_ca)["error"]["code"]), (Some(1), &Value::from("R207")));
}

#[test]
fn with_json_results_and_errors_are_objects_on_standard_output() {
    let tmp = tempfile::tempdir().unwrap();
    let hub = json(&ropeway(tmp.path(), ["--json", "keygen", "hub", "--hub"]));
    assert_eq!((&hub["node"], &hub["role"], &hub["csr"]), (&"hub".into(), &"hub".into(), &Value::Null));
    let clinic = json(&ropeway(tmp.path(), ["keygen", "a", "--node", "clinic_a", "--json"]));
    assert_eq!((&clinic["csr"], &clinic["deployment"]), (&"a/tls/node.csr".into(), &Value::Null));
    let signed = json(&ropeway(tmp.path(), ["sign", "a/tls/node.csr", "--ca", "hub", "--json"]));
    assert_eq!((&signed["node"], &signed["node_crt"]), (&"clinic_a".into(), &"a/tls/node.crt".into()));
    assert_eq!(signed["deployment"], hub["deployment"]);

    let refused = ropeway(tmp.path(), ["keygen", "hub", "--hub", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let error = &json(&refused)["error"];
    assert_eq!((&error["code"], &error["name"]), (&"R104".into(), &"already initialised".into()));
    assert_eq!(error["message"], "hub: it has a node.json");
    assert!(error["hint"].as_str().unwrap().starts_with("Choose another directory"));
}

#[test]
fn wrong_usage_exits_with_2() {
    let tmp = tempfile::tempdir().unwrap();
    let wrong = ropeway(tmp.path(), ["keygen", "d", "--node", "../d"]);
    assert_eq!((wrong.status.code(), stdout(&wrong).as_str()), (Some(2), ""));
    assert!(stderr(&wrong).contains("R101 bad name: "), "{}", stderr(&wrong));
    let wrong = ropeway(tmp.path(), ["push", "--json", "--data-dir", "d"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(json(&wrong)["error"]["code"], "R102");
    assert_eq!(ropeway(tmp.path(), []).status.code(), Some(2));
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
}

#[test]
fn a_held_directory_exits_with_5() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir(tmp.path().join("d")).unwrap();
    let dir = ropeway_std::DataDir::new(tmp.path().join("d"));
    let _held = ropeway_std::DirLock::acquire(&dir).unwrap();
    let locked = ropeway(tmp.path(), ["keygen", "d", "--node", "x"]);
    assert_eq!(locked.status.code(), Some(5));
    let expected = format!("error: R301 locked: d: process {} works on it\n", std::process::id());
    assert!(stderr(&locked).starts_with(&expected), "{}", stderr(&locked));
}

#[test]
fn help_and_version_exit_with_0() {
    let tmp = tempfile::tempdir().unwrap();
    let help = ropeway(tmp.path(), ["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for says in ["Encrypted event log and sync", "Exit codes:", "  5  locked", "keygen", "completions", "--json"] {
        assert!(stdout(&help).contains(says), "{says}");
    }
    assert!(stdout(&ropeway(tmp.path(), ["sign", "--help"])).contains("Examples:\n  ropeway sign "));
    let version = stdout(&ropeway(tmp.path(), ["--version"]));
    assert_eq!(version, format!("ropeway {}\n", env!("CARGO_PKG_VERSION")));
    assert!(stdout(&ropeway(tmp.path(), ["completions", "bash"])).contains("complete -F"));
}

#[test]
fn a_reader_who_leaves_early_causes_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let command = Command::new(env!("CARGO_BIN_EXE_ropeway"))
        .args(["completions", "zsh"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((command.status.code(), stderr(&command).as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_under_standard_output_is_an_error() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let command = Command::new(env!("CARGO_BIN_EXE_ropeway"))
        .args(["completions", "zsh"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(command.status.code(), Some(1));
    assert!(stderr(&command).starts_with("error: R307 disk full: writing to standard output"), "{}", stderr(&command));
}
