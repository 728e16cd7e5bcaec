//! One direction of a radio link: a queue, a rate, a way to go, and what gets lost on it. Packets
//! go in as bytes and come out as the same bytes, later or never.

use std::collections::BTreeMap;

use crate::rng::Rng;

/// Chances are given in millionths.
const MILLION: u64 = 1_000_000;
/// A fade ends after this time, however few packets have met it.
const FADE_MAX_US: u64 = 2_000_000;

/// How packets get lost: singly, and in bursts (the model of Gilbert and Elliott: the link is good
/// or bad, and each packet may change that). All in millionths of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Lost while the link is good.
    pub(crate) single: u64,
    /// A fade begins.
    pub(crate) fade: u64,
    /// A fade ends.
    pub(crate) recover: u64,
    /// Lost in a fade.
    pub(crate) faded: u64,
}

impl Loss {
    /// Nothing is lost.
    pub(crate) const NONE: Loss = Loss { single: 0, fade: 0, recover: MILLION, faded: 0 };
    /// 1.4 % in all, most of it in fades of four packets.
    pub(crate) const GSM: Loss = Loss { single: 2_000, fade: 5_000, recover: 250_000, faded: 600_000 };
    /// 0.5 % in all: EDGE repeats blocks at the radio before TCP notices.
    pub(crate) const EDGE: Loss = Loss { single: 1_000, fade: 2_000, recover: 300_000, faded: 600_000 };
    /// 0.6 % in all, rare and long: rain.
    pub(crate) const SATELLITE: Loss = Loss { single: 500, fade: 800, recover: 100_000, faded: 700_000 };
}

/// What a link is like. `[0]` is the direction away from the end that dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phys {
    /// One way, in microseconds.
    pub(crate) latency_us: u64,
    /// Up to so much more for each packet, in microseconds.
    pub(crate) jitter_us: u64,
    /// Bytes per second of each direction.
    pub(crate) rate: [u64; 2],
    /// Most bytes that wait for each direction; packets beyond are dropped.
    pub(crate) queue: [usize; 2],
    /// What gets lost.
    pub(crate) loss: Loss,
    /// Millionths of packets that are overtaken.
    pub(crate) reorder: u64,
    /// Longest packet in bytes, with its IP header.
    pub(crate) mtu: usize,
    /// How long TCP goes on without an answer, in microseconds.
    pub(crate) patience_us: u64,
}

impl Phys {
    /// A link by its usual numbers. The queue takes 12 seconds at the rate, as the deep buffers of 2G
    /// do, within what routers have: 16 to 256 KiB.
    pub(crate) fn new(latency_ms: u64, jitter_ms: u64, rate_up: u64, rate_down: u64, loss: Loss) -> Self {
        let queue = |rate: u64| (rate.saturating_mul(12) as usize).clamp(16 << 10, 256 << 10);
        Self {
            latency_us: latency_ms * 1000,
            jitter_us: jitter_ms * 1000,
            rate: [rate_up, rate_down],
            queue: [queue(rate_up), queue(rate_down)],
            loss,
            reorder: 0,
            mtu: 1440,
            // Linux gives up after 15 retransmissions, which it reckons as this.
            patience_us: 924_600_000,
        }
    }
}

/// What happened to packets of one direction. Bytes are those of IP, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AirStats {
    /// Packets sent.
    pub(crate) packets: u64,
    /// Bytes sent.
    pub(crate) bytes: u64,
    /// Packets lost on the air: noise, fades and cuts.
    pub(crate) lost: u64,
    /// Packets that the full queue did not take; they are not among those sent.
    pub(crate) overflowed: u64,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Air {
    flying: BTreeMap<(u64, u64), Vec<u8>>,
    serial: u64,
    free_us: u64,
    last_us: u64,
    faded_until_us: Option<u64>,
    cut: bool,
    pub(crate) stats: AirStats,
}

impl Air {
    pub(crate) fn new() -> Self {
        Self {
            flying: BTreeMap::new(),
            serial: 0,
            free_us: 0,
            last_us: 0,
            faded_until_us: None,
            cut: false,
            stats: AirStats::default(),
        }
    }

    /// Puts a packet into the queue of direction `way`.
    pub(crate) fn send(&mut self, now_us: u64, packet: Vec<u8>, way: usize, phys: &Phys, rng: &mut Rng) {
        let rate = phys.rate[way].max(1);
        let waiting = (self.free_us.saturating_sub(now_us) as u128 * rate as u128 / MILLION as u128) as usize;
        if waiting + packet.len() > phys.queue[way] {
            self.stats.overflowed += 1;
            return;
        }
        self.stats.packets += 1;
        self.stats.bytes += packet.len() as u64;
        self.free_us = self.free_us.max(now_us) + (packet.len() as u64 * MILLION).div_ceil(rate);
        // Drawn even if the radio is gone, so that a cut shifts no later draw.
        let late_us = rng.below(phys.jitter_us + 1);
        let noise = self.is_lost(now_us, &phys.loss, rng);
        let overtaken = likely(phys.reorder, rng);
        if self.cut || noise {
            self.stats.lost += 1;
            return;
        }
        let mut at_us = self.last_us.max(self.free_us + phys.latency_us + late_us);
        if overtaken {
            // Long enough for the next packet or two to come first.
            at_us += phys.latency_us / 2 + 2 * phys.mtu as u64 * MILLION / rate;
        } else {
            self.last_us = at_us;
        }
        self.serial += 1;
        self.flying.insert((at_us, self.serial), packet);
    }

    fn is_lost(&mut self, now_us: u64, loss: &Loss, rng: &mut Rng) -> bool {
        let change = rng.below(MILLION);
        match self.faded_until_us {
            // A draw of 0 ends the fade.
            Some(until_us) if change < loss.recover || now_us >= until_us => self.faded_until_us = None,
            None if change >= MILLION - loss.fade => self.faded_until_us = Some(now_us + FADE_MAX_US),
            _ => {}
        }
        likely(if self.faded_until_us.is_some() { loss.faded } else { loss.single }, rng)
    }

    /// When the next packet arrives.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.flying.keys().next().map(|(at_us, _)| *at_us)
    }

    /// The next packet that has arrived.
    pub(crate) fn land(&mut self, now_us: u64) -> Option<Vec<u8>> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now_us).then(|| first.remove())
    }

    /// The radio is gone, and with it what was on the way; or it is back.
    pub(crate) fn set_cut(&mut self, cut: bool) {
        self.cut = cut;
        if cut {
            self.stats.lost += self.flying.len() as u64;
            self.flying.clear();
        }
    }
}

/// True so many times in a million; never when the draws are over, which are 0 then.
fn likely(millionths: u64, rng: &mut Rng) -> bool {
    rng.below(MILLION) >= MILLION - millionths.min(MILLION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_many(phys: &Phys, n: usize) -> (Air, Vec<(u64, u64)>) {
        let (mut air, mut rng, mut landed) = (Air::new(), Rng::new(1), Vec::new());
        for i in 0..n as u64 {
            let now_us = i * 50_000;
            while let Some(at_us) = air.next_us().filter(|at| *at <= now_us) {
                let packet = air.land(at_us).unwrap();
                landed.push((at_us, u64::from_le_bytes(packet[..8].try_into().unwrap())));
            }
            let mut packet = i.to_le_bytes().to_vec();
            packet.resize(1000, 0);
            air.send(now_us, packet, 0, phys, &mut rng);
        }
        (air, landed)
    }

    #[test]
    fn losses_come_in_bursts_and_at_the_rate_that_was_promised() {
        for (loss, low, high) in [(Loss::GSM, 10, 20), (Loss::EDGE, 3, 8), (Loss::SATELLITE, 3, 9), (Loss::NONE, 0, 0)]
        {
            let (air, landed) = send_many(&Phys::new(10, 0, 100_000, 1, loss), 50_000);
            let lost = air.stats.lost / 50;
            assert!((low..=high).contains(&lost), "{loss:?}: {lost} of 1000");
            let holes = landed.windows(2).filter(|w| w[1].1 != w[0].1 + 1).count() as u64;
            assert!(air.stats.lost == 0 || holes < air.stats.lost, "{holes} holes, {} lost", air.stats.lost);
        }
    }

    #[test]
    fn packets_keep_their_order_unless_asked_otherwise() {
        let mut phys = Phys::new(300, 5_000, 100_000, 1, Loss::NONE);
        let ordered = |phys: &Phys| send_many(phys, 2_000).1.windows(2).all(|w| w[0].1 < w[1].1);
        assert!(ordered(&phys));
        phys.reorder = 50_000;
        phys.latency_us = 3_000_000;
        assert!(!ordered(&phys));
    }

    #[test]
    fn a_full_queue_drops_the_tail_and_a_cut_drops_everything() {
        let phys = Phys::new(300, 100, 2_875, 2_875, Loss::NONE);
        let (mut air, mut rng) = (Air::new(), Rng::new(1));
        for _ in 0..100 {
            air.send(0, vec![0; 1000], 0, &phys, &mut rng);
        }
        assert_eq!((air.stats.packets, air.stats.overflowed), (34, 66));
        air.set_cut(true);
        assert_eq!((air.stats.lost, air.next_us()), (34, None));
        air.set_cut(false);
        air.send(60_000_000, vec![0; 10], 0, &phys, &mut rng);
        assert!(air.next_us().is_some());
    }
}
