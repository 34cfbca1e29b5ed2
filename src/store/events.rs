//! The audit log: written in the transaction of what it tells of, never changed.

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait as _, Condition, ConnectionTrait as _, DatabaseTransaction, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::{
    domain::{
        caller::Caller,
        event::{Kind, NewEvent, SessionEvent},
        id::{SessionKey, TenantId},
        page::{PAGE_SIZE_MAX, Page, PageRequest, token},
        session::StateName,
        time::Timestamp,
    },
    store::{
        Error, Store,
        entity::event::{ActiveModel, Column, Entity, Model},
        error::classify,
        rows::{json_map, key, text_map},
        scope,
        tx::{Access, commit, within},
    },
};

/// Which events are asked for; nothing set means all that exist for the caller.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub key: Option<SessionKey>,
    pub tenant: Option<TenantId>,
}

impl Store {
    /// Events in the order they were written, oldest first.
    ///
    /// # Errors
    /// [`Error::PageToken`], [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn events(
        &self,
        caller: &Caller,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<SessionEvent>, Error> {
        const DOING: &str = "listing events";
        let after: i64 = match &page.after {
            None => 0,
            Some(after) => after.parse().map_err(|_| Error::PageToken)?,
        };
        let mut query = Entity::find().filter(scope::events(caller)).filter(Column::Sequence.gt(after));
        if let Some(key) = &filter.key {
            query = query
                .filter(Column::TenantId.eq(key.tenant.as_str()))
                .filter(Column::AppId.eq(key.app.as_str()));
        }
        if let Some(tenant) = &filter.tenant {
            query = query.filter(Column::TenantId.eq(tenant.as_str()));
        }
        let limit = page.size.clamp(1, PAGE_SIZE_MAX);
        let size = limit as usize;
        let query = query.order_by_asc(Column::Sequence).limit(u64::from(limit) + 1);
        let rows = within(caller.deadline, DOING, async {
            let tx = self.begin(caller, Access::Read, DOING).await?;
            let rows = query.all(&tx).await.map_err(classify(DOING))?;
            commit(tx, DOING).await?;
            Ok(rows)
        })
        .await?;
        let next_token =
            if rows.len() > size { token(&rows[size - 1].sequence.to_string()) } else { String::new() };
        let items = rows.into_iter().take(size).map(event).collect::<Result<_, _>>()?;
        Ok(Page { items, next_token })
    }
}

impl Store {
    /// A detail of the last event that brought the session its material; `None` if it says nothing of the kind.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn last_detail(
        &self,
        caller: &Caller,
        of: &SessionKey,
        name: &str,
    ) -> Result<Option<String>, Error> {
        const DOING: &str = "reading an event";
        let filled = Condition::any()
            .add(Column::Kind.eq(Kind::MaterialReplaced.name()))
            .add(Column::Reason.is_in(["imported", "minted", "authorization_success", "restored"]));
        let query = Entity::find()
            .filter(scope::events(caller))
            .filter(Column::TenantId.eq(of.tenant.as_str()))
            .filter(Column::AppId.eq(of.app.as_str()))
            .filter(filled)
            .order_by_desc(Column::Sequence)
            .limit(1);
        let rows = within(caller.deadline, DOING, async {
            let tx = self.begin(caller, Access::Read, DOING).await?;
            let rows = query.all(&tx).await.map_err(classify(DOING))?;
            commit(tx, DOING).await?;
            Ok(rows)
        })
        .await?;
        let Some(last) = rows.into_iter().next() else { return Ok(None) };
        Ok(text_map(last.details, "event details")?.remove(name))
    }
}

/// All of them in one statement.
pub(super) async fn append(
    tx: &DatabaseTransaction,
    key: &SessionKey,
    events: Vec<NewEvent>,
    now: Timestamp,
) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let rows = events.into_iter().map(|event| ActiveModel {
        sequence: NotSet,
        tenant_id: Set(key.tenant.as_str().to_owned()),
        app_id: Set(key.app.as_str().to_owned()),
        kind: Set(event.kind.name().to_owned()),
        from_state: Set(event.transition.map(|moved| moved.from.as_str().to_owned())),
        to_state: Set(event.transition.map(|moved| moved.to.as_str().to_owned())),
        reason: Set(event.transition.map(|moved| moved.reason).unwrap_or_default().to_owned()),
        actor: Set(event.actor),
        details: Set(json_map(event.details)),
        time: Set(now.as_millis()),
    });
    Entity::insert_many(rows).exec_without_returning(tx).await.map_err(classify("writing the audit log"))?;
    Ok(())
}

/// An entry on its way into the log, of whichever session.
pub(super) struct Told {
    pub(super) key: SessionKey,
    pub(super) event: NewEvent,
    pub(super) time: Timestamp,
}

impl Store {
    /// Entries without transitions, of any sessions, in one statement of one text.
    pub(super) async fn tell_all(&self, tx: &DatabaseTransaction, told: Vec<Told>) -> Result<(), Error> {
        if told.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = told
            .into_iter()
            .map(|Told { key, event, time }| {
                serde_json::json!({
                    "ask_tenant": key.tenant.as_str(),
                    "ask_app": key.app.as_str(),
                    "ask_kind": event.kind.name(),
                    "ask_actor": event.actor,
                    "ask_details": json_map(event.details),
                    "ask_time": time.as_millis(),
                })
            })
            .collect();
        let list = serde_json::Value::from(list).to_string();
        tx.execute_raw(self.statement(&self.desk.texts.tell, [list.into()]))
            .await
            .map_err(classify("writing the audit log"))?;
        Ok(())
    }
}

fn event(row: Model) -> Result<SessionEvent, Error> {
    let state = |name: Option<String>| match name {
        None => Ok(None),
        Some(name) => StateName::parse(&name).map(Some).ok_or(Error::Corrupt { what: "event state" }),
    };
    Ok(SessionEvent {
        sequence: row.sequence,
        key: key(&row.tenant_id, &row.app_id)?,
        kind: Kind::parse(&row.kind).ok_or(Error::Corrupt { what: "event kind" })?,
        from: state(row.from_state)?,
        to: state(row.to_state)?,
        reason: row.reason,
        actor: row.actor,
        details: text_map(row.details, "event details")?.into_iter().collect(),
        time: Timestamp::from_millis(row.time),
    })
}
