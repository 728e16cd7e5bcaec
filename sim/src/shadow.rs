//! The codec that learns, in a world that is listened to: a listener has no states to decode with, so what was
//! compressed is noted.

use std::cell::RefCell;
use std::collections::VecDeque;

use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId};
use ropeway_core::history::Past;
use ropeway_core::time::Instant;
use ropeway_std::model_codec::ModelCodec;

/// Batches that may be under way to the listener.
const NOTED_MAX: usize = 512;

thread_local! {
    /// Batches of this thread's world, compressed and as they were; the newest last.
    static NOTED: RefCell<VecDeque<(Vec<u8>, Vec<u8>)>> = const { RefCell::new(VecDeque::new()) };
}

/// What was compressed to this, if it was of late.
pub(crate) fn noted(data: &[u8]) -> Option<Vec<u8>> {
    NOTED.with_borrow(|noted| noted.iter().rev().find(|(packed, _)| packed == data).map(|(_, raw)| raw.clone()))
}

/// Codecs with states that a world's nodes may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Quick, and notices at once if two states differ.
    Toy,
    /// The same, and before it one that knows a sample, which is not everywhere the same.
    Sampled,
    /// The real one.
    Model,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Shadow(ModelCodec);

impl Shadow {
    /// With so few states that they are missing now and then.
    pub(crate) fn new() -> Self {
        Self(ModelCodec::new(2))
    }
}

impl Codec for Shadow {
    fn id(&self) -> CodecId {
        self.0.id()
    }

    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.compress(raw, out)
    }

    fn decompress(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        self.0.decompress(data, out)
    }

    fn compress_after(&mut self, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let n = self.0.compress_after(past, raw, out)?;
        NOTED.with_borrow_mut(|noted| {
            if noted.len() == NOTED_MAX {
                noted.pop_front();
            }
            noted.push_back((out[..n].to_vec(), raw.to_vec()));
        });
        Some(n)
    }

    fn decompress_after(&mut self, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        self.0.decompress_after(past, data, out)
    }

    fn has_state(&mut self, past: &Past<'_>, sending: bool) -> bool {
        self.0.has_state(past, sending)
    }

    fn confirm(&mut self) {
        self.0.confirm();
    }

    fn forget(&mut self, stream: u32) {
        self.0.forget(stream);
    }

    fn suits(&self, link_rate: u64) -> bool {
        self.0.suits(link_rate)
    }

    fn has_time(&mut self, now: Instant) -> bool {
        self.0.has_time(now)
    }
}
