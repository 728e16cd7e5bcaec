//! The logistic function and its inverse, in integers, from tables that the compiler makes.
//!
//! Probabilities are 16 bits (`p` of 65,536); in the *stretched* domain, `ln(p / (1 - p))` in units
//! of 1/256, evidence of several predictors can simply be added. No floating point takes part: the
//! tables come from a power series in 62-bit fixed point, the same on every machine.

use core::hint::select_unpredictable;

/// The largest stretched value: 11 units of 256, where a 16-bit probability ends.
pub(crate) const STRETCH_MAX: i32 = 2815;

const SQUASH_LEN: usize = STRETCH_MAX as usize + 1;
/// `squash(x)` for x >= 0.
static SQUASH: [u16; SQUASH_LEN] = make_squash();
/// `stretch(p)` for p < 4,096, where it is steep; for p from 61,440 on; and for p in steps of 16.
static STRETCH: [i16; 3 * 4096] = {
    let (fine, coarse) = (make_stretch(1), make_stretch(16));
    let mut table = [0; 3 * 4096];
    let mut i = 0;
    while i < 4096 {
        table[i] = fine[i];
        table[4096 + i] = if i == 0 { coarse[3840] } else { -fine[4096 - i] };
        table[8192 + i] = coarse[i];
        i += 1;
    }
    table
};

/// From stretched to a 16-bit probability, 1 to 65,535.
#[inline]
pub(crate) fn squash(x: i32) -> i32 {
    let clamped = if x > STRETCH_MAX { STRETCH_MAX } else { x };
    if clamped >= 0 {
        i32::from(SQUASH[clamped as usize & 4095])
    } else {
        let y = if clamped < -STRETCH_MAX { STRETCH_MAX } else { -clamped };
        65_536 - i32::from(SQUASH[y as usize & 4095])
    }
}

/// From a 16-bit probability to stretched.
#[inline]
pub(crate) fn stretch(p: i32) -> i32 {
    // Selected, not branched on: nobody could foretell which part it is.
    let end = (p & 4095) + (i32::from(p >= 4096) << 12);
    let at = select_unpredictable((4096..61_440).contains(&p), 8192 + (p >> 4), end);
    i32::from(STRETCH[at as usize % STRETCH.len()])
}

/// The same in steps of 16, without a branch: for what is never near an end.
#[inline]
pub(crate) fn stretch_roughly(p: i32) -> i16 {
    STRETCH[8192 + ((p >> 4) as usize & 4095)]
}

const fn make_squash() -> [u16; SQUASH_LEN] {
    const ONE: u128 = 1 << 62;
    // e^(-1/256), by its series.
    let (mut step, mut term, mut k) = (ONE, ONE, 1);
    while k < 12 {
        term = term / 256 / k;
        step = if k % 2 == 1 { step - term } else { step + term };
        k += 1;
    }
    let mut table = [0; SQUASH_LEN];
    let (mut power, mut i) = (ONE, 0);
    while i < SQUASH_LEN {
        let p = ((ONE << 17) / (ONE + power)).div_ceil(2);
        table[i] = if p > 65_535 { 65_535 } else { p as u16 };
        power = (power * step) >> 62;
        i += 1;
    }
    table
}

const fn squash_const(x: i32) -> i32 {
    let table = &SQUASH_FOR_CONST;
    if x >= 0 { table[x as usize] as i32 } else { 65_536 - table[(-x) as usize] as i32 }
}
const SQUASH_FOR_CONST: [u16; SQUASH_LEN] = make_squash();

/// The middle of all x with `squash(x)` nearest to `p = i * step + step / 2`.
const fn make_stretch(step: i32) -> [i16; 4096] {
    let mut table = [0; 4096];
    let (mut low, mut high, mut i) = (-STRETCH_MAX, -STRETCH_MAX, 0);
    while i < 4096 {
        let p = i * step + step / 2;
        while low < STRETCH_MAX && squash_const(low) < p {
            low += 1;
        }
        if high < low {
            high = low;
        }
        while high < STRETCH_MAX && squash_const(high + 1) <= p {
            high += 1;
        }
        table[i as usize] = ((low + high) / 2) as i16;
        i += 1;
    }
    table
}

/// Cost in 1/1024 bit of something of 16-bit probability `p`.
pub(crate) fn cost(p: i32) -> u32 {
    // log2 by squaring the mantissa ten times.
    let p = p.clamp(1, 65_535) as u64;
    let whole = p.ilog2();
    let (mut mantissa, mut log) = (p << (31 - whole), u64::from(whole));
    for _ in 0..10 {
        mantissa = (mantissa * mantissa) >> 31;
        log <<= 1;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            log |= 1;
        }
    }
    (16 * 1024 - log) as u32
}

/// Mixes a number into a hash.
#[inline]
pub(crate) fn mix(hash: u32, with: u32) -> u32 {
    let x = (hash ^ with.wrapping_mul(0x9E37_79B1)).wrapping_mul(0x85EB_CA6B);
    x ^ (x >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squash_and_stretch_are_inverse_and_symmetric() {
        for p in 1..65_536 {
            let back = squash(stretch(p));
            assert!((back - p).abs() <= 3 + p.min(65_536 - p) / 64, "{p} became {back}");
        }
        for x in 0..3000 {
            assert_eq!(squash(x) + squash(-x), 65_536);
            assert!(squash(x) >= squash(x - 1));
        }
        assert_eq!((squash(0), squash(256), squash(5000)), (32_768, 47_911, 65_535));
    }

    #[test]
    fn cost_is_the_binary_logarithm() {
        assert_eq!((cost(32_768), cost(16_384), cost(1)), (1024, 2048, 16 * 1024));
        assert!((cost(49_152) as i32 - 425).abs() <= 1);
    }
}
