//! What stands between a clinic and its hub in a carrier's network, and what it does to connections
//! that it has taken in good faith. Rates and plain cuts are `ropeway_mio::demo::link`'s.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A bad habit.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    /// None: it forwards.
    None,
    /// A connection that was idle for so long is forgotten: what comes then goes nowhere, and nobody is
    /// told.
    Forgets(Duration),
    /// It has taken so many bytes from the clinic and forwards no more, though it takes them; then it
    /// closes its side towards the clinic in good order. So often.
    SwallowsThenCloses(u64, u32),
    /// After so many bytes from the clinic it is silent for a while, once; nothing is lost.
    PausesOnce(u64, Duration),
    /// After an idle time the first bytes take so much longer.
    Wakes {
        /// The idle time.
        after: Duration,
        /// The delay.
        delay: Duration,
    },
    /// One byte at a time, with a pause behind each.
    Trickles(Duration),
}

/// A running middlebox. Its threads end with the process.
#[derive(Debug)]
pub struct Middlebox {
    /// Where to connect instead of the hub.
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: AtomicU64,
    struck: AtomicU64,
}

/// What the two directions of a connection share.
#[derive(Debug)]
struct Shared {
    habit: Habit,
    seen: Arc<Seen>,
    last: Mutex<Instant>,
    dead: AtomicBool,
    bytes_up: AtomicU64,
    silent_until: Mutex<Option<Instant>>,
}

impl Middlebox {
    /// Stands before `hub`.
    #[must_use]
    pub fn start(hub: SocketAddr, habit: Habit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let of_thread = Arc::clone(&seen);
        std::thread::spawn(move || {
            for clinic in listener.incoming().map_while(Result::ok) {
                let Ok(hub) = TcpStream::connect(hub) else { continue };
                of_thread.connections.fetch_add(1, SeqCst);
                let shared = Arc::new(Shared {
                    habit,
                    seen: Arc::clone(&of_thread),
                    last: Mutex::new(Instant::now()),
                    dead: AtomicBool::new(false),
                    bytes_up: AtomicU64::new(0),
                    silent_until: Mutex::new(None),
                });
                let _ = (clinic.set_nodelay(true), hub.set_nodelay(true));
                let (up, down) = (Arc::clone(&shared), shared);
                let (from, to) = (clinic.try_clone().unwrap(), hub.try_clone().unwrap());
                std::thread::spawn(move || up.forward(true, from, to));
                std::thread::spawn(move || down.forward(false, hub, clinic));
            }
        });
        Self { address, seen }
    }

    /// Connections taken so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.seen.connections.load(SeqCst)
    }

    /// How often it has indulged in its habit.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.seen.struck.load(SeqCst)
    }
}

impl Shared {
    fn forward(&self, up: bool, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = [0; 2048];
        loop {
            let n = match from.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(n) => n,
            };
            if !self.passes(up, n, &from) {
                continue;
            }
            let sent = match self.habit {
                Habit::Trickles(pause) => piece[..n].iter().try_for_each(|b| {
                    std::thread::sleep(pause);
                    to.write_all(&[*b])
                }),
                _ => to.write_all(&piece[..n]),
            };
            if sent.is_err() {
                break;
            }
        }
        // A connection that was forgotten is not ended for the other side either.
        if !self.dead.load(SeqCst) {
            let _ = to.shutdown(Shutdown::Write);
        } else if up {
            // Kept open: whoever waits at the other end hears nothing.
            std::mem::forget(to);
        }
    }

    /// Whether bytes that have come go on; takes its time where the habit wants it.
    fn passes(&self, up: bool, n: usize, from: &TcpStream) -> bool {
        let idle = std::mem::replace(&mut *self.last.lock().unwrap(), Instant::now()).elapsed();
        let bytes_up = if up { self.bytes_up.fetch_add(n as u64, SeqCst) + n as u64 } else { 0 };
        match self.habit {
            Habit::Forgets(after) if idle > after && !self.dead.swap(true, SeqCst) => {
                self.seen.struck.fetch_add(1, SeqCst);
            }
            Habit::SwallowsThenCloses(after, times) if up && bytes_up > after && !self.dead.load(SeqCst) => {
                let before = self.seen.struck.fetch_update(SeqCst, SeqCst, |n| (n < u64::from(times)).then_some(n + 1));
                if before.is_ok() {
                    self.dead.store(true, SeqCst);
                    let _ = from.shutdown(Shutdown::Write);
                }
            }
            Habit::PausesOnce(after, time)
                if bytes_up > after && self.seen.struck.compare_exchange(0, 1, SeqCst, SeqCst).is_ok() =>
            {
                *self.silent_until.lock().unwrap() = Some(Instant::now() + time);
            }
            Habit::Wakes { after, delay } if idle > after => {
                self.seen.struck.fetch_add(1, SeqCst);
                *self.silent_until.lock().unwrap() = Some(Instant::now() + delay);
            }
            _ => {}
        }
        let until = *self.silent_until.lock().unwrap();
        if let Some(until) = until {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        !self.dead.load(SeqCst)
    }
}
