//! A thin, slow, breaking TCP link inside this process.
//!
//! A [`Link`] listens on a port of 127.0.0.1 and forwards what connects there to its target, at the
//! rate, latency and jitter of a [`Profile`]. It stands for one modem: all its connections share the
//! rate. Only the bytes inside TCP are modelled; packet headers and lost packets are not.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::profile::Profile;

pub mod pacing;
mod relay;

/// How a connection ends when the link is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CutMode {
    /// Both ends see a reset.
    #[default]
    Reset,
    /// Both ends see an orderly end of the stream.
    Fin,
    /// Both ends see nothing: no byte comes any more.
    Blackhole,
}

/// When the link breaks, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutPlan {
    /// The link breaks when this many bytes have left the clinic's modem since the start or the
    /// last cut, over all connections. At least 1.
    pub after_bytes_up: u64,
    /// New connections are reset for this long, in milliseconds of link time.
    pub down_ms: u64,
    /// What the two ends see.
    pub mode: CutMode,
    /// How many times it breaks.
    pub times: u32,
}

impl CutPlan {
    /// One cut with resets after so many bytes up, for so many milliseconds of link time.
    #[must_use]
    pub fn once(after_bytes_up: u64, down_ms: u64) -> CutPlan {
        CutPlan { after_bytes_up, down_ms, mode: CutMode::Reset, times: 1 }
    }
}

/// What is not part of a link's profile.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// Link seconds per second of wall time: at 10, rates are tenfold and latencies a tenth.
    pub speed: f64,
    /// Where the jitter is drawn from.
    pub seed: u64,
    /// When the link breaks, if at all.
    pub cut: Option<CutPlan>,
}

/// Whether a link carries anything now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It does.
    Up,
    /// It was cut and refuses new connections.
    Cut,
}

/// What a link has done so far. All bytes are of TCP payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Bytes that left the clinic's modem, with those that a cut lost in the air.
    pub bytes_up: u64,
    /// Bytes that left the hub's side.
    pub bytes_down: u64,
    /// Bytes that reached the hub.
    pub delivered_up: u64,
    /// Bytes that reached the clinic.
    pub delivered_down: u64,
    /// How many times the link broke.
    pub cuts: u64,
    /// Connections taken.
    pub connections: u64,
    /// Connections refused while the link was down.
    pub refused: u64,
}

/// The live counters of a link; read them from any thread.
#[derive(Debug, Default)]
pub struct Counters {
    serialised: [AtomicU64; 2],
    delivered: [AtomicU64; 2],
    cuts: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    is_cut: AtomicBool,
}

impl Counters {
    /// All counts now. Each is exact; together they are not one instant.
    #[must_use]
    pub fn read(&self) -> LinkCounts {
        LinkCounts {
            bytes_up: self.serialised[0].load(Relaxed),
            bytes_down: self.serialised[1].load(Relaxed),
            delivered_up: self.delivered[0].load(Relaxed),
            delivered_down: self.delivered[1].load(Relaxed),
            cuts: self.cuts.load(Relaxed),
            connections: self.connections.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// Whether the link is up now.
    #[must_use]
    pub fn state(&self) -> LinkState {
        if self.is_cut.load(Relaxed) { LinkState::Cut } else { LinkState::Up }
    }

    fn add_serialised(&self, up: bool, bytes: u64) {
        self.serialised[usize::from(!up)].fetch_add(bytes, Relaxed);
    }

    fn add_delivered(&self, up: bool, bytes: u64) {
        self.delivered[usize::from(!up)].fetch_add(bytes, Relaxed);
    }

    fn add_cut(&self) {
        self.cuts.fetch_add(1, Relaxed);
    }

    fn add_connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    fn add_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Relaxed);
    }
}

/// A running link. Dropping it closes its sockets and joins its thread.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Starts a link to `target` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// `InvalidInput` if the speed is not a positive number or a cut is after 0 bytes; else what
    /// the system reported for the socket or the thread.
    pub fn start(target: SocketAddr, profile: &Profile, options: LinkOptions) -> io::Result<Link> {
        let speed = options.speed;
        if !(speed.is_finite() && (1e-3..=1e6).contains(&speed)) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the speed must be between 0.001 and 1000000"));
        }
        if options.cut.is_some_and(|cut| cut.after_bytes_up == 0) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a link cannot break after 0 bytes"));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, relay::SOCKET_BUFFER_BYTES)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let scaled = |us: u32| Duration::from_micros(us.into()).div_f64(speed);
        let lane = |rate: u32, seed| {
            let (latency, jitter) = (scaled(profile.latency_us), scaled(profile.jitter_us));
            pacing::Lane::new(f64::from(rate) * speed, latency, jitter, profile.queue_bytes as usize, seed)
        };
        let lanes =
            [lane(profile.rate_up_bytes_per_s, options.seed), lane(profile.rate_down_bytes_per_s, !options.seed)];
        let plan = options.cut.map(|cut| {
            let down = Duration::try_from_secs_f64(cut.down_ms as f64 / 1_000.0 / speed);
            (cut, down.unwrap_or(Duration::MAX))
        });
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = UnixStream::pair()?;
        let relay = relay::Relay::new(target, listener, stopped, lanes, plan, Arc::clone(&counters));
        let thread = thread::Builder::new().name("demo-link".into()).spawn(move || relay.run())?;
        Ok(Link { address, counters, stop: Some(stop), thread: Some(thread) })
    }

    /// Where to connect instead of the target.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The live counters; they outlive the link.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already, and its sockets are closed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn bytes(len: usize) -> Vec<u8> {
        let mut source = crate::demo::SplitMix::new(5);
        (0..len).map(|_| source.next() as u8).collect()
    }

    /// A server that sends back what it reads and reports each connection's bytes when it ends.
    fn echo_server() -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (report, reports) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, report) = (stream.unwrap(), report.clone());
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                thread::spawn(move || {
                    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
                    while let Ok(len @ 1..) = stream.read(&mut buffer) {
                        all.extend_from_slice(&buffer[..len]);
                        let _ = stream.write_all(&buffer[..len]);
                    }
                    let _ = report.send(all);
                });
            }
        });
        (address, reports)
    }

    fn connect(link: &Link) -> TcpStream {
        let stream = TcpStream::connect(link.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "{what} does not come");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn start(name: &str, speed: f64, cut: Option<CutPlan>) -> (Link, mpsc::Receiver<Vec<u8>>) {
        let (target, reports) = echo_server();
        let profile = name.parse().unwrap();
        (Link::start(target, &profile, LinkOptions { speed, seed: 3, cut }).unwrap(), reports)
    }

    #[test]
    fn bytes_arrive_intact_and_in_order_and_no_faster_than_the_rate() {
        let (link, reports) = start("edge", 100.0, None);
        let sent = bytes(60_000);
        let begin = Instant::now();
        let stream = connect(&link);
        let (mut writer, data) = (stream.try_clone().unwrap(), sent.clone());
        let writing = thread::spawn(move || {
            writer.write_all(&data).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&stream).read_to_end(&mut back).unwrap();
        let took = begin.elapsed();
        writing.join().unwrap();
        assert!(back == sent && reports.recv_timeout(PATIENCE).unwrap() == sent);
        // 60,000 bytes at 750,000 bytes per second, the round trip of the SYN, and one more.
        assert!(took >= Duration::from_millis(80 + 3 + 2), "{took:?}");
        let counts = link.counters().read();
        assert_eq!((counts.bytes_up, counts.bytes_down), (60_000, 60_000));
        assert_eq!((counts.delivered_up, counts.delivered_down), (60_000, 60_000));
        assert_eq!((counts.connections, counts.cuts, counts.refused), (1, 0, 0));
    }

    #[test]
    fn a_cut_comes_at_its_byte_then_refuses_then_carries_again() {
        let (link, reports) = start("edge", 100.0, Some(CutPlan::once(20_011, 60_000)));
        let counters = link.counters();
        let sent = bytes(60_000);
        let mut stream = connect(&link);
        let failed = stream.write_all(&sent).is_err() || stream.read_to_end(&mut Vec::new()).is_err();
        assert!(failed, "the client saw no reset");
        wait_for("the cut", || counters.state() == LinkState::Cut);
        let counts = counters.read();
        assert_eq!((counts.bytes_up, counts.cuts), (20_011, 1));
        let arrived = reports.recv_timeout(PATIENCE).unwrap();
        assert!(arrived.len() as u64 <= counts.delivered_up && counts.delivered_up < 20_011, "nothing was in the air");
        assert!(sent.starts_with(&arrived));

        assert!(matches!(connect(&link).read(&mut [0; 1]), Ok(0) | Err(_)));
        wait_for("a refusal", || counters.read().refused == 1);

        wait_for("the link", || counters.state() == LinkState::Up);
        let mut stream = connect(&link);
        stream.write_all(&sent[..30_000]).unwrap();
        let mut back = vec![0; 30_000];
        stream.read_exact(&mut back).unwrap();
        assert!(back == sent[..30_000]);
        assert_eq!(counters.read().cuts, 1);
    }

    #[test]
    fn a_black_hole_keeps_the_connection_and_loses_every_byte() {
        let cut = CutPlan { mode: CutMode::Blackhole, ..CutPlan::once(5_000, 1_000) };
        let (link, _reports) = start("edge", 100.0, Some(cut));
        let mut stream = connect(&link);
        stream.write_all(&bytes(6_000)).unwrap();
        wait_for("the cut", || link.counters().read().cuts == 1);
        let down = link.counters().read().delivered_down as usize;
        stream.read_exact(&mut vec![0; down]).unwrap();
        stream.write_all(&bytes(100)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        let silence = stream.read(&mut [0; 1]).unwrap_err().kind();
        assert!(matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    }

    #[test]
    fn a_dropped_link_ends_its_connections() {
        let (link, _reports) = start("lan", 1.0, None);
        let mut stream = connect(&link);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        drop(link);
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }

    #[test]
    fn a_speed_of_nothing_is_refused() {
        let target = "127.0.0.1:1".parse().unwrap();
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let options = LinkOptions { speed, seed: 0, cut: None };
            assert_eq!(Link::start(target, &Profile::ALL[0], options).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
