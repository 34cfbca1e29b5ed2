//! Turns: who waits gets the session in order and soon, and what breaks when the queue is weakened.

use usm_lease_proof::protocol::Rules;

use crate::{
    explore::{counterexample, nothing_found},
    queueing::{GRANTED, IN_ORDER, Order, PROBE_LAST, Queueing, Step},
};

#[test]
fn waiters_are_served_in_order_and_a_dead_one_blocks_no_longer_than_its_presence() {
    nothing_found("queue", Queueing::default(), &[IN_ORDER, PROBE_LAST, GRANTED]);
}

#[test]
fn a_free_session_is_taken_at_the_next_look_while_nobody_dies() {
    let calm = Queueing { deaths: 0, unused_max: 1, ..Queueing::default() };
    nothing_found("calm queue", calm, &[IN_ORDER, PROBE_LAST, GRANTED]);
}

/// A presence counts from the last look, which was in the tick before.
#[test]
fn a_waiter_that_dies_costs_the_rest_of_its_presence() {
    counterexample("a death", Queueing { unused_max: 1, ..Queueing::default() }, GRANTED);
    let two = Queueing { callers: 4, horizon: 6, deaths: 2, unused_max: 3, ..Queueing::default() };
    nothing_found("two deaths", two.clone(), &[IN_ORDER, PROBE_LAST, GRANTED]);
    counterexample("two deaths", Queueing { unused_max: 2, ..two }, GRANTED);
}

#[test]
fn without_a_queue_a_newcomer_overtakes() {
    let steps =
        counterexample("no queue", Queueing { order: Order::NoQueue, ..Queueing::default() }, IN_ORDER);
    assert!(steps.iter().filter(|step| matches!(step, Step::Arrive(_))).count() >= 2, "{steps:?}");
}

#[test]
fn without_presence_a_dead_waiter_blocks_a_free_session() {
    let rules = Rules { presence: 100, ..Queueing::default().rules };
    let steps = counterexample("no presence", Queueing { rules, ..Queueing::default() }, GRANTED);
    assert!(steps.iter().any(|step| matches!(step, Step::Orphan(_))), "{steps:?}");
    assert!(!steps.iter().any(|step| matches!(step, Step::Repeat(_))), "{steps:?}");
}

#[test]
fn a_probe_that_does_not_mind_the_queue_goes_before_a_worker() {
    let steps =
        counterexample("probe", Queueing { order: Order::ProbeFirst, ..Queueing::default() }, PROBE_LAST);
    assert_eq!(steps.last(), Some(&Step::Probe), "{steps:?}");
}
