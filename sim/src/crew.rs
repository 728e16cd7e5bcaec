//! Several threads that do the same work.

/// Runs `work` on so many threads at once, this one among them, until each has returned.
pub(crate) fn on_threads(jobs: usize, work: impl Fn() + Sync) {
    std::thread::scope(|s| {
        for _ in 1..jobs.max(1) {
            s.spawn(&work);
        }
        work();
    });
}
