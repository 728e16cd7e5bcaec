//! The sans-IO core of Ropeway: an encrypted append-only log, hybrid logical clocks, version
//! vectors and the sync session, as one state machine that knows no clock, socket, file, thread or
//! random source. Time, entropy, bytes and completions are inputs; the same inputs give the same
//! outputs, bit for bit.
//!
//! # The loop around it
//!
//! A runtime owns a [`node::Node`] and does four things, in any order and as often as it likes:
//!
//! 1. **Disk.** Poll [`poll_effect`](node::Node::poll_effect); provision, write or sync as it says;
//!    answer with [`complete`](node::Node::complete).
//! 2. **Sockets in.** Give what arrived to [`receive`](node::Node::receive). If it answers `Paused`,
//!    keep the rest until [`poll_resumed`](node::Node::poll_resumed) names the session.
//! 3. **Sockets out.** For each session that [`poll_ready`](node::Node::poll_ready) names, and for
//!    each socket that becomes writable, call [`poll_transmit`](node::Node::poll_transmit) with a
//!    lent buffer until it is idle. If it wants events from the log, read them and call
//!    [`complete_read`](node::Node::complete_read).
//! 4. **Time.** Sleep until [`poll_timeout`](node::Node::poll_timeout) at the latest, then call
//!    [`timeout`](node::Node::timeout). What happened is in [`poll_event`](node::Node::poll_event).
//!
//! Nothing blocks, nothing allocates after the start, and no order of calls is wrong. What must be
//! true of the disk: when [`Completion::Durable`](node::Completion::Durable) is given, fsync has
//! returned. Everything that Ropeway promises rests on that one sentence.
//!
//! # The map
//!
//! | module | story |
//! |---|---|
//! | [`node`] | the state machine: sessions, commit groups, back-pressure, deadlines |
//! | [`wire`] | frames and messages (docs/PROTOCOL.md) |
//! | [`log`] | segments, epochs, frames, records, the scanner and its decision table (docs/LOG.md) |
//! | [`recovery`] | from log bytes back to a node's state |
//! | [`streams`] | the version vector, with gaps |
//! | [`accept`] | which events a node takes |
//! | [`policy`] | who may read and write what: one function |
//! | [`event`], [`hlc`], [`id`] | events, chain hashes, stamps, names |
//! | [`withheld`] | what stands in the place of an event that is not here |
//! | [`codec`] | the compression that a runtime brings |
//! | [`limits`], [`mem`] | sizes, and the memory that follows from them |
//! | [`code`] | every error, with its number and what to do |
#![no_std]
#![forbid(unsafe_code)]
#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(test, feature = "planted", feature = "fuzzing"))]
extern crate std;

pub mod accept;
mod arena;
pub mod code;
pub mod codec;
pub mod event;
mod fifo;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod history;
pub mod hlc;
pub mod id;
pub mod limits;
pub mod log;
pub mod medium;
pub mod mem;
pub mod node;
mod outbox;
mod parcels;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
pub mod policy;
pub mod recovery;
mod session;
pub mod streams;
pub mod time;
mod timer;
pub mod varint;
pub mod wire;
pub mod withheld;
