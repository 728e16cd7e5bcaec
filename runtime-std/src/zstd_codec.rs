//! The `zstd` codec: one frame per batch, contexts kept and bounded.

use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId, CodecRef, Codecs};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, DParameter};

/// Level: beyond 3 the time grows faster than the bytes shrink on batches of this size.
const LEVEL: i32 = 3;
/// A window of 256 KiB holds every batch and bounds the decoder's memory.
const WINDOW_LOG: u32 = 18;

/// Entries of each of the encoder's tables: 128 KiB.
const TABLE_LOG: u32 = 15;

/// See the [module](self).
pub struct Zstd {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

impl Zstd {
    /// A codec with its own contexts. `None` if the library has no memory for them.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut compressor = Compressor::new(LEVEL).ok()?;
        // The batch says how long it is; zstd need not repeat it.
        compressor.set_parameter(CParameter::ContentSizeFlag(false)).ok()?;
        compressor.set_parameter(CParameter::ChecksumFlag(false)).ok()?;
        compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG)).ok()?;
        // Smaller tables than the level's own: on a Pi a megabyte is more than the last per cent.
        compressor.set_parameter(CParameter::HashLog(TABLE_LOG)).ok()?;
        compressor.set_parameter(CParameter::ChainLog(TABLE_LOG)).ok()?;
        let mut decompressor = Decompressor::new().ok()?;
        decompressor.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).ok()?;
        Some(Self { compressor, decompressor })
    }
}

impl Codec for Zstd {
    fn id(&self) -> CodecId {
        CodecId::ZSTD
    }

    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        self.compressor.compress_to_buffer(raw, out).ok()
    }

    fn decompress(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        match self.decompressor.decompress_to_buffer(data, out) {
            Ok(n) if n == out.len() => Ok(()),
            _ => Err(Code::BadBatch),
        }
    }
}

/// The codecs of a node on an ordinary computer.
#[must_use]
pub fn codecs() -> Codecs<'static> {
    match Zstd::new() {
        Some(zstd) => Codecs::default().with(CodecRef::Owned(Box::new(zstd))),
        None => Codecs::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips_and_refuses_every_other_length() {
        let mut zstd = Zstd::new().unwrap();
        let raw = b"{\"patient\":\"BT-0042\",\"event\":\"registration\"}".repeat(50);
        let mut packed = vec![0; raw.len()];
        let n = zstd.compress(&raw, &mut packed).unwrap();
        assert!(n < raw.len() / 10, "{n}");
        let mut out = vec![0; raw.len()];
        assert_eq!(zstd.decompress(&packed[..n], &mut out), Ok(()));
        assert_eq!(out, raw);
        for len in [0, 1, raw.len() - 1, raw.len() + 1] {
            assert_eq!(zstd.decompress(&packed[..n], &mut vec![0; len]), Err(Code::BadBatch));
        }
        assert_eq!(zstd.decompress(b"garbage", &mut out), Err(Code::BadBatch));
    }
}
