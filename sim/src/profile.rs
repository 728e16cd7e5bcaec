//! Links by name.

use std::str::FromStr;

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// What it stands for.
    pub about: &'static str,
    /// One way, in milliseconds.
    pub latency_ms: u64,
    /// Up to so much more, in milliseconds.
    pub jitter_ms: u64,
    /// Bytes per second from the clinic to the hub.
    pub up_rate: u64,
    /// Bytes per second from the hub to the clinic.
    pub down_rate: u64,
    /// Mean time between cuts in milliseconds, 0 for none.
    pub cut_every_ms: u64,
    /// Mean time in milliseconds that a link stays dead after a cut, 0 for not at all.
    pub dark_ms: u64,
    /// An idle connection is dead after so many milliseconds, and nobody is told; 0 for never.
    pub idle_kill_ms: u64,
    /// Packets lost in a thousand, in bursts. A byte stream shows them as pauses; the full stack
    /// loses them.
    pub loss_per_mille: u64,
}

impl Profile {
    /// The 2G of a valley in Bhutan: 23 kbit/s, 0.6 s round trip, a cut every quarter of a minute.
    pub const BHUTAN_2G: Profile = Profile {
        name: "bhutan-2g",
        about: "2G in the mountains: 23 kbit/s, 600 ms there and back, 100 ms jitter, cut every 15 s",
        latency_ms: 300,
        jitter_ms: 100,
        up_rate: 2875,
        down_rate: 2875,
        cut_every_ms: 15_000,
        dark_ms: 0,
        idle_kill_ms: 0,
        loss_per_mille: 10,
    };
    /// A good 2G link.
    pub const EDGE: Profile = Profile {
        name: "edge",
        about: "EDGE: 60 kbit/s up, 120 kbit/s down, 300 ms there and back",
        latency_ms: 150,
        jitter_ms: 50,
        up_rate: 7_500,
        down_rate: 15_000,
        cut_every_ms: 0,
        dark_ms: 0,
        idle_kill_ms: 240_000,
        loss_per_mille: 5,
    };
    /// A satellite link.
    pub const SATELLITE: Profile = Profile {
        name: "satellite",
        about: "satellite: 9.6 kbit/s up, 60 kbit/s down, 1.4 s there and back, cut every 2 minutes",
        latency_ms: 700,
        jitter_ms: 400,
        up_rate: 1_200,
        down_rate: 7_500,
        cut_every_ms: 120_000,
        dark_ms: 30_000,
        idle_kill_ms: 60_000,
        loss_per_mille: 20,
    };
    /// A link that is gone for days.
    pub const MONSOON: Profile = Profile {
        name: "monsoon",
        about: "monsoon: 2G for some minutes, then nothing for days",
        cut_every_ms: 300_000,
        dark_ms: 2 * 86_400_000,
        ..Self::BHUTAN_2G
    };
    /// A local network.
    pub const LAN: Profile = Profile {
        name: "lan",
        about: "local network: 80 Mbit/s, 2 ms there and back",
        latency_ms: 1,
        jitter_ms: 0,
        up_rate: 10_000_000,
        down_rate: 10_000_000,
        cut_every_ms: 0,
        dark_ms: 0,
        idle_kill_ms: 0,
        loss_per_mille: 0,
    };
    /// All of them.
    pub const ALL: [Profile; 5] = [Self::BHUTAN_2G, Self::EDGE, Self::SATELLITE, Self::MONSOON, Self::LAN];

    /// Its figures and what they are called in files.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, u64); 8] {
        [
            ("latency_ms", self.latency_ms),
            ("jitter_ms", self.jitter_ms),
            ("up_rate", self.up_rate),
            ("down_rate", self.down_rate),
            ("cut_every_ms", self.cut_every_ms),
            ("dark_ms", self.dark_ms),
            ("idle_kill_ms", self.idle_kill_ms),
            ("loss_per_mille", self.loss_per_mille),
        ]
    }

    /// Its figures and what they are called on the command line.
    #[must_use]
    pub fn option_figures(&self) -> [(&'static str, u64); 8] {
        let names = [
            "latency-ms",
            "jitter-ms",
            "up-rate",
            "down-rate",
            "cut-every-ms",
            "dark-ms",
            "idle-kill-ms",
            "loss-per-mille",
        ];
        let figures = self.figures();
        std::array::from_fn(|n| (names[n], figures[n].1))
    }

    /// Changes a figure by its name in files; false if there is none of this name.
    pub fn set_figure(&mut self, key: &str, value: u64) -> bool {
        let figure = match key {
            "latency_ms" => &mut self.latency_ms,
            "jitter_ms" => &mut self.jitter_ms,
            "up_rate" => &mut self.up_rate,
            "down_rate" => &mut self.down_rate,
            "cut_every_ms" => &mut self.cut_every_ms,
            "dark_ms" => &mut self.dark_ms,
            "idle_kill_ms" => &mut self.idle_kill_ms,
            "loss_per_mille" => &mut self.loss_per_mille,
            _ => return false,
        };
        *figure = value;
        true
    }
}

impl FromStr for Profile {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Profile::ALL.map(|p| p.name).join(", ");
        Self::ALL.into_iter().find(|p| p.name == name).ok_or_else(|| format!("{name}: choose one of {}", names()))
    }
}
