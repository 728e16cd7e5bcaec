//! One host of a connection: a real TCP/IP stack with one socket, and a device whose packets are
//! taken and brought by hand.

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{self, CongestionControl, RecvError, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Packet, TcpPacket, TcpSeqNumber};

use super::phys::Phys;

/// What a client asks of the kernel, and a server's kernel gives it.
const SEND_BYTES: usize = 32 << 10;
/// As much as a window without scaling can say.
const RECEIVE_BYTES: usize = (64 << 10) - 1;
/// Linux waits so long for something to go with an acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(40);
/// How long a call or its answer is repeated before there is a connection: six times, as Linux does.
const SYN_PATIENCE: Duration = Duration::from_secs(127);
const HUB_PORT: u16 = 7700;
/// IPv4 and TCP headers without options.
const HEADERS: usize = 40;
/// A stack that wants to be polled although nothing can be done is asked again after this time.
const NAP_US: u64 = 1000;

/// The addresses of the end that dialled and of the other.
const ADDRESS: [Ipv4Address; 2] = [Ipv4Address::new(10, 0, 0, 2), Ipv4Address::new(10, 0, 0, 1)];

fn instant(us: u64) -> Instant {
    Instant::from_micros(us as i64)
}

/// A device: what has arrived, and what is to be sent.
struct Wire {
    inbox: VecDeque<Vec<u8>>,
    outbox: Vec<Vec<u8>>,
    mtu: usize,
}

struct Arrived(Vec<u8>);
struct Sender<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Sender<'_>)> {
        Some((Arrived(self.inbox.pop_front()?), Sender(&mut self.outbox)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        caps
    }
}

/// What a socket has for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes were taken; 0 if there are none now.
    Bytes(usize),
    /// The peer has ended the stream.
    End,
    /// The connection is gone: reset, given up, or aborted here.
    Broken,
}

/// A host with its socket.
pub(super) struct Socket {
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
    patience: Duration,
    /// It did not take all that it was given.
    full: bool,
    /// Bytes that the socket has taken, and how many of TCP's numbers were sent: those and two more.
    taken: u64,
    sent: u64,
    /// The number after the last one sent.
    sent_to: Option<TcpSeqNumber>,
    /// The number after the last one that the peer has ever let it send.
    allowed_to: Option<TcpSeqNumber>,
    /// Segments sent again, seen by their numbers.
    pub(super) repeated: u64,
    /// The peer has reset the connection.
    pub(super) was_reset: bool,
    opened: bool,
}

impl Socket {
    /// Host `end`: 0 dials from `port`, 1 listens.
    pub(super) fn new(end: usize, now_us: u64, port: u16, seed: u64, phys: &Phys) -> Self {
        let mut wire = Wire { inbox: VecDeque::new(), outbox: Vec::new(), mtu: phys.mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut wire, instant(now_us));
        iface.update_ip_addrs(|list| {
            let _ = list.push(IpCidr::new(IpAddress::Ipv4(ADDRESS[end]), 24));
        });
        let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BYTES), buffer(SEND_BYTES));
        // Whole numbers only: the same on every machine.
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_ack_delay(Some(ACK_DELAY));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        if end == 0 {
            // Cannot fail: the socket is new and both ends have an address and a port.
            let _ = socket.connect(iface.context(), (ADDRESS[1], HUB_PORT), port.max(1));
        } else {
            let _ = socket.listen(HUB_PORT);
        }
        let handle = sockets.add(socket);
        Self {
            iface,
            sockets,
            handle,
            wire,
            patience: Duration::from_micros(phys.patience_us),
            full: false,
            taken: 0,
            sent: 0,
            sent_to: None,
            allowed_to: None,
            repeated: 0,
            was_reset: false,
            opened: false,
        }
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn state(&self) -> State {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).state()
    }

    /// A packet has arrived.
    pub(super) fn arrive(&mut self, packet: Vec<u8>) {
        let open = !matches!(self.state(), State::Closed | State::Listen);
        if let Some(header) = header(&packet) {
            self.was_reset |= open && header.reset;
            let before = self.allowed_to;
            let edge = header.edge.filter(|_| !header.reset);
            self.allowed_to = edge.map(|edge| before.map_or(edge, |before| before.max(edge))).or(before);
        }
        self.wire.inbox.push_back(packet);
    }

    /// Lets the stack work.
    pub(super) fn poll(&mut self, now_us: u64) {
        loop {
            let before = self.wire.outbox.len();
            self.set_up();
            self.iface.poll(instant(now_us), &mut self.wire, &mut self.sockets);
            for i in before..self.wire.outbox.len() {
                self.note(i);
                self.renumber(i);
            }
            self.opened |= matches!(self.state(), State::Established | State::CloseWait);
            if self.wire.outbox.len() == before {
                return;
            }
        }
    }

    /// What Linux does and smoltcp does not by itself. Patience runs only while something waits for
    /// an answer. And without Nagle's delay a segment is cut short only by the end of what there is
    /// to send, not by what is left of a window.
    fn set_up(&mut self) {
        let unsent = (self.taken + 1).saturating_sub(self.sent);
        let full = unsent >= self.wire.mtu.saturating_sub(HEADERS) as u64;
        let patience = self.patience;
        let socket = self.tcp();
        socket.set_nagle_enabled(full);
        let patience = match socket.state() {
            State::SynSent | State::SynReceived => Some(SYN_PATIENCE.min(patience)),
            State::FinWait1 | State::Closing | State::LastAck => Some(patience),
            _ => (socket.send_queue() > 0).then_some(patience),
        };
        socket.set_timeout(patience);
    }

    /// Looks at a segment that is being sent.
    fn note(&mut self, i: usize) {
        let Some(header) = self.wire.outbox.get(i).and_then(|p| header(p)) else { return };
        if header.len == 0 || header.reset {
            return;
        }
        let end = header.seq + header.len;
        let fresh = match self.sent_to {
            Some(sent_to) if end <= sent_to => {
                self.repeated += 1;
                return;
            }
            Some(sent_to) => end - sent_to,
            None => header.len,
        };
        self.sent += fresh as u64;
        self.sent_to = Some(end);
    }

    /// Gives a segment that takes no numbers the next one that was never sent, as far as the peer's
    /// window goes, as Linux and BSD do.
    ///
    /// After a retransmission timeout smoltcp 0.14 forgets what it had sent after the first number
    /// that is not acknowledged, and numbers its bare acknowledgements from there. A peer that has
    /// got those segments finds the number old, and by the rules takes nothing from the segment,
    /// not even what it acknowledges. When the acknowledgements of both directions were lost, both
    /// ends did this: each repeated what the other had and refused to hear so, until both gave up.
    /// A reset of that kind was not heard either.
    ///
    /// The byte that probes a closed window is beyond what the peer takes, so it does not count.
    fn renumber(&mut self, i: usize) {
        let (Some(sent_to), Some(allowed_to)) = (self.sent_to, self.allowed_to) else { return };
        let Some(packet) = self.wire.outbox.get_mut(i) else { return };
        let next = sent_to.min(allowed_to);
        // A segment that acknowledges nothing answers a stranger, and its number is the stranger's.
        if header(packet).is_none_or(|h| h.len > 0 || h.edge.is_none() || h.seq >= next) {
            return;
        }
        let Ok(mut ip) = Ipv4Packet::new_checked(packet) else { return };
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        let Ok(mut tcp) = TcpPacket::new_checked(ip.payload_mut()) else { return };
        tcp.set_seq_number(next);
        tcp.fill_checksum(&from, &to);
    }

    /// Packets to be sent.
    pub(super) fn take_packets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire.outbox)
    }

    /// When it wants to be polled, after it was.
    pub(super) fn next_us(&mut self, now_us: u64) -> Option<u64> {
        let at = self.iface.poll_at(instant(now_us), &self.sockets)?.total_micros() as u64;
        Some(if at > now_us { at } else { now_us + NAP_US })
    }

    /// Gives bytes to the socket; how many it took.
    pub(super) fn send(&mut self, bytes: &[u8]) -> usize {
        // A kernel whose buffer was full calls it writable when a third of it is free again.
        if self.full && self.tcp().send_queue() > SEND_BYTES / 3 * 2 {
            return 0;
        }
        let taken = self.tcp().send_slice(bytes).unwrap_or(0);
        self.taken += taken as u64;
        self.full = taken < bytes.len();
        taken
    }

    /// Lets `take` have bytes that have arrived; it says how many it took.
    pub(super) fn recv(&mut self, mut take: impl FnMut(&[u8]) -> usize) -> Received {
        let waits = !self.opened && self.state() != State::Closed;
        let read = self.tcp().recv(|bytes| {
            let n = if bytes.is_empty() { 0 } else { take(bytes) };
            (n, n)
        });
        match read {
            Ok(n) => Received::Bytes(n),
            Err(RecvError::Finished) => Received::End,
            Err(RecvError::InvalidState) if waits => Received::Bytes(0),
            Err(RecvError::InvalidState) => Received::Broken,
        }
    }

    pub(super) fn may_send(&mut self) -> bool {
        self.tcp().may_send()
    }

    /// Ends the stream after what was sent.
    pub(super) fn close(&mut self) {
        self.tcp().close();
    }

    /// Ends the connection with a reset.
    pub(super) fn abort(&mut self) {
        self.tcp().abort();
    }

    /// Nothing more comes of it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state(), State::Closed | State::TimeWait)
    }
}

struct Header {
    seq: TcpSeqNumber,
    /// Numbers that the segment takes.
    len: usize,
    reset: bool,
    /// The end of the window of a segment that acknowledges something. Neither end scales it.
    edge: Option<TcpSeqNumber>,
}

fn header(packet: &[u8]) -> Option<Header> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
    let edge = tcp.ack().then(|| tcp.ack_number() + usize::from(tcp.window_len()));
    Some(Header { seq: tcp.seq_number(), len: tcp.segment_len(), reset: tcp.rst(), edge })
}
