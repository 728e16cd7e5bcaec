//! A codec for streams of small records (JSON mainly) that have a history.
//!
//! Two ends that hold the same past of a stream need few bytes to tell each other what is new in
//! it. This crate is a *context-mixing* compressor made for that case: a [`Model`] reads the past
//! ([`Model::prime`]), then codes batches of new records ([`Model::encode`], [`Model::decode`]). A
//! clinic event of 280 bytes takes about 15, of which most are truly random digits.
//!
//! # How it works, for a reader who never met context mixing
//!
//! **An arithmetic coder** turns a row of yes/no decisions into bytes. A decision that was given the
//! probability *p* and came true costs -log2 *p* bits: next to nothing if it was expected. So
//! compression is prediction. Both ends run the same model over the same past, so both know the same
//! probability before each decision; only the outcome travels.
//!
//! **Predictors** each look at the past through one window: "what stood at this JSON path the last
//! time", "what followed these six bytes the last time", "the last number here plus its usual step".
//! None is always right. **Mixing** adds their evidence up, as log-odds, with weights that learn from
//! every outcome which predictor to trust where.
//!
//! ```text
//!  record bytes known so far
//!      |
//!      v
//!  tracker ---- JSON path, part, place in the value, kind of record, whom it is about
//!      |
//!      +-> recall     last segment here: by path, kind, subject, value before, link      --+
//!      +-> forecast   counters; the record's own time stamp                                |  candidates
//!      +-> matches    longest repeat in the history; repeats among what was news           |  for the next
//!      +-> runs       what followed three more contexts the last time                     --+  byte
//!                                                                                          |
//!            +---------------------------------------------------------------------------+
//!            v
//!  ask: is it the best candidate? --(likely)--> ONE decision: yes -> done (9 bytes in 10)
//!            |                                               no --+
//!            | (unlikely)                                         |
//!            v                                                    v
//!  random: digits of a random field, 4 decisions      bitwise: 8 decisions, from bit histories of
//!          each, no tables                            six contexts, the candidates, two mixing
//!                                                     layers and an adaptive map
//!            |                                                    |
//!            +------------------> arithmetic coder <--------------+
//! ```
//!
//! Text that is no JSON and full of news goes a shorter way: `pace` tells when, `short` how.
//!
//! | file | what it is |
//! |---|---|
//! | `batch` | the interface: records in batches, limits, errors, what is stored as it is |
//! | `events` | events of a log: records with stamps and kinds, which cost next to nothing |
//! | `framing` | where records end, and which kind of bytes they are |
//! | `coder` | the arithmetic coder, for writing, reading, learning and measuring |
//! | `model` | the order in which a byte meets the predictors |
//! | `tracker` | follows JSON, or anything |
//! | `recall`, `link`, `forecast`, `matches`, `runs` | predictors of whole bytes |
//! | `ask` | the question whether the best candidate is right |
//! | `bitwise`, `slots`, `state` | bit by bit, from bit histories |
//! | `pace`, `short` | how much is news; the short way bit by bit, for streams of which much is |
//! | `random` | fields of random digits |
//! | `columns` | binary records of one width, apart from all these |
//! | `preset` | how large the tables are |
//! | `counter`, `mixer`, `math`, `window` | adaptive probabilities, mixing, integer logarithms, the history |
//!
//! # Promises
//!
//! - The same bytes on every machine: integers only, tables made by integers at compile time. The
//!   golden vectors in `tests/vectors` hold that. [`VERSION`] names the model; any change of a
//!   constant is a new version.
//! - All memory is taken by [`Model::new`]; a model is a value: clone it, compare it, reset it.
//! - Decoding garbage ends in an error, or in garbage of at most the promised length. Only a checksum
//!   over the records tells whether they are the right ones: carry one with each batch.
//! - Sizes tell about contents. Where an attacker can choose part of a stream and see its compressed
//!   size, he can learn of the rest; never let two parties' streams share a model.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ask;
mod batch;
mod bitwise;
mod coder;
mod columns;
mod counter;
mod events;
mod forecast;
mod framing;
mod link;
mod matches;
mod math;
mod mixer;
mod model;
mod pace;
mod preset;
mod random;
mod recall;
mod runs;
mod short;
mod slots;
mod state;
mod tracker;
mod window;

pub use batch::{Cost, DecodeError, Model, Record, Records, VERSION};
pub use coder::Way;
pub use events::{Event, Events, Stream};
pub use preset::Preset;

/// What the feature `ablation` can switch off, and its bit.
#[cfg(feature = "ablation")]
pub const PREDICTORS: [(&str, u32); 19] = [
    ("last segment by path", 0),
    ("last segment by path and kind", 1),
    ("last segment by path and subject", 2),
    ("last segment by path and value before", 3),
    ("link: equal to another path's value", 4),
    ("counting", 5),
    ("long match", 7),
    ("short match among news", 8),
    ("run: segment so far, kind", 9),
    ("run: six bytes", 10),
    ("run: segment so far, last value here", 11),
    ("bits: path, byte", 16),
    ("bits: three bytes", 17),
    ("bits: path, place, what stood here", 18),
    ("bits: path, word", 19),
    ("bits: the two best candidates", 20),
    ("bits: path, two bytes", 21),
    ("random fields", 24),
    ("certain bytes", 25),
];
