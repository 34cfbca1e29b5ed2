//! Each safeguard left out, and each assumption broken, is found out. A test fails if nothing is found: then the
//! model would be blind to what the safeguard is for.

use usm_lease_proof::protocol::Release;

use crate::{
    explore::counterexample,
    lending::{
        Step,
        run::{NOT_MISLED, ONE_LINE, ONE_SENDER},
        setup::{Check, Deadline, Faults, Fence, Setup, Word},
    },
};

fn count(steps: &[Step], wanted: impl Fn(&Step) -> bool) -> usize {
    steps.iter().filter(|step| wanted(step)).count()
}

fn connects(steps: &[Step]) -> usize {
    count(steps, |step| matches!(step, Step::Connect(_)))
}

fn ticks(steps: &[Step]) -> i64 {
    count(steps, |step| matches!(step, Step::Tick { .. })) as i64
}

#[test]
fn without_a_quiet_gap_what_travels_meets_the_next_holder() {
    let setup = Setup { quiet_gap: 0, ..Setup::default() };
    let steps = counterexample("no quiet gap", setup.clone(), ONE_SENDER);
    assert_eq!((connects(&steps), ticks(&steps)), (2, setup.ttl), "granted at the very expiry: {steps:?}");
}

#[test]
fn without_a_deadline_of_its_own_a_holder_goes_on_beside_the_next() {
    let setup = Setup { deadline: Deadline::Ignored, ..Setup::default() };
    let steps = counterexample("no deadline", setup.clone(), ONE_SENDER);
    assert_eq!((connects(&steps), ticks(&steps)), (2, setup.ttl + setup.quiet_gap), "{steps:?}");
}

#[test]
fn a_deadline_counted_from_the_answer_is_too_late_when_the_answer_is() {
    let steps = counterexample(
        "counted from the answer",
        Setup { deadline: Deadline::FromAnswer, ..Setup::default() },
        ONE_SENDER,
    );
    let served = steps.iter().position(|step| matches!(step, Step::Serve(_)));
    let learnt = steps.iter().position(|step| matches!(step, Step::Learn(..)));
    let between = &steps[served.expect("a grant")..learnt.expect("its answer")];
    assert!(ticks(between) > 0, "the answer took its time: {steps:?}");
}

#[test]
fn without_a_fence_a_late_renewal_extends_somebody_elses_lease() {
    let setup = Setup { fence: Fence::NotRenewals, calls: vec![3, 2], ..Setup::default() };
    let steps = counterexample("no fence on renewals", setup, NOT_MISLED);
    assert!(count(&steps, |step| matches!(step, Step::Renew(_))) >= 1, "{steps:?}");
}

/// A guard that learns of its lease late renews before it connects, and takes the answer for its own.
#[test]
fn without_a_fence_a_late_holder_connects_under_somebody_elses_lease() {
    let setup = Setup { fence: Fence::NotRenewals, ..Setup::default() };
    let steps = counterexample("no fence on renewals", setup, ONE_SENDER);
    assert!(connects(&steps) == 2 && steps.iter().any(|step| matches!(step, Step::Renew(_))), "{steps:?}");
}

#[test]
fn without_a_fence_a_late_release_frees_a_session_that_somebody_uses() {
    let setup = Setup { fence: Fence::NotReleases, calls: vec![3, 2], ..Setup::default() };
    let steps = counterexample("no fence on releases", setup, ONE_SENDER);
    assert!(count(&steps, |step| matches!(step, Step::Release(_, Release::Closed))) >= 1, "{steps:?}");
    assert_eq!(ticks(&steps), 0, "no lease ran out: {steps:?}");
}

#[test]
fn a_failover_that_loses_a_commit_lends_the_session_twice() {
    let faults = Faults { failovers: 1, ..Faults::default() };
    let steps = counterexample("lost commit", Setup { faults, ..Setup::default() }, ONE_SENDER);
    assert_eq!(count(&steps, |step| *step == Step::FailOver), 1, "{steps:?}");
    assert_eq!((connects(&steps), ticks(&steps)), (2, 0), "{steps:?}");
}

#[test]
fn a_clock_that_lags_by_more_than_the_margin_is_too_slow() {
    let faults = Faults { stalls: 2, ..Faults::default() };
    let steps = counterexample("drift", Setup { faults, ..Setup::default() }, ONE_SENDER);
    assert_eq!(count(&steps, |step| matches!(step, Step::Tick { stalled: Some(_) })), 2, "{steps:?}");
}

#[test]
fn a_process_stopped_for_margin_and_gap_leaves_its_socket_open() {
    let faults = Faults { pauses: 1, ..Faults::default() };
    let setup = Setup { calls: vec![2, 1], pause_max: Some(3), faults, ..Setup::default() };
    let steps = counterexample("long pause", setup, ONE_LINE);
    assert_eq!(count(&steps, |step| matches!(step, Step::Resume(_))), 0, "stopped to the end: {steps:?}");
}

#[test]
fn a_process_stopped_between_look_and_sending_sends_too_late() {
    let faults = Faults { pauses: 1, ..Faults::default() };
    let setup =
        Setup { calls: vec![2, 1], check: Check::Apart, pause_max: Some(2), faults, ..Setup::default() };
    let steps = counterexample("pause after the look", setup, ONE_SENDER);
    let pause = steps.iter().position(|step| matches!(step, Step::Pause(_))).expect("a pause");
    assert!(matches!(steps[..pause].last(), Some(Step::Check(_) | Step::Connect(_))), "{steps:?}");
}

#[test]
fn a_holder_that_says_closed_too_early_meets_the_next_one() {
    let steps = counterexample("hasty word", Setup { word: Word::Hasty, ..Setup::default() }, ONE_SENDER);
    assert!(count(&steps, |step| matches!(step, Step::Cut(_))) == 1 && ticks(&steps) == 0, "{steps:?}");
}
