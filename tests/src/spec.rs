//! The bytes of docs/PROTOCOL.md, written down a second time and from the text alone. Nothing here
//! uses the code that it is to test.

/// Frame types (docs/PROTOCOL.md#frame-2).
#[allow(missing_docs, reason = "the table in the text")]
pub mod kind {
    pub const HELLO: u8 = 1;
    pub const VECTOR: u8 = 2;
    pub const BATCH: u8 = 3;
    pub const ACK: u8 = 4;
    pub const CREDIT: u8 = 5;
    pub const BLOCKED: u8 = 6;
    pub const PING: u8 = 7;
    pub const PONG: u8 = 8;
    pub const ERROR: u8 = 11;
    pub const GOODBYE: u8 = 12;
}

/// Bit of the first byte: skip if unknown.
pub const OPTIONAL: u8 = 0x20;
/// Bit of the first byte: the opening vector is complete; the sender of the batch waits.
pub const FLAG: u8 = 0x40;

/// The normal lane.
pub const NORMAL: u8 = 1;

/// A number as varint.
#[must_use]
pub fn varint(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

/// A varint from the front: the number and the rest.
#[must_use]
pub fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let n = bytes.iter().position(|b| b & 0x80 == 0)?;
    let v = bytes[..=n].iter().enumerate().fold(0, |v, (i, b)| v | u64::from(b & 0x7f) << (7 * i));
    Some((v, &bytes[n + 1..]))
}

/// A frame; `first` is the type with its flags.
#[must_use]
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], varint(body.len() as u64).as_slice(), body].concat()
}

/// A frame whose body is one number.
#[must_use]
pub fn number(first: u8, v: u64) -> Vec<u8> {
    frame(first, &varint(v))
}

/// HELLO.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md#hello-1")]
pub struct Hello {
    pub versions: [u8; 2],
    pub codecs: u64,
    pub frame_kib: u64,
    pub batch_kib: u64,
    pub credit_kib: u64,
    pub deployment: u64,
    pub wall_s: u64,
}

impl Hello {
    /// An ordinary one.
    #[must_use]
    pub fn new(deployment: u64) -> Self {
        Self {
            versions: [1, 1],
            codecs: 3,
            frame_kib: 257,
            batch_kib: 257,
            credit_kib: 64,
            deployment: deployment % (1 << 14),
            wall_s: 1_770_000_000,
        }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut out = self.versions.to_vec();
        let numbers =
            [0, self.codecs, self.frame_kib, self.batch_kib, self.credit_kib, self.deployment, self.wall_s, 128];
        numbers.iter().for_each(|v| out.extend(varint(*v)));
        out
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        frame(kind::HELLO, &self.body())
    }
}

/// Whose stream a vector's entry names.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// The sender's.
    Mine,
    /// The receiver's.
    Yours,
    /// This node's.
    Of(&'a str),
}

/// An entry of a vector (docs/PROTOCOL.md#vector-1).
#[must_use]
pub fn entry(whose: Whose<'_>, lane: u8, incarnation: u64, seq: u64, tag: [u8; 8]) -> Vec<u8> {
    let mut out = Vec::new();
    match whose {
        Whose::Mine => out.push(1 | lane << 2),
        Whose::Yours => out.push(2 | lane << 2),
        Whose::Of(name) => {
            out.extend([lane << 2, name.len() as u8]);
            out.extend(name.as_bytes());
        }
    }
    out.extend(incarnation.to_le_bytes());
    out.extend(varint(seq));
    if seq > 0 {
        out.extend(tag);
    }
    out
}

/// A whole opening vector.
#[must_use]
pub fn vector(entries: &[Vec<u8>]) -> Vec<u8> {
    frame(kind::VECTOR | FLAG, &entries.concat())
}

/// An event.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md#chain-1")]
pub struct Event {
    pub stamp: u64,
    pub kind: u16,
    pub payload: Vec<u8>,
}

impl Event {
    /// An event at this millisecond.
    #[must_use]
    pub fn at(ms: u64, payload: impl AsRef<[u8]>) -> Self {
        Self { stamp: ms << 16, kind: 0, payload: payload.as_ref().to_vec() }
    }
}

/// `h_0` (docs/PROTOCOL.md#chain-2).
#[must_use]
pub fn chain_start(node: &str, incarnation: u64, lane: u8) -> [u8; 32] {
    let name = [&[node.len() as u8], node.as_bytes()].concat();
    *blake3::hash(&[b"ropeway stream 1", name.as_slice(), &incarnation.to_le_bytes(), &[lane]].concat()).as_bytes()
}

/// `h_n` from `h_(n-1)` (docs/PROTOCOL.md#chain-1).
#[must_use]
pub fn chain_next(before: &[u8; 32], e: &Event) -> [u8; 32] {
    let event = [&e.stamp.to_le_bytes()[..], &e.kind.to_le_bytes(), &[0], &e.payload].concat();
    *blake3::hash(&[&before[..], blake3::hash(&event).as_bytes()].concat()).as_bytes()
}

/// A batch, every field of which may be a lie.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md#batch-1")]
pub struct Batch {
    pub handle: u64,
    pub first_seq: u64,
    pub count: u64,
    pub codec: u8,
    pub raw_bytes: u64,
    pub stamp: u64,
    pub tag: [u8; 8],
    pub data: Vec<u8>,
}

impl Batch {
    /// An honest one. `chain` is `h_(first_seq - 1)` and moves on.
    #[must_use]
    pub fn new(handle: u64, first_seq: u64, chain: &mut [u8; 32], events: &[Event]) -> Self {
        for e in events {
            *chain = chain_next(chain, e);
        }
        let mut tag = [0; 8];
        tag.copy_from_slice(&chain[..8]);
        let data = columns(events);
        Self {
            handle,
            first_seq,
            count: events.len() as u64,
            codec: 0,
            raw_bytes: data.len() as u64,
            stamp: events[0].stamp,
            tag,
            data,
        }
    }

    /// The frame, with FLAG: its sender waits.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut body = [varint(self.handle), varint(self.first_seq), varint(self.count)].concat();
        body.push(self.codec);
        body.extend(varint(self.raw_bytes));
        body.extend(self.stamp.to_le_bytes());
        body.extend(self.tag);
        body.extend(&self.data);
        frame(kind::BATCH | FLAG, &body)
    }
}

/// The columns (docs/PROTOCOL.md#batch-3, batch-4).
fn columns(events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before: Option<u64> = None;
    for e in events {
        let (ms, counter) = (e.stamp >> 16, e.stamp & 0xffff);
        let (passed, given) = match before {
            None => (0, None),
            Some(b) if b >> 16 == ms => (0, Some(counter - (b & 0xffff)).filter(|d| *d != 1)),
            Some(b) => (ms - (b >> 16), Some(counter).filter(|c| *c != 0)),
        };
        out.extend(varint(passed << 2 | u64::from(given.is_some())));
        given.iter().for_each(|g| out.extend(varint(*g)));
        before = Some(e.stamp);
    }
    events.iter().for_each(|e| out.extend(varint(u64::from(e.kind))));
    events.iter().for_each(|e| out.extend(varint(e.payload.len() as u64)));
    events.iter().for_each(|e| out.extend(&e.payload));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_examples_of_the_text_come_out() {
        let hello = Hello::new(0x1122_3344_5566_7788);
        assert_eq!(hex(&hello.frame()), "0112010100038102810240886f809d80cc068001");
        let e = entry(Whose::Mine, NORMAL, 0x0102, 300, *b"tagtagta");
        assert_eq!(hex(&e), "050201000000000000ac027461677461677461");
        let h0 = chain_start("clinic_a", 7, NORMAL);
        assert_eq!(hex(&h0), "0db367ee2d9a9506c4e43a05919b6108f8d76f5399d62764a0b622dec853238c");
        let h1 = chain_next(&h0, &Event { stamp: 5 << 16 | 1, kind: 2, payload: b"x".to_vec() });
        assert_eq!(hex(&h1), "7481cc2a90c0620a35ebdd95666bfb02efc6f112c0802b0d7a936560f99bb1dd");
        assert_eq!(take_varint(&varint(u64::MAX)), Some((u64::MAX, &[][..])));
    }
}
