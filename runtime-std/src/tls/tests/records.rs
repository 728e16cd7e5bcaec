//! How frames lie in records.

use std::io::{IoSlice, Write};

use super::*;
use crate::tls::Counted;

/// How many bytes each write had: each is a packet, where packets do not wait for company.
#[derive(Default)]
struct Writes(Vec<usize>);

impl Write for Writes {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> std::io::Result<usize> {
        let n = bufs.iter().map(|buf| buf.len()).sum();
        self.0.push(n);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Two sides after their handshake.
fn open() -> (World, Conn, Conn) {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let mut c = Client::new(&clinic, &at(0)).unwrap().connect("hub").unwrap();
    let mut s = Server::new(&w.hub, &at(NOW_S)).unwrap().accept().unwrap();
    while c.wants_write() || s.wants_write() {
        pass(&mut c, &mut s);
        pass(&mut s, &mut c);
    }
    c.set_buffer_limit(None);
    (w, c, s)
}

/// The lengths of the records in which pieces of so many bytes go out, headers included.
fn records(conn: &mut Conn, pieces: &[usize]) -> Vec<usize> {
    pieces.iter().for_each(|&bytes| conn.write_plain(&vec![7; bytes]).unwrap());
    let mut wire = Vec::new();
    while conn.wants_write() {
        conn.write_tls(&mut wire).unwrap();
    }
    let (mut all, mut rest) = (Vec::new(), wire.as_slice());
    while let [23, 3, 3, hi, lo, ..] = *rest {
        let len = 5 + usize::from(u16::from_be_bytes([hi, lo]));
        all.push(len);
        rest = &rest[len..];
    }
    assert!(rest.is_empty());
    all
}

#[test]
fn a_frame_of_a_thin_link_is_one_record_and_22_bytes_more() {
    let (_w, mut c, _s) = open();
    for bytes in [1, 3, 100, 1450, 4000] {
        assert_eq!(records(&mut c, &[bytes]), [bytes + RECORD_BYTES]);
    }
}

#[test]
fn a_large_frame_is_split_so_that_the_peer_sees_it_come_for_half_a_percent() {
    let (_w, mut c, _s) = open();
    let split = records(&mut c, &[257 << 10]);
    assert!(split.iter().all(|&r| r <= RECORD_MAX_BYTES + RECORD_BYTES), "{split:?}");
    let more = split.iter().sum::<usize>() - (257 << 10);
    println!("{} records, {more} bytes more than the {} of the frame", split.len(), 257 << 10);
    assert!(more * 1000 < (257 << 10) * 6, "{more}");
    // The first record is of use when it is there.
    let (_w, mut c, mut s) = open();
    c.write_plain(&vec![7; 20_000]).unwrap();
    let mut wire = Vec::new();
    while c.wants_write() {
        c.write_tls(&mut wire).unwrap();
    }
    let mut first = &wire[..RECORD_MAX_BYTES + RECORD_BYTES];
    while !first.is_empty() {
        s.read_tls(&mut first).unwrap();
    }
    assert!(s.process().unwrap() > 4000);
}

#[test]
fn what_is_ready_goes_out_in_one_write_however_many_records_it_is() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let mut c = Client::new(&clinic, &at(0)).unwrap().connect("hub").unwrap();
    let mut s = Server::new(&w.hub, &at(NOW_S)).unwrap().accept().unwrap();
    pass(&mut c, &mut s);
    // ServerHello, ChangeCipherSpec, and what is encrypted.
    let (mut writes, mut bytes) = (Writes::default(), 0);
    s.write_tls(&mut Counted::new(&mut writes, &mut bytes)).unwrap();
    assert!(!s.wants_write());
    assert_eq!(writes.0, [bytes as usize]);
}

#[test]
fn small_frames_that_come_together_share_a_record_and_none_waits_for_a_large_one() {
    let (_w, mut c, _s) = open();
    assert_eq!(records(&mut c, &[39, 20, 90]), [149 + RECORD_BYTES]);
    assert_eq!(records(&mut c, &[5, 1450, 7]), [5, 1450, 7].map(|n| n + RECORD_BYTES));
    assert_eq!(records(&mut c, &[400, 400]), [400, 400].map(|n| n + RECORD_BYTES));
    c.write_plain(&[7; 100]).unwrap();
    assert!(c.wants_write() && !c.has_records());
}
