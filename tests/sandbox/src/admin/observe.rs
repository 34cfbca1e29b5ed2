//! Watching a sandbox, and turning its settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::parse::{self, Body};
use super::{Failure, Outcome};
use crate::shared::Shared;
use crate::state::journal::{Entry, Kind};

pub(super) async fn state(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world();
    let dcs: BTreeMap<String, u16> =
        world.dcs.iter().map(|(dc, address)| (dc.to_string(), address.port())).collect();
    let faults: u64 = world.faults.iter().map(|fault| u64::from(fault.count)).sum();
    Json(json!({
        "dcs": dcs,
        "fingerprint": shared.rsa.fingerprint(),
        "open_connections": world.conns.len(),
        "keys": world.keys.values().filter(|key| key.temporary.is_none()).count(),
        "users": world.users.len(),
        "counters": world.journal.counters,
        "faults_waiting": faults,
        "config": world.settings.to_json(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    key: Option<String>,
    conn: Option<u64>,
    kind: Option<String>,
    method: Option<String>,
    since: Option<u64>,
    last: Option<usize>,
}

fn kind(text: &str) -> Result<Kind, Failure> {
    match text {
        "rpc" => Ok(Kind::Rpc),
        "service" => Ok(Kind::Service),
        "handshake" => Ok(Kind::Handshake),
        "server" => Ok(Kind::Server),
        "transport" => Ok(Kind::Transport),
        _ => Err(Failure::bad("`kind` is rpc, service, handshake, server or transport")),
    }
}

pub(super) async fn calls(
    State(shared): State<Arc<Shared>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Outcome {
    let Query(filter) = filter.map_err(|_| {
        Failure::bad("filters are key, conn, kind, method, since and last; conn, since and last are numbers")
    })?;
    let wanted = filter.kind.as_deref().map(kind).transpose()?;
    let world = shared.world();
    let fits = |entry: &&Entry| {
        filter.key.as_ref().is_none_or(|key| entry.key.as_ref() == Some(key))
            && filter.conn.is_none_or(|conn| entry.conn == conn)
            && wanted.is_none_or(|kind| entry.kind == kind)
            && filter.method.as_ref().is_none_or(|method| &entry.method == method)
            && filter.since.is_none_or(|since| entry.n > since)
    };
    let last = filter.last.unwrap_or(usize::MAX);
    let mut found: Vec<Value> =
        world.journal.calls().rev().filter(fits).take(last).map(|entry| json!(entry)).collect();
    found.reverse();
    Ok(Json(found.into()))
}

pub(super) async fn conns(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world();
    let open = world.conns.iter().map(|(id, conn)| {
        json!({
            "conn": id.0,
            "dc": conn.dc,
            "src": conn.src.to_string(),
            "key": conn.key,
            "transport": conn.transport,
            "age": conn.opened.elapsed().as_secs_f64(),
            "packets_in": conn.packets_in,
            "packets_out": conn.packets_out,
            "bytes_in": conn.bytes_in,
            "bytes_out": conn.bytes_out,
        })
    });
    Json(open.collect())
}

pub(super) async fn events(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.world().journal.events().cloned().collect())
}

pub(super) async fn clear(State(shared): State<Arc<Shared>>) -> Outcome {
    let mut world = shared.world();
    let open = world.conns.len() as u64;
    world.journal.clear(open);
    Ok(Json(json!({ "cleared": true })))
}

pub(super) async fn config(State(shared): State<Arc<Shared>>, body: Body) -> Outcome {
    let values: Map<String, Value> = parse::body(body)?;
    let mut world = shared.world();
    let skew = world.settings.skew;
    world.settings.set_json(&values).map_err(|error| Failure::bad(error.to_string()))?;
    if world.settings.skew != skew {
        world.clock_turned();
    }
    Ok(Json(world.settings.to_json()))
}
