//! The thread of a link: one poll loop that moves packets between sockets at their times.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use super::pacing::{Lane, PACKET_BYTES_MAX};
use super::{Counters, CutMode, CutPlan};

/// More connections than a demo's clinic has; further ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Kept small, so that a sender feels the link's queue and not the kernel's.
pub(super) const SOCKET_BUFFER_BYTES: usize = 16 * 1024;
/// The target is on this machine; if it does not answer in this time it is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failed accept (no file handles left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The index of a direction, of its lane, and of the end it reads from.
const UP: usize = 0;
const CLIENT: usize = 0;
const TARGET: usize = 1;

enum Payload {
    Data(Vec<u8>),
    Eof,
    Reset,
}

/// One direction of one connection: packets that have been taken and not yet delivered.
#[derive(Default)]
struct Pipe {
    packets: VecDeque<(Duration, Payload)>,
    /// Bytes of the first packet that the receiver took already.
    offset: usize,
    held_bytes: usize,
    last_arrival: Duration,
    /// The source has nothing more to say.
    source_done: bool,
    /// The receiver was told so.
    delivered_all: bool,
}

#[derive(PartialEq)]
enum Phase {
    /// The SYN is under way; the target is connected at this time.
    Opening(Duration),
    Open,
    /// Cut: what still comes is thrown away until the ends close.
    Lost,
    Gone,
}

struct Connection {
    ends: [Option<TcpStream>; 2],
    pipes: [Pipe; 2],
    phase: Phase,
    /// The client's first byte leaves only after SYN and SYN-ACK.
    client_speaks_from: Duration,
}

pub(super) struct Relay {
    target: SocketAddr,
    listener: TcpListener,
    /// Closed by the owner when the link shall end.
    stop: UnixStream,
    epoch: Instant,
    lanes: [Lane; 2],
    connections: Vec<Connection>,
    plan: Option<CutPlan>,
    /// Of the plan, already divided by the link's speed.
    down_time: Duration,
    cuts_left: u32,
    taken_up_bytes: u64,
    cut_at: Option<Duration>,
    down_until: Option<Duration>,
    accept_from: Duration,
    counters: Arc<Counters>,
    buffer: Vec<u8>,
}

/// What a polled descriptor belongs to: the listener, or an end of a connection.
enum Owner {
    Stop,
    Listener,
    End(usize, usize),
}

impl Relay {
    pub(super) fn new(
        target: SocketAddr,
        listener: TcpListener,
        stop: UnixStream,
        lanes: [Lane; 2],
        plan: Option<(CutPlan, Duration)>,
        counters: Arc<Counters>,
    ) -> Relay {
        Relay {
            target,
            listener,
            stop,
            epoch: Instant::now(),
            lanes,
            connections: Vec::new(),
            plan: plan.map(|(plan, _)| plan),
            down_time: plan.map_or(Duration::ZERO, |(_, time)| time),
            cuts_left: plan.map_or(0, |(plan, _)| plan.times),
            taken_up_bytes: 0,
            cut_at: None,
            down_until: None,
            accept_from: Duration::ZERO,
            counters,
            buffer: vec![0; PACKET_BYTES_MAX],
        }
    }

    /// Works until the owner closes its end of `stop`.
    pub(super) fn run(mut self) {
        loop {
            self.advance(self.epoch.elapsed());
            // A failed poll leaves no way to go on: all connections end, as if the link were gone.
            let Ok(ready) = self.wait() else { return };
            for owner in ready {
                match owner {
                    Owner::Stop => return,
                    Owner::Listener => self.accept(),
                    Owner::End(connection, end) => self.receive(connection, end),
                }
            }
        }
    }

    /// Does everything that is due at `now`, a cut exactly between what came before and after it.
    fn advance(&mut self, now: Duration) {
        if let Some(at) = self.cut_at.filter(|at| *at <= now) {
            self.settle(at);
            self.cut(at);
        }
        self.settle(now);
        if self.down_until.is_some_and(|until| until <= now) {
            self.down_until = None;
            self.counters.set_cut(false);
        }
    }

    fn settle(&mut self, now: Duration) {
        for (direction, lane) in self.lanes.iter_mut().enumerate() {
            self.counters.add_serialised(direction == UP, lane.settle(now) as u64);
        }
        for connection in &mut self.connections {
            if matches!(connection.phase, Phase::Opening(at) if at <= now) {
                connection.open(self.target);
            }
            if connection.phase == Phase::Open {
                connection.deliver(now, &self.counters, &self.lanes);
            }
        }
        self.connections.retain(|connection| connection.phase != Phase::Gone);
    }

    fn cut(&mut self, now: Duration) {
        self.cut_at = None;
        self.taken_up_bytes = 0;
        self.cuts_left = self.cuts_left.saturating_sub(1);
        self.down_until = Some(now.saturating_add(self.down_time));
        self.counters.add_cut();
        self.counters.set_cut(true);
        self.lanes.iter_mut().for_each(Lane::clear);
        let mode = self.plan.map_or(CutMode::Reset, |plan| plan.mode);
        for connection in &mut self.connections {
            connection.pipes = Default::default();
            connection.phase = Phase::Lost;
            match mode {
                CutMode::Reset => connection.reset(),
                CutMode::Fin => connection.ends.iter().flatten().for_each(|end| {
                    // An end that is closed already needs no goodbye.
                    let _ = end.shutdown(Shutdown::Write);
                }),
                CutMode::Blackhole => {}
            }
        }
        self.connections.retain(|connection| connection.phase != Phase::Gone);
    }

    /// Sleeps until a socket is ready or something is due.
    fn wait(&self) -> io::Result<Vec<Owner>> {
        let now = self.epoch.elapsed();
        let mut due: Vec<Duration> = self.lanes.iter().filter_map(Lane::next_departure).collect();
        due.extend(self.cut_at);
        due.extend(self.down_until);
        let mut owners = vec![Owner::Stop];
        let mut fds = vec![PollFd::new(&self.stop, PollFlags::IN)];
        if self.accept_from > now {
            due.push(self.accept_from);
        } else if self.connections.len() < CONNECTIONS_MAX {
            owners.push(Owner::Listener);
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        for (index, connection) in self.connections.iter().enumerate() {
            if let Phase::Opening(at) = connection.phase {
                due.push(at);
            }
            for end in [CLIENT, TARGET] {
                let Some(stream) = &connection.ends[end] else { continue };
                let mut wants = PollFlags::empty();
                if self.allowance(connection, end, now) > 0 {
                    wants |= PollFlags::IN;
                } else if end == CLIENT && connection.client_speaks_from > now {
                    due.push(connection.client_speaks_from);
                }
                if let (Phase::Open, Some((at, _))) = (&connection.phase, connection.pipes[1 - end].packets.front()) {
                    // Due and still here: the receiver's socket was full.
                    if *at <= now {
                        wants |= PollFlags::OUT;
                    } else {
                        due.push(*at);
                    }
                }
                // An unwanted descriptor stays out of the set, or its hang-up would wake us for ever.
                if !wants.is_empty() {
                    owners.push(Owner::End(index, end));
                    fds.push(PollFd::from_borrowed_fd(stream.as_fd(), wants));
                }
            }
        }
        let timeout = due.into_iter().min().map(|at| at.saturating_sub(self.epoch.elapsed()));
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // A socket that only became writable has no entry: `advance` tries to deliver anyway.
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let ready = fds.iter().zip(owners).filter(|(fd, _)| fd.revents().intersects(readable));
        Ok(ready.map(|(_, owner)| owner).collect())
    }

    /// How many bytes may be read from this end now.
    fn allowance(&self, connection: &Connection, end: usize, now: Duration) -> usize {
        let (pipe, lane) = (&connection.pipes[end], &self.lanes[end]);
        if pipe.source_done || (end == CLIENT && connection.client_speaks_from > now) {
            return 0;
        }
        if connection.phase == Phase::Lost {
            return PACKET_BYTES_MAX;
        }
        if pipe.held_bytes >= lane.held_bytes_max() {
            return 0;
        }
        let room = lane.room_bytes();
        match self.plan {
            Some(_) if end == UP && self.cut_at.is_some() => 0,
            // Never across the byte at which the link breaks: the cut is between two packets.
            Some(plan) if end == UP && self.cuts_left > 0 => {
                let left = plan.after_bytes_up.saturating_sub(self.taken_up_bytes);
                room.min(usize::try_from(left).unwrap_or(usize::MAX))
            }
            _ => room,
        }
    }

    fn accept(&mut self) {
        let now = self.epoch.elapsed();
        let client = match self.listener.accept() {
            Ok((client, _)) => client,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => {
                self.accept_from = now + ACCEPT_PAUSE;
                return;
            }
        };
        if self.down_until.is_some() {
            self.counters.add_refused();
            reset(&client);
            return;
        }
        if client.set_nonblocking(true).is_err() || client.set_nodelay(true).is_err() {
            return;
        }
        let latency = self.lanes[UP].latency();
        self.counters.add_connection();
        self.connections.push(Connection {
            ends: [Some(client), None],
            pipes: Default::default(),
            phase: Phase::Opening(now + 3 * latency),
            client_speaks_from: now + 2 * latency,
        });
    }

    /// Takes one packet from an end of a connection onto its lane.
    fn receive(&mut self, index: usize, end: usize) {
        let now = self.epoch.elapsed();
        let Some(connection) = self.connections.get(index) else { return };
        let allowed = self.allowance(connection, end, now);
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some(stream) = connection.ends[end].as_mut().filter(|_| allowed > 0) else { return };
        let payload = match stream.read(&mut self.buffer[..allowed]) {
            Ok(0) => Payload::Eof,
            Ok(len) => Payload::Data(self.buffer[..len].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => Payload::Reset,
        };
        if connection.phase == Phase::Lost {
            if !matches!(payload, Payload::Data(_)) {
                connection.ends[end] = None;
                if connection.ends.iter().all(Option::is_none) {
                    connection.phase = Phase::Gone;
                }
            }
            return;
        }
        let departed = connection.pipes[end].push(payload, now, &mut self.lanes[end]);
        if let (UP, Some(departed)) = (end, departed) {
            self.taken_up_bytes += departed.1;
            let breaks = self.plan.filter(|plan| self.taken_up_bytes >= plan.after_bytes_up);
            if self.cuts_left > 0 && breaks.is_some() {
                self.cut_at = Some(departed.0);
            }
        }
    }
}

impl Pipe {
    /// Puts a packet on the lane; for data, when it has departed and its size in bytes.
    fn push(&mut self, payload: Payload, now: Duration, lane: &mut Lane) -> Option<(Duration, u64)> {
        let len = if let Payload::Data(data) = &payload { data.len() } else { 0 };
        self.source_done |= len == 0;
        self.held_bytes += len;
        let (departed, arrives) = lane.take(now, len, self.last_arrival);
        self.last_arrival = arrives;
        self.packets.push_back((arrives, payload));
        (len > 0).then_some((departed, len as u64))
    }
}

impl Connection {
    fn open(&mut self, target: SocketAddr) {
        let connected = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT).and_then(|stream| {
            sockopt::set_socket_recv_buffer_size(&stream, SOCKET_BUFFER_BYTES)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => {
                self.ends[TARGET] = Some(stream);
                self.phase = Phase::Open;
            }
            Err(_) => self.reset(),
        }
    }

    /// Hands over what has arrived by `now`.
    fn deliver(&mut self, now: Duration, counters: &Counters, lanes: &[Lane; 2]) {
        for direction in [0, 1] {
            let pipe = &mut self.pipes[direction];
            let Some(receiver) = self.ends[1 - direction].as_mut() else { continue };
            while let Some((_, payload)) = pipe.packets.front().filter(|(at, _)| *at <= now) {
                match payload {
                    Payload::Data(data) => match receiver.write(&data[pipe.offset..]) {
                        Ok(written) => {
                            counters.add_delivered(direction == UP, written as u64);
                            pipe.held_bytes -= written;
                            pipe.offset += written;
                            if pipe.offset < data.len() {
                                continue;
                            }
                            pipe.offset = 0;
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        Err(_) => {
                            // The receiver is gone; the sender learns it a latency later.
                            pipe.packets.clear();
                            pipe.delivered_all = true;
                            let back = &mut self.pipes[1 - direction];
                            let at = back.last_arrival.max(now + lanes[1 - direction].latency());
                            if !back.source_done {
                                back.source_done = true;
                                back.last_arrival = at;
                                back.packets.push_back((at, Payload::Reset));
                            }
                            break;
                        }
                    },
                    Payload::Eof => {
                        // A receiver that is gone shows it at its next read.
                        let _ = receiver.shutdown(Shutdown::Write);
                        pipe.delivered_all = true;
                    }
                    Payload::Reset => return self.reset(),
                }
                pipe.packets.pop_front();
            }
        }
        if self.pipes.iter().all(|pipe| pipe.delivered_all) {
            self.phase = Phase::Gone;
        }
    }

    /// Ends both sides with a reset, as a link does that forgot the connection.
    fn reset(&mut self) {
        self.ends.iter().flatten().for_each(reset);
        self.ends = [None, None];
        self.phase = Phase::Gone;
    }
}

/// Makes the close that follows send a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    // If it fails, the peer sees an orderly end instead, which is a cut as well.
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
