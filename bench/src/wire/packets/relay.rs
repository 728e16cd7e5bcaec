//! Carries packets between two TUN devices, in a thread of its own.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::seen::{DOWN, HUB_PORT, Head, Log, UP};
use super::way::{Dice, Fate, Profile, Way};

/// Longest packet.
const MTU: usize = 1_500;
/// The longest sleep: how soon the end is noticed.
const NAP_MAX: Duration = Duration::from_millis(50);

/// When the link breaks.
#[derive(Clone, Debug)]
pub(super) enum Breaks {
    Never,
    /// As soon as so much payload has been sent up for the first time, each.
    After(Vec<u64>),
    /// After living for a random time, drawn from here; in microseconds.
    Living {
        least_us: u64,
        most_us: u64,
    },
}

/// How it breaks.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) breaks: Breaks,
    /// How long it is down each time, in microseconds.
    pub(super) down_us: u64,
    /// Connections of before go nowhere afterwards, as when the modem has got another address.
    pub(super) forgets: bool,
}

impl Plan {
    /// It does not.
    pub(super) fn never() -> Self {
        Self { breaks: Breaks::Never, down_us: 0, forgets: false }
    }
}

/// What the thread shares.
#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    downs: Mutex<Vec<(u64, u64)>>,
    cut_now: AtomicBool,
    stop: AtomicBool,
}

/// A link at work. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    begun: Instant,
}

impl Relay {
    /// Begins to carry packets between the clinic's device and the hub's.
    pub(super) fn start(clinic: File, hub: File, profile: Profile, plan: Plan, seed: u64) -> std::io::Result<Self> {
        let (shared, begun) = (Arc::new(Shared::default()), Instant::now());
        let mut carrier = Carrier {
            shared: Arc::clone(&shared),
            begun,
            devices: [clinic, hub],
            ways: [Way::new(profile, 2 * seed), Way::new(profile, 2 * seed + 1)],
            dice: Dice::new(!seed),
            plan,
            up_at_us: 0,
            breaks_at_us: None,
            fresh: 0,
            forgotten: HashSet::new(),
        };
        let thread = std::thread::Builder::new().name("link".into()).spawn(move || carrier.run())?;
        Ok(Self { shared, thread: Some(thread), begun })
    }

    /// Time since the link's beginning, in microseconds.
    pub(super) fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// What has been seen.
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.shared.log)
    }

    /// When the link was down, from and until, in microseconds.
    pub(super) fn downs(&self) -> Vec<(u64, u64)> {
        lock(&self.shared.downs).clone()
    }

    /// Breaks it once, now.
    pub(super) fn cut(&self) {
        self.shared.cut_now.store(true, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What one thread has written stays true if it panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Carrier {
    shared: Arc<Shared>,
    begun: Instant,
    /// Of the clinic, and of the hub.
    devices: [File; 2],
    ways: [Way; 2],
    dice: Dice,
    plan: Plan,
    /// Down until then.
    up_at_us: u64,
    /// When it breaks, where time decides that.
    breaks_at_us: Option<u64>,
    /// Payload that was sent up for the first time.
    fresh: u64,
    /// Connections that go nowhere.
    forgotten: HashSet<u16>,
}

impl Carrier {
    fn run(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now_us = self.now_us();
            self.land(now_us);
            if self.breaks(now_us) {
                self.break_down(now_us);
            }
            self.sleep(now_us);
            for way in [UP, DOWN] {
                self.take(way);
            }
        }
    }

    fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Gives what has arrived to the other end.
    fn land(&mut self, now_us: u64) {
        for way in [UP, DOWN] {
            while let Some((number, packet)) = self.ways[way].land(now_us) {
                let fate = if packet.is_some() { Fate::Carried } else { Fate::Lost };
                lock(&self.shared.log).all[number].fate = fate;
                if let Some(packet) = packet {
                    // A namespace that is being taken down takes no more.
                    let _ = self.devices[1 - way].write(&packet);
                }
            }
        }
    }

    /// Whether it is time to break.
    fn breaks(&mut self, now_us: u64) -> bool {
        if self.shared.cut_now.swap(false, Ordering::Relaxed) {
            return true;
        }
        if now_us < self.up_at_us {
            return false;
        }
        match &mut self.plan.breaks {
            Breaks::Never => false,
            Breaks::After(marks) => {
                let due = marks.first().is_some_and(|mark| self.fresh >= *mark);
                if due {
                    marks.remove(0);
                }
                due
            }
            Breaks::Living { least_us, most_us } => {
                let (least_us, most_us) = (*least_us, *most_us);
                let from_us = self.up_at_us;
                let dice = &mut self.dice;
                let at_us =
                    *self.breaks_at_us.get_or_insert_with(|| from_us + least_us + dice.below(most_us - least_us + 1));
                now_us >= at_us
            }
        }
    }

    fn break_down(&mut self, now_us: u64) {
        self.breaks_at_us = None;
        self.up_at_us = now_us + self.plan.down_us;
        lock(&self.shared.downs).push((now_us, self.up_at_us));
        let mut log = lock(&self.shared.log);
        for way in &mut self.ways {
            for number in way.break_down(now_us) {
                log.all[number].fate = Fate::Cut;
            }
        }
        if self.plan.forgets {
            self.forgotten.extend(log.all.iter().map(|s| s.port));
        }
    }

    fn sleep(&self, now_us: u64) {
        let next_us = self.ways.iter().filter_map(Way::next_us).min();
        let nap = next_us.map_or(NAP_MAX, |at_us| Duration::from_micros(at_us.saturating_sub(now_us)).min(NAP_MAX));
        let nap = Timespec { tv_sec: nap.as_secs() as i64, tv_nsec: nap.subsec_nanos().into() };
        let mut fds = self.devices.each_ref().map(|device| PollFd::new(device, PollFlags::IN));
        let _ = poll(&mut fds, Some(&nap));
    }

    /// Takes what one end has sent.
    fn take(&mut self, way: usize) {
        let mut packet = [0; MTU];
        loop {
            let n = match self.devices[way].read(&mut packet) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let now_us = self.now_us();
            // What is no TCP is the kernel looking for neighbours.
            let Some(head) = Head::parse(&packet[..n]).filter(|head| head.port != HUB_PORT) else { continue };
            let mut log = lock(&self.shared.log);
            let number = log.note(way, now_us, n, &head);
            let down = now_us < self.up_at_us || self.forgotten.contains(&head.port);
            let taken = if down { Err(Fate::Cut) } else { self.ways[way].offer(now_us, number, packet[..n].to_vec()) };
            let seen = &mut log.all[number];
            match taken {
                Ok(left_us) => seen.left_us = left_us,
                Err(fate) => seen.fate = fate,
            }
            if way == UP {
                self.fresh += seen.fresh as u64;
            }
        }
    }
}
