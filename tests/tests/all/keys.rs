//! `rekey` and `key list` as people use them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ropeway_tests::process::{Hub, assert_clean, program, ropeway, said, verb};
use ropeway_tests::{Deployment, noise};
use serde_json::Value;

use crate::durable::{SmallDisk, bytes_of};

const OLD: &str = "yak butter tea at noon";
const NEW: &str = "prayer flags on a pass";

fn list(dir: &Path) -> Command {
    let mut command = ropeway(["key", "list", "--json", "--data-dir"]);
    command.arg(dir);
    command
}

fn json(o: &Output) -> Value {
    serde_json::from_slice(&o.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(o)))
}

fn done(command: &mut Command) -> Value {
    let o = command.output().unwrap();
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    json(&o)
}

fn secret(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn keys_are_rotated_and_every_event_stays_readable() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    d.push("clinic_a", noise(1, 50, 40));
    let before = bytes_of(&dir.join("log"));
    let rotated = done(&mut verb("rekey", &dir, &["--json"]));
    assert_eq!((&rotated["kek_replaced"], &rotated["new_data_key"]), (&true.into(), &Value::Null));
    assert_eq!((&rotated["source"]["kind"], &rotated["bytes_written"]), (&"file".into(), &8192.into()));
    assert!(bytes_of(&dir.join("log")) == before, "the log is not rewritten");
    assert_eq!(done(&mut verb("rekey", &dir, &["--data", "--json"]))["new_data_key"], 2);
    assert!(bytes_of(&dir.join("log")) == before);
    d.push("clinic_a", noise(2, 50, 40));
    assert_eq!(d.payloads("clinic_a", "clinic_a"), [noise(1, 50, 40), noise(2, 50, 40)].concat());
    assert_clean(&dir, "after rekey");
    let keys = done(&mut list(&dir));
    assert_eq!((&keys["current"], &keys["generation"], &keys["unfinished"]), (&2.into(), &3.into(), &false.into()));
    assert_eq!(keys["keys"][0]["segments"], serde_json::json!([1]));
    assert_eq!((&keys["keys"][1]["current"], &keys["missing"]), (&true.into(), &serde_json::json!([])));
    let text = said(&ropeway(["key", "list", "--data-dir"]).arg(&dir).output().unwrap());
    assert!(text.contains("opened by  file keys/log.key, since 20") && text.contains("(current)"), "{text}");
}

#[test]
fn a_wrong_passphrase_changes_nothing_and_the_right_one_opens() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    d.push("clinic_a", noise(1, 20, 40));
    // Without a terminal and without a file there is nobody to ask, and nothing changes.
    let before = bytes_of(&dir);
    let o = verb("rekey", &dir, &["--to-passphrase"]).output().unwrap();
    assert!(o.status.code() == Some(1) && said(&o).contains("ROPEWAY_NEW_PASSPHRASE_FILE"), "{}", said(&o));
    let o = verb("rekey", &dir, &["--to-passphrase"]).env("ROPEWAY_NEW_PASSPHRASE", "short").output().unwrap();
    assert!(o.status.code() == Some(1) && said(&o).contains("R102"), "{}", said(&o));
    assert!(bytes_of(&dir) == before);

    let file = secret(d.root().join("new"), &format!("{OLD}\n"));
    let o = verb("rekey", &dir, &["--to-passphrase"]).env("ROPEWAY_NEW_PASSPHRASE_FILE", &file).output().unwrap();
    assert!(o.status.success() && said(&o).contains("removed"), "{}", said(&o));
    assert!(!dir.join("keys/log.key").exists());
    let before = bytes_of(&dir);
    let attempts: [(&str, &[&str]); 5] =
        [("push", &["--payload", "x"]), ("pull", &[]), ("status", &[]), ("verify", &[]), ("rekey", &["--data"])];
    for (v, more) in attempts {
        let o = verb(v, &dir, more).output().unwrap();
        assert!(o.status.code() == Some(1) && said(&o).contains("R201"), "{v}: {}", said(&o));
        let o = verb(v, &dir, more).env("ROPEWAY_PASSPHRASE", NEW).output().unwrap();
        assert!(o.status.code() == Some(1) && said(&o).contains("R204"), "{v}: {}", said(&o));
        assert!(said(&o).contains("not its passphrase") && !said(&o).contains(NEW), "{v}: {}", said(&o));
    }
    assert!(bytes_of(&dir) == before);

    let o = verb("push", &dir, &["--payload", "x"]).env("ROPEWAY_PASSPHRASE_FILE", &file).output().unwrap();
    assert!(o.status.success(), "{}", said(&o));
    // By a file descriptor.
    let mut child =
        verb("verify", &dir, &[]).env("ROPEWAY_PASSPHRASE_FILE", "/dev/fd/0").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(OLD.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let o = verb("verify", &dir, &[]).env("ROPEWAY_PASSPHRASE_FILE", &file).output().unwrap();
    assert!(said(&o).contains("R203"), "{}", said(&o));

    let mut change = verb("rekey", &dir, &["--json"]);
    let changed = done(change.env("ROPEWAY_PASSPHRASE", OLD).env("ROPEWAY_NEW_PASSPHRASE", NEW));
    assert_eq!(changed["source"]["kind"], "passphrase");
    assert_eq!(list(&dir).env("ROPEWAY_PASSPHRASE", OLD).output().unwrap().status.code(), Some(1));
    done(list(&dir).env("ROPEWAY_PASSPHRASE", NEW));
    done(verb("rekey", &dir, &["--to-file", "--json"]).env("ROPEWAY_PASSPHRASE", NEW));
    assert_eq!(d.payloads("clinic_a", "clinic_a").len(), 21);
}

#[test]
fn a_credential_of_the_service_manager_opens_it() {
    let d = Deployment::new(&["clinic_a"]);
    let (dir, lent) = (d.path("clinic_a"), d.root().join("credentials"));
    d.push("clinic_a", noise(1, 20, 40));
    fs::create_dir(&lent).unwrap();
    let with = |command: &mut Command| command.env("CREDENTIALS_DIRECTORY", &lent).output().unwrap();
    let o = verb("rekey", &dir, &["--to-credential"]).env_remove("CREDENTIALS_DIRECTORY").output().unwrap();
    assert!(said(&o).contains("R201") && said(&o).contains("CREDENTIALS_DIRECTORY"), "{}", said(&o));
    let o = with(&mut verb("rekey", &dir, &["--to-credential"]));
    assert!(said(&o).contains("R201"), "{}", said(&o));
    let (one, two) = ("1a".repeat(32), "2b".repeat(32));
    fs::write(lent.join("ropeway-key"), &one).unwrap();
    let o = with(&mut verb("rekey", &dir, &["--to-credential"]));
    assert!(o.status.success(), "{}", said(&o));
    assert!(!dir.join("keys/log.key").exists());
    // The same key is no new one; beside it a new one is.
    let o = with(&mut verb("rekey", &dir, &[]));
    assert!(o.status.code() == Some(1) && said(&o).contains("first line"), "{}", said(&o));
    fs::write(lent.join("ropeway-key"), format!("{two}\n{one}\n")).unwrap();
    let o = with(&mut verb("rekey", &dir, &[]));
    assert!(o.status.success(), "{}", said(&o));
    fs::write(lent.join("ropeway-key"), &one).unwrap();
    assert!(said(&with(&mut verb("verify", &dir, &[]))).contains("R204"));
    fs::write(lent.join("ropeway-key"), &two).unwrap();
    assert_eq!(with(&mut verb("verify", &dir, &[])).status.code(), Some(0));
    let o = verb("verify", &dir, &[]).env_remove("CREDENTIALS_DIRECTORY").output().unwrap();
    assert!(said(&o).contains("R201"), "{}", said(&o));
}

#[test]
fn a_hub_at_work_is_not_rekeyed_and_goes_on_under_the_new_key_later() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = Hub::start(&d.path("hub"), "at first");
    let before = bytes_of(&d.path("hub").join("keys"));
    let o = verb("rekey", &d.path("hub"), &["--data"]).output().unwrap();
    assert_eq!(o.status.code(), Some(5), "{}", said(&o));
    assert!(said(&o).contains("R301") && said(&o).contains("end it first"), "{}", said(&o));
    assert!(bytes_of(&d.path("hub").join("keys")) == before);
    done(&mut list(&d.path("hub")));
    d.push("clinic_a", noise(1, 30, 40));
    let sync = |hub: &Hub| verb("sync", &d.path("clinic_a"), &["--hub", &hub.address]).output().unwrap();
    assert!(sync(&hub).status.success());
    assert_eq!(hub.terminate(), Some(0));
    done(&mut verb("rekey", &d.path("hub"), &["--data", "--json"]));
    done(&mut verb("rekey", &d.path("hub"), &["--json"]));
    let hub = Hub::start(&d.path("hub"), "after rekey");
    d.push("clinic_a", noise(2, 30, 40));
    assert!(sync(&hub).status.success());
    assert_eq!(d.payloads("hub", "clinic_a"), [noise(1, 30, 40), noise(2, 30, 40)].concat());
    let keys = done(&mut list(&d.path("hub")));
    assert!(keys["keys"].as_array().unwrap().iter().all(|k| k["segments"] == serde_json::json!([1])), "{keys}");
}

#[test]
fn a_rekey_on_a_full_disk_leaves_the_old_keyring() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    d.push("clinic_a", noise(1, 20, 40));
    // No file may grow past its first blocks: the slot is refused, wherever it is.
    let limited = |more: &[&str]| {
        let script = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program()).args(["rekey", "--data-dir"]).arg(&dir).args(more);
        command.stdin(Stdio::null()).output().unwrap()
    };
    for more in [&["--data"][..], &[], &["--to-file", "--data"]] {
        let o = limited(more);
        assert_eq!(o.status.code(), Some(1), "{}", said(&o));
        assert_eq!(d.payloads("clinic_a", "clinic_a"), noise(1, 20, 40));
        let keys = done(&mut list(&dir));
        assert_eq!((&keys["generation"], &keys["current"]), (&1.into(), &1.into()));
    }
    assert_eq!(done(&mut verb("rekey", &dir, &["--json"]))["generation"], 2);

    // A real one, where the system lets us make it.
    let Some(disk) = SmallDisk::mount(&d.root().join("card"), 1 << 20) else { return };
    let dir = disk.0.join("clinic_b");
    ropeway_std::keygen::init_node(&ropeway_std::DataDir::new(&dir), ropeway_tests::name("clinic_b")).unwrap();
    let mut rest = fs::File::create(disk.0.join("rest")).unwrap();
    while rest.write_all(&[1; 4096]).is_ok() {}
    let before = bytes_of(&dir);
    let o = verb("rekey", &dir, &[]).output().unwrap();
    assert!(o.status.code() == Some(1) && said(&o).contains("R307"), "{}", said(&o));
    assert!(bytes_of(&dir) == before);
    done(&mut list(&dir));
}

#[test]
fn a_kill_at_any_moment_of_a_rekey_leaves_a_directory_that_opens() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    d.push("clinic_a", noise(1, 20, 40));
    for round in 0..60u64 {
        let mut child = verb("rekey", &dir, &["--to-file", "--data"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(round * 311 % 12_000));
        let _ = child.kill();
        child.wait().unwrap();
        let keys = done(&mut list(&dir));
        assert!(keys["keys"].as_array().unwrap().len() <= 2 + round as usize, "{keys}");
    }
    assert_eq!(d.payloads("clinic_a", "clinic_a"), noise(1, 20, 40));
}
