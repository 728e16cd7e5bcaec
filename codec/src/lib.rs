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
    pub fn costs(&mut self, r: &[u8], hlc: Option<u64>) -> alloc::vec::Vec<u32> {
        self.0.begin_record(hlc);
        let v = r.iter().map(|&b| { self.1.cost = 0; self.0.code(&mut self.1, b); self.1.cost as u32 }).collect();
        self.0.end_record();
        v
    }
    /// x
    pub fn learn(&mut self, r: &[u8]) { self.0.learn_record(r, None) }
    /// x
    pub fn bytes(&self) -> usize { self.0.bytes() }
}

/// x
#[cfg(feature = "ablation")]
pub static KNOBS: [core::sync::atomic::AtomicI32; 64] = [const { core::sync::atomic::AtomicI32::new(i32::MIN) }; 64];
#[cfg(feature = "ablation")]
#[inline]
pub(crate) fn knob(i: usize, default: i32) -> i32 {
    let v = KNOBS[i].load(core::sync::atomic::Ordering::Relaxed);
    if v == i32::MIN { default } else { v }
}
#[cfg(not(feature = "ablation"))]
#[inline(always)]
pub(crate) const fn knob(_: usize, default: i32) -> i32 { default }
