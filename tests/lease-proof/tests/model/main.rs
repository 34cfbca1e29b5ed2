//! The protocol of leases, explored by a model checker in every order of events that its faults allow.
//!
//! `lending` asks whether two holders can ever be connected, `queueing` whether a waiter gets its turn. `holds` and
//! `queue` assert that nothing is found, `breaks` that every weakened variant is found out.

mod breaks;
mod explore;
mod holds;
mod lending;
mod queue;
mod queueing;
