//! push, pull, sync, status and verify of the built command, on real directories.
// clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

struct Dir(tempfile::TempDir);

impl Dir {
    /// A directory with an unsigned clinic in `a`.
    fn new() -> Self {
        let dir = Dir(tempfile::tempdir().unwrap());
        assert_eq!(dir.run(&["keygen", "a", "--node", "clinic_a"]).status.code(), Some(0));
        dir
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ropeway"));
        command.current_dir(self.path()).args(args).stdin(Stdio::null());
        for name in ["RUST_LOG", "CLICOLOR_FORCE", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// A verb that must succeed and prints one object.
    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}{}", out(&output), err(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn with_stdin(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self.spawn(args);
        // The command may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn pull(&self) -> Vec<Value> {
        let output = self.run(&["pull", "--data-dir", "a"]);
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
        rows(&output)
    }

    /// The log's files and their contents.
    fn log(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.path().join("a/log")).unwrap().map(|e| e.unwrap().path());
        let mut files: Vec<_> = entries.map(|p| (p.clone(), fs::read(p).unwrap())).collect();
        files.sort();
        files
    }

    fn flip_a_bit(&self, segment: &str, at: u64) {
        let path = self.path().join("a/log").join(segment);
        let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[byte[0] ^ 4]).unwrap();
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    out(output).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// NDJSON that does not compress to nothing, about 180 bytes a line.
fn ndjson(lines: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for i in 0..lines as u64 {
        let noise = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(all, r#"{{"i":{i},"noise":"{noise:016x}","text":"{}"}}"#, "y".repeat(100 + (i % 97) as usize))
            .unwrap();
    }
    all
}

#[test]
fn what_is_pushed_is_pulled_byte_for_byte() {
    let dir = Dir::new();
    let pushed = dir.run(&["push", "--data-dir", "a", "--payload", r#"{ "patient":  "དཀར", "n": 1.0 }"#]);
    assert_eq!(out(&pushed), "pushed 1 event (normal lane, seq 1), durable\n");
    let binary: Vec<u8> = (0..=255).collect();
    let pushed = dir.with_stdin(&["push", "--data-dir", "a", "--stdin", "--kind", "7"], &binary);
    assert_eq!(pushed.status.code(), Some(0), "{}", err(&pushed));
    let long = "x".repeat(200_000);
    let lines = format!("\n{{\"a\":1}}\r\n\n  spaces  \n{long}\nno line end");
    let pushed = dir.with_stdin(&["push", "--data-dir", "a", "--ndjson", "-", "--json"], lines.as_bytes());
    let pushed: Value = serde_json::from_slice(&pushed.stdout).unwrap();
    assert_eq!((&pushed["pushed"], &pushed["first_seq"], &pushed["last_seq"]), (&4.into(), &3.into(), &6.into()));
    assert_eq!((&pushed["skipped_empty"], &pushed["lane"]), (&2.into(), &"normal".into()));
    let pushed = dir.run(&["push", "--data-dir", "a", "--payload", "", "--lane", "urgent"]);
    assert_eq!(out(&pushed), "pushed 1 event (urgent lane, seq 1), durable\n");

    let all = dir.pull();
    assert_eq!(all.len(), 7);
    let payload = |i: usize| all[i]["payload"].as_str().unwrap();
    assert_eq!(payload(0), r#"{ "patient":  "དཀར", "n": 1.0 }"#);
    assert_eq!((&all[1]["payload"], &all[1]["kind"]), (&Value::Null, &7.into()));
    assert!(all[1]["payload_base64"].as_str().unwrap().starts_with("AAECAwQF"));
    assert_eq!(
        (payload(2), payload(3), payload(4).len(), payload(5)),
        ("{\"a\":1}\r", "  spaces  ", 200_000, "no line end")
    );
    assert_eq!((payload(6), &all[6]["lane"]), ("", &"urgent".into()));
    assert_eq!((&all[0]["node"], &all[0]["seq"], &all[0]["flags"]), (&"clinic_a".into(), &1.into(), &Value::Null));

    let raw = dir.run(&["pull", "--data-dir", "a", "--raw", "--from", "2", "--lane", "normal"]);
    let mut expected = binary;
    expected.extend_from_slice(format!("\n{{\"a\":1}}\r\n  spaces  \n{long}\nno line end\n").as_bytes());
    assert_eq!(raw.stdout, expected);
    assert_eq!(dir.run(&["pull", "--data-dir", "a", "--node", "clinic_b"]).stdout, b"");
}

#[test]
fn an_event_over_the_limit_is_refused_and_what_came_before_it_is_kept() {
    let dir = Dir::new();
    let mut lines = b"one\ntwo\n".to_vec();
    lines.extend_from_slice("x".repeat(300_000).as_bytes());
    lines.extend_from_slice(b"\nfour\n");
    fs::write(dir.path().join("in"), &lines).unwrap();
    let pushed = dir.run(&["push", "--data-dir", "a", "--ndjson", "in"]);
    assert_eq!(pushed.status.code(), Some(1));
    assert_eq!(out(&pushed), "pushed 2 events (normal lane, seq 1..2), durable\n");
    assert!(
        err(&pushed).starts_with("error: R311 too large: line 3 of in has more than 262144 bytes"),
        "{}",
        err(&pushed)
    );
    let pushed = dir.run(&["push", "--data-dir", "a", "--ndjson", "in", "--json"]);
    assert_eq!((pushed.status.code(), err(&pushed).as_str()), (Some(1), ""));
    let pushed: Value = serde_json::from_slice(&pushed.stdout).unwrap();
    assert_eq!((&pushed["pushed"], &pushed["error"]["code"]), (&2.into(), &"R311".into()));
    let most = vec![b'z'; 262_144];
    assert_eq!(dir.with_stdin(&["push", "--data-dir", "a", "--stdin"], &most).status.code(), Some(0));
    let over = vec![b'z'; 262_145];
    assert_eq!(dir.with_stdin(&["push", "--data-dir", "a", "--stdin"], &over).status.code(), Some(1));
    assert_eq!(dir.pull().len(), 5);
}

#[test]
fn a_log_grows_over_many_openings() {
    let dir = Dir::new();
    for i in 1..=30 {
        let pushed = dir.json(&["push", "--json", "--data-dir", "a", "--payload", &format!("event {i}")]);
        assert_eq!(pushed["first_seq"], i);
    }
    let all = dir.pull();
    let expected: Vec<String> = (1..=30).map(|i| format!("event {i}")).collect();
    assert!(all.iter().map(|r| r["payload"].as_str().unwrap()).eq(expected.iter().map(String::as_str)));
    assert!(all.iter().all(|r| r["incarnation"] == all[0]["incarnation"]), "one life of the log");
    let status = dir.json(&["status", "--json", "--data-dir", "a"]);
    let numbers = ["events", "acknowledged", "waiting"].map(|k| status[k].as_u64().unwrap());
    assert_eq!(numbers, [30, 0, 30]);
    assert_eq!(
        (&status["signed"], &status["locked_by"], &status["role"]),
        (&false.into(), &Value::Null, &"clinic".into())
    );
    assert_eq!(status["streams"].as_array().unwrap().len(), 1);
    let text = out(&dir.run(&["status", "--data-dir", "a"]));
    assert!(text.contains("clinic_a (clinic, not signed yet)") && text.contains("30 waiting"), "{text}");
}

#[test]
fn a_log_of_several_segments_is_verified_and_a_rotten_bit_costs_its_own_group_only() {
    let dir = Dir::new();
    let lines = ndjson(150_000);
    assert!(lines.len() > 28_000_000);
    fs::write(dir.path().join("in"), &lines).unwrap();
    let pushed = dir.json(&["push", "--json", "--data-dir", "a", "--ndjson", "in"]);
    assert_eq!(pushed["pushed"], 150_000);
    let segments = dir.log().len();
    assert!(segments >= 4, "{segments} files");
    let verified = dir.json(&["verify", "--json", "--data-dir", "a"]);
    assert_eq!((&verified["clean"], &verified["events"]), (&true.into(), &150_000.into()));
    let text = out(&dir.run(&["verify", "--data-dir", "a"]));
    assert!(text.starts_with("verified 150000 events in ") && text.ends_with(": clean\n"), "{text}");
    let raw = dir.run(&["pull", "--data-dir", "a", "--raw"]);
    assert!(raw.stdout == lines, "pulled what was pushed");

    let before = dir.log();
    let (path, bytes) = before.iter().find(|(path, _)| path.extension().is_some_and(|e| e == "sealed")).unwrap();
    dir.flip_a_bit(path.file_name().unwrap().to_str().unwrap(), bytes.len() as u64 / 3);
    let verified = dir.run(&["verify", "--data-dir", "a", "--json"]);
    assert_eq!(verified.status.code(), Some(3), "{}", out(&verified));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((&verified["clean"], &verified["damages"][0]["code"]), (&false.into(), &"R302".into()));
    assert_eq!(verified["damages"].as_array().unwrap().len(), 1, "{verified}");
    let missing = &verified["missing"][0];
    let (from, to) = (missing["from"].as_u64().unwrap(), missing["to"].as_u64().unwrap());
    assert_eq!(verified["events"].as_u64().unwrap() + (to + 1 - from), 150_000);
    assert!(to - from < 10_000, "{missing}");
    let raw = dir.run(&["pull", "--data-dir", "a", "--raw"]);
    let all: Vec<&[u8]> = lines.split_inclusive(|b| *b == b'\n').collect();
    let kept = [&all[..from as usize - 1], &all[to as usize..]].concat().concat();
    assert!(raw.stdout == kept, "everything else is still there");
    assert_eq!(raw.status.code(), Some(3));
    let warning = format!("warning: R302 corrupt: events {from} to {to} of clinic_a/");
    assert!(err(&raw).starts_with(&warning), "{}", err(&raw));

    // The checkpoint has gone, so that the next start sees what is missing; writing goes on behind it.
    let of = |log: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> { log.into_iter().map(|(path, _)| path).collect() };
    let is_segment = |path: &std::path::PathBuf| path.to_string_lossy().contains("seg-");
    assert_eq!(of(dir.log()), of(before).into_iter().filter(is_segment).collect::<Vec<_>>());
    let more = dir.json(&["push", "--json", "--data-dir", "a", "--payload", "behind it"]);
    assert_eq!(more["first_seq"], 150_001);
    let status = dir.json(&["status", "--json", "--data-dir", "a"]);
    assert_eq!(status["streams"][0]["gap"], serde_json::json!([from, to]));
}

#[test]
fn a_torn_tail_is_no_damage() {
    let dir = Dir::new();
    dir.json(&["push", "--json", "--data-dir", "a", "--payload", "kept"]);
    let (path, bytes) = dir.log().remove(0);
    // The next group, of which only the beginning reached the disk.
    let used = bytes.chunks(4096).take_while(|page| page.iter().any(|b| *b != 0)).count();
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(used as u64 * 4096)).unwrap();
    file.write_all(&bytes[4096..4096 + 50]).unwrap();
    drop(file);
    let verified = dir.run(&["verify", "--data-dir", "a"]);
    assert_eq!(verified.status.code(), Some(0));
    assert!(out(&verified).contains("R312 torn tail: segment 1, page 2"), "{}", out(&verified));
    assert_eq!(dir.json(&["push", "--json", "--data-dir", "a", "--payload", "next"])["first_seq"], 2);
    assert_eq!(dir.pull().len(), 2);
    assert_eq!(fs::read_dir(dir.path().join("a/quarantine")).unwrap().count(), 1);
}

#[test]
fn a_wrong_key_changes_nothing() {
    let dir = Dir::new();
    dir.json(&["push", "--json", "--data-dir", "a", "--payload", "secret"]);
    let key = dir.path().join("a/keys/log.key");
    let right = fs::read(&key).unwrap();
    // Another digit in the first place, whichever was drawn.
    let mut wrong = right.clone();
    wrong[0] = if right[0] == b'0' { b'1' } else { b'0' };
    assert_ne!(right, wrong);
    fs::write(&key, &wrong).unwrap();
    let before = dir.log();
    for verb in
        [&["push", "--payload", "x"][..], &["pull"], &["status"], &["verify"], &["sync", "--hub", "127.0.0.1:1"]]
    {
        let refused = dir.run(&[verb, &["--data-dir", "a"]].concat());
        assert_eq!(refused.status.code(), Some(1), "{verb:?}");
        assert!(err(&refused).starts_with("error: R204 wrong key: "), "{}", err(&refused));
    }
    assert!(dir.log() == before, "not a byte was changed");
    fs::write(&key, &right).unwrap();
    assert_eq!(dir.pull().len(), 1);
}

#[test]
fn one_process_writes_and_others_read_beside_it() {
    let dir = Dir::new();
    let mut writer = dir.spawn(&["push", "--data-dir", "a", "--ndjson", "-"]);
    let mut input = writer.stdin.take().unwrap();
    input.write_all(b"one\ntwo\n").unwrap();
    // The writer commits when its input pauses.
    let start = Instant::now();
    while dir.pull().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing to be seen of what was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    let locked = dir.run(&["push", "--data-dir", "a", "--payload", "x"]);
    assert_eq!(locked.status.code(), Some(5));
    let expected = format!("error: R301 locked: a: process {} works on it", writer.id());
    assert!(err(&locked).starts_with(&expected), "{}", err(&locked));
    assert_eq!(dir.json(&["status", "--json", "--data-dir", "a"])["locked_by"], writer.id());

    // Whole groups, one after another, while a reader looks again and again.
    let lines = ndjson(60_000);
    let feeder = std::thread::spawn(move || {
        for piece in lines.chunks(400_000) {
            input.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    while !feeder.is_finished() {
        let seqs: Vec<u64> = dir.pull().iter().map(|r| r["seq"].as_u64().unwrap()).collect();
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64));
    }
    feeder.join().unwrap();
    let done = writer.wait_with_output().unwrap();
    assert_eq!(out(&done), "pushed 60002 events (normal lane, seq 1..60002), durable\n");
    assert_eq!(dir.pull().len(), 60_002);
}

#[test]
fn a_push_waits_for_a_short_one_to_end() {
    let dir = Dir::new();
    let mut first = dir.spawn(&["push", "--data-dir", "a", "--ndjson", "-"]);
    let mut input = first.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    let second = dir.spawn(&["push", "--data-dir", "a", "--payload", "two"]);
    std::thread::sleep(Duration::from_millis(300));
    drop(input);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    let second = second.wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(0), "{}", err(&second));
    assert_eq!(dir.pull().len(), 2);
}

#[test]
fn follow_prints_what_comes_until_it_is_interrupted() {
    let dir = Dir::new();
    dir.json(&["push", "--json", "--data-dir", "a", "--payload", "one"]);
    let mut follower = dir.spawn(&["pull", "--data-dir", "a", "--raw", "--follow"]);
    let mut printed = follower.stdout.take().unwrap();
    let mut line = [0; 4];
    printed.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"one\n");
    dir.json(&["push", "--json", "--data-dir", "a", "--payload", "two"]);
    printed.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"two\n");
    let pid = rustix::process::Pid::from_raw(follower.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    assert_eq!(printed.read(&mut line).unwrap(), 0);
}

#[test]
fn a_sync_that_does_not_come_through_says_how_far_it_came_and_exits_with_4() {
    let dir = Dir::new();
    dir.json(&["push", "--json", "--data-dir", "a", "--payload", "one"]);
    let unsigned = dir.run(&["sync", "--data-dir", "a", "--hub", "127.0.0.1:1", "--json"]);
    assert_eq!(unsigned.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&unsigned.stdout).unwrap();
    assert_eq!((&object["error"]["code"], &object["complete"]), (&"R205".into(), &false.into()));
    assert_eq!(dir.run(&["keygen", "hub", "--hub"]).status.code(), Some(0));
    assert_eq!(dir.run(&["sign", "a/tls/node.csr", "--ca", "hub"]).status.code(), Some(0));

    let refused = dir.run(&["sync", "--data-dir", "a", "--hub", "127.0.0.1:1"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        out(&refused).starts_with("sync with 127.0.0.1:1 is incomplete: 0 events sent, 0 ack"),
        "{}",
        out(&refused)
    );
    assert!(err(&refused).starts_with("error: R501 unreachable: 127.0.0.1:1: "), "{}", err(&refused));

    // A hub that takes the connection and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let start = Instant::now();
    let timed_out = dir.run(&["sync", "--data-dir", "a", "--hub", &address, "--timeout-s", "1", "--json"]);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!((timed_out.status.code(), err(&timed_out).as_str()), (Some(4), ""));
    let object: Value = serde_json::from_slice(&timed_out.stdout).unwrap();
    assert_eq!(
        (&object["error"]["code"], &object["complete"], &object["sent"]),
        (&"R503".into(), &false.into(), &0.into())
    );
    assert!(object["wire_bytes_up"].as_u64().unwrap() > 100 && object["seconds"].as_f64().unwrap() >= 1.0);
}
