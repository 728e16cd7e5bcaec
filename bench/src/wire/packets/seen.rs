//! What was seen of each packet, and what can be counted of it.

use std::collections::HashMap;

use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket};

use super::way::Fate;

/// Where the hub listens.
pub(super) const HUB_PORT: u16 = 7700;
/// From the clinic to the hub, and back.
pub(super) const UP: usize = 0;
pub(super) const DOWN: usize = 1;
/// A segment with so much payload is one of a batch: neither handshakes nor control frames are as long.
const BATCH_SEGMENT_BYTES: usize = 1_200;
/// What belongs to a batch's end, and not to a farewell.
const BATCH_END_BYTES: usize = 200;

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) way: usize,
    /// When the kernel sent it.
    pub(super) at_us: u64,
    /// When it had left the link's near end; `at_us` if the link did not take it.
    pub(super) left_us: u64,
    /// With its IP header.
    pub(super) bytes: usize,
    /// Of TCP.
    pub(super) payload: usize,
    /// Of that, what was not in any earlier packet of the connection.
    pub(super) fresh: usize,
    /// Where the payload begins in what its end sends on the connection.
    from: u32,
    /// The clinic's port, which names the connection.
    pub(super) port: u16,
    pub(super) syn: bool,
    pub(super) fate: Fate,
}

/// The parts of a TCP packet that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) port: u16,
    seq: u32,
    payload: usize,
    syn: bool,
}

impl Head {
    /// Of an IP packet; `None` for anything but TCP over IPv4.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let tcp = TcpPacket::new_checked(ip.payload()).ok().filter(|_| ip.next_header() == IpProtocol::Tcp)?;
        let ports = [tcp.src_port(), tcp.dst_port()];
        let port = ports[usize::from(ports[0] == HUB_PORT)];
        let seq = tcp.seq_number().0 as u32;
        Some(Self { port, seq, payload: tcp.payload().len(), syn: tcp.syn() })
    }
}

/// Everything that was seen, in the order in which it was sent.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) all: Vec<Seen>,
    /// Of each direction of each connection: the sequence number of its first byte, and how far it has come.
    ends: HashMap<(usize, u16), (u32, u32)>,
}

impl Log {
    /// Writes down a packet that the kernel has sent; its number.
    pub(super) fn note(&mut self, way: usize, at_us: u64, bytes: usize, head: &Head) -> usize {
        let Head { port, seq, payload, syn } = *head;
        let first = seq.wrapping_add(u32::from(syn));
        let (begin, far) = self.ends.entry((way, port)).or_insert((first, 0));
        if syn {
            (*begin, *far) = (first, 0);
        }
        let from = first.wrapping_sub(*begin);
        let fresh = ((from + payload as u32).saturating_sub(*far) as usize).min(payload);
        *far += fresh as u32;
        let fate = Fate::Flying;
        self.all.push(Seen { way, at_us, left_us: at_us, bytes, payload, fresh, from, port, syn, fate });
        self.all.len() - 1
    }

    /// What was seen of some packets.
    pub(super) fn count(&self, which: impl Fn(&Seen) -> bool) -> Count {
        let mut count = Count::default();
        for seen in self.all.iter().filter(|seen| which(seen)) {
            let way = &mut count.0[seen.way];
            way.packets += 1;
            way.bytes += seen.bytes as u64;
            way.payload += seen.payload as u64;
            way.fresh += seen.fresh as u64;
            if seen.fate == Fate::Carried {
                way.carried_payload += seen.payload as u64;
            }
            way.lost += u64::from(seen.fate == Fate::Lost);
            way.full += u64::from(seen.fate == Fate::Full);
        }
        count
    }

    /// Payload that has arrived at the hub, each byte of a connection once.
    pub(super) fn arrived(&self) -> u64 {
        let mut pieces: Vec<(u16, u32, u32)> = Vec::new();
        let arrived = |s: &&Seen| s.way == UP && s.fate == Fate::Carried;
        pieces.extend(self.all.iter().filter(arrived).map(|s| (s.port, s.from, s.from + s.payload as u32)));
        pieces.sort_unstable();
        let (mut sum, mut done) = (0, (0, 0));
        for (port, from, until) in pieces {
            let from = if done.0 == port { from.max(done.1) } else { from };
            if until > from {
                sum += u64::from(until - from);
                done = (port, until);
            }
        }
        sum
    }

    /// How well the way up was used from the first segment of a batch to the last: shares of the rate that fresh
    /// payload and whole packets took, 0 to 1.
    pub(super) fn used(&self, rate_bytes_per_s: u64) -> Option<(f64, f64)> {
        let up = || self.all.iter().filter(|s| s.way == UP && s.fate != Fate::Full && s.fate != Fate::Cut);
        let from_us = up().find(|s| s.payload >= BATCH_SEGMENT_BYTES)?.at_us;
        let until_us = up().filter(|s| s.payload >= BATCH_END_BYTES).map(|s| s.left_us).max()?;
        let within = || up().filter(|s| s.at_us >= from_us && s.left_us <= until_us);
        let room = rate_bytes_per_s as f64 * (until_us - from_us) as f64 / 1e6;
        let fresh: usize = within().map(|s| s.fresh).sum();
        let bytes: usize = within().map(|s| s.bytes).sum();
        Some((fresh as f64 / room, bytes as f64 / room))
    }

    /// The clinic's ports, in the order of its connections.
    pub(super) fn connections(&self) -> Vec<u16> {
        let mut ports = Vec::new();
        for seen in self.all.iter().filter(|s| s.way == UP && s.syn) {
            if !ports.contains(&seen.port) {
                ports.push(seen.port);
            }
        }
        ports
    }
}

/// Packets of both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count(pub(super) [OneWay; 2]);

/// Packets of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OneWay {
    pub(super) packets: u64,
    /// With IP headers.
    pub(super) bytes: u64,
    /// Of TCP, as often as it was sent.
    pub(super) payload: u64,
    /// Each byte of a connection once.
    pub(super) fresh: u64,
    /// Of `payload`, what has arrived.
    pub(super) carried_payload: u64,
    pub(super) lost: u64,
    pub(super) full: u64,
}

impl Count {
    /// Packets both ways.
    pub(super) fn packets(&self) -> u64 {
        self.0.iter().map(|w| w.packets).sum()
    }

    /// Bytes of IP both ways.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|w| w.bytes).sum()
    }

    /// What TCP itself has sent again, both ways.
    pub(super) fn repeated(&self) -> u64 {
        self.0.iter().map(|w| w.payload - w.fresh).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u32, payload: usize) -> Head {
        Head { port: 40_000, seq, payload, syn: false }
    }

    #[test]
    fn what_is_sent_again_is_not_fresh_also_where_sequence_numbers_wrap() {
        let mut log = Log::default();
        let start = u32::MAX - 100;
        log.note(UP, 0, 60, &Head { syn: true, ..head(start, 0) });
        let first = start.wrapping_add(1);
        for (seq, payload) in [(0, 150), (0, 150), (100, 100), (200, 50)] {
            log.note(UP, 0, payload + 40, &head(first.wrapping_add(seq), payload));
        }
        log.note(DOWN, 0, 50, &head(7, 10));
        let fresh: Vec<usize> = log.all.iter().map(|s| s.fresh).collect();
        assert_eq!(fresh, [0, 150, 0, 50, 50, 10]);
        let count = log.count(|s| s.way == UP);
        assert_eq!((count.packets(), count.0[UP].fresh, count.repeated()), (5, 250, 200));
        assert_eq!(log.connections(), [40_000]);
        for (n, fate) in [(1, Fate::Lost), (2, Fate::Carried), (3, Fate::Carried), (4, Fate::Full)] {
            log.all[n].fate = fate;
        }
        assert_eq!((log.arrived(), log.count(|_| true).0[UP].carried_payload), (200, 250));
    }

    #[test]
    fn only_tcp_over_ipv4_is_looked_at_and_the_clinics_port_names_the_connection() {
        let mut packet = vec![0; 41];
        packet[0] = 0x45;
        packet[3] = 41;
        packet[9] = 6;
        packet[20..24].copy_from_slice(&[0x1e, 0x14, 0x9c, 0x40]);
        packet[24..28].copy_from_slice(&9u32.to_be_bytes());
        packet[32] = 0x50;
        assert_eq!(Head::parse(&packet), Some(Head { seq: 9, ..head(0, 1) }));
        packet[9] = 17;
        assert_eq!(Head::parse(&packet), None);
        assert_eq!(Head::parse(&[0x60; 60]), None);
        assert_eq!(Head::parse(&packet[..10]), None);
    }
}
