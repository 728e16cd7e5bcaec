//! Tickets that outlive the hub's process.

use ropeway_core::log::DataKey;

use super::*;

/// The hub after a start at this time, with the tickets of the last one.
fn started(w: &World, key: u8, wall_s: u64, most: usize) -> (Server, Tickets) {
    let clock = Clock::Fixed(wall_s);
    let tickets = Tickets::open(&w.hub_dir, &w.hub, &DataKey::new([key; 32]), most, clock);
    (Server::with_tickets(&w.hub, &at(wall_s), tickets.clone()).unwrap(), tickets)
}

#[test]
fn a_ticket_outlives_the_hubs_process_and_is_good_for_one_use() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let client = Client::new(&clinic, &at(0)).unwrap();
    let (server, tickets) = started(&w, 1, NOW_S, 10);
    assert!(!shake(&client, &server).resumed);
    tickets.write().unwrap();
    let before = std::fs::read(w.hub_dir.tickets()).unwrap();
    tickets.write().unwrap();
    assert_eq!(std::fs::read(w.hub_dir.tickets()).unwrap(), before, "nothing new is not written again");

    let (server, tickets) = started(&w, 1, NOW_S, 10);
    let o = shake(&client, &server);
    assert!(o.resumed);
    assert_eq!(o.server.unwrap().name, name("clinic_a"), "and the hub knows who it is");
    tickets.write().unwrap();
    // The used one is not in the file, its successor is.
    assert_ne!(std::fs::read(w.hub_dir.tickets()).unwrap(), before);
    assert!(shake(&client, &started(&w, 1, NOW_S, 10).0).resumed);
    assert!(!shake(&client, &started(&w, 1, NOW_S, 10).0).resumed, "that start's ticket was not written");
}

#[test]
fn a_file_of_tickets_that_cannot_be_read_costs_full_handshakes_and_nothing_else() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let client = Client::new(&clinic, &at(0)).unwrap();
    let fresh = |key, wall_s| {
        let (server, tickets) = started(&w, 1, NOW_S, 10);
        shake(&client, &server).server.unwrap();
        tickets.write().unwrap();
        started(&w, key, wall_s, 10).0
    };
    assert!(shake(&client, &fresh(1, NOW_S)).resumed);
    // Another key, a day later, damaged, empty, a folder.
    let o = shake(&client, &fresh(2, NOW_S));
    assert!(!o.resumed && o.server.is_ok());
    let o = shake(&client, &fresh(1, NOW_S + 24 * 3600));
    assert!(!o.resumed && o.server.is_ok());
    let path = w.hub_dir.tickets();
    for content in [&b""[..], b"RWTICK01", &[7; 5000]] {
        drop(fresh(1, NOW_S));
        std::fs::write(&path, content).unwrap();
        let o = shake(&client, &started(&w, 1, NOW_S, 10).0);
        assert!(!o.resumed && o.server.is_ok());
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let (server, tickets) = started(&w, 1, NOW_S, 10);
    assert!(shake(&client, &server).server.is_ok());
    assert!(tickets.write().is_err());
}

#[test]
fn a_ticket_from_before_the_restart_does_not_outlive_its_certificate_nor_the_hubs() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let client = Client::new(&clinic, &at(0)).unwrap();
    let end_s = clinic.cert.not_after_s;
    let (server, tickets) = started(&w, 1, end_s, 10);
    assert!(shake(&client, &server).server.is_ok());
    tickets.write().unwrap();
    let o = shake(&client, &started(&w, 1, end_s + 1, 10).0);
    assert!(o.resumed);
    assert_eq!(code(&o.server), Code::CertificateExpired);
    // Signed anew, or by another CA: its tickets are not those of the old one.
    let (server, tickets) = started(&w, 1, NOW_S, 10);
    shake(&client, &server).server.unwrap();
    tickets.write().unwrap();
    let other = World::new();
    let mut hub = w.hub.clone();
    hub.ca = other.hub.ca.clone();
    let tickets = Tickets::open(&w.hub_dir, &hub, &DataKey::new([1; 32]), 10, Clock::Fixed(NOW_S));
    assert!(!shake(&client, &Server::with_tickets(&w.hub, &at(NOW_S), tickets).unwrap()).resumed);
}

#[test]
fn when_there_are_too_many_tickets_the_oldest_go() {
    let w = World::new();
    let clinics: Vec<_> = ["a", "b", "c"].map(|n| w.node(n, Role::Clinic)).into_iter().collect();
    let clients: Vec<_> = clinics.iter().map(|c| Client::new(c, &at(0)).unwrap()).collect();
    let (server, tickets) = started(&w, 1, NOW_S, 2);
    for client in &clients {
        assert!(!shake(client, &server).resumed);
    }
    tickets.write().unwrap();
    let (server, _) = started(&w, 1, NOW_S, 2);
    // The newest first: each handshake makes a ticket that takes a place.
    assert!(shake(&clients[2], &server).resumed);
    assert!(shake(&clients[1], &server).resumed);
    assert!(!shake(&clients[0], &server).resumed);
}
