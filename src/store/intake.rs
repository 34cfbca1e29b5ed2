//! Imports of many sessions, looked up and written together: a transaction for each would cost more than all the rest
//! of an import.
//!
//! What is asked for at the same time shares one transaction, with one statement each for sessions, material and
//! events. Each session is judged by its own row: a name or an authorization that is there already is passed over by
//! the statement and refused alone. Where a batch fails as a whole, each of its asks is tried for itself, so that one
//! takes nobody with it. What is not new, and what is large, goes the usual way of [`Store::commit`].

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, Iterable as _, QueryResult, sea_query::Value};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value as Json;

use crate::{
    domain::{
        caller::{Authority, Caller},
        event::NewEvent,
        fingerprint::Fingerprint,
        id::SessionKey,
        material::SealedMaterial,
        session::Session,
    },
    store::{
        Backend, Error, Store,
        desk::{Batch, Desk},
        entity::session::Column,
        error::classify,
        leases::{
            desk::{LOCK_PATIENCE, list},
            sql, tenant_of,
        },
        rows::{Read, json_map, key},
        sessions::{Change, Expected, FIRST_REVISION, MaterialChange, TicketRule, first_columns},
        tx::{Access, commit, within},
    },
};

const LOOKING: &str = "looking up sessions to import";
const KEEPING: &str = "importing sessions";
/// Sealed material up to this size is written together with others', in bytes. A session is a thousand; one that
/// carries all its peers is written alone.
const SEALED_MAX: usize = 32 * 1024;

/// What the database knows about a session that is to be imported.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The session of that name.
    pub session: Option<Session>,
    /// Who holds the authorization under another name, of whichever tenant: not for everybody to know.
    pub elsewhere: Option<SessionKey>,
}

impl Looked {
    /// Neither the name nor the authorization is there.
    pub const NOTHING: Self = Self { session: None, elsewhere: None };

    fn is_nothing(&self) -> bool {
        self.session.is_none() && self.elsewhere.is_none()
    }
}

pub(super) struct Look {
    key: SessionKey,
    fingerprint: Option<Fingerprint>,
}

pub(super) struct Keep {
    session: Session,
    sealed: SealedMaterial,
    event: NewEvent,
}

/// Where imports are served.
#[derive(Debug)]
pub(super) struct Intake {
    looks: Desk<Look, Looked>,
    keeps: Desk<Keep, Session>,
    /// Whether most of what was asked about lately was not there yet.
    mostly_new: AtomicBool,
    texts: Texts,
}

impl Intake {
    pub(super) fn new(backend: Backend) -> Self {
        let writers = match backend {
            Backend::Postgres => 2,
            // There is one writer.
            Backend::Sqlite => 1,
        };
        Self {
            looks: Desk::new(2),
            keeps: Desk::new(writers),
            mostly_new: AtomicBool::new(true),
            texts: Texts::new(backend),
        }
    }

    fn learn(&self, new: usize, all: usize) {
        self.mostly_new.store(new * 2 >= all, Ordering::Relaxed);
    }

    pub(super) async fn close(&self) {
        tokio::join!(self.looks.close(), self.keeps.close());
    }
}

/// The statements; each takes its list as one JSON parameter, so that its text is the same for one and for many.
#[derive(Debug)]
struct Texts {
    /// keys, the caller's tenant or nothing
    own: String,
    /// fingerprints
    holders: String,
    /// Answers only the names of what is new: the rest was given.
    sessions: String,
    material: String,
    events: String,
}

impl Texts {
    fn new(backend: Backend) -> Self {
        let names: Vec<_> = Column::iter().map(|column| sea_orm::IdenStatic::as_str(&column)).collect();
        let fields: Vec<_> =
            Column::iter().map(|column| (sea_orm::IdenStatic::as_str(&column), kind(column))).collect();
        let bytes = match backend {
            Backend::Postgres => "decode(sealed, 'hex')",
            Backend::Sqlite => "unhex(sealed)",
        };
        Self {
            own: format!(
                "select {row} from telegram_sessions join {asks} on tenant_id = ask_tenant and app_id = ask_app \
                 where {visible}",
                row = sql::row(backend),
                asks = sql::asks(backend, &[("ask_tenant", "text"), ("ask_app", "text")]),
                visible = sql::visible(backend, 2),
            ),
            holders: format!(
                "select tenant_id, app_id, fingerprint from telegram_sessions join {} on fingerprint = ask_print",
                sql::asks(backend, &[("ask_print", "text")]),
            ),
            sessions: format!(
                "insert into telegram_sessions ({columns}) select {columns} from {asks} where true \
                 on conflict do nothing returning tenant_id, app_id",
                columns = names.join(", "),
                asks = sql::asks(backend, &fields),
            ),
            material: format!(
                "insert into session_material (tenant_id, app_id, version, key_id, sealed, update_time) \
                 select tenant_id, app_id, version, key_id, {bytes}, update_time from {}",
                sql::asks(
                    backend,
                    &[
                        ("tenant_id", "text"),
                        ("app_id", "text"),
                        ("version", "bigint"),
                        ("key_id", "text"),
                        ("sealed", "text"),
                        ("update_time", "bigint"),
                    ]
                ),
            ),
            events: format!(
                "insert into session_events \
                 (tenant_id, app_id, kind, from_state, to_state, reason, actor, details, time) \
                 select tenant_id, app_id, kind, from_state, to_state, reason, actor, details, time from {}",
                sql::asks(
                    backend,
                    &[
                        ("tenant_id", "text"),
                        ("app_id", "text"),
                        ("kind", "text"),
                        ("from_state", "text"),
                        ("to_state", "text"),
                        ("reason", "text"),
                        ("actor", "text"),
                        ("details", "jsonb"),
                        ("time", "bigint"),
                    ]
                ),
            ),
        }
    }
}

/// PostgreSQL's type of a column.
const fn kind(column: Column) -> &'static str {
    match column {
        Column::Labels => "jsonb",
        Column::DcId => "integer",
        Column::IsBot | Column::LeaseEvicted | Column::LeaseReleased | Column::Mirrored => "boolean",
        Column::TelegramUserId
        | Column::Revision
        | Column::MaterialVersion
        | Column::LeaseEpoch
        | Column::LeaseAcquireTime
        | Column::LeaseExpireTime
        | Column::LeaseTtl
        | Column::CreateTime
        | Column::UpdateTime
        | Column::LastValidatedTime
        | Column::LastActivityTime => "bigint",
        _ => "text",
    }
}

impl Store {
    /// Whether what comes next is likely to be new, by what came last: it can then be written without a look first, for
    /// [`Self::take_in`] refuses what is there.
    pub fn expects_new(&self) -> bool {
        self.intake.mostly_new.load(Ordering::Relaxed)
    }

    /// Looks a name and an authorization up, together with whoever asks at the same time.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn look_up(
        &self,
        caller: &Caller,
        key: &SessionKey,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Looked, Error> {
        within(caller.deadline, LOOKING, async {
            let (come, answer) = self.intake.looks.put(caller, Look { key: key.clone(), fingerprint });
            if come {
                let store = self.clone();
                self.intake.looks.tasks.spawn(async move {
                    while let Some(batch) = store.intake.looks.take() {
                        store.serve_looks(batch).await;
                    }
                });
            }
            answer
                .await
                .unwrap_or_else(|died| Err(Error::Unavailable { doing: LOOKING, source: died.into() }))
        })
        .await
    }

    /// Writes a session that is not there yet, together with whoever does so at the same time; any other change as
    /// [`Self::commit`] does.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the name or the authorization is there, and those of [`Self::commit`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the change happened wholly or not at all.
    pub async fn take_in(&self, caller: &Caller, change: Change) -> Result<Session, Error> {
        let Some(keep) = Keep::of(caller, &change) else {
            return Box::pin(self.commit(caller, change)).await;
        };
        within(caller.deadline, KEEPING, async {
            let (come, answer) = self.intake.keeps.put(caller, keep);
            if come {
                let store = self.clone();
                self.intake.keeps.tasks.spawn(async move {
                    while let Some(batch) = store.intake.keeps.take() {
                        store.serve_keeps(batch).await;
                    }
                });
            }
            answer
                .await
                .unwrap_or_else(|died| Err(Error::Unavailable { doing: KEEPING, source: died.into() }))
        })
        .await
    }

    async fn serve_looks(&self, batch: Batch<Look, Looked>) {
        let caller = batch.caller();
        match within(caller.deadline, LOOKING, self.look_at(&caller, &batch)).await {
            Ok(found) => {
                let is_new = |looked: &Result<Looked, Error>| looked.as_ref().is_ok_and(Looked::is_nothing);
                self.intake.learn(found.iter().filter(|looked| is_new(looked)).count(), found.len());
                for (ask, looked) in batch.asks.into_iter().zip(found) {
                    ask.answer(looked);
                }
            }
            Err(error) => batch.fail(&error),
        }
    }

    async fn look_at(
        &self,
        caller: &Caller,
        batch: &Batch<Look, Looked>,
    ) -> Result<Vec<Result<Looked, Error>>, Error> {
        let keys = list(batch.asks.iter().map(|ask| AskedKey {
            ask_tenant: ask.work.key.tenant.as_str(),
            ask_app: ask.work.key.app.as_str(),
        }));
        let prints = batch.asks.iter().filter_map(|ask| ask.work.fingerprint.as_ref());
        let prints = list(prints.map(|print| AskedPrint { ask_print: print.as_str() }));
        let texts = &self.intake.texts;
        let tx = self.begin(caller, Access::Read, LOOKING).await?;
        let tenant = tenant_of(&caller.authority);
        let own = tx
            .query_all_raw(self.statement(&texts.own, [keys.into(), tenant.into()]))
            .await
            .map_err(classify(LOOKING))?;
        if caller.authority != Authority::Service {
            // One authorization has one name among all tenants.
            let service = Caller { authority: Authority::Service, ..caller.clone() };
            self.act_as(&tx, &service, LOOKING, std::time::Duration::ZERO).await?;
        }
        let holders = tx
            .query_all_raw(self.statement(&texts.holders, [prints.into()]))
            .await
            .map_err(classify(LOOKING))?;
        commit(tx, LOOKING).await?;
        let mut sessions: HashMap<SessionKey, Result<Session, Error>> = HashMap::new();
        for row in &own {
            let read = Read::from_result(row)?;
            let name = key(&read.row.tenant_id, &read.row.app_id)?;
            sessions.insert(name, read.session(self.quiet_gap));
        }
        let corrupt = |_| Error::Corrupt { what: "fingerprint" };
        let mut named: HashMap<String, SessionKey> = HashMap::new();
        for row in &holders {
            let text = |name| row.try_get::<String>("", name).map_err(corrupt);
            named.insert(text("fingerprint")?, key(&text("tenant_id")?, &text("app_id")?)?);
        }
        // A row that cannot be read concerns whoever asked for it and nobody else.
        let answer = |look: &Look| {
            let session = match sessions.get(&look.key) {
                None => None,
                Some(Ok(session)) => Some(session.clone()),
                Some(Err(error)) => return Err(error.again()),
            };
            let holder = look.fingerprint.as_ref().and_then(|print| named.get(print.as_str()));
            Ok(Looked { session, elsewhere: holder.filter(|holder| **holder != look.key).cloned() })
        };
        Ok(batch.asks.iter().map(|ask| answer(&ask.work)).collect())
    }

    async fn serve_keeps(&self, batch: Batch<Keep, Session>) {
        let Some((batch, error, nothing_happened)) = self.try_keep(batch).await else { return };
        if batch.is_alone() || !nothing_happened {
            return batch.fail(&error);
        }
        tracing::debug!(error = %error, "Imports are written one by one");
        for single in batch.one_by_one() {
            let store = self.clone();
            // A row that somebody holds for long keeps only its own ask waiting.
            self.intake.keeps.tasks.spawn(async move {
                if let Some((single, error, _)) = store.try_keep(single).await {
                    single.fail(&error);
                }
            });
        }
    }

    /// Writes and answers a batch, or gives it back with what went wrong and whether it may be tried again.
    async fn try_keep(&self, batch: Batch<Keep, Session>) -> Option<(Batch<Keep, Session>, Error, bool)> {
        let caller = batch.caller();
        // Until the transaction is there, and again once its commit is on its way, trying each alone is no help.
        let hopeful = AtomicBool::new(false);
        match within(caller.deadline, KEEPING, self.keep_all(&caller, &batch, &hopeful)).await {
            Ok(mut made) => {
                self.intake.learn(made.len(), batch.asks.len());
                for ask in batch.asks {
                    // Of two asks for one name in one batch only one may have made the row.
                    let is_new = made.remove(&ask.work.session.key);
                    let session = Session { revision: FIRST_REVISION, ..ask.work.session.clone() };
                    ask.answer(if is_new { Ok(session) } else { Err(Error::AlreadyExists) });
                }
                None
            }
            Err(error) => Some((batch, error, hopeful.load(Ordering::Relaxed))),
        }
    }

    async fn keep_all(
        &self,
        caller: &Caller,
        batch: &Batch<Keep, Session>,
        hopeful: &AtomicBool,
    ) -> Result<HashSet<SessionKey>, Error> {
        let patience = if batch.is_alone() { std::time::Duration::ZERO } else { LOCK_PATIENCE };
        // In one order, so that two batches do not wait for each other.
        let mut keeps: Vec<_> = batch.asks.iter().map(|ask| (&ask.work, &ask.caller)).collect();
        keeps.sort_by(|(a, _), (b, _)| a.session.key.cmp(&b.session.key));
        keeps.dedup_by(|(a, _), (b, _)| a.session.key == b.session.key);
        let rows = list(keeps.iter().map(|(keep, _)| Row(first_columns(&keep.session))));
        let tx = self.begin_patiently(caller, Access::Write, KEEPING, patience).await?;
        hopeful.store(true, Ordering::Relaxed);
        let texts = &self.intake.texts;
        let written = tx
            .query_all_raw(self.statement(&texts.sessions, [rows.into()]))
            .await
            .map_err(classify(KEEPING))?;
        let name = |row, column| QueryResult::try_get::<String>(row, "", column).map_err(classify(KEEPING));
        let made = written
            .iter()
            .map(|row| key(&name(row, "tenant_id")?, &name(row, "app_id")?))
            .collect::<Result<HashSet<_>, _>>()?;
        keeps.retain(|(keep, _)| made.contains(&keep.session.key));
        if !keeps.is_empty() {
            self.keep_rest(&tx, &keeps).await?;
        }
        hopeful.store(false, Ordering::Relaxed);
        commit(tx, KEEPING).await?;
        Ok(made)
    }

    /// Material and events of the sessions whose rows are new.
    async fn keep_rest(&self, tx: &DatabaseTransaction, keeps: &[(&Keep, &Caller)]) -> Result<(), Error> {
        let material = list(keeps.iter().map(|(keep, caller)| keep.material(caller)));
        let events = list(keeps.iter().map(|(keep, caller)| keep.event(caller)));
        for (text, rows) in [(&self.intake.texts.material, material), (&self.intake.texts.events, events)] {
            tx.execute_raw(self.statement(text, [rows.into()])).await.map_err(classify(KEEPING))?;
        }
        Ok(())
    }
}

impl Keep {
    /// `None` for a change of another kind.
    fn of(caller: &Caller, change: &Change) -> Option<Self> {
        let Change { session, expected: Expected::New, material: MaterialChange::Replace(sealed), .. } =
            change
        else {
            return None;
        };
        let [event] = change.events.as_slice() else { return None };
        let plain = change.log_out.is_none()
            && change.done_log_outs.is_empty()
            && change.future_auth_tokens.is_none()
            && change.login_ticket == TicketRule::Any
            && sealed.version == session.material_version
            && sealed.bytes.len() <= SEALED_MAX
            && caller.sees(&session.key.tenant);
        plain.then(|| Self { session: session.clone(), sealed: sealed.clone(), event: event.clone() })
    }

    fn material<'a>(&'a self, caller: &Caller) -> MaterialRow<'a> {
        MaterialRow {
            tenant_id: self.session.key.tenant.as_str(),
            app_id: self.session.key.app.as_str(),
            version: self.sealed.version,
            key_id: &self.sealed.key_id,
            sealed: hex::encode(&self.sealed.bytes),
            update_time: caller.now.as_millis(),
        }
    }

    fn event<'a>(&'a self, caller: &Caller) -> EventRow<'a> {
        let event = &self.event;
        EventRow {
            tenant_id: self.session.key.tenant.as_str(),
            app_id: self.session.key.app.as_str(),
            kind: event.kind.name(),
            from_state: event.transition.map(|moved| moved.from.as_str()),
            to_state: event.transition.map(|moved| moved.to.as_str()),
            reason: event.transition.map(|moved| moved.reason).unwrap_or_default(),
            actor: &event.actor,
            details: json_map(event.details.clone()),
            time: caller.now.as_millis(),
        }
    }
}

/// A session's columns as the statement takes them. What is null is left out, which is the same.
struct Row(Vec<(Column, Value)>);

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (column, value) in &self.0 {
            let name = sea_orm::IdenStatic::as_str(column);
            match value {
                Value::Bool(None)
                | Value::Int(None)
                | Value::BigInt(None)
                | Value::String(None)
                | Value::Json(None) => {}
                Value::Bool(Some(value)) => map.serialize_entry(name, value)?,
                Value::Int(Some(value)) => map.serialize_entry(name, value)?,
                Value::BigInt(Some(value)) => map.serialize_entry(name, value)?,
                Value::String(Some(value)) => map.serialize_entry(name, value)?,
                Value::Json(Some(value)) => map.serialize_entry(name, value)?,
                _ => return Err(serde::ser::Error::custom("a column of no known type")),
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct AskedKey<'a> {
    ask_tenant: &'a str,
    ask_app: &'a str,
}

#[derive(Serialize)]
struct AskedPrint<'a> {
    ask_print: &'a str,
}

#[derive(Serialize)]
struct MaterialRow<'a> {
    tenant_id: &'a str,
    app_id: &'a str,
    version: i64,
    key_id: &'a str,
    sealed: String,
    update_time: i64,
}

#[derive(Serialize)]
struct EventRow<'a> {
    tenant_id: &'a str,
    app_id: &'a str,
    kind: &'a str,
    from_state: Option<&'a str>,
    to_state: Option<&'a str>,
    reason: &'a str,
    actor: &'a str,
    details: Json,
    time: i64,
}
