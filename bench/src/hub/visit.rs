//! One session of a clinic with the hub, frame by frame.

use std::time::Duration;

use ropeway_core::node::{Event, Flow, SessionId, Transmit};

use super::watch::{MODEL, Tallies, ZSTD};
use crate::Result;
use crate::wire::air::{Air, Way};
use crate::wire::call::{CLINIC, HUB};
use crate::wire::host::{Host, now};

/// What a session has cost.
#[derive(Clone, Debug)]
pub(super) struct Visited {
    pub(super) begun_us: u64,
    pub(super) ended_us: u64,
    /// Of frames, up and down.
    pub(super) bytes: [u64; 2],
    /// Node, codecs and log.
    pub(super) hub_cpu: Duration,
    pub(super) tallies: Tallies,
}

impl Visited {
    /// Whether its batches were the model's, all of them.
    pub(super) fn is_model(&self) -> bool {
        self.tallies[MODEL].batches > 0 && self.tallies[ZSTD].batches == 0
    }
}

/// See the [module](self).
pub(super) struct Visit {
    clinic: Host,
    begun_us: u64,
    ids: [SessionId; 2],
    ways: [Way; 2],
    ends: [End; 2],
    finishing: bool,
    pub(super) hub_cpu: Duration,
}

/// What an end has in its hands.
#[derive(Default)]
struct End {
    /// Bytes that the node has not taken yet.
    came: Vec<u8>,
    /// Bytes that the socket has not taken yet.
    goes: Vec<u8>,
    paused: bool,
    over: bool,
    /// The node has something for it.
    woken: bool,
}

impl Visit {
    pub(super) fn begin(number: usize, mut clinic: Host, hub: &mut Host, air: Air, us: u64) -> Result<Self> {
        let fail = |e: ropeway_core::node::OpenError| format!("clinic {number}: {}", e.code());
        // Nothing leaves before the connection is there.
        let ways = [Way::new(air, us + air.round_trip_us()), Way::new(air, us + air.latency_us)];
        let ids = [
            clinic.node.open(now(us), hub.peer()).map_err(fail)?,
            hub.node.open(now(us), clinic.peer()).map_err(fail)?,
        ];
        let mut ends: [End; 2] = Default::default();
        ends.iter_mut().for_each(|end| end.woken = true);
        Ok(Self { clinic, begun_us: us, ids, ways, ends, finishing: false, hub_cpu: Duration::ZERO })
    }

    pub(super) fn hub_session(&self) -> SessionId {
        self.ids[HUB]
    }

    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.over)
    }

    pub(super) fn wake(&mut self) {
        self.ends[HUB].woken = true;
    }

    pub(super) fn resume(&mut self) {
        self.ends[HUB].paused = false;
        self.wake();
    }

    pub(super) fn end(self, us: u64, tallies: Tallies) -> Result<Visited> {
        let bytes = [self.ways[CLINIC].bytes, self.ways[HUB].bytes];
        Ok(Visited { begun_us: self.begun_us, ended_us: us, bytes, hub_cpu: self.hub_cpu, tallies })
    }

    /// Whether there may be something to do.
    pub(super) fn is_due(&self, us: u64) -> bool {
        let lands = self.ways.iter().any(|way| way.next_us().is_some_and(|at_us| at_us <= us));
        let timer = self.clinic_timer_us().is_some_and(|at_us| at_us <= us);
        lands || timer || self.ends.iter().any(|end| end.woken || !end.goes.is_empty())
    }

    /// When something happens next by itself.
    pub(super) fn next_us(&self, us: u64) -> Option<u64> {
        let lands = self.ways.iter().filter_map(Way::next_us);
        let waits = (0..2).filter(|&e| !self.ends[e].goes.is_empty());
        let rooms = waits.filter_map(|e| self.ways[e].room_at_us(us));
        lands.chain(rooms).chain(self.clinic_timer_us()).filter(|at_us| *at_us > us).min()
    }

    fn clinic_timer_us(&self) -> Option<u64> {
        self.clinic.node.poll_timeout().map(|(at, _)| at.0 * 1_000).filter(|_| !self.ends[CLINIC].over)
    }

    /// The clinic does what it can; whether that was anything.
    pub(super) fn turn_clinic(&mut self, us: u64) -> Result<bool> {
        if self.clinic_timer_us().is_some_and(|at_us| at_us <= us) {
            self.clinic.node.timeout(now(us));
        }
        let Self { clinic, ids, ways, ends, .. } = self;
        let mut moved = turn(clinic, ids[CLINIC], CLINIC, ways, &mut ends[CLINIC], us)?;
        while clinic.node.poll_ready().is_some() {
            moved = true;
        }
        while clinic.node.poll_resumed().is_some() {
            (self.ends[CLINIC].paused, moved) = (false, true);
        }
        while let Some(event) = clinic.node.poll_event() {
            moved = true;
            match event {
                Event::CaughtUp { session, .. } => clinic.node.finish(now(us), session),
                Event::Closed { ending, .. } => {
                    if let Some(code) = ending.code {
                        return Err(format!("a clinic's session ended: {code}").into());
                    }
                }
                other => return Err(format!("a clinic: {other:?}").into()),
            }
        }
        let idle = self.ends[CLINIC].goes.is_empty() && !self.ends[CLINIC].over && !self.finishing;
        if idle && self.clinic.node.has_nothing_to_send(self.ids[CLINIC]) {
            self.finishing = true;
            self.clinic.node.finish(now(us), self.ids[CLINIC]);
            moved = true;
        }
        self.ends[CLINIC].woken = moved;
        Ok(moved)
    }

    /// The same of the hub; its timers and what it has to tell are the fleet's.
    pub(super) fn turn_hub(&mut self, hub: &mut Host, us: u64) -> Result<bool> {
        let moved = turn(hub, self.ids[HUB], HUB, &mut self.ways, &mut self.ends[HUB], us)?;
        self.ends[HUB].woken = moved;
        Ok(moved)
    }
}

fn turn(host: &mut Host, id: SessionId, e: usize, ways: &mut [Way; 2], end: &mut End, us: u64) -> Result<bool> {
    let mut moved = false;
    while !end.paused
        && let Some(piece) = ways[1 - e].land(us)
    {
        end.came.extend(piece);
        moved = true;
    }
    moved |= host.drive(us)?;
    if !end.paused && !end.came.is_empty() {
        match host.node.receive(now(us), id, &end.came) {
            Ok(got) => {
                end.came.drain(..got.consumed);
                end.paused = got.flow == Flow::Paused;
                if got.flow == Flow::Closed {
                    end.came.clear();
                }
            }
            Err(_) => end.came.clear(),
        }
        host.drive(us)?;
        moved = true;
    }
    loop {
        let taken = ways[e].write(us, &end.goes);
        end.goes.drain(..taken);
        moved |= taken > 0;
        if end.over || !end.goes.is_empty() {
            return Ok(moved);
        }
        let said = match host.node.poll_transmit(now(us), id, &mut host.out) {
            Ok(Transmit::Read(request)) => match host.answer(us, &request) {
                // It was turned into something else to send.
                Transmit::Idle => continue,
                packed => packed,
            },
            Ok(said) => said,
            Err(_) => Transmit::Close,
        };
        match said {
            Transmit::Bytes(n) => end.goes.extend_from_slice(&host.out[..n]),
            Transmit::Idle | Transmit::Read(_) => return Ok(moved),
            Transmit::Close => {
                end.over = true;
                host.node.close(now(us), id);
                host.drive(us)?;
                return Ok(true);
            }
        }
    }
}
