//! What others make of the same bytes.

use std::io::{Read, Write};
use std::time::Duration;

use ppmd_rust::{Ppmd7Decoder, Ppmd7Encoder};
use zstd::zstd_safe::{CCtx, CParameter, get_error_name};

use crate::Result;
use crate::cpu::timed;

/// Levels of zstd that are shown.
pub(super) const ZSTD_LEVELS: [i32; 3] = [3, 9, 19];
/// A window of 2 MB holds every history and every batch.
const WINDOW_LOG: u32 = 21;
/// What others call `-o6 -m2m`.
const PPMD: (u32, u32) = (6, 2 << 20);
/// Memory of PPMd, in bytes.
pub(super) const PPMD_BYTES: u64 = PPMD.1 as u64;

/// What a whole corpus has become.
pub(super) struct Packed {
    pub(super) bytes: usize,
    pub(super) encoding: Duration,
    pub(super) decoding: Duration,
}

/// zstd, all in one frame.
pub(super) fn zstd_whole(level: i32, data: &[u8]) -> Result<Packed> {
    let (packed, encoding) = timed(|| zstd::bulk::compress(data, level));
    let packed = packed?;
    let (back, decoding) = timed(|| zstd::bulk::decompress(&packed, data.len()));
    same(&back?, data)?;
    Ok(Packed { bytes: packed.len(), encoding, decoding })
}

/// zstd with these bytes before as its prefix; bytes that come out.
pub(super) fn zstd_after(level: i32, before: &[u8], data: &[u8]) -> Result<usize> {
    let fail = |code| get_error_name(code).to_owned();
    let mut context = CCtx::create();
    for parameter in [CParameter::CompressionLevel(level), CParameter::WindowLog(WINDOW_LOG)] {
        context.set_parameter(parameter).map_err(fail)?;
    }
    context.ref_prefix(before).map_err(fail)?;
    let mut out = vec![0; zstd::zstd_safe::compress_bound(data.len())];
    Ok(context.compress2(&mut out, data).map_err(fail)?)
}

/// PPMd var. H of order 6 with 2 MB, as 7-Zip has it.
pub(super) fn ppmd(data: &[u8]) -> Result<Packed> {
    let (order, memory) = PPMD;
    let pack = || -> Result<Vec<u8>> {
        let mut encoder = Ppmd7Encoder::new(Vec::new(), order, memory)?;
        encoder.write_all(data)?;
        Ok(encoder.finish(false)?)
    };
    let (packed, encoding) = timed(pack);
    let packed = packed?;
    let mut back = vec![0; data.len()];
    let unpack = || -> Result<()> { Ok(Ppmd7Decoder::new(packed.as_slice(), order, memory)?.read_exact(&mut back)?) };
    let (done, decoding) = timed(unpack);
    done?;
    same(&back, data)?;
    Ok(Packed { bytes: packed.len(), encoding, decoding })
}

fn same(back: &[u8], data: &[u8]) -> Result<()> {
    if back == data { Ok(()) } else { Err("what came back is not what went in".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_them_makes_text_smaller_and_a_prefix_helps() {
        let text = br#"{"type":"vitals","pulse":92,"rr":17}"#.repeat(40);
        assert!(ppmd(&text).unwrap().bytes < 200);
        assert!(zstd_whole(9, &text).unwrap().bytes < 200);
        let event = br#"{"type":"vitals","pulse":88,"rr":17}"#;
        assert!(zstd_after(9, &text, event).unwrap() < zstd_after(9, b"", event).unwrap());
    }
}
