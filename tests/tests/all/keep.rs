//! A clinic that stays connected: what is pushed leaves at once, a loss is followed by another call, and
//! it ends when it is asked to, or when calling again would mend nothing.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::id::Lane;
use ropeway_core::limits::Timing;
use ropeway_core::policy::Policy;
use ropeway_mio::demo::link::{CutMode, CutPlan, Link, LinkOptions};
use ropeway_mio::demo::profile::Profile;
use ropeway_std::local::LocalPush;
use ropeway_std::tls::{Client, TlsOptions};
use ropeway_std::{KeepOptions, KeepReport, KeepState, NodeIdentity, Options, Replica, Result, Stop, SyncOptions};
use ropeway_tests::process::{Hub, ropeway, verb};
use ropeway_tests::{Deployment, noise};

/// What was told, in a form that can be sent and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Calling,
    Connected { resumed: bool },
    Level { acknowledged: u64 },
    Ended(Option<Code>),
    Waiting(Duration),
}

/// A clinic that stays connected in a thread of its own.
pub(crate) struct Keeping {
    pub(crate) stop: Stop,
    told: Receiver<Told>,
    thread: JoinHandle<Result<KeepReport>>,
}

/// Deadlines of half a second.
pub(crate) fn impatient() -> Timing {
    Timing { hello_timeout_ms: 500, ping_after_ms: 100, silence_timeout_ms: 500, ..Timing::default() }
}

/// Short pauses, and half a second to connect and shake hands.
pub(crate) fn hasty() -> KeepOptions {
    let sync = SyncOptions { connect_timeout_ms: 500, handshake_timeout_ms: 500, ..SyncOptions::default() };
    KeepOptions { sync, pause_min_ms: 5, pause_max_ms: 40, ..KeepOptions::default() }
}

impl Keeping {
    pub(crate) fn start(d: &Deployment, node: &str, hub: &str, timing: Timing, options: KeepOptions) -> Self {
        let mut replica = Replica::open(d.dir(node), Options { timing, ..Options::default() }).unwrap();
        let (stop, (tell, told), hub) = (Stop::new().unwrap(), channel(), hub.to_owned());
        let asked = stop.clone();
        let work = move || {
            replica.keep(&hub, &options, &asked, |state| {
                let _ = tell.send(match state {
                    KeepState::Calling => Told::Calling,
                    KeepState::Connected { resumed, .. } => Told::Connected { resumed: *resumed },
                    KeepState::CaughtUp(r) => Told::Level { acknowledged: r.acknowledged },
                    KeepState::Ended { error, .. } => Told::Ended(error.map(|e| e.code)),
                    KeepState::Waiting(pause) => Told::Waiting(*pause),
                });
            })
        };
        Self { stop, told, thread: std::thread::spawn(work) }
    }

    /// Waits until this is told; all that was told until then.
    pub(crate) fn until(&self, wanted: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            let told = self.told.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|e| panic!("{e}: {all:?}"));
            all.push(told);
            if all.last().is_some_and(&wanted) {
                return all;
            }
        }
    }

    /// Waits until it has ended.
    pub(crate) fn join(self) -> (Vec<Told>, Result<KeepReport>) {
        let outcome = self.thread.join().unwrap();
        (self.told.iter().collect(), outcome)
    }
}

pub(crate) fn is_level(told: &Told) -> bool {
    matches!(told, Told::Level { .. })
}

fn push(d: &Deployment, payload: &[u8]) {
    let mut push = LocalPush::connect(&d.dir("clinic_a")).unwrap();
    push.push(Lane::Normal, 0, payload).unwrap();
    assert_eq!(push.finish().unwrap().error, None);
}

#[test]
fn what_others_push_leaves_at_once_in_one_session_and_the_end_is_a_goodbye() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    d.push("clinic_a", ["before"]);
    let k = Keeping::start(&d, "clinic_a", &hub.address.to_string(), Timing::default(), KeepOptions::default());
    let first = k.until(|t| *t == Told::Level { acknowledged: 1 });
    assert_eq!(&first[..2], [Told::Calling, Told::Connected { resumed: false }]);
    for n in 2..=5 {
        push(&d, format!("{n}").as_bytes());
        k.until(|t| *t == Told::Level { acknowledged: n });
    }
    assert_eq!(d.payloads("hub", "clinic_a").len(), 5);
    k.stop.stop();
    let (rest, outcome) = k.join();
    assert_eq!(rest, [Told::Ended(None)]);
    let total = outcome.unwrap();
    assert_eq!((total.sessions, total.failed, total.sent, total.acknowledged), (1, 0, 5, 5));
    assert!(LocalPush::connect(&d.dir("clinic_a")).is_none(), "nobody listens any more");
}

#[test]
fn after_each_loss_it_calls_again_and_resumes_by_ticket_and_vector() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    let all = noise(7, 3000, 200);
    d.push("clinic_a", &all);
    let lan: Profile = "lan".parse().unwrap();
    // More than may be under way: before each cut the hub was heard, and its ticket with it. A call while the link is
    // down would use the ticket up.
    let cut = CutPlan { mode: CutMode::Reset, after_bytes_up: 120_000, down_ms: 1, times: 4 };
    let link = Link::start(hub.address, &lan, LinkOptions { speed: 1.0, seed: 1, cut: Some(cut) }).unwrap();
    let k = Keeping::start(&d, "clinic_a", &link.address().to_string(), impatient(), hasty());
    let told = k.until(is_level);
    k.stop.stop();
    let (_, outcome) = k.join();
    let total = outcome.unwrap();
    assert_eq!(link.counters().read().cuts, 4);
    assert!(told.contains(&Told::Connected { resumed: true }), "{told:?}");
    assert!(total.resumed >= 1 && total.sessions >= 4, "{total:?}");
    assert_eq!(d.payloads("hub", "clinic_a"), all);
}

#[test]
fn while_no_hub_answers_pauses_grow_to_a_bound_pushes_are_taken_and_the_end_comes_at_once() {
    let d = Deployment::new(&["clinic_a"]);
    // A port of our own that refuses.
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let options = KeepOptions { pause_min_ms: 1, pause_max_ms: 100, ..hasty() };
    let k = Keeping::start(&d, "clinic_a", &refused, impatient(), options);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let told = k.until(|t| matches!(t, Told::Waiting(_)));
        assert!(told.contains(&Told::Ended(Some(Code::Unreachable))), "{told:?}");
        let Some(Told::Waiting(pause)) = told.last() else { panic!("{told:?}") };
        pauses.push(pause.as_millis());
    }
    assert!(pauses[0] <= 2 && pauses[11] >= 50 && pauses.iter().all(|&p| p <= 100), "{pauses:?}");
    push(&d, b"while there is no hub");
    k.stop.stop();
    let (_, outcome) = k.join();
    let total = outcome.unwrap();
    assert!(total.sessions == 0 && total.failed >= 12, "{total:?}");
    let options = KeepOptions { pause_min_ms: 86_400_000, ..hasty() };
    let k = Keeping::start(&d, "clinic_a", &refused, impatient(), options);
    k.until(|t| matches!(t, Told::Waiting(_)));
    k.stop.stop();
    assert_eq!(k.join().1.unwrap().failed, 1);
}

#[test]
fn what_no_call_can_mend_ends_it_with_its_code() {
    let (ours, theirs) = (Deployment::new(&["clinic_a"]), Deployment::new(&["clinic_a"]));
    let hub = theirs.serve(Policy::Own);
    let k = Keeping::start(&ours, "clinic_a", &hub.address.to_string(), Timing::default(), hasty());
    let (told, outcome) = k.join();
    assert_eq!(outcome.unwrap_err().code, Code::UntrustedCertificate);
    assert_eq!(told, [Told::Calling, Told::Ended(Some(Code::UntrustedCertificate))]);
    let k = Keeping::start(&ours, "clinic_a", "no-such-host.invalid:7700", Timing::default(), hasty());
    // Without any resolver it is a link that is down, and it calls again.
    let told = k.until(|t| matches!(t, Told::Ended(_)));
    k.stop.stop();
    match k.join().1 {
        Ok(total) => assert_eq!((told.last(), total.failed), (Some(&Told::Ended(Some(Code::Unreachable))), 1)),
        Err(e) => assert_eq!(e.code, Code::Address),
    }
}

#[test]
fn a_hub_that_stops_says_when_it_wants_to_be_called_again() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    let k = Keeping::start(&d, "clinic_a", &hub.address.to_string(), Timing::default(), hasty());
    k.until(is_level);
    drop(hub);
    let told = k.until(|t| matches!(t, Told::Waiting(_)));
    assert!(told.contains(&Told::Ended(Some(Code::Stopping))), "{told:?}");
    let Some(Told::Waiting(pause)) = told.last() else { panic!("{told:?}") };
    assert!(*pause >= Duration::from_secs(30) && *pause < Duration::from_secs(46), "{pause:?}");
    k.stop.stop();
    assert!(k.join().1.is_ok());
}

/// Shakes hands with the hub and waits for its first words, behind which its ticket has come; whether an
/// earlier ticket was used.
fn shake(client: &Client, hub: SocketAddr) -> bool {
    let (mut socket, mut conn) = (TcpStream::connect(hub).unwrap(), client.connect("hub").unwrap());
    loop {
        while conn.wants_write() {
            conn.write_tls(&mut socket).unwrap();
        }
        assert_ne!(conn.read_tls(&mut socket).unwrap(), 0);
        if conn.process().unwrap() > 0 {
            return conn.is_resumed();
        }
    }
}

#[test]
fn tickets_outlive_a_restart_of_the_hub_and_a_damaged_file_of_them_costs_a_full_handshake() {
    let d = Deployment::new(&["clinic_a"]);
    let client = Client::new(&NodeIdentity::load(&d.dir("clinic_a")).unwrap(), &TlsOptions::default()).unwrap();
    assert!(!shake(&client, d.serve(Policy::Own).address));
    assert!(shake(&client, d.serve(Policy::Own).address));
    let path = d.hub().tickets();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(!shake(&client, d.serve(Policy::Own).address));
    assert!(shake(&client, d.serve(Policy::Own).address));
}

#[test]
fn a_second_device_with_the_same_certificate_does_not_make_them_call_in_turns_for_ever() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    let k = Keeping::start(&d, "clinic_a", &hub.address.to_string(), Timing::default(), hasty());
    k.until(is_level);
    // The other device: another log, but the same certificate.
    let other = d.path("clone");
    ropeway_std::keygen::init_node(&ropeway_std::DataDir::new(&other), ropeway_tests::name("clinic_a")).unwrap();
    for entry in std::fs::read_dir(d.path("clinic_a").join("tls")).unwrap().map(|e| e.unwrap()) {
        std::fs::copy(entry.path(), other.join("tls").join(entry.file_name())).unwrap();
    }
    d.open("clone").sync(&hub.address.to_string(), &SyncOptions::default(), |_| ()).unwrap();
    let told = k.until(|t| matches!(t, Told::Waiting(_)));
    assert!(told.contains(&Told::Ended(Some(Code::Superseded))), "{told:?}");
    let Some(Told::Waiting(pause)) = told.last() else { panic!("{told:?}") };
    assert!(pause.as_millis() >= 20, "the longest pause, not the shortest: {pause:?}");
    k.stop.stop();
    assert!(k.join().1.is_ok());
}

#[test]
fn the_command_prints_a_line_of_json_for_each_change_and_ends_well_at_sigterm() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = Hub::start(&d.path("hub"), "keep");
    let mut daemon = verb("sync", &d.path("clinic_a"), &["--hub", &hub.address, "--keep", "--json"])
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map(|l| {
        let line = l.unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    });
    let mut states = Vec::new();
    while states.last().is_none_or(|s| s != "level") {
        states.push(lines.next().unwrap()["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["calling", "connected", "level"]);
    let mut pushing = ropeway(["push", "--payload", "now", "--data-dir"]);
    assert!(pushing.arg(d.path("clinic_a")).status().unwrap().success());
    while lines.next().unwrap()["acknowledged"] != 1 {}
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let last: Vec<_> = lines.collect();
    assert_eq!(last[0]["state"], "ended");
    assert!(last[0].get("error").is_none(), "{last:?}");
    assert_eq!((&last[1]["state"], &last[1]["sessions"]), (&"stopped".into(), &1.into()));
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert_eq!(d.payloads("hub", "clinic_a"), [b"now"]);
}
