//! Compression of batches: the trait that runtimes implement with a library, and the set a node has.

#[cfg(any(test, feature = "planted", feature = "fuzzing"))]
pub mod toy;

use crate::code::Code;
use crate::history::Past;
use crate::time::Instant;

/// Number of a codec on the wire (docs/PROTOCOL.md#codec-1), 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CodecId(pub u8);

impl CodecId {
    /// The bytes as they are. Every node speaks it.
    pub const STORED: CodecId = CodecId(0);
    /// One zstd frame per batch, without history.
    pub const ZSTD: CodecId = CodecId(1);

    /// One zstd frame per batch, which may refer to the events before it.
    pub const ZSTD_HISTORY: CodecId = CodecId(2);

    /// A model of the stream, which learns from batch to batch (docs/PROTOCOL.md#codec-4).
    pub const MODEL: CodecId = CodecId(3);

    /// The same model, whose state knows a sample that both ends have before the first event
    /// (docs/PROTOCOL.md#sample-1).
    pub const SAMPLED: CodecId = CodecId(4);

    /// Whether a codec has a state that goes on from one batch to the next, so that events need not be at hand
    /// for it.
    #[must_use]
    pub fn keeps_state(self) -> bool {
        matches!(self, Self::MODEL | Self::SAMPLED)
    }

    /// The bits of all codecs that do.
    pub(crate) fn all_that_keep_state() -> u32 {
        (0..32).map(CodecId).filter(|id| id.keeps_state()).fold(0, |bits, id| bits | id.bit())
    }

    /// Whether batches of this codec say how many events before them it has used
    /// (docs/PROTOCOL.md#history-1).
    #[must_use]
    pub fn uses_history(self) -> bool {
        self.0 >= Self::ZSTD_HISTORY.0
    }

    /// Its bit in HELLO's set of codecs.
    #[must_use]
    pub fn bit(self) -> u32 {
        1u32.checked_shl(u32::from(self.0)).unwrap_or(0)
    }
}

/// A compression method. Output must be the same bytes for the same input on every machine.
pub trait Codec {
    /// Its number on the wire.
    fn id(&self) -> CodecId;
    /// The tag of the sample that it knows, if it is [`CodecId::SAMPLED`]: it fits only peers with the same one.
    fn sample(&self) -> u32 {
        0
    }
    /// Compresses `raw` into `out`; `None` if the result would not fit. A codec that uses history
    /// ([`CodecId::uses_history`]) is not asked for this.
    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let _ = (raw, out);
        None
    }
    /// Fills `out` exactly from `data`, which a peer sent.
    ///
    /// # Errors
    /// [`Code::BadBatch`] if `data` does not decode to exactly `out.len()` bytes. Must not allocate
    /// by anything that `data` says.
    fn decompress(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let _ = (data, out);
        Err(Code::BadBatch)
    }
    /// As [`Codec::compress`], with the events before the batch, which the peer holds as well.
    fn compress_after(&mut self, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let _ = past;
        self.compress(raw, out)
    }
    /// As [`Codec::decompress`], with the events before the batch.
    ///
    /// # Errors
    /// As [`Codec::decompress`].
    fn decompress_after(&mut self, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let _ = past;
        self.decompress(data, out)
    }
    /// Whether it has a state that knows the events of this past and no other, so that it needs no bytes of them.
    fn has_state(&mut self, past: &Past<'_>, sending: bool) -> bool {
        let _ = (past, sending);
        false
    }
    /// The events that were decompressed last are those of the stream: their chain came out right.
    fn confirm(&mut self) {}
    /// A stream has lost its number at this node.
    fn forget(&mut self, stream: u32) {
        let _ = stream;
    }
    /// Nothing more is packed with it for this session ([`Past::session`]): the peer does not take it, or the link turned
    /// out too fast for it ([`Codec::suits`]). What is kept to go on from there is of no use.
    fn refused(&mut self, session: u64) {
        let _ = session;
    }
    /// Whether its work is worth the bytes that it saves on a link that carries so many a second, 0 if that is not
    /// known.
    fn suits(&self, link_rate: u64) -> bool {
        let _ = link_rate;
        true
    }
    /// Whether this node has time to learn streams anew.
    fn has_time(&mut self, now: Instant) -> bool {
        let _ = now;
        true
    }
    /// Whether a session that begins now may be told that there will be time for it. That is a promise: sessions that
    /// begin together have learned nothing yet.
    fn promise(&mut self, now: Instant) -> bool {
        self.has_time(now)
    }
}

/// One codec, lent or owned.
pub enum CodecRef<'m> {
    /// The caller's.
    Borrowed(&'m mut (dyn Codec + Send)),
    /// On the heap.
    #[cfg(feature = "alloc")]
    Owned(alloc::boxed::Box<dyn Codec + Send>),
}

impl<'m> CodecRef<'m> {
    fn as_mut(&mut self) -> &mut (dyn Codec + Send + 'm) {
        match self {
            CodecRef::Borrowed(c) => *c,
            #[cfg(feature = "alloc")]
            CodecRef::Owned(c) => c.as_mut(),
        }
    }
}

/// Most codecs that a node can have beside `stored`.
pub const CODECS_MAX: usize = 4;

/// The codecs of a node, the preferred one first. `stored` is always there.
#[derive(Default)]
pub struct Codecs<'m> {
    list: heapless::Vec<CodecRef<'m>, CODECS_MAX>,
}

impl core::fmt::Debug for Codecs<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} codecs", self.list.len())
    }
}

impl<'m> Codecs<'m> {
    /// Adds one; the first added is preferred. More than [`CODECS_MAX`] are ignored.
    #[must_use]
    pub fn with(mut self, codec: CodecRef<'m>) -> Self {
        let _ = self.list.push(codec);
        self
    }

    /// The set for the HELLO of a session: without those for which there will be no time.
    pub fn bits(&mut self, now: Instant) -> u32 {
        let willing = self.list.iter_mut().map(CodecRef::as_mut).filter_map(|c| c.promise(now).then(|| c.id().bit()));
        willing.fold(CodecId::STORED.bit(), |bits, bit| bits | bit)
    }

    /// The tag of the sample that one of them knows.
    pub(crate) fn sample(&mut self) -> Option<u32> {
        self.find(CodecId::SAMPLED).map(|codec| codec.sample())
    }

    /// Whether one of them takes batches that refer to earlier events.
    pub(crate) fn use_history(&mut self) -> bool {
        self.list.iter_mut().any(|c| c.as_mut().id().uses_history())
    }

    /// The first codec that the peer speaks too and that suits the link, if there is time for it; `stored` if
    /// there is none.
    pub fn choose(&mut self, peer: u32, link_rate: u64, now: Instant) -> CodecId {
        let mut fit = self.list.iter_mut().map(CodecRef::as_mut).filter_map(|c| {
            let (id, suits) = (c.id(), c.suits(link_rate));
            (peer & id.bit() != 0 && suits && c.has_time(now)).then_some(id)
        });
        fit.next().unwrap_or(CodecId::STORED)
    }

    fn find(&mut self, id: CodecId) -> Option<&mut (dyn Codec + Send + 'm)> {
        self.list.iter_mut().map(CodecRef::as_mut).find(|c| c.id() == id)
    }

    /// See [`Codec::has_state`].
    pub(crate) fn has_state(&mut self, id: CodecId, past: &Past<'_>, sending: bool) -> bool {
        self.find(id).is_some_and(|c| c.has_state(past, sending))
    }

    /// See [`Codec::has_time`].
    pub(crate) fn has_time(&mut self, id: CodecId, now: Instant) -> bool {
        self.find(id).is_some_and(|c| c.has_time(now))
    }

    /// See [`Codec::confirm`].
    pub(crate) fn confirm(&mut self, id: CodecId) {
        if let Some(c) = self.find(id) {
            c.confirm();
        }
    }

    /// See [`Codec::forget`].
    pub(crate) fn forget(&mut self, stream: u32) {
        self.list.iter_mut().for_each(|c| c.as_mut().forget(stream));
    }

    /// See [`Codec::refused`]. `taken`: those that the peer takes.
    pub(crate) fn peer_takes(&mut self, taken: u32, session: u64) {
        let refused = self.list.iter_mut().map(CodecRef::as_mut).filter(|c| taken & c.id().bit() == 0);
        refused.for_each(|c| c.refused(session));
    }

    /// Compresses with this codec; `None` if that does not make it smaller, or does not fit.
    pub(crate) fn compress(&mut self, id: CodecId, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        // What the link has become too fast for gives its memory back before another codec takes some.
        let unsuited = |c: &&mut (dyn Codec + Send + 'm)| c.id() != id && !c.suits(past.link_rate);
        self.list.iter_mut().map(CodecRef::as_mut).filter(unsuited).for_each(|c| c.refused(past.session));
        let codec = self.find(id)?;
        let n = if id.uses_history() { codec.compress_after(past, raw, out) } else { codec.compress(raw, out) };
        n.filter(|n| *n < raw.len())
    }

    /// Fills `out` from what a peer sent.
    pub(crate) fn decompress(&mut self, id: CodecId, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        if id == CodecId::STORED {
            if data.len() != out.len() {
                return Err(Code::BadBatch);
            }
            out.copy_from_slice(data);
            return Ok(());
        }
        let codec = self.find(id).ok_or(Code::BadBatch)?;
        if id.uses_history() { codec.decompress_after(past, data, out) } else { codec.decompress(data, out) }
    }
}
