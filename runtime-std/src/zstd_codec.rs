//! The `zstd` codecs: one frame per batch, for itself or against the events before it.

use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId, CodecRef, Codecs};
use ropeway_core::history::Past;

use crate::model_codec::ModelCodec;
use crate::sample::Sample;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, find_frame_compressed_size};

/// Level: beyond 3 the time grows faster than the bytes shrink on batches of this size.
const LEVEL: i32 = 3;
/// A window of 256 KiB holds every batch and bounds the memory of a peer that decodes piece by piece.
const WINDOW_LOG: u32 = 18;

/// Entries of each of the encoder's tables: 128 KiB.
const TABLE_LOG: u32 = 15;

/// Level and size of the window and of the tables (hashes, chains; logarithms) of [`ZstdHistory`], by what the link
/// carries in bytes a second. At 2G a byte takes longer on the air than the strongest of them needs to save it; they differ by some
/// 6 to 12 per cent of the bytes, and by 4 times the work.
fn effort(link_rate: u64) -> [i32; 4] {
    match link_rate {
        0..50_000 => [15, SLOW_WINDOW_LOG, 14, 18],
        50_000..500_000 => [9, HISTORY_WINDOW_LOG, 16, 16],
        _ => [3, HISTORY_WINDOW_LOG, 16, 16],
    }
}

/// See the [module](self).
pub struct Zstd {
    compressor: Compressor<'static>,
    decoder: DCtx<'static>,
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
        // It decodes a batch at once into the room for it, so it never needs memory for a window,
        // whatever window a frame claims.
        Some(Self { compressor, decoder: DCtx::try_create()? })
    }

    /// Memory that the decoder holds, in bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn decoder_bytes(&self) -> usize {
        self.decoder.sizeof()
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
        // zstd itself would also read several frames, or none (docs/PROTOCOL.md#codec-1).
        if find_frame_compressed_size(data) != Ok(data.len()) {
            return Err(Code::BadBatch);
        }
        match self.decoder.decompress(out, data) {
            Ok(n) if n == out.len() => Ok(()),
            _ => Err(Code::BadBatch),
        }
    }
}

/// First bytes of every zstd frame, which need not travel (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A window of 512 KiB holds the history and the batch.
const HISTORY_WINDOW_LOG: i32 = 19;
/// The strong levels make tables as large as the window: 64 KiB cost batches of a slow link a thousandth and save
/// 256 KiB of memory.
const SLOW_WINDOW_LOG: i32 = 16;

/// The `zstd` codec that may refer to the events before a batch (docs/PROTOCOL.md#codec-3). Its contexts live as
/// long as a call: between two, a node that waits for its link holds nothing of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZstdHistory;

impl ZstdHistory {
    fn pack(past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let [level, window_log, hash_log, chain_log] = effort(past.link_rate);
        let mut context = CCtx::try_create()?;
        let parameters = [
            CParameter::CompressionLevel(level),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::WindowLog(window_log as u32),
            CParameter::HashLog(hash_log as u32),
            CParameter::ChainLog(chain_log as u32),
        ];
        for parameter in parameters {
            context.set_parameter(parameter).ok()?;
        }
        context.ref_prefix(past.bytes).ok()?;
        let n = context.compress2(out, raw).ok()?;
        let rest = out.get(..n)?.strip_prefix(&MAGIC)?.len();
        out.copy_within(MAGIC.len()..n, 0);
        Some(rest)
    }

    fn unpack(past: &[u8], data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let frame = [&MAGIC, data].concat();
        if find_frame_compressed_size(&frame) != Ok(frame.len()) {
            return Err(Code::BadBatch);
        }
        let mut context = DCtx::try_create().ok_or(Code::Limit)?;
        context.ref_prefix(past).map_err(|_| Code::Limit)?;
        match context.decompress(out, &frame) {
            Ok(n) if n == out.len() => Ok(()),
            _ => Err(Code::BadBatch),
        }
    }
}

impl Codec for ZstdHistory {
    fn id(&self) -> CodecId {
        CodecId::ZSTD_HISTORY
    }

    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        Self::pack(&Past::default(), raw, out)
    }

    fn decompress(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        Self::unpack(&[], data, out)
    }

    fn compress_after(&mut self, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        Self::pack(past, raw, out)
    }

    fn decompress_after(&mut self, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        Self::unpack(past.bytes, data, out)
    }
}

/// The codecs of a node on an ordinary computer; [`ModelCodec`] if it may have states, so many, and another one that
/// begins with the sample if there is one.
#[must_use]
pub fn codecs(model_states: usize, sample: Option<&Sample>) -> Codecs<'static> {
    let owned = |codec: ModelCodec| CodecRef::Owned(Box::new(codec));
    let sampled = sample.filter(|_| model_states > 0).map(|sample| owned(ModelCodec::sampled(model_states, sample)));
    let model = (model_states > 0).then(|| owned(ModelCodec::new(model_states)));
    let codecs = sampled.into_iter().chain(model).fold(Codecs::default(), Codecs::with);
    let codecs = codecs.with(CodecRef::Owned(Box::new(ZstdHistory)));
    match Zstd::new() {
        Some(zstd) => codecs.with(CodecRef::Owned(Box::new(zstd))),
        None => codecs,
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

    #[test]
    fn what_the_history_holds_costs_nearly_nothing_and_takes_the_same_history_to_read() {
        let event = |n: u32| format!("{{\"patient\":\"BT-{:05}\",\"weight\":{}}}", n * 7919 % 99_991, n % 90);
        let past: Vec<u8> = (0..800).flat_map(|n| event(n).into_bytes()).collect();
        let past = Past { bytes: &past, ..Past::default() };
        let raw = event(77).into_bytes();
        let (mut packed, mut out) = (vec![0; 200], vec![0; raw.len()]);
        let n = ZstdHistory.compress_after(&past, &raw, &mut packed).unwrap();
        assert!(n < 16, "{n} of {}", raw.len());
        assert_eq!(ZstdHistory.decompress_after(&past, &packed[..n], &mut out), Ok(()));
        assert_eq!(out, raw);
        for cut in 0..n {
            assert_eq!(ZstdHistory.decompress_after(&past, &packed[..cut], &mut out), Err(Code::BadBatch));
        }
        let other = Past { bytes: &past.bytes[..past.bytes.len() - 1], ..past };
        let outcome = ZstdHistory.decompress_after(&other, &packed[..n], &mut out);
        assert!(outcome.is_err() || out != raw);
        assert!(ZstdHistory.decompress(&packed[..n], &mut out).is_err());
        // Without any it is a codec like the other, 4 bytes shorter.
        let n = ZstdHistory.compress(&raw.repeat(9), &mut [0; 999]).unwrap();
        assert!(n < raw.len() + 20, "{n}");
    }

    #[test]
    fn only_one_whole_frame_is_a_batch() {
        let mut zstd = Zstd::new().unwrap();
        let raw = b"registration ".repeat(20);
        let mut frame = vec![0; raw.len()];
        let n = zstd.compress(&raw, &mut frame).unwrap();
        frame.truncate(n);
        let empty = zstd::bulk::compress(b"", 3).unwrap();
        let skippable = b"\x50\x2a\x4d\x18\x02\0\0\0ab".to_vec();
        let mut out = vec![0; raw.len()];
        for (first, second) in [(&frame, &empty), (&empty, &frame), (&frame, &skippable), (&skippable, &frame)] {
            assert_eq!(zstd.decompress(&[&first[..], second].concat(), &mut out), Err(Code::BadBatch));
        }
        assert_eq!(zstd.decompress(&[&frame, &frame[..]].concat(), &mut vec![0; 2 * raw.len()]), Err(Code::BadBatch));
        assert_eq!(zstd.decompress(&[], &mut []), Err(Code::BadBatch));
        assert_eq!(zstd.decompress(&frame, &mut out), Ok(()));
    }

    #[test]
    fn golden_bodies_decode_and_what_is_made_today_is_no_longer() {
        let past = Past { bytes: b"{\"patient\":\"BT-0042\",\"event\":\"visit\"}", ..Past::default() };
        let raw = b"{\"patient\":\"BT-0043\",\"event\":\"visit\"}";
        let thrice = raw.repeat(3);
        // docs/PROTOCOL.md#codec-9
        let alone = [
            0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00, 0x45, 0x01, 0x00, 0xf8, 0x7b, 0x22, 0x70, 0x61, 0x74, 0x69, 0x65, 0x6e,
            0x74, 0x22, 0x3a, 0x22, 0x42, 0x54, 0x2d, 0x30, 0x30, 0x34, 0x33, 0x22, 0x2c, 0x22, 0x65, 0x76, 0x76, 0x69,
            0x73, 0x69, 0x74, 0x22, 0x7d, 0x02, 0x00, 0x87, 0x14, 0x32, 0x14, 0x36, 0xc7,
        ];
        let after = [0x00, 0x00, 0x55, 0x00, 0x00, 0x10, 0x33, 0x22, 0x02, 0x00, 0x60, 0x46, 0xe4, 0xa9, 0x20];
        let (mut one, mut three) = (vec![0; raw.len()], vec![0; thrice.len()]);
        assert_eq!(ZstdHistory.decompress_after(&past, &after, &mut one), Ok(()));
        assert_eq!(Zstd::new().unwrap().decompress(&alone, &mut three), Ok(()));
        assert_eq!((&one[..], &three[..]), (&raw[..], &thrice[..]));
        // What an encoder makes may change with its version; it must not grow.
        let mut packed = [0; 100];
        assert!(ZstdHistory.compress_after(&past, raw, &mut packed).unwrap() <= after.len());
        assert!(Zstd::new().unwrap().compress(&thrice, &mut packed).unwrap() <= alone.len());
    }

    #[test]
    fn no_claimed_window_makes_the_decoder_take_memory() {
        let mut zstd = Zstd::new().unwrap();
        let before = zstd.decoder_bytes();
        // Windows of 1 KiB, 256 KiB, 128 MiB and 3.75 TiB; one block: the byte `x`, 5 times.
        for window in [0x00, 0x40, 0x88, 0xff] {
            let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, window, 0x2b, 0x00, 0x00, b'x'];
            let mut out = [0; 5];
            let outcome = zstd.decompress(&frame, &mut out);
            assert!(outcome == Err(Code::BadBatch) || out == *b"xxxxx");
            assert_eq!(zstd.decoder_bytes(), before, "window {window:#x}");
        }
    }
}
