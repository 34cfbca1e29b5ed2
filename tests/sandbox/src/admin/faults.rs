//! Ordered failures.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;

use super::parse::{self, Body};
use super::{Failure, Outcome};
use crate::shared::Shared;
use crate::state::fault::{Action, CONNECT, FAULTS_MAX, Fault, RpcError};
use crate::state::user::UserId;

/// Calls that one order covers.
const COUNT_MAX: u32 = 1_000_000;
/// The longest delay, in milliseconds.
const DELAY_MAX: u64 = 600_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    method: String,
    #[serde(default = "once")]
    count: u32,
    error: Option<String>,
    #[serde(default)]
    drop: bool,
    #[serde(default)]
    silent: bool,
    #[serde(default)]
    delay_ms: u64,
    key: Option<String>,
    user_id: Option<UserId>,
}

fn once() -> u32 {
    1
}

impl Order {
    fn action(&self) -> Result<Option<Action>, Failure> {
        match (&self.error, self.drop, self.silent) {
            (Some(name), false, false) => {
                let error = RpcError::parse(name)
                    .ok_or_else(|| Failure::bad("`error` is NAME or \"code NAME\", such as FLOOD_WAIT_30"))?;
                if self.method == CONNECT && error.code >= 0 {
                    return Err(Failure::bad(
                        "the `error` of a new connection is a transport code such as -429",
                    ));
                }
                Ok(Some(Action::Error(error)))
            }
            (None, true, false) => Ok(Some(Action::Drop)),
            (None, false, true) => Ok(Some(Action::Silent)),
            (None, false, false) if self.delay_ms > 0 => Ok(None),
            _ => Err(Failure::bad(
                "give one of `error`, `drop`, `silent`, or `delay_ms` alone or with one of them",
            )),
        }
    }

    fn check_method(&self) -> Result<(), Failure> {
        let shaped = self.method.len() <= 128
            && self.method.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_');
        if self.method == "*" || self.method == CONNECT || (shaped && self.method.contains('.')) {
            Ok(())
        } else {
            Err(Failure::bad("`method` is an API method such as users.getUsers, `*`, or `connect`"))
        }
    }
}

pub(super) async fn order(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let order: Order = parse::body(body)?;
    order.check_method()?;
    let action = order.action()?;
    if !(1..=COUNT_MAX).contains(&order.count) || order.delay_ms > DELAY_MAX {
        return Err(Failure::bad("`count` is 1 to 1000000 and `delay_ms` at most 600000"));
    }
    if order.method == CONNECT && (order.key.is_some() || order.user_id.is_some()) {
        return Err(Failure::bad("a new connection has no `key` and no `user_id` yet"));
    }
    let key = order.key.as_deref().map(parse::key).transpose()?;
    let mut world = shared.world();
    if world.faults.len() >= FAULTS_MAX {
        return Err(Failure::conflict("too many orders wait"));
    }
    let delay = Duration::from_millis(order.delay_ms);
    let (method, count, user) = (order.method, order.count, order.user_id);
    world.faults.push(Fault { method, count, action, delay, key, user });
    Ok(Json(json!({ "waiting": world.faults.len() })))
}

pub(super) async fn clear(State(shared): State<Arc<Shared>>) -> Outcome {
    let mut world = shared.world();
    let cleared = world.faults.len();
    world.faults.clear();
    Ok(Json(json!({ "cleared": cleared })))
}
