//! x
#![no_std]
#![forbid(unsafe_code)]
#![allow(dead_code)]

extern crate alloc;

mod ask;
mod bitwise;
mod coder;
mod counter;
mod forecast;
mod link;
mod matches;
mod math;
mod mixer;
mod model;
mod preset;
mod random;
mod recall;
mod runs;
mod state;
mod tracker;
mod window;

pub use preset::Preset;

/// dev
pub struct Dev(model::Core, coder::Meter);
impl Dev {
    /// x
    pub fn new(p: Preset) -> Self { Self(model::Core::new(p), coder::Meter::default()) }
    /// x
    pub fn record(&mut self, r: &[u8], hlc: Option<u64>) -> u64 {
        self.1.cost = 0;
        self.0.begin_record(hlc);
        for &b in r { self.0.code(&mut self.1, b); }
        self.0.end_record();
        self.1.cost
    }
    /// x
    pub fn learn(&mut self, r: &[u8]) { self.0.learn_record(r, None) }
    /// x
    pub fn bytes(&self) -> usize { self.0.bytes() }
}
