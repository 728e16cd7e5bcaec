//! Named links: what a clinic may have for a modem.

use std::fmt;
use std::str::FromStr;

use ropeway_core::code::Code;

/// How a link behaves, in its own (unscaled) time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name on the command line.
    pub name: &'static str,
    /// One line about it for a person.
    pub about: &'static str,
    /// From the sender's modem to the receiver, without serialisation, in microseconds.
    pub latency_us: u32,
    /// The latency of each packet is off by up to this much either way, in microseconds.
    pub jitter_us: u32,
    /// From the clinic to the hub, in bytes per second.
    pub rate_up_bytes_per_s: u32,
    /// From the hub to the clinic, in bytes per second.
    pub rate_down_bytes_per_s: u32,
    /// What the modem holds before it makes the sender wait, each way, in bytes.
    pub queue_bytes: u32,
}

impl Profile {
    /// All profiles, the thinnest first.
    pub const ALL: &'static [Profile] = &[
        Profile {
            name: "bhutan-2g",
            about: "GPRS in a mountain valley: 23 kbit/s, 300 ms each way",
            latency_us: 300_000,
            jitter_us: 100_000,
            rate_up_bytes_per_s: 2_875,
            rate_down_bytes_per_s: 2_875,
            queue_bytes: 8 * 1024,
        },
        Profile {
            name: "edge",
            about: "EDGE: 120 kbit/s down, 60 kbit/s up, 150 ms each way",
            latency_us: 150_000,
            jitter_us: 50_000,
            rate_up_bytes_per_s: 7_500,
            rate_down_bytes_per_s: 15_000,
            queue_bytes: 16 * 1024,
        },
        Profile {
            name: "satellite",
            about: "a geostationary satellite: 256 kbit/s, 350 ms each way",
            latency_us: 350_000,
            jitter_us: 20_000,
            rate_up_bytes_per_s: 32_000,
            rate_down_bytes_per_s: 32_000,
            queue_bytes: 32 * 1024,
        },
        Profile {
            name: "lan",
            about: "a cable in the same building: 100 Mbit/s, 0.2 ms each way",
            latency_us: 200,
            jitter_us: 0,
            rate_up_bytes_per_s: 12_500_000,
            rate_down_bytes_per_s: 12_500_000,
            queue_bytes: 256 * 1024,
        },
    ];

    /// The names of all profiles, for a list of possible values.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Profile::ALL.iter().map(|profile| profile.name)
    }
}

impl fmt::Display for Profile {
    /// The name alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    /// The profile of this name; upper and lower case are the same.
    fn from_str(name: &str) -> Result<Profile, UnknownProfile> {
        let known = Profile::ALL.iter().find(|profile| profile.name.eq_ignore_ascii_case(name.trim()));
        known.copied().ok_or_else(|| UnknownProfile { given: name.chars().take(32).collect() })
    }
}

/// No link profile has the given name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no link profile {given:?}; choose one of {}", Profile::names().collect::<Vec<_>>().join(", "))]
pub struct UnknownProfile {
    given: String,
}

impl UnknownProfile {
    /// Always [`Code::BadArgument`].
    #[must_use]
    pub fn code(&self) -> Code {
        Code::BadArgument
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_found_by_its_name() {
        for profile in Profile::ALL {
            assert_eq!(profile.name.parse::<Profile>().as_ref(), Ok(profile));
            assert_eq!(profile.to_string(), profile.name);
            assert!(profile.jitter_us <= profile.latency_us, "{profile} would arrive before it left");
        }
        assert_eq!("Bhutan-2G".parse::<Profile>().unwrap().rate_up_bytes_per_s * 8, 23_000);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "5g".parse::<Profile>().unwrap_err();
        assert_eq!(error.code(), Code::BadArgument);
        assert_eq!(error.to_string(), "there is no link profile \"5g\"; choose one of bhutan-2g, edge, satellite, lan");
        assert!("x".repeat(100_000).parse::<Profile>().unwrap_err().to_string().len() < 200);
    }
}
