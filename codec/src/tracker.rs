//! Where in a record we are: a JSON tracker that never fails.
//!
//! It cuts a record into *segments*: values, and the gaps between them (punctuation and keys). Each
//! segment has a *path*, a hash of the keys that lead there, which does not name the place in an
//! array. What is not JSON is text: lines, cut at the separators of CSV, with the column as path.

use crate::math::mix;

const FRAMES: usize = 32;
const ARRAY: u32 = 0x11;
const START: u32 = 0x12;
const END: u32 = 0x13;
const RAW: u32 = 0x14;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Between tokens.
    Gap,
    /// The key of a member.
    Key,
    /// A string value.
    Text,
    /// A number or literal.
    Bare,
    /// Not JSON at all.
    Raw,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frame {
    /// Of the container.
    path: u32,
    /// Of the member that is open.
    key: u32,
    is_object: bool,
}

/// A value that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) path: u32,
    pub(crate) hash: u32,
    /// With its quotes.
    pub(crate) len: u32,
    /// The longest run of decimal or hexadecimal digits.
    pub(crate) digits: u32,
    pub(crate) is_text: bool,
    pub(crate) depth: u32,
}

/// What a byte ended or began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// A new segment begins with the next byte.
    pub(crate) begins: bool,
    /// A scalar value has ended.
    pub(crate) value: Option<Value>,
}

/// Follows the bytes of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tracker {
    frames: [Frame; FRAMES],
    depth: u32,
    part: Part,
    is_escaped: bool,
    wants_key: bool,
    is_complete: bool,
    /// Of the segment.
    path: u32,
    /// Whether the segment is a value, not a gap.
    in_value: bool,
    /// Bytes of the segment so far, and their hash.
    position: u32,
    prefix: u32,
    key: u32,
    run: u32,
    longest: u32,
    word: u32,
    column: u32,
}

impl Tracker {
    pub(crate) fn new() -> Self {
        let mut tracker = Self {
            frames: [Frame::default(); FRAMES],
            depth: 0,
            part: Part::Gap,
            is_escaped: false,
            wants_key: false,
            is_complete: false,
            path: 0,
            in_value: true,
            position: 0,
            prefix: 0,
            key: 0,
            run: 0,
            longest: 0,
            word: 0,
            column: 0,
        };
        tracker.begin_record();
        tracker
    }

    /// A new record.
    pub(crate) fn begin_record(&mut self) {
        self.depth = 0;
        self.part = Part::Gap;
        self.is_escaped = false;
        self.wants_key = false;
        self.is_complete = false;
        self.word = 0;
        self.column = 0;
        self.begin(START, true);
    }

    /// The hash of the keys that lead here, and whether it is a value or a gap.
    pub(crate) fn path(&self) -> u32 {
        self.path
    }

    pub(crate) fn part(&self) -> Part {
        self.part
    }

    /// Bytes of this segment so far.
    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// Hash of this segment so far.
    pub(crate) fn prefix(&self) -> u32 {
        self.prefix
    }

    pub(crate) fn in_value(&self) -> bool {
        self.in_value
    }

    /// Letters just before.
    pub(crate) fn word(&self) -> u32 {
        self.word
    }

    /// The container that the record began with has been closed.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// What began is no JSON container.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.part == Part::Raw
    }

    /// The next byte of the record.
    pub(crate) fn update(&mut self, byte: u8) -> Step {
        let before = self.prefix;
        self.position = self.position.saturating_add(1);
        self.prefix = mix(self.prefix, u32::from(byte) + 1);
        self.follow_word(byte);
        match self.part {
            Part::Gap => self.structure(byte),
            Part::Key => {
                self.key = mix(self.key, u32::from(byte));
                if self.is_string_end(byte) {
                    let key = self.key;
                    self.frame().key = key;
                    self.part = Part::Gap;
                }
                Step::default()
            }
            Part::Text => {
                if !self.is_string_end(byte) {
                    return Step::default();
                }
                let value = self.value(self.prefix, true);
                self.begin(mix(self.path, END), false);
                Step { begins: true, value: Some(value) }
            }
            Part::Bare => {
                if !matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b':' | b'"') {
                    return Step::default();
                }
                let value = self.value(before, false);
                let end = mix(self.path, END);
                self.part = Part::Gap;
                if !self.structure(byte).begins {
                    self.begin(end, false);
                }
                Step { begins: true, value: Some(value) }
            }
            Part::Raw => self.raw(byte),
        }
    }

    fn value(&self, hash: u32, is_text: bool) -> Value {
        Value {
            path: self.path,
            hash,
            len: self.position - u32::from(!is_text),
            digits: self.longest,
            is_text,
            depth: self.depth,
        }
    }

    fn is_string_end(&mut self, byte: u8) -> bool {
        if self.is_escaped {
            self.is_escaped = false;
            return false;
        }
        self.is_escaped = byte == b'\\';
        byte == b'"'
    }

    fn structure(&mut self, byte: u8) -> Step {
        if self.depth == 0 && !matches!(byte, b'{' | b'[') {
            self.part = Part::Raw;
            return self.raw(byte);
        }
        match byte {
            b'{' | b'[' => {
                let path = self.path;
                self.depth += 1;
                *self.frame() = Frame { path, key: 0, is_object: byte == b'{' };
                self.wants_key = byte == b'{';
                self.begin(mix(path, if byte == b'{' { START } else { ARRAY }), byte == b'[');
                Step { begins: true, value: None }
            }
            b'}' | b']' => {
                let path = self.frame().path;
                self.depth -= 1;
                self.is_complete = self.depth == 0;
                self.wants_key = false;
                self.begin(mix(path, END ^ u32::from(byte)), false);
                Step { begins: true, value: None }
            }
            b',' if self.frame().is_object => {
                self.wants_key = true;
                Step::default()
            }
            b',' | b':' => {
                let frame = *self.frame();
                self.begin(mix(frame.path, if frame.is_object { frame.key } else { ARRAY }), true);
                Step { begins: true, value: None }
            }
            b'"' if self.wants_key => {
                self.wants_key = false;
                self.key = 0;
                self.part = Part::Key;
                Step::default()
            }
            b'"' => {
                self.part = Part::Text;
                Step::default()
            }
            b' ' | b'\n' | b'\r' | b'\t' => Step::default(),
            _ => {
                self.part = Part::Bare;
                Step::default()
            }
        }
    }

    fn raw(&mut self, byte: u8) -> Step {
        match byte {
            b'\n' => self.column = 0,
            b',' | b';' | b'\t' | b'|' => self.column = self.column.wrapping_add(1),
            _ => return Step::default(),
        }
        let value = self.value(self.prefix, true);
        self.begin(mix(RAW, self.column), true);
        self.part = Part::Raw;
        Step { begins: true, value: Some(value) }
    }

    fn begin(&mut self, path: u32, in_value: bool) {
        self.path = path;
        self.in_value = in_value;
        self.part = Part::Gap;
        self.position = 0;
        self.prefix = 0;
        self.run = 0;
        self.longest = 0;
    }

    /// The open container; what is nested deeper than we remember shares the last place.
    fn frame(&mut self) -> &mut Frame {
        &mut self.frames[(self.depth as usize).min(FRAMES - 1)]
    }

    fn follow_word(&mut self, byte: u8) {
        if byte.is_ascii_alphabetic() || byte >= 0x80 {
            self.word = mix(self.word, u32::from(byte | 0x20));
        } else {
            self.word = 0;
        }
        self.run = if byte.is_ascii_hexdigit() { self.run + 1 } else { 0 };
        self.longest = self.longest.max(self.run);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn paths(text: &str) -> Vec<(u32, u32)> {
        let mut t = Tracker::new();
        text.bytes().filter_map(|b| t.update(b).value).map(|v| (v.path, v.len)).collect()
    }

    #[test]
    fn values_have_the_path_of_their_keys() {
        let a = paths(r#"{"a":1,"b":{"c":"x","d":[true,false]}}"#);
        let b = paths(r#"{"b":{"d":[null],"c":"a \"quoted\" one"},"a":22}"#);
        assert_eq!(a.iter().map(|v| v.1).collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert_eq!(b.iter().map(|v| v.1).collect::<Vec<_>>(), [4, 18, 2]);
        assert_eq!((a[0].0, a[1].0, a[2].0), (b[2].0, b[1].0, b[0].0));
        assert_eq!(a[2].0, a[3].0);
    }

    #[test]
    fn a_record_is_complete_when_its_container_closes() {
        for (text, complete) in
            [("{}", true), ("[{\"a\":\"}\"}]", true), ("{\"a\":[1}", false), ("12", false), ("", false), ("x{}", false)]
        {
            let mut t = Tracker::new();
            text.bytes().for_each(|b| {
                t.update(b);
            });
            assert_eq!(t.is_complete(), complete, "{text}");
        }
    }

    #[test]
    fn any_bytes_are_followed() {
        let mut t = Tracker::new();
        let mut seed = 3;
        for i in 0..200_000u32 {
            seed = mix(seed, i);
            t.update(b"{}[]\",:\\ a1\n\xFF"[seed as usize % 13]);
            if seed % 1000 == 0 {
                t.begin_record();
            }
        }
        (0..100_000).for_each(|_| {
            t.update(b'[');
        });
        (0..100_000).for_each(|_| {
            t.update(b']');
        });
    }
}
