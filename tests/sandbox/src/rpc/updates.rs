//! `updates.*`: a state that never lags, since nothing is kept for clients that were away.

use grammers_tl_types::{Serializable, enums, types};

use super::{Answer, Call, login};
use crate::state::World;
use crate::state::user::User;

pub(super) fn state(world: &World, call: &Call) -> Answer {
    let user = login(world, call)?;
    let pts = world.users.get(&user).map_or(0, User::pts);
    let state = types::updates::State { pts, qts: 0, date: world.now() as i32, seq: 0, unread_count: 0 };
    Ok(enums::updates::State::State(state).to_bytes())
}

pub(super) fn difference(world: &World, call: &Call) -> Answer {
    login(world, call)?;
    let empty = types::updates::DifferenceEmpty { date: world.now() as i32, seq: 0 };
    Ok(enums::updates::Difference::Empty(empty).to_bytes())
}
