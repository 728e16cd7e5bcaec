//! Batches through the real codecs.

use std::sync::OnceLock;

use ropeway_core::codec::{Codec, CodecRef, Codecs};
use ropeway_core::fuzz::{batch, batch_of_events};

use crate::zstd_codec::{Zstd, codecs};

/// What an honest peer sends afterwards.
const HONEST: &[u8] = b"registration registration registration registration";

/// The first byte chooses: the body of a BATCH from a stranger, or events to make one from.
pub fn decompress(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    if choice % 2 == 0 { check_body(rest) } else { batch_of_events(rest, &mut codecs(0, None)) }
}

fn check_body(body: &[u8]) {
    let mut zstd = Zstd::new().expect("memory");
    let memory = zstd.decoder_bytes();
    batch(body, &mut Codecs::default().with(CodecRef::Borrowed(&mut zstd)));
    assert_eq!(zstd.decoder_bytes(), memory, "nothing is allocated by what a body says");
    let mut out = [0; HONEST.len()];
    assert_eq!(zstd.decompress(honest(), &mut out), Ok(()), "it leaves nothing behind");
    assert_eq!(out, HONEST);
}

fn honest() -> &'static [u8] {
    static PACKED: OnceLock<Vec<u8>> = OnceLock::new();
    PACKED.get_or_init(|| {
        let mut out = vec![0; HONEST.len()];
        let n = Zstd::new().and_then(|mut z| z.compress(HONEST, &mut out)).expect("it becomes smaller");
        out.truncate(n);
        out
    })
}
