//! x
#![no_std]
#![forbid(unsafe_code)]
#![allow(dead_code)]

extern crate alloc;

mod ask;
mod batch;
mod bitwise;
mod coder;
mod counter;
mod forecast;
mod framing;
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

pub use batch::{Cost, DecodeError, Model, Record, Records, VERSION};
pub use coder::Way;
pub use preset::Preset;


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
