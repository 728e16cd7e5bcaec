//! Early data: when it is taken, what a recording of it does, and that nothing is lost where it is not taken.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use ropeway_core::log::DataKey;
use rustls::Connection;

use super::*;

fn early(wall_s: u64) -> TlsOptions {
    TlsOptions { early_data: true, ..at(wall_s) }
}

/// A clinic with a ticket of this server, which takes early data.
fn acquainted(w: &World) -> (Client, Server) {
    acquainted_as(w, "clinic_a")
}

fn acquainted_as(w: &World, who: &str) -> (Client, Server) {
    let server = Server::new(&w.hub, &early(NOW_S)).unwrap();
    let client = Client::new(&w.node(who, Role::Clinic), &early(0)).unwrap();
    assert!(!shake(&client, &server).resumed);
    (client, server)
}

/// A connection on which the clinic has said this early, and what is on the wire.
fn speak(client: &Client, bytes: &[u8]) -> (Conn, Vec<u8>) {
    let mut c = client.connect("hub:7700").unwrap();
    assert_eq!(c.speak_early().unwrap(), PeerIdentity { name: name("hub"), role: Role::Hub });
    c.write_plain(bytes).unwrap();
    let mut wire = Vec::new();
    while c.wants_write() {
        c.write_tls(&mut wire).unwrap();
    }
    (c, wire)
}

/// A connection to which this was sent.
fn hears(server: &Server, wire: &[u8]) -> Conn {
    let mut s = server.accept().unwrap();
    feed(&mut s, wire);
    s
}

fn feed(conn: &mut Conn, mut wire: &[u8]) {
    while !wire.is_empty() {
        conn.read_tls(&mut wire).unwrap();
        conn.process().unwrap();
    }
}

fn plain(conn: &mut Conn) -> Vec<u8> {
    let (mut all, mut out) = (Vec::new(), [0; 999]);
    while let Ok(n @ 1..) = conn.read_plain(&mut out) {
        all.extend_from_slice(&out[..n]);
    }
    all
}

/// Brings the handshake to its end.
fn end(c: &mut Conn, s: &mut Conn) {
    while c.wants_write() || s.wants_write() {
        pass(s, c).map(|(_, heard)| heard.unwrap());
        pass(c, s).map(|(_, heard)| heard.unwrap());
    }
    assert!(!c.is_handshaking() && !s.is_handshaking());
}

#[test]
fn a_clinic_that_resumes_is_answered_within_one_round_trip() {
    let w = World::new();
    let (client, server) = acquainted(&w);
    let (mut c, wire) = speak(&client, b"events");
    let mut s = hears(&server, &wire);
    assert_eq!(plain(&mut s), b"", "nobody has said that it may be a recording");
    assert_eq!(s.early_peer().unwrap().unwrap().name, name("clinic_a"));
    assert_eq!(plain(&mut s), b"events");
    assert_eq!(code(&s.peer()), Code::State, "and whether it is there is not known yet");
    s.write_plain(b"ack").unwrap();
    pass(&mut s, &mut c);
    assert_eq!((plain(&mut c), c.is_handshaking()), (b"ack".to_vec(), false));
    assert!(c.is_resumed() && c.is_early_accepted() && s.is_early_accepted());
    c.write_plain(b"more").unwrap();
    end(&mut c, &mut s);
    assert_eq!(s.peer().unwrap().name, name("clinic_a"));
    assert_eq!(plain(&mut s), b"more", "what was taken early is not sent again");
    // The next ticket allows it again.
    let (_, wire) = speak(&client, b"events");
    assert!(hears(&server, &wire).early_peer().unwrap().is_some());
}

#[test]
fn a_recording_is_heard_once() {
    let w = World::new();
    let (client, server) = acquainted(&w);
    let (mut c, wire) = speak(&client, b"events");
    let mut s = hears(&server, &wire);
    assert!(s.early_peer().unwrap().is_some());
    for _ in 0..3 {
        let mut again = hears(&server, &wire);
        assert_eq!((again.early_peer().unwrap(), plain(&mut again)), (None, vec![]));
        assert!(!again.is_resumed() && again.is_handshaking());
        // Nor can whoever has the recording go on with the answers to it.
        let mut answer = Vec::new();
        again.write_tls(&mut answer).unwrap();
        let mut other = client.connect("hub:7700").unwrap();
        other.read_tls(&mut answer.as_slice()).unwrap();
        assert!(other.process().is_err());
    }
    end(&mut c, &mut s);
    assert_eq!(plain(&mut s), b"events");
}

#[test]
fn a_recording_that_overtakes_the_original_costs_it_the_ticket_and_nothing_else() {
    let w = World::new();
    let (client, server) = acquainted(&w);
    let (c, wire) = speak(&client, b"events");
    assert!(hears(&server, &wire).early_peer().unwrap().is_some());
    check(c, hears(&server, &wire), b"events", false, false);
}

#[test]
fn a_recording_that_was_held_up_is_heard_but_not_believed_to_be_there() {
    let w = World::new();
    let (client, server) = acquainted(&w);
    let (_, wire) = speak(&client, b"events");
    // The clinic has given up, and calls again: without a ticket.
    assert!(shake(&client, &server).server.is_ok());
    let mut s = hears(&server, &wire);
    assert_eq!((s.early_peer().unwrap().is_some(), plain(&mut s)), (true, b"events".to_vec()));
    assert_eq!(code(&s.peer()), Code::State);
}

#[test]
fn a_ticket_that_a_file_has_brought_back_gives_nothing_before_the_handshake_has_ended() {
    let w = World::new();
    let started = || {
        let tickets = Tickets::open(&w.hub_dir, &w.hub, &DataKey::new([1; 32]), 10, Clock::Fixed(NOW_S));
        (Server::with_tickets(&w.hub, &early(NOW_S), tickets.clone()).unwrap(), tickets)
    };
    let client = Client::new(&w.node("clinic_a", Role::Clinic), &early(0)).unwrap();
    let (server, tickets) = started();
    shake(&client, &server).server.unwrap();
    tickets.write().unwrap();
    let (mut c, wire) = speak(&client, b"events");
    assert!(hears(&server, &wire).early_peer().unwrap().is_some());
    // The hub crashes before it has written that the ticket was used.
    let mut again = hears(&started().0, &wire);
    assert_eq!((again.early_peer().unwrap(), plain(&mut again)), (None, vec![]));
    assert!(again.is_resumed());
    // Who does hold its secret gets on, but waits for the end.
    let mut s = hears(&started().0, &wire);
    assert_eq!(s.early_peer().unwrap(), None);
    end(&mut c, &mut s);
    assert_eq!(plain(&mut s), b"events");
    assert!(c.is_early_accepted());
}

#[test]
fn what_is_not_taken_early_is_sent_again_after_the_handshake() {
    let w = World::new();
    let long: Vec<u8> = (0..12_000_u32).map(|i| (i % 251) as u8).collect();
    for (n, bytes) in [&b"events"[..], &long[..4200], &long].into_iter().enumerate() {
        let (client, server) = acquainted_as(&w, &format!("clinic_{n}"));
        let (c, wire) = speak(&client, bytes);
        assert_eq!(c.is_early_full(), bytes.len() > 6144);
        check(c, hears(&server, &wire), bytes, true, true);
        let (c, wire) = speak(&client, bytes);
        let other = Server::new(&w.hub, &early(NOW_S)).unwrap();
        check(c, hears(&other, &wire), bytes, false, false);
    }
}

#[test]
fn what_is_not_taken_may_come_in_small_pieces() {
    let w = World::new();
    let (client, _) = acquainted(&w);
    let (mut c, wire) = speak(&client, &[7; 4200]);
    let mut s = Server::new(&w.hub, &early(NOW_S)).unwrap().accept().unwrap();
    wire.chunks(100).for_each(|piece| feed(&mut s, piece));
    end(&mut c, &mut s);
    assert_eq!(plain(&mut s), [7; 4200]);
}

#[test]
fn nobody_fills_the_memory_of_a_hub_with_early_data() {
    let w = World::new();
    let (client, server) = acquainted(&w);
    let (mut c, mut s) = (client.connect("hub:7700").unwrap(), server.accept().unwrap());
    let Connection::Client(conn) = c.inner() else { panic!("it dials") };
    assert_eq!(conn.early_data().unwrap().write(&[7; 20_000]).unwrap(), 20_000);
    let (_, heard) = pass(&mut c, &mut s).unwrap();
    assert_eq!(code(&heard), Code::Tls);
}

#[test]
fn a_hub_whose_clock_says_that_a_minute_has_passed_since_does_not_take_it() {
    static WALL_S: AtomicU64 = AtomicU64::new(NOW_S);
    let w = World::new();
    let options = TlsOptions { clock: Clock::Custom(|| WALL_S.load(Ordering::Relaxed)), ..early(0) };
    let server = Server::new(&w.hub, &options).unwrap();
    let client = Client::new(&w.node("clinic_a", Role::Clinic), &early(0)).unwrap();
    shake(&client, &server).server.unwrap();
    let (c, wire) = speak(&client, b"events");
    WALL_S.store(NOW_S + 62, Ordering::Relaxed);
    check(c, hears(&server, &wire), b"events", false, true);
}

/// The hub takes it early or not, resumes or not, and has everything once in the end.
fn check(mut c: Conn, mut s: Conn, bytes: &[u8], taken: bool, resumed: bool) {
    assert_eq!(s.early_peer().unwrap().is_some(), taken);
    c.write_plain(b", and more").unwrap();
    end(&mut c, &mut s);
    c.write_plain(b" after that").unwrap();
    pass(&mut c, &mut s);
    assert_eq!(plain(&mut s), [bytes, b", and more after that"].concat());
    assert_eq!((c.is_early_accepted(), c.is_resumed()), (taken, resumed));
}

#[test]
fn without_the_option_on_both_sides_there_is_no_early_data() {
    let w = World::new();
    let cases = [("a", at(0), early(NOW_S)), ("b", early(0), at(NOW_S)), ("c", at(0), at(NOW_S))];
    for (who, ours, theirs) in cases {
        let server = Server::new(&w.hub, &theirs).unwrap();
        let client = Client::new(&w.node(who, Role::Clinic), &ours).unwrap();
        shake(&client, &server).server.unwrap();
        let (mut c, mut s) = (client.connect("hub:7700").unwrap(), server.accept().unwrap());
        assert_eq!(c.speak_early(), None);
        c.write_plain(b"events").unwrap();
        pass(&mut c, &mut s);
        assert_eq!((s.early_peer().unwrap(), plain(&mut s)), (None, vec![]));
        end(&mut c, &mut s);
        assert!(c.is_resumed() && !c.is_early_accepted() && !s.is_early_accepted());
        assert_eq!(plain(&mut s), b"events");
    }
}

#[test]
fn a_hub_that_no_longer_takes_early_data_gets_the_same_bytes_after_the_handshake() {
    let w = World::new();
    let tickets = Tickets::new(10, Clock::Fixed(NOW_S));
    let with = |options: TlsOptions| Server::with_tickets(&w.hub, &options, tickets.clone()).unwrap();
    let client = Client::new(&w.node("clinic_a", Role::Clinic), &early(0)).unwrap();
    shake(&client, &with(early(NOW_S))).server.unwrap();
    let (c, wire) = speak(&client, b"events");
    check(c, hears(&with(at(NOW_S)), &wire), b"events", false, true);
}

#[test]
fn nobody_speaks_early_after_the_certificate_has_run_out() {
    static WALL_S: AtomicU64 = AtomicU64::new(0);
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    WALL_S.store(clinic.cert.not_after_s, Ordering::Relaxed);
    let options = TlsOptions { clock: Clock::Custom(|| WALL_S.load(Ordering::Relaxed)), ..early(0) };
    let server = Server::new(&w.hub, &options).unwrap();
    let client = Client::new(&clinic, &early(0)).unwrap();
    shake(&client, &server).server.unwrap();
    WALL_S.fetch_add(1, Ordering::Relaxed);
    let (_, wire) = speak(&client, b"events");
    assert_eq!(code(&hears(&server, &wire).early_peer()), Code::CertificateExpired);
}
