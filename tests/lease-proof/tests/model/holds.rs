//! What is never found, whatever the order of events.

use crate::{
    explore::nothing_found,
    lending::{
        run::{NOT_MISLED, ONE_LINE, ONE_SENDER},
        setup::{Check, Faults, Setup},
    },
};

const ALL: [&str; 3] = [ONE_LINE, ONE_SENDER, NOT_MISLED];

fn with(faults: Faults) -> Setup {
    Setup { faults, ..Setup::default() }
}

/// One process is stopped once, for any time.
fn paused() -> Setup {
    Setup { calls: vec![2, 1], ..with(Faults { pauses: 1, ..Faults::default() }) }
}

#[test]
fn messages_may_be_late_repeated_or_lost() {
    nothing_found("messages", Setup { calls: vec![3, 2], ..Setup::default() }, &ALL);
}

#[test]
fn three_workers_are_no_different() {
    nothing_found("three workers", Setup { calls: vec![2, 1, 1], ..Setup::default() }, &ALL);
}

#[test]
fn workers_may_crash_and_operators_evict() {
    nothing_found("crash", with(Faults { crashes: 1, ..Faults::default() }), &ALL);
    nothing_found("eviction", with(Faults { evictions: 1, ..Faults::default() }), &ALL);
}

/// The margin of the guard is one tick.
#[test]
fn clocks_may_differ_by_what_the_guard_keeps_back() {
    nothing_found("drift", with(Faults { stalls: 1, ..Faults::default() }), &ALL);
}

/// Margin and quiet gap are three ticks.
#[test]
fn a_process_may_be_stopped_for_less_than_margin_and_gap() {
    let setup = Setup { pause_max: Some(2), ..paused() };
    nothing_found("short pause", setup, &ALL);
}

#[test]
fn a_process_that_looks_at_its_deadline_before_it_sends_may_be_stopped_for_any_time() {
    nothing_found("any pause", paused(), &[ONE_SENDER, NOT_MISLED]);
}

#[test]
fn a_short_stop_between_look_and_sending_is_harmless() {
    let setup = Setup { check: Check::Apart, pause_max: Some(1), ..paused() };
    nothing_found("pause after the look", setup, &ALL);
}
