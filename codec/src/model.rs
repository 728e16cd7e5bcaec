//! The model: predictors, in the order in which a byte meets them.

use crate::ask::{Ask, Place};
use crate::bitwise::{Bitwise, Situation};
use crate::coder::{Coder, Way};
use crate::columns::Columns;
use crate::forecast::{Clock, Counting};
use crate::link::Links;
use crate::matches::Match;
use crate::math::mix;
use crate::pace::{News, Pace};
use crate::preset::Preset;
use crate::random::Random;
use crate::recall::{POINTERS, Pointer, Recall};
use crate::runs::Runs;
use crate::short::{Expected, Short};
use crate::tracker::{Part, Step, Tracker, Value};
use crate::window::Window;

/// From this probability on the best candidate is asked for at once.
const ASK_MIN: i32 = 48_000;
/// The same among random digits, where nothing is gained by mixing.
const ASK_RANDOM_MIN: i32 = 20_000;
/// A pointer that was right so many times in a row is proved.
const PROVED_TIMES: u32 = 2;

/// A match of so many bytes can make a byte certain.
const CERTAIN_LENGTH_MIN: u32 = 12;

/// Longer values are not names of a kind.
const KIND_MAX: u32 = 26;
/// Identifiers have a run of so many digits at least.
const IDENTITY_DIGITS_MIN: u32 = 5;

/// What costs less, in 1/64 bit, would not have been news if somebody had been asked.
const PROSE_NEWS_MIN: u32 = 32;

/// Places among the candidates.
const COUNTING: usize = POINTERS;
const CLOCK: usize = POINTERS + 1;
const LONG: usize = POINTERS + 2;
const SHORT: usize = POINTERS + 3;
const RUN: usize = POINTERS + 4;

/// Everything that is known of a stream so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Core {
    window: Window,
    tracker: Tracker,
    recall: Recall,
    links: Links,
    counting: Counting,
    clock: Clock,
    long: Match,
    short: Match,
    runs: Runs,
    random: Random,
    ask: Ask,
    bitwise: Bitwise,
    news: News,
    short_way: Short,
    columns: Columns,
    place: Whereabouts,
    /// Predictors that are switched off: see [`crate::PREDICTORS`].
    #[cfg(feature = "ablation")]
    pub(crate) off: u32,
}

/// What the record said so far, as contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Whereabouts {
    /// Where the segment began.
    begin: u32,
    /// The record's first short text: what kind of record it is.
    kind: u32,
    /// The value before.
    previous: u32,
    /// Whom the record is about: its first identifier that is known from before, and the nested value before
    /// it, which may say what of him.
    subject: u32,
    /// The last value within a container within the record.
    nested: u32,
    /// The last bytes, newest lowest.
    last: u64,
}

impl Core {
    pub(crate) fn new(preset: Preset) -> Self {
        let size = preset.sizes();
        let mut core = Self {
            window: Window::new(size.window),
            tracker: Tracker::new(),
            recall: Recall::new(size.recall, size.texts),
            links: Links::new(size.links),
            counting: Counting::new(size.fields),
            clock: Clock::new(size.fields),
            long: Match::new(size.matches - 1, 11),
            short: Match::new(size.matches, 5),
            runs: Runs::new(size.runs),
            random: Random::new(11),
            ask: Ask::new(size.ask, size.maps),
            bitwise: Bitwise::new(size.histories + 1, size.maps),
            news: News::new(),
            short_way: Short::new(),
            columns: Columns::new(),
            place: Whereabouts::default(),
            #[cfg(feature = "ablation")]
            off: 0,
        };
        core.begin_segment();
        core
    }

    /// As it was when it was made.
    pub(crate) fn reset(&mut self) {
        self.window.reset();
        self.tracker = Tracker::new();
        self.recall.reset();
        self.links.reset();
        self.counting.reset();
        self.clock.reset();
        self.long.reset();
        self.short.reset();
        self.runs.reset();
        self.random.reset();
        self.ask.reset();
        self.bitwise.reset();
        self.news = News::new();
        self.short_way.reset();
        self.columns.reset();
        self.place = Whereabouts::default();
        self.begin_segment();
    }

    /// Bytes of its tables.
    pub(crate) fn bytes(&self) -> usize {
        self.window.bytes()
            + self.recall.bytes()
            + self.links.bytes()
            + self.counting.bytes()
            + self.clock.bytes()
            + self.long.bytes()
            + self.short.bytes()
            + self.runs.bytes()
            + self.random.bytes()
            + self.ask.bytes()
            + self.bitwise.bytes()
            + self.short_way.bytes()
            + self.columns.bytes()
            + size_of::<Self>()
    }

    /// A record begins; its time stamp, where both ends know one.
    pub(crate) fn begin_record(&mut self, hlc_ms: Option<u64>) {
        self.clock.begin_record(hlc_ms);
        self.links.begin_record();
        self.tracker.begin_record();
        self.place.kind = 0;
        self.place.previous = 0;
        self.place.subject = 0;
        self.place.nested = 0;
        self.begin_segment();
    }

    /// A record has ended: a line end in the history, which nobody had to code.
    pub(crate) fn end_record(&mut self) {
        self.end_segment(None);
        self.remember(b'\n');
    }

    /// The record that went on is a whole JSON container.
    pub(crate) fn is_complete(&self) -> bool {
        self.tracker.is_complete()
    }

    /// Codes the next byte of the record, and learns it.
    pub(crate) fn code<C: Coder>(&mut self, coder: &mut C, byte: u8) -> u8 {
        if self.pace() == Pace::Prose && !self.random.is_on() {
            return self.code_prose(coder, byte);
        }
        let t = &self.tracker;
        let place = Place {
            path: t.path(),
            position: t.position(),
            order2: (self.place.last & 0xFFFF) as u32,
            part: t.part() as u32,
        };
        let mut refuted = None;
        if let Some((candidate, p)) = self.certain(&place) {
            coder.enter(Way::Certain);
            let hit = coder.code(candidate == byte, p);
            self.ask.update_certain(hit);
            if hit {
                self.note_news(false);
                self.learn(candidate);
                return candidate;
            }
            refuted = Some(candidate);
        }
        let random = self.random.is_on();
        self.gather(random);
        #[cfg(feature = "ablation")]
        self.ask.leave_out(self.off);
        let best = self.ask.best(&place);
        let mut coded = None;
        let ask_min = if random { ASK_RANDOM_MIN } else { ASK_MIN };
        match (best, refuted) {
            (Some((candidate, p)), None) if p >= ask_min => {
                coder.enter(Way::Asked);
                if coder.code(candidate == byte, p) {
                    coded = Some(candidate);
                } else {
                    refuted = Some(candidate);
                }
            }
            (_, Some(byte)) => self.ask.refute(byte),
            _ => {}
        }
        self.note_news(coded.is_none() && !random);
        let byte = match coded {
            Some(byte) => byte,
            None if random => {
                coder.enter(Way::Random);
                self.random.code(coder, byte, place.position)
            }
            None => {
                coder.enter(Way::Bitwise);
                #[allow(unused_mut)]
                let mut situation = self.situation(refuted.is_some(), best.map_or(0, |(_, p)| p));
                #[cfg(feature = "ablation")]
                situation.leave_out(self.off >> 16);
                let (byte, spent) = self.code_news(coder, byte, &situation);
                #[allow(unused_mut)]
                let mut may_be_random = place.position > 0;
                #[cfg(feature = "ablation")]
                {
                    may_be_random &= self.off >> 24 & 1 == 0;
                }
                if may_be_random {
                    let foretold = best.is_some_and(|(candidate, _)| candidate == byte);
                    self.random.note(byte, spent, foretold);
                }
                byte
            }
        };
        self.ask.update(byte);
        if !random {
            self.runs.update(byte);
        }
        self.learn(byte);
        byte
    }

    /// How the next byte is coded: JSON with care always.
    #[inline]
    fn pace(&self) -> Pace {
        if self.tracker.part() == Part::Raw { self.news.pace() } else { Pace::Careful }
    }

    /// Whether the byte was news, which JSON's bytes say nothing about.
    #[inline]
    fn note_news(&mut self, is_news: bool) {
        if self.tracker.part() == Part::Raw {
            self.news.note(is_news);
        }
    }

    /// Codes a byte that was not the best candidate; and what it cost, in 1/64 bit.
    fn code_news<C: Coder>(&mut self, coder: &mut C, byte: u8, s: &Situation) -> (u8, u32) {
        if self.pace() == Pace::Careful {
            return (self.bitwise.code(coder, byte, s), self.bitwise.spent());
        }
        let [one, three, stood, word, ..] = s.contexts;
        let expected = Expected::of_ranked(&s.ranked, s.is_refuted);
        self.short_way.code(coder, byte, &[one, three, stood, word], &expected, self.bitwise.slots())
    }

    /// Codes and learns a byte of text: nobody but the matches is asked what they expect.
    fn code_prose<C: Coder>(&mut self, coder: &mut C, byte: u8) -> u8 {
        coder.enter(Way::Bitwise);
        let last = self.place.last;
        let contexts = [
            mix((last & 0xFFFF) as u32, 2),
            mix((last & 0xFF_FFFF) as u32, 3),
            mix(last as u32, 4),
            mix(mix(self.tracker.path(), self.tracker.word()), 6),
        ];
        let matches = [(&self.long, &self.window), (&self.short, self.recall.texts())];
        let expected = Expected::of_matches(matches);
        let (byte, spent) = self.short_way.code(coder, byte, &contexts, &expected, self.bitwise.slots());
        self.note_news(spent >= PROSE_NEWS_MIN);
        self.learn(byte);
        byte
    }

    /// Codes a byte of a binary record, `at` bytes from its begin, and learns it.
    pub(crate) fn code_column<C: Coder>(&mut self, coder: &mut C, byte: u8, at: u32) -> u8 {
        self.columns.code(coder, byte, at, self.bitwise.slots())
    }

    /// A byte that always stood here, and that a proved pointer or a long match and a pointer expect.
    #[inline]
    fn certain(&mut self, place: &Place) -> Option<(u8, i32)> {
        #[cfg(feature = "ablation")]
        if self.off >> 25 & 1 == 1 {
            return None;
        }
        let [by_path, by_kind, ..] = self.recall.pointers();
        if self.random.is_on() {
            // What stands between random digits; of a digit itself nothing is certain.
            let byte = self.recall.byte(by_path).filter(|b| !b.is_ascii_hexdigit())?;
            return self.ask.certain(place, byte).map(|p| (byte, p));
        }
        let proved = [by_kind, by_path].into_iter().find(|p| p.is_proved(PROVED_TIMES));
        let byte = if let Some(pointer) = proved {
            self.recall.byte(pointer)?
        } else if self.long.length() >= CERTAIN_LENGTH_MIN {
            let byte = self.window.at(self.long.position()?);
            let agrees = |p: &&Pointer| p.misses() == 0 && self.recall.byte(p) == Some(byte);
            [by_kind, by_path].into_iter().find(agrees)?;
            byte
        } else {
            return None;
        };
        self.ask.certain(place, byte).map(|p| (byte, p))
    }

    /// Asks all predictors for their candidates.
    fn gather(&mut self, random: bool) {
        let t = &self.tracker;
        let (path, prefix, at) = (t.path(), t.prefix(), t.position());
        let last = self.place.last;
        self.ask.clear();
        for (which, pointer) in self.recall.pointers().iter().enumerate() {
            if let Some(byte) = self.recall.byte(pointer) {
                self.ask.propose(which, byte, pointer.situation(at));
            }
        }
        for (which, text) in [(COUNTING, &self.counting.text), (CLOCK, &self.clock.text)] {
            if let Some(byte) = text.byte() {
                self.ask.propose(which, byte, text.situation());
            }
        }
        let part = match t.part() {
            Part::Gap => 0,
            Part::Key => 1,
            Part::Text | Part::Raw => 2,
            Part::Bare => 3,
        };
        for (which, found) in [(LONG, &self.long), (SHORT, &self.short)] {
            if let Some(position) = found.position() {
                let texts = if which == LONG { &self.window } else { self.recall.texts() };
                let byte = texts.at(position);
                self.ask.propose(which, byte, found.situation() << 4 | class(byte) << 2 | part);
            }
        }
        if random {
            return;
        }
        let here = mix(path, prefix);
        let order3 = (last & 0xFF_FFFF) as u32;
        let order6 = mix((last >> 24) as u32 & 0xFF_FFFF, order3);
        let contexts = [
            mix(here, self.place.kind ^ 0x5bd1),
            mix(order6, 0x1234),
            mix(here, self.recall.pointers()[0].value() ^ 0x77_0000),
        ];
        for (which, (byte, run)) in self.runs.look_up(&contexts).into_iter().enumerate() {
            if run > 0 {
                self.ask.propose(RUN + which, byte, run << 4 | class(byte) << 2 | part);
            }
        }
    }

    /// The contexts of a byte that is coded bit by bit.
    fn situation(&self, is_refuted: bool, p: i32) -> Situation {
        let t = &self.tracker;
        let (path, at) = (t.path(), t.position());
        let last = self.place.last;
        let order1 = (last & 0xFF) as u32;
        let ranked = *self.ask.ranked();
        let expected = u32::from(ranked[0].byte) | u32::from(ranked[1].byte) << 8;
        let primary = self
            .recall
            .pointers()
            .iter()
            .take(2)
            .rev()
            .find_map(|p| Some(u32::from(self.recall.byte(p)?) | p.misses() << 8));
        let contexts = [
            mix(mix(path, order1), 1),
            mix((last & 0xFF_FFFF) as u32, 3),
            mix(mix(path, at), 5 + primary.map_or(0, |e| (e + 1) << 4)),
            mix(mix(path, t.word()), 6),
            mix(expected, 7 + ((p as u32) >> 13 << 4)),
            mix(mix(path, (last & 0xFFFF) as u32), 8),
        ];
        let place = (t.part() as u32) << 3 | self.long.situation().min(self.short.situation()).min(15) >> 1;
        Situation { contexts, ranked, is_refuted, place, path, order1 }
    }

    /// What follows from a byte that is known now.
    fn learn(&mut self, byte: u8) {
        self.remember(byte);
        let Step { begins, value } = self.tracker.update(byte);
        if begins {
            self.end_segment(value.as_ref());
            self.begin_segment();
        } else {
            self.recall.follow(byte);
            self.counting.text.follow(byte);
            self.clock.text.follow(byte);
        }
    }

    fn remember(&mut self, byte: u8) {
        self.window.push(byte);
        self.long.update(byte, &self.window);
        self.short.update_apart(byte, &self.window, self.recall.texts());
        self.place.last = self.place.last << 8 | u64::from(byte);
    }

    fn end_segment(&mut self, value: Option<&Value>) {
        let begin = self.place.begin;
        if let Some(begin) = self.recall.store(begin, value.map_or(0, |v| v.hash >> 8), &self.window) {
            self.short.insert(begin, self.recall.texts());
        }
        self.random.end();
        let Some(value) = value else { return };
        self.counting.store(begin, value.len, &self.window);
        self.clock.store(begin, value.len, &self.window);
        let is_known = self.links.note(value);
        let w = &mut self.place;
        if value.is_text && value.digits >= IDENTITY_DIGITS_MIN && is_known && w.subject == 0 {
            w.subject = mix(value.hash, w.nested);
        }
        if value.depth > 1 {
            w.nested = value.hash;
        }
        w.previous = value.hash;
        if value.is_text && value.depth == 1 && w.kind == 0 && value.len <= KIND_MAX {
            w.kind = value.hash;
        }
    }

    fn begin_segment(&mut self) {
        let path = self.tracker.path();
        let w = &mut self.place;
        w.begin = self.window.end();
        let source = self.links.source(path).unwrap_or(path ^ 0x5555);
        let contexts = [
            mix(path, 0x100),
            mix(mix(path, w.kind), 0x200),
            mix(mix(path, w.subject), 0x300),
            mix(mix(path, w.previous), 0x400),
            mix(source, 0x100),
        ];
        self.recall.begin(contexts);
        self.random.begin(path);
        if self.tracker.in_value() {
            self.counting.begin(contexts[1], &self.window);
            self.clock.begin(contexts[0], &self.window);
        }
    }
}

/// Digits, letters, quotes and the rest behave differently.
fn class(byte: u8) -> u32 {
    match byte {
        b'0'..=b'9' => 0,
        b'"' | b',' | b':' | b'{' | b'}' | b'[' | b']' => 2,
        byte if byte.is_ascii_alphabetic() => 1,
        _ => 3,
    }
}
