//! Compression of batches: the trait that runtimes implement with a library, and the set a node has.

#[cfg(any(test, feature = "planted", feature = "fuzzing"))]
pub mod toy;

use crate::code::Code;
use crate::history::Past;

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
    /// Compresses `raw` into `out`; `None` if the result would not fit.
    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize>;
    /// Fills `out` exactly from `data`, which a peer sent.
    ///
    /// # Errors
    /// [`Code::BadBatch`] if `data` does not decode to exactly `out.len()` bytes. Must not allocate
    /// by anything that `data` says.
    fn decompress(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), Code>;
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

    /// The set for HELLO.
    pub(crate) fn bits(&mut self) -> u32 {
        self.list.iter_mut().fold(CodecId::STORED.bit(), |bits, c| bits | c.as_mut().id().bit())
    }

    /// Whether one of them takes batches that refer to earlier events.
    pub(crate) fn use_history(&mut self) -> bool {
        self.list.iter_mut().any(|c| c.as_mut().id().uses_history())
    }

    /// The first codec that the peer speaks too; `stored` if there is none.
    pub(crate) fn choose(&mut self, peer: u32) -> CodecId {
        let ids = self.list.iter_mut().map(|c| c.as_mut().id());
        ids.into_iter().find(|id| peer & id.bit() != 0).unwrap_or(CodecId::STORED)
    }

    /// Compresses with this codec; `None` if that does not make it smaller, or does not fit.
    pub(crate) fn compress(&mut self, id: CodecId, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let codec = self.list.iter_mut().map(CodecRef::as_mut).find(|c| c.id() == id)?;
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
        let codec = self.list.iter_mut().map(CodecRef::as_mut).find(|c| c.id() == id).ok_or(Code::BadBatch)?;
        if id.uses_history() { codec.decompress_after(past, data, out) } else { codec.decompress(data, out) }
    }
}
