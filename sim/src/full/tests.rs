//! A clinic and a hub over the whole stack: what arrives, when, and for how many bytes.

use ropeway_core::id::NodeName;
use ropeway_core::policy::Role;
use ropeway_std::tls::TlsOptions;
use ropeway_std::{DeploymentId, MemoryCa};

use super::*;

const WALL_S: u64 = 1_800_000_000;
const S: u64 = 1_000_000;

fn gsm(loss: Loss) -> Phys {
    Phys::new(300, 100, 2_875, 2_875, loss)
}

fn name(s: &str) -> NodeName {
    NodeName::new(s).unwrap()
}

/// The processes of one deployment.
struct Deployment {
    hub: Server,
    clinic: Client,
    connections: u64,
}

impl Deployment {
    fn new() -> Self {
        Self::mixed(1, 1)
    }

    /// Hub and clinic of CAs with these keys.
    fn mixed(hub: u8, clinic: u8) -> Self {
        let ca = |key: u8| MemoryCa::new([key; 32], DeploymentId([1; 8]), WALL_S).unwrap();
        let hub = ca(hub).identity(name("hub"), Role::Hub, [2; 32]).unwrap();
        let clinic = ca(clinic).identity(name("clinic"), Role::Clinic, [3; 32]).unwrap();
        let options = TlsOptions::default();
        Self { hub: server(&hub, &options).unwrap(), clinic: client(&clinic, &options).unwrap(), connections: 0 }
    }

    fn dial(&mut self, now_us: u64, phys: &Phys, rng: &mut Rng) -> Pipe {
        self.connections += 1;
        let meeting = Meeting {
            client: &self.clinic,
            server: &self.hub,
            address: "hub:7700",
            wall_s: [0, WALL_S],
            serial: self.connections,
        };
        Pipe::new(now_us, phys, &meeting, rng).unwrap()
    }
}

fn bytes(n: usize) -> Vec<u8> {
    let mut rng = Rng::new(n as u64);
    (0..n).map(|_| rng.next_u64() as u8).collect()
}

/// What a pair of programs does: each sends its bytes and reads what comes.
struct Talk {
    pipe: Pipe,
    rng: Rng,
    now_us: u64,
    send: [Vec<u8>; 2],
    sent: [usize; 2],
    got: [Vec<u8>; 2],
    polls: u64,
}

impl Talk {
    fn new(phys: &Phys, seed: u64, send: [usize; 2]) -> Self {
        Self::over(&mut Deployment::new(), 0, phys, seed, send)
    }

    fn over(d: &mut Deployment, now_us: u64, phys: &Phys, seed: u64, send: [usize; 2]) -> Self {
        let mut rng = Rng::new(seed);
        let pipe = d.dial(now_us, phys, &mut rng);
        Self { pipe, rng, now_us, send: send.map(bytes), sent: [0; 2], got: Default::default(), polls: 0 }
    }

    fn serve(&mut self) {
        for end in 0..2 {
            self.pipe.read(end, &mut self.got[end]);
            let rest = &self.send[end][self.sent[end]..];
            self.sent[end] += self.pipe.write(end, &rest[..rest.len().min(4096)]);
        }
    }

    /// Both programs do what they can, then time goes on, at most to `until_us`; false when there.
    fn step(&mut self, until_us: u64) -> bool {
        self.serve();
        self.advance(until_us)
    }

    fn advance(&mut self, until_us: u64) -> bool {
        let next = self.pipe.poll(self.now_us, &mut self.rng);
        self.polls += 1;
        assert!(next.is_none_or(|at_us| at_us > self.now_us));
        self.now_us = next.unwrap_or(until_us).min(until_us);
        self.now_us < until_us
    }

    /// Runs until `done` or `until_us`.
    fn run_until(&mut self, until_us: u64, done: impl Fn(&Talk) -> bool) {
        loop {
            self.serve();
            // Asked before time goes on: what was read last is often all that there was to wait for.
            if done(self) || !self.advance(until_us) {
                return;
            }
        }
    }

    fn all_arrived(&self) -> bool {
        (0..2).all(|end| self.got[end].len() == self.send[1 - end].len())
    }

    fn finish(&mut self) {
        self.finish_until(24 * 3600 * S);
    }

    fn finish_until(&mut self, until_us: u64) {
        self.run_until(until_us, Talk::all_arrived);
        assert!(self.got[1] == self.send[0] && self.got[0] == self.send[1], "{:?}", self.pipe.stats());
    }

    /// The outcome of a whole conversation, and when it was over.
    fn whole(phys: &Phys, seed: u64, send: [usize; 2]) -> (PipeStats, u64) {
        let mut talk = Talk::new(phys, seed, send);
        talk.finish();
        (talk.pipe.stats(), talk.now_us)
    }
}

#[test]
fn everything_arrives_unaltered_over_a_lossy_link() {
    let (mut lost, mut repeated) = (0, 0);
    for (seed, reorder) in [(4, 0), (2, 0), (3, 20_000)] {
        let mut talk = Talk::new(&Phys { reorder, ..gsm(Loss::GSM) }, seed, [200_000, 200_000]);
        talk.finish();
        let stats = talk.pipe.stats();
        assert_eq!(talk.pipe.established(0), Some(PeerIdentity { name: name("hub"), role: Role::Hub }));
        assert_eq!(talk.pipe.established(1), Some(PeerIdentity { name: name("clinic"), role: Role::Clinic }));
        for way in stats.ways {
            assert!(way.arrived_bytes == 200_000 && way.tls_bytes > 200_000 && way.air.bytes > way.tls_bytes);
            (lost, repeated) = (lost + way.air.lost, repeated + way.repeated);
        }
    }
    // Some runs may be lucky.
    assert!(lost >= 4 && repeated >= 4, "{lost} {repeated}");
}

#[test]
fn a_link_that_loses_every_tenth_packet_is_slow_and_passes() {
    let loss = Loss { single: 100_000, ..Loss::NONE };
    let mut slowest_us = 0;
    for seed in 1..=10 {
        let mut talk = Talk::new(&gsm(loss), seed, [200_000, 200_000]);
        // Without loss it takes 80 s.
        talk.finish_until(600 * S);
        slowest_us = slowest_us.max(talk.now_us);
    }
    assert!(slowest_us > 100 * S, "{slowest_us}");
}

#[test]
fn the_same_draws_give_the_same_packets_at_the_same_microseconds() {
    let run = |seed| Talk::whole(&gsm(Loss::GSM), seed, [60_000, 20_000]);
    // A seed with losses both ways.
    let first = run(18);
    assert!(first.0.ways[0].air.lost > 0 && first.0.ways[1].air.lost > 0);
    assert_eq!(run(18), first);
    assert_ne!(run(19).0.fnv, first.0.fnv);
    // Here and on every other machine, in every build profile.
    assert_eq!((first.0.fnv, first.1), (0xbe36_1681_755c_4a0e, 34_898_661));
}

#[test]
fn connections_that_take_turns_do_not_disturb_each_other() {
    let mut alone = Talk::new(&gsm(Loss::GSM), 7, [30_000, 10_000]);
    let (mut a, mut b) =
        (Talk::new(&gsm(Loss::GSM), 7, [30_000, 10_000]), Talk::new(&gsm(Loss::GSM), 9, [30_000, 30_000]));
    for _ in 0..60 {
        assert_eq!((alone.step(600 * S), a.step(600 * S), b.step(600 * S)), (true, true, true));
    }
    assert_eq!((a.pipe.stats(), a.now_us), (alone.pipe.stats(), alone.now_us));
    assert_ne!(b.pipe.stats().fnv, a.pipe.stats().fnv);
}

#[test]
fn a_blackout_shorter_than_the_patience_of_tcp_passes() {
    for seed in 1..=20 {
        let mut talk = Talk::new(&gsm(Loss::GSM), seed, [100_000, 100_000]);
        talk.run_until(20 * S, |_| false);
        talk.pipe.cut();
        talk.run_until(320 * S, |_| false);
        assert_eq!((talk.pipe.ended(0), talk.pipe.ended(1)), (None, None));
        talk.pipe.heal();
        // Each end tries again after a minute at the latest, and needs 40 s for the rest.
        talk.finish_until(480 * S);
    }
}

#[test]
fn a_closed_window_does_not_stop_the_other_direction() {
    let mut talk = Talk::new(&gsm(Loss::NONE), 1, [0, 0]);
    let data = bytes(100_000);
    let (mut sent, mut got) = ([0; 2], Vec::new());
    // The hub never reads; it writes when the clinic has been asking for a while whether it does.
    while talk.now_us < 200 * S {
        for end in 0..2 {
            if end == 0 || talk.now_us >= 100 * S {
                sent[end] += talk.pipe.write(end, &data[..data.len().min(sent[end] + 4096)][sent[end]..]);
            }
        }
        talk.pipe.read(0, &mut got);
        talk.advance(200 * S);
        assert!(talk.now_us >= 100 * S || got.is_empty());
    }
    assert!(got == data && talk.pipe.readable(1) < 32 << 10, "{} {:?}", got.len(), talk.pipe.stats());
}

#[test]
fn a_reset_after_a_blackout_is_heard_at_once() {
    // Acknowledgements of what has arrived were lost: the number that TCP repeats from is old.
    let mut talk = Talk::new(&gsm(Loss::NONE), 1, [100_000, 100_000]);
    talk.run_until(20 * S, |_| false);
    talk.pipe.cut();
    talk.run_until(320 * S, |_| false);
    talk.pipe.heal();
    talk.pipe.abort(0);
    talk.run_until(321 * S, |_| false);
    assert_eq!(talk.pipe.ended(1), Some(Ended::Reset));
}

#[test]
fn a_longer_blackout_ends_with_an_error_at_both_ends() {
    let mut talk = Talk::new(&gsm(Loss::NONE), 1, [100_000, 100_000]);
    talk.run_until(20 * S, |_| false);
    talk.pipe.cut();
    talk.run_until(2000 * S, |_| false);
    assert_eq!((talk.pipe.ended(0), talk.pipe.ended(1)), (Some(Ended::TimedOut), Some(Ended::TimedOut)));
    assert!(talk.pipe.is_over());
    // An end that waits only is told by nobody, and sleeps.
    let mut talk = Talk::new(&gsm(Loss::NONE), 1, [10_000, 0]);
    talk.finish();
    talk.run_until(talk.now_us + 10 * S, |_| false);
    talk.pipe.cut();
    let polls = talk.polls;
    talk.run_until(talk.now_us + 100_000 * S, |_| false);
    assert_eq!((talk.pipe.ended(0), talk.pipe.ended(1), talk.polls), (None, None, polls + 1));
}

#[test]
fn a_call_that_nobody_hears_is_given_up() {
    let mut talk = Talk::new(&gsm(Loss::NONE), 1, [10, 10]);
    talk.pipe.cut();
    talk.run_until(126 * S, |_| false);
    assert_eq!(talk.pipe.ended(0), None);
    talk.run_until(128 * S, |_| false);
    assert_eq!((talk.pipe.ended(0), talk.pipe.established(0)), (Some(Ended::TimedOut), None));
}

#[test]
fn the_second_connection_resumes_for_fewer_bytes() {
    let mut d = Deployment::new();
    let mut first = Talk::over(&mut d, 0, &gsm(Loss::NONE), 1, [100, 100]);
    first.finish();
    let mut second = Talk::over(&mut d, first.now_us, &gsm(Loss::NONE), 2, [100, 100]);
    second.finish();
    assert!(!first.pipe.is_resumed() && second.pipe.is_resumed());
    let sum = |t: &Talk| t.pipe.stats().ways.iter().map(|w| w.tls_bytes).sum::<u64>();
    assert!(sum(&second) + 400 < sum(&first), "{} {}", sum(&first), sum(&second));
    // Without draws, too, no two connections are alike.
    let mut third = Talk::over(&mut d, second.now_us, &gsm(Loss::NONE), 2, [100, 100]);
    third.finish();
    assert!(third.pipe.is_resumed());
    // A process that starts anew has no tickets.
    d.clinic = Deployment::new().clinic;
    let mut fourth = Talk::over(&mut d, third.now_us, &gsm(Loss::NONE), 2, [100, 100]);
    fourth.finish();
    assert!(!fourth.pipe.is_resumed());
}

#[test]
fn strangers_are_refused_by_the_real_verifiers() {
    let run = |hub, clinic| {
        let mut talk = Talk::over(&mut Deployment::mixed(hub, clinic), 0, &gsm(Loss::GSM), 1, [10, 10]);
        talk.run_until(60 * S, |_| false);
        (talk.pipe.ended(0), talk.pipe.ended(1), talk.got[1].len())
    };
    let refused = Some(Ended::Refused(Code::UntrustedCertificate));
    assert_eq!(run(1, 9), (refused, refused, 0));
}

#[test]
fn a_clinic_whose_dates_have_run_out_is_refused_by_the_hubs_clock() {
    let mut talk = Talk::new(&gsm(Loss::NONE), 1, [10, 10]);
    talk.pipe.set_wall(1, WALL_S + 3 * 365 * 86_400);
    talk.run_until(60 * S, |_| false);
    assert_eq!(talk.pipe.ended(1), Some(Ended::Refused(Code::CertificateExpired)));
    assert_eq!(talk.pipe.ended(0), Some(Ended::Refused(Code::CertificateExpired)));
}

#[test]
fn a_close_is_told_from_a_reset_and_from_silence() {
    let up = |seed| {
        let mut talk = Talk::new(&gsm(Loss::GSM), seed, [5_000, 5_000]);
        talk.finish();
        talk
    };
    let mut talk = up(1);
    talk.pipe.close(0);
    talk.run_until(talk.now_us + 30 * S, |_| false);
    assert_eq!((talk.pipe.ended(1), talk.pipe.ended(0), talk.pipe.is_over()), (Some(Ended::Closed), None, false));
    talk.pipe.close(1);
    talk.run_until(talk.now_us + 30 * S, |_| false);
    assert_eq!((talk.pipe.ended(0), talk.pipe.is_over()), (Some(Ended::Closed), true));

    let mut talk = up(2);
    talk.pipe.abort(1);
    talk.run_until(talk.now_us + 30 * S, |_| false);
    assert_eq!((talk.pipe.ended(0), talk.pipe.ended(1), talk.pipe.is_over()), (Some(Ended::Reset), None, true));

    let mut talk = up(3);
    talk.pipe.die(1);
    talk.send[0].extend(bytes(1000));
    talk.run_until(talk.now_us + 30 * S, |_| false);
    assert_eq!(talk.pipe.ended(0), None);
    talk.pipe.reboot(1);
    talk.run_until(talk.now_us + 90 * S, |_| false);
    assert_eq!(talk.pipe.ended(0), Some(Ended::Reset));
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    let mut talk = Talk::new(&Phys::new(1, 0, 10_000_000, 10_000_000, Loss::NONE), 1, [0, 0]);
    talk.run_until(S, |_| false);
    let data = bytes(4096);
    let mut written = 0;
    let mut now_us = talk.now_us;
    for _ in 0..10_000 {
        written += talk.pipe.write(0, &data);
        now_us = talk.pipe.poll(now_us, &mut talk.rng).unwrap_or(now_us + 1000).min(now_us + 1000);
    }
    // Both sockets' buffers, TLS on either side, and no more.
    assert!((64 << 10..160 << 10).contains(&written), "{written}");
    assert!((16 << 10..32 << 10).contains(&talk.pipe.readable(1)));
    let mut got = Vec::new();
    for _ in 0..10_000 {
        talk.pipe.read(1, &mut got);
        now_us = talk.pipe.poll(now_us, &mut talk.rng).unwrap_or(now_us + 1000).min(now_us + 1000);
    }
    assert_eq!(got.len(), written);
}

#[test]
fn a_link_without_loss_is_well_used() {
    let (stats, now_us) = Talk::whole(&gsm(Loss::NONE), 1, [400_000, 0]);
    let goodput = 400_000 * S / now_us;
    assert!(goodput * 100 >= 2_875 * 85, "{goodput} B/s, {stats:?}");
}
