//! One system call fails, once or from then on: nothing that was acknowledged is lost, what is said has a code, and
//! the next start goes on. All calls of each scenario with `ROPEWAY_LONG=1`, else a sample.

use ropeway_tests::strace;

use crate::disturb::{Fault, Subject, every_call};
use crate::scenario::{ALL, Stage};
use crate::{copies, enrol};

/// Calls of a subject that fail.
const FAILURES: usize = 8;

/// Every scenario of a log, and every other verb that writes.
fn each(mut disturb: impl FnMut(&dyn Subject)) {
    if !strace::available() {
        return;
    }
    ALL.iter().for_each(|s| disturb(&Stage::new(s)));
    enrol::subjects().iter().for_each(|s| disturb(s.as_ref()));
    copies::subjects().iter().for_each(|s| disturb(s.as_ref()));
}

#[test]
fn an_input_or_output_error_at_any_system_call_costs_nothing_that_was_acknowledged() {
    each(|s| every_call(s, Fault::Once("EIO"), FAILURES));
}

#[test]
fn a_full_disk_at_any_system_call_costs_nothing_that_was_acknowledged() {
    each(|s| every_call(s, Fault::Once("ENOSPC"), FAILURES));
}

#[test]
fn a_call_that_fails_for_good_from_any_time_on_costs_nothing_that_was_acknowledged() {
    each(|s| every_call(s, Fault::From("EIO"), FAILURES));
}

#[test]
fn a_disk_that_is_gone_from_any_system_call_on_costs_nothing_that_was_acknowledged() {
    each(|s| every_call(s, Fault::Gone, FAILURES));
}

#[test]
fn a_system_call_that_was_interrupted_is_made_again_or_refused() {
    each(|s| every_call(s, Fault::Once("EINTR"), FAILURES));
}
