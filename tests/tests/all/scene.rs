//! A hub that holds events of clinic_a, and a certificate of clinic_b to attack it with.

use std::time::{SystemTime, UNIX_EPOCH};

use ropeway_core::limits::Timing;
use ropeway_core::policy::Policy;
use ropeway_std::LogView;
use ropeway_tests::hostile::Hostile;
use ropeway_tests::spec::{Batch, Event, NORMAL, Whose, chain_start, entry, vector};
use ropeway_tests::{Deployment, Serving, logged, name};

pub(crate) const MARKER: &str = "the-secret-of-clinic-a";
/// The incarnation under which clinic_b writes here.
pub(crate) const MINE: u64 = 0x0b0b_0b0b_0b0b_0b0b;

pub(crate) struct Scene {
    pub(crate) d: Deployment,
    pub(crate) hub: Serving,
    events: std::cell::Cell<usize>,
}

/// A hub that holds events of clinic_a, and a certificate of clinic_b.
pub(crate) fn scene(policy: Policy) -> Scene {
    scene_with(policy, Timing::default())
}

/// As [`scene`], with other deadlines.
pub(crate) fn scene_with(policy: Policy, timing: Timing) -> Scene {
    logged::install();
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let hub = d.serve_with(policy, timing);
    let s = Scene { d, hub, events: 0.into() };
    s.others_still_sync();
    s
}

impl Scene {
    /// clinic_a brings three more events to the same hub.
    pub(crate) fn others_still_sync(&self) {
        let n = self.events.get();
        self.d.push("clinic_a", (n..n + 3).map(|i| format!("{MARKER} {i}")));
        self.events.set(n + 3);
        let report = self.d.open("clinic_a").sync(&self.hub.address.to_string(), &Default::default(), |_| ()).unwrap();
        assert_eq!((report.sent, report.acknowledged), (3, 3));
        assert_eq!(self.d.payloads("hub", "clinic_a").len(), n + 3);
    }

    pub(crate) fn connect(&self) -> Hostile {
        Hostile::connect(&self.d, "clinic_b", self.hub.address)
    }

    /// clinic_b after HELLO and a vector that names its stream [`MINE`] at 0, which is handle 0.
    pub(crate) fn clinic_b(&self) -> Hostile {
        let mut peer = Hostile::greeted(&self.d, "clinic_b", self.hub.address);
        peer.say(&vector(&[entry(Whose::Mine, NORMAL, MINE, 0, [0; 8])]));
        peer
    }

    /// What the hub answers to these bytes, and that nothing else has changed.
    pub(crate) fn refused(&self, bytes: &[u8]) -> u64 {
        let mut peer = self.clinic_b();
        peer.say(bytes);
        let code = peer.refusal();
        self.others_still_sync();
        code
    }

    /// Incarnation, seq and tag of clinic_a's stream, as the hub holds it.
    pub(crate) fn target(&self) -> (u64, u64, [u8; 8]) {
        let view = LogView::open(&self.d.hub()).unwrap();
        let e = view.frontier().find(|e| e.key.node == name("clinic_a")).unwrap();
        (e.key.incarnation.as_u64(), e.have, e.tag)
    }

    pub(crate) fn stored(&self) -> Vec<Vec<u8>> {
        self.d.payloads("hub", "clinic_b")
    }
}

pub(crate) fn start() -> [u8; 32] {
    chain_start("clinic_b", MINE, NORMAL)
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Batches of clinic_b with one event each, `n` of them.
pub(crate) fn batches(n: u64) -> Vec<Batch> {
    let mut chain = start();
    (1..=n).map(|i| Batch::new(0, i, &mut chain, &[Event::at(now_ms() + i, format!("b{i}"))])).collect()
}

pub(crate) fn assert_holds_nothing_of(peer: &Hostile, what: &[&[u8]]) {
    for w in what {
        assert!(!peer.heard.windows(w.len()).any(|x| x == *w), "{w:?} was told");
    }
}
