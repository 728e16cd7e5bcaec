//! One session over a byte stream.

use embedded_io::{Read, ReadReady, Write};

use super::Medium;
use crate::event::Records;
use crate::mem::Lent;
use crate::node::{Flow, Node, SessionId, Transmit};
use crate::time::Now;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// Bytes went in or out: there may be more.
    Moved,
    /// Nothing to do before bytes arrive, the disk is done or [`Node::poll_timeout`] is due.
    Idle,
    /// The session is over and everything was sent: hang up.
    Closed,
}

/// The line failed. The session has been told ([`Node::close`]); it must not be stepped again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PortError<E> {
    /// The peer hung up.
    Eof,
    /// The transport's own error.
    Line(E),
}

/// One session over one transport, with the memory that takes.
#[derive(Debug)]
pub struct SerialPort<'m> {
    session: SessionId,
    input: Lent<'m, u8>,
    /// What of `input` the node has yet to take.
    held: core::ops::Range<usize>,
    output: Lent<'m, u8>,
    records: Lent<'m, u8>,
    closing: bool,
}

impl<'m> SerialPort<'m> {
    /// A port for a session that [`Node::open`] has made. `input`: any size, 64 bytes will do.
    /// `output`: one frame, see [`Node::poll_transmit`]. `records`: the largest event and
    /// [`RECORD_HEAD_BYTES`](crate::event::RECORD_HEAD_BYTES), or some batches of small ones.
    #[must_use]
    pub fn new(session: SessionId, input: Lent<'m, u8>, output: Lent<'m, u8>, records: Lent<'m, u8>) -> Self {
        Self { session, input, held: 0..0, output, records, closing: false }
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// One bounded step: takes at most one `input` from the line and sends at most one frame. It
    /// reads only what the line says is there; it blocks while the line takes the frame.
    ///
    /// # Errors
    /// [`PortError`]: the line is gone, and the session with it.
    pub fn step<T: Read + ReadReady + Write>(
        &mut self,
        node: &mut Node<'_>,
        medium: &mut impl Medium,
        line: &mut T,
        now: Now,
    ) -> Result<Step, PortError<T::Error>> {
        let outcome = self.exchange(node, medium, line, now);
        if outcome.is_err() {
            node.close(now, self.session);
        }
        outcome
    }

    fn exchange<T: Read + ReadReady + Write>(
        &mut self,
        node: &mut Node<'_>,
        medium: &mut impl Medium,
        line: &mut T,
        now: Now,
    ) -> Result<Step, PortError<T::Error>> {
        let mut moved = false;
        if self.held.is_empty() && !self.closing && line.read_ready().map_err(PortError::Line)? {
            match line.read(&mut self.input).map_err(PortError::Line)? {
                0 => return Err(PortError::Eof),
                n => self.held = 0..n.min(self.input.len()),
            }
        }
        if let (false, Some(bytes)) = (self.held.is_empty(), self.input.get(self.held.clone())) {
            match node.receive(now, self.session, bytes) {
                Ok(got) => {
                    moved = got.consumed > 0;
                    self.held.start += got.consumed;
                    self.closing |= got.flow == Flow::Closed;
                }
                Err(_) => return Ok(Step::Closed),
            }
            if self.closing {
                self.held = 0..0;
            }
        }
        let mut next = match node.poll_transmit(now, self.session, &mut self.output) {
            Ok(next) => next,
            Err(_) => return Ok(Step::Closed),
        };
        if let Transmit::Read(request) = next {
            moved = true;
            let read = medium.read(&request, &mut self.records);
            let records = read.map(|(prev_chain, n)| Records {
                first_seq: request.from_seq,
                prev_chain,
                bytes: self.records.get(..n).unwrap_or_default(),
            });
            next = node.complete_read(now, &request, records, &mut self.output);
        }
        match next {
            Transmit::Bytes(n) => {
                line.write_all(self.output.get(..n).unwrap_or_default()).map_err(PortError::Line)?;
                line.flush().map_err(PortError::Line)?;
                Ok(Step::Moved)
            }
            Transmit::Close => {
                line.flush().map_err(PortError::Line)?;
                Ok(Step::Closed)
            }
            Transmit::Idle | Transmit::Read(_) => Ok(if moved { Step::Moved } else { Step::Idle }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;
    use std::vec::Vec;

    use super::*;
    use crate::code::Code;
    use crate::id::Lane;
    use crate::limits::Limits;
    use crate::medium::{RamMedium, drive, ram::tests::node};
    use crate::node::{Ending, Event};
    use crate::policy::{PeerIdentity, Role};

    /// One end of a line. Each read gives a few bytes only.
    struct Pipe {
        from: Rc<RefCell<VecDeque<u8>>>,
        to: Rc<RefCell<VecDeque<u8>>>,
    }

    impl embedded_io::ErrorType for Pipe {
        type Error = core::convert::Infallible;
    }

    impl Read for Pipe {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
            let mut from = self.from.borrow_mut();
            let n = buf.len().min(from.len()).min(7);
            buf.iter_mut().zip(from.drain(..n)).for_each(|(b, v)| *b = v);
            Ok(n)
        }
    }

    impl ReadReady for Pipe {
        fn read_ready(&mut self) -> Result<bool, Self::Error> {
            Ok(!self.from.borrow().is_empty())
        }
    }

    impl Write for Pipe {
        fn write(&mut self, buf: &[u8]) -> Result<usize, Self::Error> {
            self.to.borrow_mut().extend(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    fn port(node: &mut Node<'_>, now: Now, peer: PeerIdentity) -> SerialPort<'static> {
        let session = node.open(now, peer).unwrap();
        SerialPort::new(session, Lent::owned(0, 64), Lent::owned(0, 4200), Lent::owned(0, 4096))
    }

    #[test]
    fn two_leaves_sync_over_a_serial_line() {
        let mut ms = 1_000;
        let (mut a, mut disk_a) = node("clinic_a", Role::Clinic, Limits::leaf());
        let (mut b, mut disk_b) = node("hub", Role::Hub, Limits::leaf());
        for i in 0..200u32 {
            let lane = Lane::ALL[i as usize % 3];
            while a.append(Now::new(ms, ms), lane, 7, &i.to_le_bytes()).is_err() {
                drive(&mut a, &mut disk_a, || Now::new(ms, ms));
            }
        }
        let (up, down) = (Rc::<RefCell<VecDeque<u8>>>::default(), Rc::<RefCell<VecDeque<u8>>>::default());
        let mut line_a = Pipe { from: Rc::clone(&down), to: Rc::clone(&up) };
        let mut line_b = Pipe { from: up, to: down };
        let (peer_a, peer_b) = (crate::medium::ram::tests::peer("clinic_a"), crate::medium::ram::tests::peer("hub"));
        let mut port_a = port(&mut a, Now::new(ms, ms), PeerIdentity { role: Role::Hub, ..peer_b });
        let mut port_b = port(&mut b, Now::new(ms, ms), peer_a);
        let mut endings: Vec<Ending> = Vec::new();
        for _ in 0..20_000 {
            ms += 5;
            let now = Now::new(ms, ms);
            let ends: [(&mut Node<'_>, &mut RamMedium, &mut SerialPort<'_>, &mut Pipe); 2] =
                [(&mut a, &mut disk_a, &mut port_a, &mut line_a), (&mut b, &mut disk_b, &mut port_b, &mut line_b)];
            for (node, disk, port, line) in ends {
                drive(node, disk, || now);
                port.step(node, disk, line, now).unwrap();
                node.timeout(now);
                match node.poll_event() {
                    Some(Event::CaughtUp { session, .. }) => node.finish(now, session),
                    Some(Event::Closed { ending, .. }) => endings.push(ending),
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
            }
            if endings.len() == 2 {
                break;
            }
        }
        assert_eq!(endings.iter().map(|e| e.code).collect::<Vec<_>>(), [None, None]);
        let frontier = |n: &Node<'_>| n.frontier().map(|e| (e.key, e.have, e.tag)).collect::<Vec<_>>();
        let (at_a, mut at_b) = (frontier(&a), frontier(&b));
        at_b.sort_unstable_by_key(|e| at_a.iter().position(|x| x.0 == e.0));
        assert_eq!(at_a, at_b);
        assert_eq!(at_b.iter().map(|e| e.1).sum::<u64>(), 200);
    }

    #[test]
    fn a_line_that_hangs_up_ends_the_session() {
        let now = Now::new(1, 1);
        let (mut a, mut disk) = node("clinic_a", Role::Clinic, Limits::leaf());
        let mut port = port(&mut a, now, crate::medium::ram::tests::peer("hub"));
        struct Gone;
        impl embedded_io::ErrorType for Gone {
            type Error = core::convert::Infallible;
        }
        impl Read for Gone {
            fn read(&mut self, _: &mut [u8]) -> Result<usize, Self::Error> {
                Ok(0)
            }
        }
        impl ReadReady for Gone {
            fn read_ready(&mut self) -> Result<bool, Self::Error> {
                Ok(true)
            }
        }
        impl Write for Gone {
            fn write(&mut self, buf: &[u8]) -> Result<usize, Self::Error> {
                Ok(buf.len())
            }
            fn flush(&mut self) -> Result<(), Self::Error> {
                Ok(())
            }
        }
        assert_eq!(port.step(&mut a, &mut disk, &mut Gone, now), Err(PortError::Eof));
        let Some(Event::Closed { ending, .. }) = a.poll_event() else { panic!("the session lives") };
        assert_eq!(ending.code, Some(Code::Cut));
    }
}
