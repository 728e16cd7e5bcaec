//! `ropeway demo`, whole: real nodes, real TLS, an emulated link that breaks.
// clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Runs the command with a folder for temporary files of its own.
fn demo(tmp: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ropeway"));
    command.arg("demo").args(args).current_dir(tmp).env("TMPDIR", tmp).stdin(Stdio::null());
    for name in ["RUST_LOG", "CLICOLOR_FORCE", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn clinics_come_through_cut_links_with_every_event_once() {
    let tmp = tempfile::tempdir().unwrap();
    let output = demo(tmp.path(), &["--clinics", "2", "--events", "300", "--speed", "200", "--json"]);
    let report = last_line(&output);
    assert_eq!((output.status.code(), &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    assert_eq!((&report["events_appended"], &report["events_at_hub"]), (&300.into(), &300.into()));
    for none in ["lost", "duplicates", "altered"] {
        assert_eq!(report[none], 0, "{none}");
    }
    assert_eq!((&report["isolated"], &report["errors"]), (&true.into(), &Value::Array(Vec::new())));
    let number = |name: &str| report[name].as_f64().unwrap();
    assert!(number("cuts") >= 1.0 && number("seconds") > 5.0 && number("resent_events") < 300.0, "{report:#}");
    assert!((300.0 * 20.0..300.0 * 300.0).contains(&number("wire_bytes_up")), "{report:#}");
    assert!((500.0..20_000.0).contains(&number("wire_bytes_down")), "{report:#}");
    let clinics = report["clinics"].as_array().unwrap();
    assert_eq!(clinics.len(), 2);
    assert!(clinics.iter().all(|clinic| clinic["events"] == 150));
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn a_run_without_a_cut_sends_nothing_twice_and_keeps_what_it_is_told_to() {
    let tmp = tempfile::tempdir().unwrap();
    let args = ["--clinics", "1", "--events", "40", "--profile", "lan", "--no-cut", "--keep", "kept"];
    let output = demo(tmp.path(), &args);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let seen = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{seen}");
    assert!(
        text.starts_with("1 clinic sends 40 events to a hub") && text.contains("0 cuts, 0 events sent again"),
        "{seen}"
    );
    assert!(text.contains("PASSED  40 events appended, all at the hub") && text.ends_with("kept in kept\n"), "{seen}");
    assert!(tmp.path().join("kept/hub/node.json").exists());

    let again = demo(tmp.path(), &args);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("the directory is not empty"));
}
