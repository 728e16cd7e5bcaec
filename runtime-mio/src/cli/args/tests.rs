use clap::CommandFactory;
use clap::error::ErrorKind;
use ropeway_core::id::{Lane, NodeName};

use super::*;
use crate::cli::error::Exit;
use crate::cli::value::Input;

/// Splits as a shell would: at spaces outside of single quotes, up to a comment, pipe or redirection.
fn words(line: &str) -> Vec<OsString> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '#' | '|' | '<' | '>' if !quoted => break,
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words.into_iter().map(OsString::from).collect()
}

fn ok(line: &str) -> Cli {
    try_parse(words(&format!("ropeway {line}"))).unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn error(line: &str) -> UsageError {
    match parse(words(&format!("ropeway {line}"))) {
        Ok(cli) => panic!("{line} was taken: {cli:?}"),
        Err(e) => e,
    }
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

#[test]
fn clap_finds_no_mistake_in_the_definition() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_ends_its_help_with_examples_that_parse() {
    let command = Cli::command();
    for verb in command.get_subcommands() {
        let help = verb.get_after_help().unwrap_or_else(|| panic!("{} has no examples", verb.get_name())).to_string();
        assert!(help.contains(&format!("ropeway {} ", verb.get_name())) || verb.get_name() == "demo");
        assert!(verb.get_about().is_some());
    }
    for line in examples::ALL.iter().flat_map(|text| text.lines()).filter(|line| line.contains("ropeway ")) {
        let line = &line[line.find("ropeway ").unwrap()..];
        try_parse(words(line)).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    assert!(command.get_after_help().unwrap().to_string().contains("Exit codes"));
}

#[test]
fn keygen_and_sign() {
    let keygen = |line: &str| match ok(line).command {
        Command::Keygen(args) => args,
        other => panic!("{other:?}"),
    };
    let made = |node| KeygenArgs { dir: "d".into(), node };
    assert_eq!(keygen("keygen d --hub"), made(NewNode::Hub(name("hub"))));
    assert_eq!(keygen("keygen d --hub --name thimphu"), made(NewNode::Hub(name("thimphu"))));
    assert_eq!(keygen("keygen d --node clinic_a"), made(NewNode::Clinic(name("clinic_a"))));

    let sign = |line: &str| match ok(line).command {
        Command::Sign(args) => args,
        other => panic!("{other:?}"),
    };
    let plain = SignArgs { csr: "d/tls/node.csr".into(), ca_dir: "hub".into(), role: Role::Clinic, replace: false };
    assert_eq!(sign("sign d/tls/node.csr --ca hub"), plain);
    let other = SignArgs { role: Role::Hub, replace: true, ..plain };
    assert_eq!(sign("sign d/tls/node.csr --ca hub --role hub --replace"), other);
}

#[test]
fn serve_and_sync() {
    let Command::Serve(serve) = ok("serve --data-dir d --bind 0.0.0.0:7700").command else { panic!() };
    let plain = ServeArgs {
        data_dir: "d".into(),
        bind: "0.0.0.0:7700".parse().unwrap(),
        policy: Policy::Own,
        max_sessions: 256,
        scrub: ScrubRate::Monthly,
        model_states: 5,
        early_data: false,
        max_event: None,
        refuse_kind: Vec::new(),
    };
    assert_eq!(serve, plain);
    let Command::Serve(serve) = ok("serve --data-dir d --bind [::]:0 --max-event 100KiB").command else { panic!() };
    assert_eq!(serve.max_event, Some(100 << 10));
    let Command::Serve(serve) = ok("serve --data-dir d --bind [::]:0 --refuse-kind 7,9 --refuse-kind 0").command else {
        panic!()
    };
    assert_eq!(serve.refuse_kind, [7, 9, 0]);
    let Command::Serve(serve) = ok("serve --data-dir d --bind [::]:0 --policy all --max-sessions 9").command else {
        panic!()
    };
    let other = ServeArgs { bind: "[::]:0".parse().unwrap(), policy: Policy::All, max_sessions: 9, ..plain };
    assert_eq!(serve, other);
    let Command::Serve(serve) = ok("serve --data-dir d --bind [::]:0 --scrub 2M").command else { panic!() };
    assert_eq!(serve.scrub, ScrubRate::BytesPerS(2 << 20));
    let Command::Serve(serve) = ok("serve --data-dir d --bind [::]:0 --early-data").command else { panic!() };
    assert!(serve.early_data);

    let Command::Sync(sync) = ok("sync --data-dir d --hub hub.example:7700 --timeout-s 90").command else { panic!() };
    assert_eq!((sync.hub.as_str(), sync.timeout_s), ("hub.example:7700", Some(90)));
    let Command::Sync(sync) = ok("sync --data-dir d --hub 10.0.0.1:7700").command else { panic!() };
    assert_eq!((sync.timeout_s, sync.dry_run, sync.budget.budget().unwrap()), (None, false, Default::default()));
    assert_eq!(sync.options().model_states, 1);
    let Command::Sync(sync) = ok("sync --data-dir d --hub h:1 --model-states 0").command else { panic!() };
    assert_eq!(sync.options().model_states, 0);
    let line = "sync --data-dir d --hub 10.0.0.1:7700 --max-bytes 20K --budget 5M --urgent-overdraft 1K --rate 2K \
                --window 22:00-24:00 --window 00:00-05:30 --dry-run";
    let Command::Sync(sync) = ok(line).command else { panic!() };
    let b = sync.budget.budget().unwrap();
    assert_eq!((b.session_bytes, b.day_bytes, b.urgent_bytes), (Some(20 << 10), Some(5 << 20), 1024));
    assert_eq!((b.bytes_per_s, b.windows.to_string()), (Some(2048), "22:00-24:00, 00:00-05:30".to_owned()));
    assert!(sync.dry_run);
    assert_eq!(error("sync --data-dir d --hub h:1 --urgent-overdraft 1K").exit(), Exit::Usage);
    let Command::Sync(sync) = ok("sync --data-dir d --hub h:1 --keep --early-data").command else { panic!() };
    assert!(sync.keep && sync.early_data);
    assert_eq!(error("sync --data-dir d --hub h:1 --early-data").exit(), Exit::Usage);
}

#[test]
fn push_takes_one_source() {
    let push = |line: &str| match ok(&format!("push --data-dir d {line}")).command {
        Command::Push(args) => args,
        other => panic!("{other:?}"),
    };
    let payload = |text: &str| Source::Payload(text.into());
    let plain = PushArgs { data_dir: "d".into(), source: payload("{\"a\": 1}"), lane: Lane::Normal, kind: 0 };
    assert_eq!(push("--payload '{\"a\": 1}'"), plain);
    assert_eq!(push("--payload ''").source, payload(""));
    assert_eq!(push("--payload '-5'").source, payload("-5"));
    assert_eq!(push("--ndjson e.ndjson").source, Source::Ndjson(Input::File("e.ndjson".into())));
    assert_eq!(push("--ndjson -").source, Source::Ndjson(Input::Stdin));
    let urgent = push("--stdin --lane urgent --kind 65535");
    assert_eq!((urgent.source, urgent.lane, urgent.kind), (Source::Stdin, Lane::Urgent, 65_535));
}

#[test]
fn pull_status_verify_and_completions() {
    let Command::Pull(pull) = ok("pull --data-dir d").command else { panic!() };
    let plain = PullArgs {
        data_dir: "d".into(),
        filter: FilterArgs { from_seq: 1, ..FilterArgs::default() },
        raw: false,
        follow: false,
    };
    assert_eq!(pull, plain);
    let line = "pull --data-dir d --node clinic_a --node b,c --from 7 --lane bulk,urgent --kind 3,9 --kind 1 \
                --since 1970-01-02 --until 1970-01-02T00:00:01Z --raw --follow";
    let Command::Pull(pull) = ok(line).command else { panic!() };
    let filter = FilterArgs {
        node: vec![name("clinic_a"), name("b"), name("c")],
        lane: vec![Lane::Bulk, Lane::Urgent],
        kind: vec![3, 9, 1],
        since: Some(86_400_000),
        until: Some(86_401_000),
        from_seq: 7,
    };
    assert_eq!(pull, PullArgs { filter, raw: true, follow: true, ..plain });
    assert!(matches!(ok("status --data-dir d").command, Command::Status(_)));
    assert!(matches!(ok("verify --data-dir d").command, Command::Verify(VerifyArgs { quick: false, .. })));
    assert!(matches!(ok("verify --data-dir d --quick").command, Command::Verify(VerifyArgs { quick: true, .. })));
    assert!(matches!(ok("completions zsh").command, Command::Completions(_)));
}

#[test]
fn rekey_has_one_place_for_the_key() {
    let rekey = |line: &str| match ok(&format!("rekey --data-dir d {line}")).command {
        Command::Rekey(args) => args,
        other => panic!("{other:?}"),
    };
    let plain =
        RekeyArgs { data_dir: "d".into(), data: false, to_passphrase: false, to_file: None, to_credential: false };
    assert_eq!(rekey(""), plain);
    assert_eq!(rekey("--data"), RekeyArgs { data: true, ..plain.clone() });
    assert_eq!(rekey("--to-file --data"), RekeyArgs { data: true, to_file: Some(None), ..plain.clone() });
    assert_eq!(rekey("--to-file k"), RekeyArgs { to_file: Some(Some("k".into())), ..plain.clone() });
    assert_eq!(rekey("--to-credential"), RekeyArgs { to_credential: true, ..plain.clone() });
    assert_eq!(rekey("--to-passphrase"), RekeyArgs { to_passphrase: true, ..plain });
    assert!(matches!(ok("key list --data-dir d").command, Command::Key(_)));
    for line in ["rekey --data-dir d --to-passphrase --to-credential", "rekey --data-dir d --to-file --to-passphrase"] {
        assert!(error(line).to_string().contains("cannot be used with"), "{line}");
    }
    assert_eq!(error("key").exit(), Exit::Usage);
}

#[test]
fn audit_snapshot_and_restore() {
    let Command::Audit(audit) = ok("audit --data-dir d --kind 4 --heads").command else { panic!() };
    assert!(audit.heads && audit.check_head.is_empty() && audit.filter.kind == [4]);
    let Command::Audit(audit) = ok("audit --data-dir d --check-head a --check-head b").command else { panic!() };
    assert_eq!(audit.check_head, ["a", "b"]);
    let Command::Snapshot(snapshot) = ok("snapshot s --data-dir d").command else { panic!() };
    assert_eq!(snapshot, SnapshotArgs { dest: "s".into(), data_dir: "d".into(), with_key: false });
    let Command::Restore(restore) = ok("restore s --dir d").command else { panic!() };
    let plain = RestoreArgs { snapshot: "s".into(), dir: "d".into(), keys: None, identity: None };
    assert_eq!(restore, plain);
    let Command::Restore(restore) = ok("restore s --data-dir d --keys k --identity i").command else { panic!() };
    assert_eq!(restore, RestoreArgs { keys: Some("k".into()), identity: Some("i".into()), ..plain });
}

#[test]
fn demo_needs_nothing_and_the_last_of_cut_and_no_cut_counts() {
    let demo = |line: &str| match ok(line).command {
        Command::Demo(args) => args,
        other => panic!("{other:?}"),
    };
    let plain = demo("demo");
    assert_eq!((plain.clinics, plain.events, plain.profile.name, plain.seed), (3, 5_000, "bhutan-2g", 1));
    assert_eq!((plain.speed, plain.keep.as_ref()), (4.0, None));
    assert!(plain.cut());
    for (line, cut) in [("--cut", true), ("--no-cut", false), ("--no-cut --cut", true), ("--cut --no-cut", false)] {
        assert_eq!(demo(&format!("demo {line}")).cut(), cut, "{line}");
    }
    let other = demo("demo --clinics 5 --events 10 --profile lan --speed 2.5 --seed 7");
    assert_eq!((other.clinics, other.events, other.profile.name, other.speed), (5, 10, "lan", 2.5));
    assert_eq!(other.seed, 7);
}

#[test]
fn global_options_stand_anywhere() {
    for line in ["--json -q -vv status --data-dir d", "status --data-dir d --json --quiet -v -v"] {
        assert_eq!(ok(line).global, GlobalArgs { json: true, quiet: true, verbose: 2 }, "{line}");
    }
    for verb in Cli::command().get_subcommands_mut() {
        let line = format!("{} --json --help", verb.get_name());
        assert_eq!(error(&line).exit(), Exit::Done, "{line}");
    }
}

#[test]
fn each_misuse_is_named() {
    let rows = [
        ("fly", "fly"),
        ("keygen", "<DIR>"),
        ("keygen d", "--hub"),
        ("keygen d --hub --node a", "--node <NAME>"),
        ("keygen d --node a --name b", "--name <NAME>"),
        ("keygen d --node 'a b'", "R101 bad name"),
        ("keygen d --node", "--node <NAME>"),
        ("sign --ca hub", "<CSR>"),
        ("sign d/tls/node.csr", "--ca <HUBDIR>"),
        ("sign x --ca hub --role king", "choose one of clinic, hub"),
        ("serve --data-dir d", "--bind <ADDR>"),
        ("serve --bind 0.0.0.0:7700", "--data-dir <DIR>"),
        ("serve --data-dir d --bind 7700", "R507 bad address"),
        ("serve --data-dir d --bind 0.0.0.0:7700 --policy some", "choose one of own, all"),
        ("serve --data-dir d --bind 0.0.0.0:7700 --max-sessions 0", "1..=10000"),
        ("push --data-dir d", "--payload <TEXT>"),
        ("push --payload x", "--data-dir <DIR>"),
        ("push --data-dir d --payload x --stdin", "cannot be used with"),
        ("push --data-dir d --payload x --ndjson y", "cannot be used with"),
        ("push --data-dir d --ndjson - --stdin", "cannot be used with"),
        ("push --data-dir d --payload x --lane fast", "choose one of urgent, normal, bulk"),
        ("push --data-dir d --payload x --kind 65536", "65536"),
        ("sync --data-dir d", "--hub <ADDR>"),
        ("sync --data-dir d --hub hub", "R507 bad address: there is no port"),
        ("sync --data-dir d --hub h:1 --timeout-s 0", "--timeout-s <N>"),
        ("pull --data-dir d --from 0", "--from <SEQ>"),
        ("pull --data-dir d --raw --json", "cannot be used with"),
        ("pull --data-dir d --since yesterday", "R102 bad argument: it is no time"),
        ("pull --data-dir d --kind x", "--kind <N>"),
        ("audit --data-dir d --heads --check-head x", "cannot be used with"),
        ("snapshot --data-dir d", "<DEST>"),
        ("restore s", "--dir <DIR>"),
        ("status", "--data-dir <DIR>"),
        ("verify", "--data-dir <DIR>"),
        ("completions tcsh", "tcsh"),
        ("demo --profile 5g", "choose one of bhutan-2g, edge, satellite, lan"),
        ("demo --clinics 0", "--clinics <N>"),
        ("demo --speed 0", "R102 bad argument: it is not a number"),
        ("", "Usage"),
    ];
    for (line, says) in rows {
        let e = error(line);
        assert!(e.to_string().contains(says), "{line}: {e}");
        assert_eq!(e.exit(), Exit::Usage, "{line}");
    }
}

#[test]
fn a_bad_value_comes_with_its_hint() {
    let e = error("keygen d --node 'a/b'").to_string();
    let start = "error: invalid value 'a/b' for '--node <NAME>': R101 bad name: A node name uses";
    assert!(e.starts_with(start) && e.contains("\n  hint: Use 1 to 48 of"), "{e}");
}

#[test]
fn usage_errors_are_objects_with_json_and_help_is_not() {
    let object = |line: &str| -> serde_json::Value {
        let text = error(line).to_json().unwrap();
        assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let e = object("keygen d --node 'a/b' --json");
    assert_eq!((e["error"]["code"].as_str(), e["error"]["name"].as_str()), (Some("R101"), Some("bad name")));
    assert!(e["error"]["message"].as_str().unwrap().starts_with("--node <NAME>: A node name"), "{e}");
    assert!(e["error"]["hint"].as_str().unwrap().starts_with("Use 1 to 48"), "{e}");
    let e = object("--json push --data-dir d");
    assert_eq!(e["error"]["code"], "R102");
    assert!(e["error"]["message"].as_str().unwrap().contains("--ndjson <FILE>"), "{e}");
    assert_eq!(object("pull --data-dir d --raw --json")["error"]["code"], "R102");
    object("--json");

    assert_eq!(error("push").to_json(), None);
    assert_eq!(error("push --json --help").to_json(), None);
    assert_eq!(error("--version").error_kind(), ErrorKind::DisplayVersion);
}

#[test]
fn policy_all_is_warned_of() {
    use std::sync::mpsc;

    struct Sent(mpsc::Sender<u8>);
    impl std::io::Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            bytes.iter().for_each(|b| self.0.send(*b).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for (policy, warned) in [("own", false), ("all", true)] {
        let line = format!("serve --data-dir d --bind 127.0.0.1:0 --policy {policy} --quiet --json");
        let Command::Serve(args) = ok(&line).command else { panic!() };
        let (sender, receiver) = mpsc::channel();
        args.warn(&mut Output::to(true, true, false, std::io::sink(), Sent(sender)));
        assert_eq!(receiver.iter().next().is_some(), warned, "{policy}");
    }
}
