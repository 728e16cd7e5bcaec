//! Many clinics at once, and strangers who would hold them up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ropeway_core::policy::Policy;
use ropeway_tests::{Deployment, noise};

#[test]
fn thirty_clinics_sync_at_once() {
    let names: Vec<String> = (1..=30).map(|n| format!("clinic_{n}")).collect();
    let d = Deployment::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (n, clinic) in names.iter().enumerate() {
        d.push(clinic, noise(n as u64, 200, 80));
    }
    let hub = d.serve(Policy::Own);
    let address = hub.address.to_string();
    std::thread::scope(|s| {
        for clinic in &names {
            let (d, address) = (&d, &address);
            s.spawn(move || {
                let report = d.open(clinic).sync(address, &Default::default(), |_| ()).unwrap();
                assert_eq!((report.sent, report.acknowledged, report.received), (200, 200, 0), "{clinic}");
            });
        }
    });
    for (n, clinic) in names.iter().enumerate() {
        assert!(d.payloads("hub", clinic) == noise(n as u64, 200, 80), "{clinic}");
    }
}

/// How long a sync of a few events may take beside strangers. Alone it takes a tenth of that.
const PATIENCE: Duration = Duration::from_secs(5);

fn syncs_quickly(d: &Deployment, address: &str, n: u64) {
    d.push("clinic_a", noise(n, 50, 80));
    let start = Instant::now();
    let report = d.open("clinic_a").sync(address, &Default::default(), |_| ()).unwrap();
    assert_eq!(report.acknowledged, 50);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn strangers_who_say_nothing_or_dribble_hold_nobody_up() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    let address = hub.address.to_string();
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(hub.address).unwrap()).collect();
    syncs_quickly(&d, &address, 1);

    // The head of a TLS record that announces 16 KiB of handshake, then a byte now and then.
    let stop = Arc::new(AtomicBool::new(false));
    let dribblers: Vec<_> = (0..20)
        .map(|_| {
            let (mut socket, stop) = (TcpStream::connect(hub.address).unwrap(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut sent = socket.write(&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb]).is_ok();
                while sent && !stop.load(Ordering::Relaxed) {
                    sent = socket.write(&[3]).is_ok();
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        })
        .collect();
    // And one who sends what is no TLS at all, again and again: turned away each time.
    for _ in 0..20 {
        let mut socket = TcpStream::connect(hub.address).unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        let end = socket.read_to_end(&mut answer).map_err(|e| e.kind());
        assert!(matches!(end, Ok(_) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
    }
    for n in 2..6 {
        syncs_quickly(&d, &address, n);
    }
    stop.store(true, Ordering::Relaxed);
    for dribbler in dribblers {
        dribbler.join().unwrap();
    }
    drop(silent);
    syncs_quickly(&d, &address, 6);
    assert_eq!(d.payloads("hub", "clinic_a").len(), 300);
}
