//! Runs to be seen again: as a command line, or as a file that also holds an explicit tape.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::check::Check;
use crate::fault::Faults;
use crate::guard::run_guarded;
use crate::mutant::Mutant;
use crate::options::Options;
use crate::profile::Profile;
use crate::report::Report;
use crate::rng::{Rng, TAPE_BYTES};

/// Largest file that is read (bytes).
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most clinics in a file: more would only eat memory.
pub const CLINICS_MAX: usize = 10_000;
/// Most events in a file.
pub const EVENTS_MAX: usize = 50_000_000;
/// Largest mean payload in a file (bytes).
pub const SIZE_MAX: usize = 1 << 20;
/// What the file says it is.
const FORMAT: &str = "ropeway-sim repro 1";

/// A run, and what failed in it when it was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repro {
    /// What is run.
    pub options: Options,
    /// The tape; `None` for the one that the seed gives.
    pub tape: Option<Vec<u8>>,
    /// The check that failed, `None` if all held.
    pub check: Option<Check>,
    /// What was seen, in a sentence.
    pub what: String,
}

impl Repro {
    /// The run that a report tells of, with the tape that its seed gives.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let failed = report.failed.as_ref();
        Self {
            options: report.options,
            tape: None,
            check: failed.map(|f| f.check),
            what: failed.map(|f| f.what.clone()).unwrap_or_default(),
        }
    }

    /// The tape that is run.
    #[must_use]
    pub fn tape(&self) -> Rng {
        self.tape.as_deref().map_or_else(|| self.options.tape(), Rng::from_bytes)
    }

    /// Runs it. `keep_tail` keeps the last lines of the trace.
    #[must_use]
    pub fn run(&self, keep_tail: bool) -> Report {
        run_guarded(&self.options, self.tape(), keep_tail)
    }

    /// For a file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let o = &self.options;
        let tape = match &self.tape {
            None => json!({ "seed": o.seed, "bytes": o.tape_bytes }),
            Some(bytes) => json!({ "seed": o.seed, "hex": to_hex(bytes) }),
        };
        json!({
            "format": FORMAT,
            "check": self.check.map(Check::name),
            "what": self.what,
            "options": options_to_json(o),
            "tape": tape,
        })
    }

    /// What a file says.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let top = Fields::of(value, "the file", &["format", "check", "what", "options", "tape"])?;
        match top.text("format")? {
            Some(FORMAT) => {}
            Some(other) => return Err(format!("the format is \"{other}\", this program reads \"{FORMAT}\"")),
            None => return Err(format!("\"format\": \"{FORMAT}\" is missing: this is no repro file")),
        }
        let mut options = match top.0.get("options") {
            Some(v) => options_from_json(v)?,
            None => return Err("\"options\" is missing".into()),
        };
        let Some(tape) = top.0.get("tape") else { return Err("\"tape\" is missing".into()) };
        let fields = Fields::of(tape, "\"tape\"", &["seed", "bytes", "hex"])?;
        options.seed = fields.number("seed", u64::MAX)?.unwrap_or(options.seed);
        let tape = fields.text("hex")?.map(from_hex).transpose()?;
        match (&tape, fields.number("bytes", TAPE_BYTES)?) {
            (Some(_), Some(_)) => return Err("\"tape\" has both \"hex\" and \"bytes\": one of them is enough".into()),
            (Some(bytes), None) => options.tape_bytes = bytes.len() as u64,
            (None, bytes) => options.tape_bytes = bytes.unwrap_or(options.tape_bytes),
        }
        Ok(Self {
            options,
            tape,
            check: top.text("check")?.map(check).transpose()?,
            what: top.text("what")?.unwrap_or_default().to_owned(),
        })
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let text = format!("{:#}\n", self.to_json());
        std::fs::write(path, text).map_err(|e| format!("{}: cannot be written: {e}", path.display()))
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// A sentence that names the file and says what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, String> {
        let named = |what: String| format!("{}: {what}", path.display());
        let bytes = std::fs::metadata(path).map_err(|e| named(format!("cannot be read: {e}")))?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(named(format!("{bytes} bytes are too many; a repro file has at most {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read(path).map_err(|e| named(format!("cannot be read: {e}")))?;
        let value: Value = serde_json::from_slice(&text).map_err(|e| named(format!("is not JSON: {e}")))?;
        Self::from_json(&value).map_err(named)
    }
}

/// The fields of [`Options`], apart from the tape's.
#[must_use]
pub fn options_to_json(o: &Options) -> Value {
    let p = &o.profile;
    let mut profile = Map::new();
    profile.insert("name".into(), p.name.into());
    let named = p.name.parse::<Profile>().unwrap_or(Profile::LAN);
    for ((key, is), (_, was)) in p.figures().into_iter().zip(named.figures()) {
        if is != was {
            profile.insert(key.into(), is.into());
        }
    }
    json!({
        "clinics": o.clinics,
        "events": o.events,
        "size": o.size,
        "profile": profile,
        "stack": o.stack.name(),
        "faults": o.faults.iter().map(|f| f.name()).collect::<Vec<_>>(),
        "small": o.small,
        "all": o.all,
        "relay": o.relay,
        "hostile_disk": o.hostile_disk,
        "mutant": o.mutant.name(),
        "blind": o.blind.map(Check::name),
    })
}

/// The [`Options`] that a file names. What it does not name is as in [`Options::default`].
///
/// # Errors
/// A sentence that says what is wrong.
pub fn options_from_json(value: &Value) -> Result<Options, String> {
    const KNOWN: [&str; 12] = [
        "clinics",
        "events",
        "size",
        "profile",
        "stack",
        "faults",
        "small",
        "all",
        "relay",
        "hostile_disk",
        "mutant",
        "blind",
    ];
    let fields = Fields::of(value, "\"options\"", &KNOWN)?;
    let default = Options::default();
    let count = |key, most: usize, default| {
        fields.number(key, most as u64).map(|n| n.map_or(default, |n| usize::try_from(n).unwrap_or(most)))
    };
    let faults = match fields.0.get("faults") {
        None => default.faults,
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            Faults::parse(&names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))?
        }
        Some(Value::String(names)) => Faults::parse(names)?,
        Some(_) => return Err("\"faults\" must be a list of names".into()),
    };
    Ok(Options {
        clinics: count("clinics", CLINICS_MAX, default.clinics)?,
        events: count("events", EVENTS_MAX, default.events)?,
        size: count("size", SIZE_MAX, default.size)?,
        profile: fields.0.get("profile").map_or(Ok(default.profile), profile_from_json)?,
        stack: fields.text("stack")?.map_or(Ok(default.stack), str::parse)?,
        faults,
        small: fields.flag("small")?.unwrap_or(default.small),
        all: fields.flag("all")?.unwrap_or(default.all),
        relay: fields.flag("relay")?.unwrap_or(default.relay),
        hostile_disk: fields.flag("hostile_disk")?.unwrap_or(default.hostile_disk),
        mutant: fields.text("mutant")?.map_or(Ok(default.mutant), Mutant::by_name)?,
        blind: fields.text("blind")?.map(check).transpose()?,
        ..default
    })
}

fn profile_from_json(value: &Value) -> Result<Profile, String> {
    if let Some(name) = value.as_str() {
        return name.parse();
    }
    let keys = Profile::LAN.figures().map(|(key, _)| key);
    let known: Vec<&str> = ["name"].into_iter().chain(keys).collect();
    let fields = Fields::of(value, "\"profile\"", &known)?;
    let mut profile: Profile = fields.text("name")?.ok_or("\"profile\" has no \"name\"")?.parse()?;
    for key in keys {
        if let Some(n) = fields.number(key, FIGURE_MAX)? {
            profile.set_figure(key, n);
        }
    }
    Ok(profile)
}

/// Largest figure of a link: times beyond it would run over.
pub const FIGURE_MAX: u64 = 1 << 40;

fn check(name: &str) -> Result<Check, String> {
    let names = || Check::ALL.map(Check::name).join(", ");
    Check::by_name(name).ok_or_else(|| format!("{name}: no such check; choose one of {}", names()))
}

/// The fields of a JSON object, every one of them known.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of(value: &'a Value, what: &str, known: &[&str]) -> Result<Self, String> {
        let Some(map) = value.as_object() else { return Err(format!("{what} must be an object")) };
        match map.keys().find(|k| !known.contains(&k.as_str())) {
            Some(key) => Err(format!("{what} has an unknown field \"{key}\"; known are {}", known.join(", "))),
            None => Ok(Self(map)),
        }
    }

    fn present(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        let text = |v: &'a Value| v.as_str().ok_or_else(|| format!("\"{key}\" must be a text"));
        self.present(key).map(text).transpose()
    }

    fn number(&self, key: &str, most: u64) -> Result<Option<u64>, String> {
        let number = |v: &Value| match v.as_u64() {
            None => Err(format!("\"{key}\" must be a whole number, not negative")),
            Some(n) if n > most => Err(format!("\"{key}\" is {n}; the most is {most}")),
            Some(n) => Ok(n),
        };
        self.present(key).map(number).transpose()
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        let flag = |v: &Value| v.as_bool().ok_or_else(|| format!("\"{key}\" must be true or false"));
        self.present(key).map(flag).transpose()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    if !text.len().is_multiple_of(2) {
        return Err(format!("the tape has {} hex digits: an odd number", text.len()));
    }
    let digit = |c: u8| char::from(c).to_digit(16);
    let byte = |(n, pair): (usize, &[u8])| match (digit(pair[0]), digit(pair[1])) {
        (Some(high), Some(low)) => Ok((high << 4 | low) as u8),
        _ => Err(format!("the tape has something that is no hex digit at {}", 2 * n)),
    };
    text.as_bytes().chunks_exact(2).enumerate().map(byte).collect()
}

/// The command that makes this run again: the profile that is nearest, and what differs from it.
#[must_use]
pub fn repro(options: &Options) -> String {
    let mut names = vec!["swarm", "hostile-disk"];
    names.extend(Profile::ALL.map(|p| p.name));
    let said = |name: &&'static str| {
        let base = Options::named(name, options.seed).unwrap_or_default();
        (differences(&base, options), *name)
    };
    // The first of the shortest.
    let best = names.iter().map(said).min_by_key(|(more, _)| more.len());
    let (more, name) = best.unwrap_or_default();
    let more: String = more.iter().map(|(key, value)| format!(" --{key} {value}")).collect();
    format!("ropeway-sim run --profile {name} --seed {}{more}", options.seed)
}

/// The options of `run` that lead from one run to another.
fn differences(from: &Options, to: &Options) -> Vec<(&'static str, String)> {
    let mut more = Vec::new();
    let mut say = |differs: bool, key: &'static str, value: String| {
        if differs {
            more.push((key, value));
        }
    };
    say(from.clinics != to.clinics, "clinics", to.clinics.to_string());
    say(from.events != to.events, "events", to.events.to_string());
    say(from.size != to.size, "size", to.size.to_string());
    let link = from.profile.name != to.profile.name;
    say(link, "link", to.profile.name.to_owned());
    let base = if link { to.profile.name.parse().unwrap_or(from.profile) } else { from.profile };
    for ((key, was), (_, is)) in base.option_figures().into_iter().zip(to.profile.option_figures()) {
        say(was != is, key, is.to_string());
    }
    say(from.stack != to.stack, "stack", to.stack.name().to_owned());
    say(from.faults != to.faults, "faults", to.faults.to_string());
    say(from.small != to.small, "small", to.small.to_string());
    say(from.all != to.all, "all", to.all.to_string());
    say(from.relay != to.relay, "relay", to.relay.to_string());
    say(from.hostile_disk != to.hostile_disk, "hostile-disk", to.hostile_disk.to_string());
    say(from.tape_bytes != to.tape_bytes, "tape-bytes", to.tape_bytes.to_string());
    say(from.mutant != to.mutant, "mutant", to.mutant.name().to_owned());
    say(from.blind != to.blind, "blind", to.blind.map_or("none", Check::name).to_owned());
    more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::options::Stack;

    fn odd() -> Options {
        let swarm = Options::swarm(12);
        let profile = Profile { down_rate: 1234, ..swarm.profile };
        let mutant = Mutant::SyncRetried;
        Options { profile, mutant, stack: Stack::Full, blind: Some(Check::Bytes), tape_bytes: 99, ..swarm }
    }

    fn is_wrong(change: impl FnOnce(&mut Value), words: &str) {
        let tape = Some(vec![1, 2]);
        let mut value = Repro { options: odd(), tape, check: None, what: String::new() }.to_json();
        change(&mut value);
        let said = Repro::from_json(&value).unwrap_err();
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let dir = std::env::temp_dir().join(format!("ropeway-repro-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.json");
        for seed in [1, 2, u64::MAX] {
            for (tape, tape_bytes) in [(None, 99), (Some(vec![0, 0xff, 7]), 3), (Some(vec![]), 0)] {
                let options = Options { seed, tape_bytes, ..odd() };
                let repro = Repro { options, tape, check: Some(Check::Durable), what: "lost".into() };
                repro.save(&path).unwrap();
                assert_eq!(Repro::load(&path), Ok(repro));
            }
        }
        std::fs::write(&path, "{\"format\":").unwrap();
        assert!(Repro::load(&path).unwrap_err().contains("a.json: is not JSON"));
        std::fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(Repro::load(&path).unwrap_err().contains("too many"));
        assert!(Repro::load(&dir.join("none")).unwrap_err().contains("cannot be read"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn every_swarm_is_read_as_it_is_written() {
        for seed in 0..200 {
            let options = Options::swarm(seed);
            let repro = Repro { options, tape: None, check: None, what: String::new() };
            assert_eq!(Repro::from_json(&repro.to_json()), Ok(repro));
        }
    }

    #[test]
    fn bad_files_are_refused_with_a_sentence() {
        is_wrong(|v| *v = json!([]), "the file must be an object");
        is_wrong(|v| v["format"] = "x".into(), "this program reads");
        is_wrong(|v| v["more"] = 1.into(), "unknown field \"more\"");
        is_wrong(|v| v["check"] = "luck".into(), "luck: no such check");
        is_wrong(|v| v["options"]["profile"]["name"] = "5g".into(), "5g: choose one of bhutan-2g");
        is_wrong(|v| v["options"]["profile"]["up_rate"] = u64::MAX.into(), "\"up_rate\" is");
        is_wrong(|v| v["options"]["faults"] = json!(["flood"]), "flood: no such fault");
        is_wrong(|v| v["options"]["faults"] = json!(3), "list of names");
        is_wrong(|v| v["options"]["mutant"] = "x".into(), "x: no such mutant");
        is_wrong(|v| v["options"]["stack"] = "x".into(), "choose stream or full");
        is_wrong(|v| v["options"]["events"] = (EVENTS_MAX + 1).into(), "the most is");
        is_wrong(|v| v["options"]["clinics"] = (-1).into(), "whole number");
        is_wrong(|v| v["options"]["small"] = "yes".into(), "true or false");
        is_wrong(|v| v["tape"]["hex"] = "abc".into(), "odd number");
        is_wrong(|v| v["tape"]["hex"] = "a\u{e9}b".into(), "no hex digit at 0");
        is_wrong(|v| v["tape"]["hex"] = "00zz".into(), "no hex digit at 2");
        is_wrong(|v| v["tape"]["bytes"] = 5.into(), "both");
    }

    #[test]
    fn a_command_says_no_more_than_it_must() {
        assert_eq!(repro(&Options::swarm(7)), "ropeway-sim run --profile swarm --seed 7");
        let lan = Options { profile: Profile::LAN, ..Options::default() };
        assert_eq!(repro(&lan), "ropeway-sim run --profile lan --seed 1");
        let faults = Faults::LINK.with(Fault::Rot);
        let slow = Profile { cut_every_ms: 9, ..Profile::LAN };
        assert_eq!(
            repro(&Options { faults, profile: slow, small: true, ..lan }),
            "ropeway-sim run --profile lan --seed 1 --cut-every-ms 9 --faults cut,rot,chunks,late-word --small true"
        );
    }

    #[test]
    fn a_run_from_its_drawn_bytes_fails_as_the_seed_did() {
        let with = |seed| Options { mutant: Mutant::DurableWithoutSync, ..Options::swarm(seed) };
        let mut failed = (1..).map(|seed| run_guarded(&with(seed), with(seed).tape(), false));
        let report = failed.find(|r| r.failed.is_some()).unwrap();
        let mut saved = Repro::of(&report);
        assert_eq!(saved.run(false), report);
        saved.tape = Some(saved.tape().head(report.drawn).into_owned());
        assert_eq!(saved.run(true).failed, report.failed);
    }
}
