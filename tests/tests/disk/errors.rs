//! One system call fails, once or from then on: nothing that was acknowledged is lost, what is said has a code, and
//! the next start goes on. All calls of each scenario with `ROPEWAY_LONG=1`, else a sample.

use ropeway_tests::mounts::scratch;
use ropeway_tests::strace;
use tempfile::TempDir;

use crate::disturb::{Fault, Subject, every_call, short_at_every_byte};
use crate::scenario::{ALL, Stage, wanted};
use crate::{copies, enrol};

/// Calls of a subject that fail.
const FAILURES: usize = 6;

/// Every scenario of a log, and every other verb that writes.
pub(crate) fn each(home: &dyn Fn() -> TempDir, mut disturb: impl FnMut(&dyn Subject)) {
    ALL.iter().filter(|s| wanted(s.name)).for_each(|s| disturb(&Stage::new(home(), s)));
    let others = enrol::subjects(home).into_iter().chain(copies::subjects(home));
    others.filter(|s| wanted(&s.name())).for_each(|s| disturb(s.as_ref()));
}

fn fails(fault: Fault) {
    if strace::available() {
        each(&scratch, |s| every_call(s, fault, FAILURES));
    }
}

#[test]
fn an_input_or_output_error_at_any_system_call_costs_nothing_that_was_acknowledged() {
    fails(Fault::Once("EIO"));
}

#[test]
fn a_full_disk_at_any_system_call_costs_nothing_that_was_acknowledged() {
    fails(Fault::Once("ENOSPC"));
}

#[test]
fn a_call_that_fails_for_good_from_any_time_on_costs_nothing_that_was_acknowledged() {
    fails(Fault::From("EIO"));
}

#[test]
fn a_disk_that_is_gone_from_any_system_call_on_costs_nothing_that_was_acknowledged() {
    fails(Fault::Gone);
}

#[test]
fn a_system_call_that_was_interrupted_is_made_again_or_refused() {
    fails(Fault::Once("EINTR"));
}

#[test]
fn a_write_that_is_cut_short_at_any_byte_costs_nothing_that_was_acknowledged() {
    each(&scratch, short_at_every_byte);
}
