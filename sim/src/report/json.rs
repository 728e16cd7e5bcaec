//! A report for programs.

use super::Report;
use super::text::ending;

impl Report {
    /// For programs. Times are virtual milliseconds, rates bytes per second.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let (o, c) = (&self.options, &self.counts);
        let nodes: Vec<serde_json::Value> = self
            .nodes
            .iter()
            .map(|n| {
                serde_json::json!({
                    "name": n.name,
                    "appended": n.appended,
                    "at_hub": n.at_hub,
                    "cuts": n.cuts,
                    "crashes": n.crashes,
                    "dark_ms": n.dark_ms,
                    "last_ending": ending(&n.ending),
                })
            })
            .collect();
        let applied: serde_json::Map<_, _> = self.faults.iter().map(|(f, n)| (f.name().into(), (*n).into())).collect();
        let made: serde_json::Map<_, _> = self.made.iter().map(|(c, n)| (c.name().into(), (*n).into())).collect();
        let p = &o.profile;
        let speeds = self.speeds();
        serde_json::json!({
            "ok": self.failed.is_none(),
            "check": self.failed.as_ref().map(|f| f.check.name()),
            "failed": self.failed.as_ref().map(|f| f.what.clone()),
            "happened": super::story::sentence(self),
            "see_it_again": self.repro(),
            "air": (self.air.connections > 0).then(|| serde_json::json!({
                "bytes_up": self.air.bytes[0],
                "bytes_down": self.air.bytes[1],
                "packets_up": self.air.packets[0],
                "packets_down": self.air.packets[1],
                "lost": self.air.lost,
                "sent_again": self.air.repeated,
                "tls_bytes": self.air.tls_bytes,
                "frame_bytes": self.air.plain_bytes,
                "connections": self.air.connections,
                "resumed": self.air.resumed,
            })),
            "seed": o.seed,
            "clinics": o.clinics,
            "events": self.events,
            "profile": p.name,
            "link": {
                "latency_ms": p.latency_ms,
                "jitter_ms": p.jitter_ms,
                "up_rate": p.up_rate,
                "down_rate": p.down_rate,
                "cut_every_ms": p.cut_every_ms,
                "dark_ms": p.dark_ms,
                "idle_kill_ms": p.idle_kill_ms,
                "loss_per_mille": p.loss_per_mille,
            },
            "knobs": self.extras(),
            "faults": o.faults.to_string(),
            "faults_applied": applied,
            "virtual_ms": self.virtual_ms,
            "settled_ms": self.timeline.settled_ms,
            "payload_bytes": self.payload_bytes,
            "bytes_up": c.bytes_up,
            "bytes_down": c.bytes_down,
            "bytes_per_event": self.bytes_per_event(),
            "goodput": speeds.map(|s| s.0),
            "up_used": speeds.map(|s| s.1),
            "up_rate_of_all_links": speeds.map(|s| s.2),
            "sessions": c.sessions,
            "cuts": self.faults.get(&crate::fault::Fault::Cut).copied().unwrap_or(0),
            "crashes": c.crashes,
            "events_sent": c.sent,
            "events_sent_again": self.sent_again(),
            "steps": c.steps,
            "checks_made": made,
            "nodes": nodes,
            "drawn_bytes": self.drawn,
            "trace": format!("{:016x}", self.trace),
        })
    }
}
