//! Who waits for a session: first come, first served.
//!
//! A waiter is somebody's call that the service looks after; each look renews its presence. If the replica that
//! looked after it dies, the waiter keeps its place until its deadline, since its caller may repeat the call
//! elsewhere, but it stands in nobody's way once its presence is over.

use super::{LeaseId, Millis, Rules};

/// One who waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    /// The lease it would get, which is the same for a repeated request.
    pub lease_id: LeaseId,
    /// When it was last seen.
    pub seen_at: Millis,
    /// When its place ends.
    pub deadline: Millis,
}

impl Waiter {
    fn is_present(&self, now: Millis, rules: &Rules) -> bool {
        self.deadline > now && self.seen_at > now - rules.presence
    }
}

/// The waiters of one session, in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Queue {
    waiters: Vec<Waiter>,
}

/// Where a waiter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// So many that are present come first.
    After(usize),
    /// No room.
    None,
}

impl Queue {
    /// Takes a place for so long, or is seen at the one it has, which a repetition can make last longer.
    pub fn enter(&mut self, lease_id: LeaseId, wait: Millis, now: Millis, rules: &Rules) -> Place {
        let deadline = now + wait;
        if let Some(own) = self.waiters.iter_mut().find(|waiter| waiter.lease_id == lease_id) {
            (own.seen_at, own.deadline) = (now, own.deadline.max(deadline));
        } else if self.waiters.iter().filter(|waiter| waiter.deadline > now).count() >= rules.waiters_max {
            return Place::None;
        } else {
            self.waiters.push(Waiter { lease_id, seen_at: now, deadline });
        }
        Place::After(self.ahead_of(lease_id, now, rules))
    }

    /// Gives its place up.
    pub fn leave(&mut self, lease_id: LeaseId) {
        self.waiters.retain(|waiter| waiter.lease_id != lease_id);
    }

    /// Drops the places that are over, as housekeeping does. Until then whoever comes back still finds its place.
    pub fn forget(&mut self, now: Millis) {
        self.waiters.retain(|waiter| waiter.deadline > now);
    }

    /// Those present before this one; all of them if it has no place.
    pub fn ahead_of(&self, lease_id: LeaseId, now: Millis, rules: &Rules) -> usize {
        let before = self.waiters.iter().take_while(|waiter| waiter.lease_id != lease_id);
        before.filter(|waiter| waiter.is_present(now, rules)).count()
    }

    /// Everybody with a place, present or not.
    pub fn waiters(&self) -> &[Waiter] {
        &self.waiters
    }
}
