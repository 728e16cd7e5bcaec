//! Hubs with a rule about what they take.

use super::*;
use ropeway_core::planted::take_marks;
use ropeway_sim::Keeps;

/// A hub that takes no events of an odd kind, and whose commit groups have no room for the places of a batch of tiny
/// ones; and a clinic that has written such a stream, every other event of which is refused.
fn choosy_hub(keeps: Option<Keeps>, remembers: bool) -> World {
    let small = small_limits();
    let less = Limits { event_bytes: 512, frame_bytes: 4096, batch_bytes: 1024, group_bytes: 2400, ..small };
    let mut w = World::new(30);
    w.listen();
    (w.choosy, w.remembers, w.keeps) = (true, remembers, keeps);
    w.add("hub", Role::Hub, less);
    w.add("clinic_a", Role::Clinic, small);
    for n in 0..EVENTS {
        let payload = format!("{n}");
        while let Err(e) = w.append(CLINIC, Lane::Normal, (n % 2) as u16, payload.as_bytes()) {
            assert_eq!(e, AppendError::Busy);
            w.run_for(5);
        }
    }
    w.run_for(1000);
    w
}

const EVENTS: u64 = 400;

/// What must be after a sync.
fn assert_refused(w: &mut World) {
    assert_eq!((ending(w, CLINIC).code, w.verify(HUB), w.verify(CLINIC)), (CLEAN, EVENTS, EVENTS));
    let [hub, clinic] = [HUB, CLINIC].map(|h| w.hosts[h].node().unwrap().frontier().next().unwrap());
    assert_eq!((hub.have, hub.withheld, hub.lacks), (EVENTS, Some((2, EVENTS)), None));
    assert_eq!((clinic.acked, clinic.withheld, clinic.lacks), (EVENTS, None, Some((2, EVENTS))));
    assert_holds(w);
}

/// How many refused events a node has told of, here or at its peer.
fn told(w: &World, h: usize, missing: bool) -> u64 {
    let count = |e: &Event| match e {
        Event::Withheld(x) if x.missing == missing && matches!(x.code, Code::Refused | Code::Withheld) => x.count,
        _ => 0,
    };
    w.hosts[h].told.iter().map(count).sum()
}

const CODECS: [(Option<Keeps>, bool); 5] =
    [(None, false), (None, true), (Some(Keeps::Toy), true), (Some(Keeps::Sampled), true), (Some(Keeps::Model), true)];

#[test]
fn what_a_rule_refuses_of_batches_that_fit_no_group_stops_nothing_and_is_told_once() {
    for (keeps, remembers) in CODECS {
        let mut w = choosy_hub(keeps, remembers);
        let _ = take_marks();
        sync(&mut w);
        let marks = take_marks();
        assert!(marks.contains_key("batch.taken_by_parts"), "{keeps:?}: {marks:?}");
        let state = marks.contains_key("batch.parts_cost_a_state");
        assert_eq!(state, keeps.is_some(), "{keeps:?}: {marks:?}");
        assert_refused(&mut w);
        assert_eq!((told(&w, HUB, true), told(&w, CLINIC, false)), (EVENTS / 2, EVENTS / 2), "{keeps:?}");
        // Nothing more is sent, and nothing is told again.
        sync(&mut w);
        assert_refused(&mut w);
        assert_eq!((told(&w, HUB, true), told(&w, CLINIC, false)), (EVENTS / 2, EVENTS / 2), "{keeps:?}");
    }
}

#[test]
fn a_power_cut_between_the_parts_of_a_batch_loses_none_of_it() {
    for (n, (keeps, remembers)) in CODECS.into_iter().enumerate() {
        for victim in [HUB, CLINIC] {
            let mut w = choosy_hub(keeps, remembers);
            for _ in 0..3 {
                assert!(w.connect(CLINIC, HUB).is_some());
                w.run_for(20 + 7 * n as u64);
                w.crash(victim);
                w.start(victim, true);
                w.run_for(1000);
            }
            // A session that a crash has left ends when the next one begins, which is no end of that.
            sync(&mut w);
            w.run_for(10_000);
            sync(&mut w);
            assert_refused(&mut w);
        }
    }
}
