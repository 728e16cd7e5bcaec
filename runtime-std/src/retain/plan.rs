//! Which segments may go, and why the others stay.

use std::collections::BTreeMap;
use std::fmt;

use ropeway_core::code::Code;
use ropeway_core::id::StreamKey;
use ropeway_core::log::MAX_BODY_BYTES;
use ropeway_core::policy::Role;
use ropeway_core::streams::FrontierEntry;

use super::{Mark, Rule};
use crate::dir::DataDir;
use crate::error::Result;
use crate::fetch::Asked;
use crate::identity::NodeIdentity;
use crate::machine::SystemClock;
use crate::store::{Damage, DirFiles, Files, Look, SegmentSketch, SideFile, keys, list_all, recover_quickly, sketch};
use crate::tls::TIME_FLOOR_S;

/// What shows that events are kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A hub's acknowledgements, as the receipts in the log tell them: on a clinic.
    Receipts,
    /// The backup mark: on a hub. `None` if there is none.
    Backup(Option<Mark>),
}

/// What is to be judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What the operator wants, if anything.
    pub rule: Option<Rule>,
    /// What must be shown before anything goes.
    pub evidence: Evidence,
    /// The wall clock in milliseconds since 1970; `None` if it was never set: then nothing is too old.
    pub now_ms: Option<u64>,
    /// What is asked for once more stays until it is here: its place is all that is known of it.
    pub asked: Vec<Asked>,
}

impl Terms {
    /// Those of the node in `dir`. `wall_ms`: what the clock shows.
    ///
    /// # Errors
    /// Those of [`Rule::read`], [`Mark::read`] and [`Asked::read`].
    pub fn read(dir: &DataDir, role: Role, wall_ms: u64) -> Result<Self> {
        let rule = Rule::read(dir)?;
        let evidence = match role {
            Role::Clinic => Evidence::Receipts,
            Role::Hub => Evidence::Backup(Mark::read(dir)?),
        };
        let now_ms = (wall_ms >= TIME_FLOOR_S * 1000).then_some(wall_ms);
        Ok(Self { rule, evidence, now_ms, asked: Asked::read(dir)? })
    }

    /// Whether the operator wants to be rid of the oldest segment of a log, and why, whatever may keep it.
    /// `log_bytes`: how large the log is with it.
    pub(super) fn wants(&self, sketch: &SegmentSketch, log_bytes: u64) -> std::result::Result<(Rule, Why), Stay> {
        let rule = self.rule.ok_or(Stay::NoRule)?;
        let newest_ms = sketch.newest.ms();
        let old = rule.age_ms.zip(self.now_ms).is_some_and(|(age, now)| newest_ms.saturating_add(age) < now);
        match () {
            () if old => Ok((rule, Why::Age)),
            () if rule.bytes.is_some_and(|bytes| log_bytes > bytes) => Ok((rule, Why::Size)),
            () if rule.age_ms.is_some() && self.now_ms.is_none() => Err(Stay::NoClock),
            () => Err(Stay::Young { until_ms: rule.age_ms.map(|age| newest_ms.saturating_add(age)) }),
        }
    }

    /// Up to which event of a stream nothing is asked for.
    fn unasked(&self, key: &StreamKey) -> u64 {
        self.asked.iter().filter(|a| a.key == *key).map(|a| a.from - 1).min().unwrap_or(u64::MAX)
    }

    /// Up to which event of a stream there is evidence.
    fn covers(&self, entry: &FrontierEntry) -> u64 {
        match &self.evidence {
            // What a hub acknowledges over, and lacks, is nowhere but here.
            Evidence::Receipts => match entry.lacks {
                Some((from, _)) => entry.acked.min(from.saturating_sub(1)),
                None => entry.acked,
            },
            Evidence::Backup(mark) => mark.as_ref().map_or(0, |m| m.covers(&entry.key)),
        }
    }
}

/// Why a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Everything in it is older than the rule's age.
    Age,
    /// The log is larger than the rule's size.
    Size,
}

/// Why a segment stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// There is no rule.
    NoRule,
    /// The log has lost something: nothing is removed before that is mended.
    Damaged(Code),
    /// It is still being written, or cannot be sealed.
    NotSealed,
    /// Its index cannot be read, so nobody knows what is in it.
    Unreadable(Code),
    /// Neither old enough, nor is the log too large.
    Young {
        /// When it will be old enough, in milliseconds since 1970, if the rule names an age.
        until_ms: Option<u64>,
    },
    /// Old or not: the clock was never set.
    NoClock,
    /// A hub has not acknowledged this stream so far.
    NoReceipt {
        /// The stream.
        key: StreamKey,
        /// The last event of it in the segment.
        needs: u64,
        /// Up to where it is acknowledged.
        has: u64,
    },
    /// No backup is marked.
    NoBackup,
    /// The marked backup does not hold this stream so far.
    NotBackedUp {
        /// The stream.
        key: StreamKey,
        /// The last event of it in the segment.
        needs: u64,
        /// Up to where the backup holds it.
        has: u64,
    },
    /// It holds places of this stream that are asked for once more.
    Asked {
        /// The stream.
        key: StreamKey,
    },
    /// The rule keeps so many of the newest events of each stream.
    Newest {
        /// The stream.
        key: StreamKey,
        /// How many events would be left of it.
        left: u64,
    },
    /// A segment before it stays.
    Behind(u64),
}

/// What becomes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes.
    Goes(Why),
    /// It stays.
    Stays(Stay),
}

/// A segment that was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Size of its file.
    pub bytes: u64,
    /// Earliest and latest stamp in it, in milliseconds since 1970, the latter not beyond this node's own clock
    /// when it was full; `None` if that is not known.
    pub span_ms: Option<(u64, u64)>,
    /// Streams in it.
    pub streams: usize,
    /// Events in it.
    pub events: u64,
    /// What becomes of it.
    pub fate: Fate,
}

/// See [`explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The segments, oldest first. Of the ones that stay only the first, unless all were asked for.
    pub segments: Vec<Segment>,
    /// Bytes of the whole log.
    pub log_bytes: u64,
    /// The last segment that was removed before.
    pub gone_upto: Option<u64>,
    limits: BTreeMap<StreamKey, u64>,
}

impl Plan {
    /// The segments that go.
    pub fn going(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| matches!(s.fate, Fate::Goes(_)))
    }

    /// Bytes of these.
    #[must_use]
    pub fn bytes_going(&self) -> u64 {
        self.going().map(|s| s.bytes).sum()
    }

    /// Whether a stream may be removed up to there: what was read of the segments must agree with what their
    /// indices say.
    pub(crate) fn may_go(&self, key: &StreamKey, seq: u64) -> bool {
        seq <= self.limits.get(key).copied().unwrap_or(0)
    }
}

/// Judges the log of `dir`, which may be at work. Removes nothing.
///
/// # Errors
/// Those of reading a log, a rule and a mark.
pub fn explain(dir: &DataDir) -> Result<(Terms, Plan)> {
    let node = dir.node()?;
    // Once there is a certificate it says what the node is.
    let role = NodeIdentity::load(dir).map_or(node.role, |id| id.role());
    let terms = Terms::read(dir, role, SystemClock::default().now().wall_ms)?;
    let (mut files, keys) = (DirFiles::new(dir), keys(dir)?);
    let opened = recover_quickly(&mut files, &keys, node.name, 1024, MAX_BODY_BYTES)?;
    let plan = judge(Look { files: &mut files, keys: &keys, opened }, &terms, true)?;
    Ok((terms, plan))
}

/// Judges a log. `all`: also the segments behind the first one that stays.
pub(super) fn judge<F: Files>(look: Look<'_, F>, terms: &Terms, all: bool) -> Result<Plan> {
    let Look { files, keys, opened } = look;
    let entries: BTreeMap<StreamKey, FrontierEntry> = opened.recovered.frontier().map(|e| (e.key, e)).collect();
    let keep = terms.rule.map_or(0, |r| r.keep_at_least);
    let limit = |e: &FrontierEntry| terms.covers(e).min(terms.unasked(&e.key)).min(e.have.saturating_sub(keep));
    let gone_upto = opened.index.stub();
    let mut plan = Plan {
        segments: Vec::new(),
        log_bytes: opened.log_bytes,
        gone_upto,
        limits: entries.values().map(|e| (e.key, limit(e))).collect(),
    };
    let (hot, mut numbers) = list_all(files)?;
    numbers.retain(|n| gone_upto.is_none_or(|gone| *n > gone));
    let loss = opened.damages.iter().find(|d| Damage::is_loss(d));
    let (mut left, mut first_kept) = (opened.log_bytes, None);
    for number in numbers {
        if first_kept.is_some() && !all {
            break;
        }
        let is_hot = hot.contains(&number);
        let bytes = if is_hot { files.len(number)? } else { files.side_len(SideFile::Sealed(number))?.unwrap_or(0) };
        let sketch = if is_hot { Err(None) } else { sketch(files, keys, number).map_err(|e| Some(e.code)) };
        let fate = match (&sketch, loss, first_kept) {
            (_, Some(d), None) => Fate::Stays(Stay::Damaged(d.code)),
            (_, _, Some(before)) => Fate::Stays(Stay::Behind(before)),
            (Err(None), ..) => Fate::Stays(Stay::NotSealed),
            (Err(Some(code)), ..) => Fate::Stays(Stay::Unreadable(*code)),
            (Ok(sketch), ..) => fate(sketch, terms, &entries, left),
        };
        match fate {
            Fate::Goes(_) => left = left.saturating_sub(bytes),
            Fate::Stays(_) => first_kept = first_kept.or(Some(number)),
        }
        let sketch = sketch.ok();
        let known = sketch.as_ref().filter(|s| s.summary.events > 0);
        plan.segments.push(Segment {
            number,
            bytes,
            span_ms: known.map(|s| (s.summary.hlc_min.ms(), s.newest.ms())),
            streams: sketch.as_ref().map_or(0, |s| s.last.len()),
            events: known.map_or(0, |s| s.summary.events),
            fate,
        });
    }
    Ok(plan)
}

/// What becomes of a sealed segment that is the oldest. `left`: how large the log is with it.
fn fate(sketch: &SegmentSketch, terms: &Terms, entries: &BTreeMap<StreamKey, FrontierEntry>, left: u64) -> Fate {
    let (rule, why) = match terms.wants(sketch, left) {
        Ok(wanted) => wanted,
        Err(stay) => return Fate::Stays(stay),
    };
    if terms.evidence == Evidence::Backup(None) {
        return Fate::Stays(Stay::NoBackup);
    }
    for (&key, &needs) in &sketch.last {
        let entry = entries.get(&key);
        let has = entry.map_or(0, |e| terms.covers(e));
        if has < needs {
            return Fate::Stays(match terms.evidence {
                Evidence::Receipts => Stay::NoReceipt { key, needs, has },
                Evidence::Backup(_) => Stay::NotBackedUp { key, needs, has },
            });
        }
        if needs > terms.unasked(&key) {
            return Fate::Stays(Stay::Asked { key });
        }
        let left = entry.map_or(0, |e| e.have).saturating_sub(needs);
        if left < rule.keep_at_least {
            return Fate::Stays(Stay::Newest { key, left });
        }
    }
    Fate::Goes(why)
}

impl Why {
    /// One word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Why::Age => "age",
            Why::Size => "size",
        }
    }
}

impl Stay {
    /// One word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Stay::NoRule => "no-rule",
            Stay::Damaged(_) => "damaged",
            Stay::NotSealed => "not-sealed",
            Stay::Unreadable(_) => "unreadable",
            Stay::Young { .. } => "young",
            Stay::NoClock => "no-clock",
            Stay::NoReceipt { .. } => "no-receipt",
            Stay::NoBackup => "no-backup",
            Stay::NotBackedUp { .. } => "not-backed-up",
            Stay::Asked { .. } => "asked",
            Stay::Newest { .. } => "newest",
            Stay::Behind(_) => "behind",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Age => "all of it is older than the rule's age",
            Why::Size => "the log is larger than the rule's size",
        })
    }
}

impl fmt::Display for Stay {
    /// In words, to follow `it stays: `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stay::NoRule => f.write_str("there is no rule; `ropeway retain` makes one"),
            Stay::Damaged(code) => write!(f, "the log is damaged ({code}), and nothing is removed before it is mended"),
            Stay::NotSealed => f.write_str("it is not sealed: still being written, or damaged"),
            Stay::Unreadable(code) => write!(f, "its index cannot be read ({code}), so nobody knows what is in it"),
            Stay::Young { until_ms: Some(_) } => f.write_str("too young"),
            Stay::Young { until_ms: None } => f.write_str("the log is not larger than the rule's size"),
            Stay::NoClock => f.write_str("the clock is not set, so nobody knows how old it is"),
            Stay::NoReceipt { key, needs, has } => {
                write!(f, "waiting for a hub's receipt: event {needs} of {key}, acknowledged up to {has}")
            }
            Stay::NoBackup => f.write_str("no backup is marked; `ropeway backup-mark` does that"),
            Stay::NotBackedUp { key, needs, has } => {
                write!(f, "not behind the backup mark: event {needs} of {key}, in the backup up to {has}")
            }
            Stay::Asked { key } => {
                write!(f, "withheld events of {key} are asked for once more; `ropeway fetch --cancel` takes that back")
            }
            Stay::Newest { key, left } => {
                write!(
                    f,
                    "it holds some of the newest events of {key}: {left} would be left, fewer than the rule keeps"
                )
            }
            Stay::Behind(number) => write!(f, "segment {number} before it stays"),
        }
    }
}
