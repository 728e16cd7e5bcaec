//! Values of options, checked while the command line is parsed.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};
use ropeway_core::code::Code;
use ropeway_core::id::{Lane, NodeName};
use ropeway_core::policy::{Policy, Role};
use ropeway_std::Error;
use ropeway_std::budget::{RATE_MIN_BYTES_PER_S, SESSION_MIN_BYTES, Window};
use ropeway_std::scrub::ScrubRate;

use super::error::Result;
use crate::demo::profile::Profile;

/// A host name has at most this many characters.
const HOST_MAX_BYTES: usize = 253;

/// Why a value is not taken: `R101 bad name: <what>`, and the hint on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// What kind of mistake.
    pub code: Code,
    /// What is wrong with it.
    pub what: String,
}

impl BadValue {
    pub(super) fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into() }
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  hint: {}", self.code, self.what, self.code.hint())
    }
}

impl std::error::Error for BadValue {}

/// A clap parser from a function and, if there are only some, the names of the values: help and
/// completions list them.
#[derive(Clone)]
pub(super) struct Value<T> {
    parse: fn(&str) -> std::result::Result<T, BadValue>,
    names: &'static [(&'static str, &'static str)],
}

impl<T> Value<T> {
    /// A value without names.
    pub(super) const fn of(parse: fn(&str) -> std::result::Result<T, BadValue>) -> Self {
        Self { parse, names: &[] }
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Value<T> {
    type Value = T;

    fn parse_ref(
        &self,
        cmd: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> std::result::Result<T, clap::Error> {
        self.parse.parse_ref(cmd, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        if self.names.is_empty() {
            return None;
        }
        Some(Box::new(self.names.iter().map(|(name, about)| PossibleValue::new(*name).help(*about))))
    }
}

pub(super) const NODE_NAME: Value<NodeName> =
    Value { parse: |text| NodeName::new(text).map_err(|code| BadValue::new(code, code.says())), names: &[] };

pub(super) const LANE: Value<Lane> = Value {
    parse: |text| text.parse().map_err(|_| not_one_of("lane", LANE.names)),
    names: &[
        ("urgent", "overtakes everything else"),
        ("normal", "the usual one"),
        ("bulk", "attachments and other things that can wait"),
    ],
};

pub(super) const POLICY: Value<Policy> = Value {
    parse: |text| text.parse().map_err(|_| not_one_of("policy", POLICY.names)),
    names: &[("own", "each clinic reads its own events"), ("all", "every clinic reads the events of all clinics")],
};

/// Bytes: `4GiB`, `500MB`, `20K` (KiB), `1048576`.
pub(super) const SIZE: Value<u64> = Value::of(|text| {
    const UNITS: [(&str, u64); 13] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
    ];
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).unwrap_or((text, 1));
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let bytes = number.parse::<u64>().ok().filter(|n| digits && *n > 0).and_then(|n| n.checked_mul(unit));
    bytes.ok_or_else(|| BadValue::new(Code::BadArgument, "it is no size; write a number and a unit: 500MB, 4GiB"))
});

/// Bytes of a budget, with which at least a connection can be made.
pub(super) const BUDGET: Value<u64> = Value::of(|text| {
    let bytes = (SIZE.parse)(text)?;
    let what = || format!("a connection alone costs up to {SESSION_MIN_BYTES} bytes: allow more");
    (bytes >= SESSION_MIN_BYTES).then_some(bytes).ok_or_else(|| BadValue::new(Code::BadArgument, what()))
});

/// Bytes a second with which a session stays alive.
pub(super) const RATE: Value<u64> = Value::of(|text| {
    let rate = (SIZE.parse)(text)?;
    let what = || format!("below {RATE_MIN_BYTES_PER_S} bytes a second a hub takes the link for dead");
    (rate >= RATE_MIN_BYTES_PER_S).then_some(rate).ok_or_else(|| BadValue::new(Code::BadArgument, what()))
});

pub(super) const WINDOW: Value<Window> = Value::of(|text| {
    text.parse()
        .map_err(|_| BadValue::new(Code::BadArgument, "it is no window; write HH:MM-HH:MM (UTC), as 22:00-05:30"))
});

pub(super) const ROLE: Value<Role> = Value {
    parse: |text| match text {
        "clinic" => Ok(Role::Clinic),
        "hub" => Ok(Role::Hub),
        _ => Err(not_one_of("role", ROLE.names)),
    },
    names: &[("clinic", "writes its own events"), ("hub", "may serve, and reads the events of all nodes")],
};

pub(super) const PROFILE: Value<Profile> = Value {
    parse: |text| text.parse::<Profile>().map_err(|e| BadValue::new(e.code(), e.to_string())),
    // A table of profiles is in `Profile::ALL`; a test keeps the names equal.
    names: &[
        ("bhutan-2g", "GPRS in a mountain valley"),
        ("edge", "EDGE"),
        ("satellite", "a geostationary satellite"),
        ("lan", "a cable in the same building"),
    ],
};

pub(super) const BIND_ADDR: Value<SocketAddr> = Value {
    parse: |text| {
        let what = "it is not IP:PORT; to listen on all addresses write 0.0.0.0:7700 or [::]:7700";
        text.parse().map_err(|_| BadValue::new(Code::Address, what))
    },
    names: &[],
};

pub(super) const HUB_ADDR: Value<HubAddr> = Value { parse: |text| text.parse(), names: &[] };

/// A factor of time: finite, from 0.01 to 1000.
pub(super) const SPEED: Value<f64> = Value {
    parse: |text| match text.parse::<f64>() {
        Ok(x) if (0.01..=1_000.0).contains(&x) => Ok(x),
        _ => Err(BadValue::new(Code::BadArgument, "it is not a number from 0.01 to 1000")),
    },
    names: &[],
};

pub(super) const SCRUB_RATE: Value<ScrubRate> = Value {
    parse: |text| {
        let what = "it is neither `monthly` nor `off` nor bytes a second, as 500k or 2M";
        text.parse().map_err(|_| BadValue::new(Code::BadArgument, what))
    },
    names: &[],
};

fn not_one_of(noun: &str, names: &[(&str, &str)]) -> BadValue {
    let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    BadValue::new(Code::BadArgument, format!("there is no such {noun}; choose one of {}", names.join(", ")))
}

/// Where a hub is: HOST:PORT. The host is looked up when it is needed, not when it is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubAddr {
    text: String,
}

impl HubAddr {
    /// The addresses of the hub, in the order in which to try them; at least one.
    ///
    /// # Errors
    /// [`Code::Address`] if there is no such host; [`Code::Unreachable`] if that cannot be told now,
    /// because the link to the name server is down.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = match self.text.to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(e) => {
                let code = if is_temporary(&e) { Code::Unreachable } else { Code::Address };
                return Err(Error::new(code, format!("looking up {self}")).with_source(e).into());
            }
        };
        if found.is_empty() {
            return Err(Error::new(Code::Address, format!("{self} has no address")).into());
        }
        Ok(found)
    }

    /// As it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether a look-up may succeed later. The standard library tells it by the C library's words
/// only (EAI_AGAIN of glibc and of musl); it never sets a locale, so they are not translated.
fn is_temporary(e: &io::Error) -> bool {
    let text = e.to_string();
    text.ends_with("Temporary failure in name resolution") || text.ends_with("Try again")
}

impl fmt::Display for HubAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for HubAddr {
    type Err = BadValue;

    fn from_str(text: &str) -> std::result::Result<Self, BadValue> {
        let bad = |what: &str| Err(BadValue::new(Code::Address, what));
        let Some((host, port)) = text.rsplit_once(':') else {
            return bad("there is no port in it");
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|p| p > 0) {
            return bad("its port is not a number from 1 to 65535");
        }
        if text.parse::<SocketAddr>().is_ok() {
            return Ok(Self { text: text.to_owned() });
        }
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        match host {
            "" => bad("there is no host in it"),
            h if h.contains(':') => bad("write an IPv6 address in brackets: [2001:db8::1]:7700"),
            h if h.len() > HOST_MAX_BYTES || !h.bytes().all(ok) => bad("its host is neither a name nor an IP address"),
            _ => Ok(Self { text: text.to_owned() }),
        }
    }
}

/// A file, or standard input for `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path) }
    }
}

impl fmt::Display for Input {
    /// What to call it in messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Stdin => f.write_str("standard input"),
            Input::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_address_has_a_host_and_a_port() {
        for good in ["192.168.1.10:7700", "hub.example.org:7700", "localhost:1", "[::1]:7700"] {
            assert_eq!(good.parse::<HubAddr>().unwrap().as_str(), good);
        }
        let rows = [
            ("", "no port"),
            ("hub", "no port"),
            (":7700", "no host"),
            ("hub:", "not a number"),
            ("hub:+77", "not a number"),
            ("hub:0", "not a number"),
            ("hub:65536", "not a number"),
            ("::1:7700", "in brackets"),
            ("a b:7700", "neither"),
            ("http://hub:7700", "in brackets"),
        ];
        for (bad, what) in rows {
            let e = bad.parse::<HubAddr>().unwrap_err();
            assert!(e.code == Code::Address && e.what.contains(what), "{bad}: {e}");
        }
        assert!(format!("{}:1", "x".repeat(254)).parse::<HubAddr>().is_err());
        let found = "127.0.0.1:7700".parse::<HubAddr>().unwrap().resolve().unwrap();
        assert_eq!(found, ["127.0.0.1:7700".parse().unwrap()]);
    }

    #[test]
    fn the_values_that_help_lists_are_those_that_are_taken() {
        fn taken<T>(value: &Value<T>) {
            for (name, _) in value.names {
                assert!((value.parse)(name).is_ok(), "{name}");
            }
            assert!((value.parse)("nonsense").is_err());
        }
        taken(&LANE);
        taken(&POLICY);
        taken(&ROLE);
        taken(&PROFILE);
        assert_eq!(PROFILE.names.len(), Profile::ALL.len());
        assert_eq!(LANE.names.len(), Lane::ALL.len());
    }

    #[test]
    fn a_size_has_a_unit_or_is_in_bytes() {
        for (text, bytes) in [
            ("7", 7),
            ("7B", 7),
            ("2kB", 2000),
            ("500MB", 500_000_000),
            ("4GiB", 4 << 30),
            ("20K", 20 << 10),
            ("5M", 5 << 20),
        ] {
            assert_eq!((SIZE.parse)(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "-1", "+1", "1.5GB", "GB", "4 GB", "4gb", "99999999999TB"] {
            assert!((SIZE.parse)(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_budget_has_room_for_a_connection_and_a_window_has_two_ends() {
        assert_eq!(((BUDGET.parse)("4K"), (RATE.parse)("256")), (Ok(4096), Ok(256)));
        assert!((BUDGET.parse)("4095").is_err() && (RATE.parse)("255").is_err());
        assert!((WINDOW.parse)("22:00-05:30").is_ok() && (WINDOW.parse)("22-05").is_err());
    }

    #[test]
    fn speed_is_a_sensible_number() {
        assert_eq!((SPEED.parse)("2.5"), Ok(2.5));
        for bad in ["0", "-1", "nan", "inf", "1e9", "fast"] {
            assert!((SPEED.parse)(bad).is_err(), "{bad}");
        }
    }
}
