//! Time that a thread has really run: other work on the machine does not count.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What this thread has run so far, in user and system mode.
pub(crate) fn now() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// What `work` took of it.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = now();
    let done = work();
    (done, now().saturating_sub(begin))
}

/// Megabytes a second.
pub(crate) fn mb_per_s(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9)
}
