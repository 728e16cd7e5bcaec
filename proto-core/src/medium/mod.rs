//! The loop around a node, for runtimes that have one thread and nothing to wait for but a disk
//! and a byte stream: a microcontroller with a flash chip and a serial line.
//!
//! [`drive`] lets the disk do what the node asks for, a [`FlashMedium`] for instance;
//! [`SerialPort::step`] moves bytes between a
//! session and any [`embedded_io`] transport. Both are bounded: a main loop calls them in turn.
//!
//! A plain serial line has no TLS. Whoever opens a session over one must know by other means who
//! is at its other end: [`Node::open`] believes the [`PeerIdentity`](crate::policy::PeerIdentity).

mod collect;
mod flash;
#[cfg(feature = "alloc")]
mod ram;
mod serial;

use crate::code::Code;
use crate::event::Chain;
use crate::node::{Completion, Effect, LogPosition, Node, ReadFault, ReadRequest, WriteFault};
use crate::recovery::RunAt;
use crate::time::Now;

pub use flash::{FlashMedium, FlashReport};
#[cfg(feature = "alloc")]
pub use ram::RamMedium;
pub use serial::{PortError, SerialPort, Step};

/// Where a node's log lies. Every call blocks until it is done.
pub trait Medium {
    /// Makes a segment: full size, all zeros, and there after a power cut.
    ///
    /// # Errors
    /// [`WriteFault::Full`] is harmless: the node asks again. The others are final.
    fn provision(&mut self, segment: u64) -> Result<(), WriteFault>;

    /// Writes `bytes` at a place in a segment that was provisioned.
    ///
    /// # Errors
    /// Any is final: the node acknowledges nothing any more.
    fn append(&mut self, at: LogPosition, bytes: &[u8]) -> Result<(), WriteFault>;

    /// Makes everything written safe from a power cut. `runs` says which events that was, for an
    /// index; a medium that keeps none ignores it.
    ///
    /// # Errors
    /// Any is final, and trying again must not make it good.
    fn sync(&mut self, runs: &mut dyn Iterator<Item = RunAt>) -> Result<(), WriteFault>;

    /// Puts the wanted events into `records` (see [`put_record`](crate::event::put_record)): those
    /// from `from_seq` on, none beyond `upto_seq`, at least one, and no more than about
    /// `request.bytes` of payload. Returns the chain hash before the first, and the bytes used.
    ///
    /// # Errors
    /// [`ReadFault`] if the first of them cannot be had; the stream is then not sent on.
    fn read(&mut self, request: &ReadRequest, records: &mut [u8]) -> Result<(Chain, usize), ReadFault>;
}

/// Lets the medium do all that the node wants of it now. Returns early after a fault; what it means
/// the node says in [`Event::StorageFailed`](crate::node::Event::StorageFailed).
pub fn drive(node: &mut Node<'_>, medium: &mut impl Medium, mut clock: impl FnMut() -> Now) {
    loop {
        let (done, provisioning) = match node.poll_effect(clock()) {
            None => return,
            Some(Effect::Provision { segment }) => {
                (medium.provision(segment).map(|()| Some(Completion::Provisioned { segment })), true)
            }
            Some(Effect::Read(request)) => {
                // There is no room here to read a history into: the batch comes again without.
                let _ = node.complete_read(clock(), &request, Err(ReadFault(Code::Limit)), &mut []);
                continue;
            }
            Some(Effect::Append { at, bytes, .. }) => (medium.append(at, bytes).map(|()| None), false),
            Some(Effect::Sync { upto }) => {
                (medium.sync(&mut node.runs_in_flight()).map(|()| Some(Completion::Durable { upto })), false)
            }
        };
        match done {
            Ok(None) => {}
            Ok(Some(completion)) => node.complete(clock(), completion),
            Err(fault) => return node.complete(clock(), Completion::WriteFailed { fault, provisioning }),
        }
    }
}
