//! `messages.sendMessage`, as little of it as a client needs to see its call succeed.

use grammers_tl_types::{Serializable, enums, types};

use super::{Answer, Call, login};
use crate::state::World;
use crate::state::user::User;

pub(super) fn send(world: &mut World, call: &Call) -> Answer {
    let user = login(world, call)?;
    let date = world.now() as i32;
    let pts = world.users.get_mut(&user).map_or(1, User::next_pts);
    let sent = types::UpdateShortSentMessage {
        out: true,
        id: pts,
        pts,
        pts_count: 1,
        date,
        media: None,
        entities: None,
        ttl_period: None,
    };
    Ok(enums::Updates::UpdateShortSentMessage(sent).to_bytes())
}
