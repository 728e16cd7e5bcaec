//! Fixed memory for unfinished incoming frames: blocks of one size in chains, one chain a session.
//!
//! Blocks instead of a buffer per session, because ten thousand 2G links each hold a part of a
//! frame for a second or more; blocks instead of a heap, because nothing here may fragment or grow.

use crate::mem::Lent;

/// Bytes of one block.
pub(crate) const BLOCK_BYTES: usize = 1024;

const NONE: u32 = u32::MAX;

/// A session's unfinished frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    head: u32,
    tail: u32,
    len: usize,
}

impl Chain {
    pub(crate) const EMPTY: Chain = Chain { head: NONE, tail: NONE, len: 0 };

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[derive(Debug)]
pub(crate) struct Arena<'m> {
    bytes: Lent<'m, u8>,
    next: Lent<'m, u32>,
    free: u32,
}

impl<'m> Arena<'m> {
    /// `bytes` and `next` belong together: one link for each block.
    pub(crate) fn new(bytes: Lent<'m, u8>, mut next: Lent<'m, u32>) -> Self {
        let blocks = next.len().min(bytes.len() / BLOCK_BYTES);
        for (i, n) in next.iter_mut().enumerate().take(blocks) {
            *n = if i + 1 < blocks { i as u32 + 1 } else { NONE };
        }
        Self { bytes, next, free: if blocks == 0 { NONE } else { 0 } }
    }

    /// Appends as much of `data` as there are blocks for; the number of bytes taken.
    pub(crate) fn push(&mut self, chain: &mut Chain, mut data: &[u8]) -> usize {
        let before = chain.len;
        while !data.is_empty() {
            let fill = chain.len % BLOCK_BYTES;
            if fill == 0 {
                if self.free == NONE {
                    break;
                }
                let block = self.free;
                self.free = self.next[block as usize];
                self.next[block as usize] = NONE;
                if chain.head == NONE {
                    chain.head = block;
                } else {
                    self.next[chain.tail as usize] = block;
                }
                chain.tail = block;
            }
            let n = data.len().min(BLOCK_BYTES - fill);
            let at = chain.tail as usize * BLOCK_BYTES + fill;
            self.bytes[at..at + n].copy_from_slice(&data[..n]);
            chain.len += n;
            data = &data[n..];
        }
        chain.len - before
    }

    /// Copies the first `out.len()` bytes (or fewer, if there are fewer) out; the chain stays.
    pub(crate) fn peek(&self, chain: &Chain, out: &mut [u8]) -> usize {
        let want = out.len().min(chain.len);
        let (mut block, mut done) = (chain.head, 0);
        while done < want {
            let n = (want - done).min(BLOCK_BYTES);
            let at = block as usize * BLOCK_BYTES;
            out[done..done + n].copy_from_slice(&self.bytes[at..at + n]);
            done += n;
            block = self.next[block as usize];
        }
        want
    }

    /// Gives all blocks back.
    pub(crate) fn clear(&mut self, chain: &mut Chain) {
        if chain.head != NONE {
            self.next[chain.tail as usize] = self.free;
            self.free = chain.head;
        }
        *chain = Chain::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_keep_their_bytes_apart_and_give_every_block_back() {
        let mut bytes = [0u8; 4 * BLOCK_BYTES];
        let mut next = [0u32; 4];
        let mut arena = Arena::new(Lent::Borrowed(&mut bytes), Lent::Borrowed(&mut next));
        for round in 0..5u8 {
            let (mut a, mut b) = (Chain::EMPTY, Chain::EMPTY);
            for _ in 0..500 {
                assert_eq!(arena.push(&mut a, &[round, 1]), 2);
                assert_eq!(arena.push(&mut b, &[round, 2, 3]), 3);
            }
            let mut out = [0; 1500];
            assert_eq!(arena.peek(&b, &mut out), 1500);
            assert!(out.chunks(3).all(|c| c == [round, 2, 3]));
            assert_eq!(arena.peek(&a, &mut out), 1000);
            assert!(out[..1000].chunks(2).all(|c| c == [round, 1]));
            arena.clear(&mut a);
            arena.clear(&mut b);
        }
    }

    #[test]
    fn a_full_arena_takes_what_fits_and_no_more() {
        let mut bytes = [0u8; 2 * BLOCK_BYTES];
        let mut next = [0u32; 2];
        let mut arena = Arena::new(Lent::Borrowed(&mut bytes), Lent::Borrowed(&mut next));
        let mut a = Chain::EMPTY;
        assert_eq!(arena.push(&mut a, &[7; 3000]), 2048);
        assert_eq!(arena.push(&mut a, &[7]), 0);
        arena.clear(&mut a);
        assert_eq!(arena.push(&mut a, &[7; 100]), 100);
    }
}
