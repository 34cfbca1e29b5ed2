//! Sessions: read, listed, changed by compare-and-set, removed.

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DatabaseTransaction, ExprTrait as _, QueryResult,
    sea_query::{Expr, OnConflict, Order, Query, SimpleExpr, Value},
};

use crate::{
    domain::{
        caller::Caller,
        event::NewEvent,
        id::{LeaseId, ReplicaId, SessionKey, TicketHash},
        lease::Drain,
        material::SealedMaterial,
        page::{PAGE_SIZE_MAX, Page, PageRequest, token},
        session::{Session, StateName},
        time::millis,
    },
    store::{
        Backend, Error, Store,
        clock::now,
        entity::session::{Column, Entity},
        error::classify,
        events,
        filter::{SessionFilter, after_key},
        leases,
        log_outs::{self, NewLogOut},
        material,
        rows::{Read, StateColumns, columns, json_map, returning},
        scope, tokens,
        tx::{Access, commit, within},
    },
};

/// One change of one session: everything in one transaction, or nothing.
#[derive(Clone, Debug)]
pub struct Change {
    /// The session as it shall be. Its key says which; revision and lease are the store's own to set.
    pub session: Session,
    pub expected: Expected,
    pub material: MaterialChange,
    pub lease: LeaseRule,
    pub login_ticket: TicketRule,
    /// Material whose authorization is to be ended, noted until it is.
    pub log_out: Option<NewLogOut>,
    /// Log-outs noted before that are not to come any more.
    pub done_log_outs: Vec<uuid::Uuid>,
    /// Sealed tokens of log-outs, in place of those there.
    pub future_auth_tokens: Option<Vec<u8>>,
    pub events: Vec<NewEvent>,
}

impl Change {
    /// The session as it was read, but for what the caller changed in it; everything else stays.
    pub fn of(session: Session) -> Self {
        Self {
            expected: Expected::Revision(session.revision),
            session,
            material: MaterialChange::Keep,
            lease: LeaseRule::Ignore,
            login_ticket: TicketRule::Any,
            log_out: None,
            done_log_outs: Vec::new(),
            future_auth_tokens: None,
            events: Vec::new(),
        }
    }
}

/// What the row must be for the change to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Not there yet.
    New,
    /// Of this revision.
    Revision(i64),
}

/// What becomes of the sealed material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaterialChange {
    Keep,
    /// Its version must be the session's `material_version`.
    Replace(SealedMaterial),
    Wipe,
}

/// What a lease means for the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseRule {
    /// The change concerns nothing that a holder uses; a lease goes on.
    Ignore,
    /// Refused while a lease is live or rests; raises the epoch, so that no older holder is believed.
    NoneLive,
    /// Only under this lease of the caller's own, which ends with the change.
    EndMine { lease_id: LeaseId, epoch: i64 },
    /// Only under this lease of the caller's own, which goes on.
    Mine { lease_id: LeaseId, epoch: i64 },
    /// Only under this lease of the caller's own, which is not renewed any more.
    DrainMine { lease_id: LeaseId, epoch: i64, why: Drain },
}

/// Which login may write the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketRule {
    Any,
    /// Only while the row names this login and this replica as the one that runs it: a newer login, or another
    /// replica, took over otherwise.
    MustBe {
        ticket: TicketHash,
        owner: ReplicaId,
    },
}

const READING: &str = "reading a session";
const LISTING: &str = "listing sessions";
const WRITING: &str = "writing a session";
const REMOVING: &str = "removing a session";

impl Store {
    /// One session, with its lease as everybody may see it; `None` also for another tenant's.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn get(&self, caller: &Caller, key: &SessionKey) -> Result<Option<Session>, Error> {
        within(caller.deadline, READING, async {
            let tx = self.begin(caller, Access::Read, READING).await?;
            let read = self.read_session(&tx, caller, key).await?;
            commit(tx, READING).await?;
            read.map(|read| read.session(self.quiet_gap)).transpose()
        })
        .await
    }

    /// Sessions by tenant and application id.
    ///
    /// # Errors
    /// [`Error::PageToken`], [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn list(
        &self,
        caller: &Caller,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<Session>, Error> {
        let limit = page.size.clamp(1, PAGE_SIZE_MAX);
        let size = limit as usize;
        let mut query = Query::select();
        query
            .exprs(columns(self.backend))
            .from(Entity)
            .cond_where(scope::sessions(caller))
            .cond_where(self.matching(filter))
            .order_by(Column::TenantId, Order::Asc)
            .order_by(Column::AppId, Order::Asc)
            .limit(u64::from(limit) + 1);
        if let Some(after) = &page.after {
            query.cond_where(after_key(after)?);
        }
        let rows: Vec<QueryResult> = within(caller.deadline, LISTING, async {
            let tx = self.begin(caller, Access::Read, LISTING).await?;
            let rows = tx.query_all(&query).await.map_err(classify(LISTING))?;
            commit(tx, LISTING).await?;
            Ok(rows)
        })
        .await?;
        let more = rows.len() > size;
        let items = rows
            .iter()
            .take(size)
            .map(|row| Read::from_result(row)?.session(self.quiet_gap))
            .collect::<Result<Vec<_>, _>>()?;
        let next_token = match items.last() {
            Some(last) if more => token(&last.key.to_string()),
            _ => String::new(),
        };
        Ok(Page { items, next_token })
    }

    /// Writes one change if its conditions hold, and answers the session as it now is.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::NotFound`], [`Error::RevisionStale`], [`Error::Leased`],
    /// [`Error::TicketMoved`], [`Error::Contradiction`]; nothing is written then. After [`Error::Timeout`]
    /// whether it was is unknown: read the session.
    ///
    /// # Cancel safety
    /// Dropped before its end, the change happened wholly or not at all.
    pub async fn commit(&self, caller: &Caller, change: Change) -> Result<Session, Error> {
        if !caller.sees(&change.session.key.tenant) {
            return Err(Error::NotFound);
        }
        if let MaterialChange::Replace(sealed) = &change.material
            && sealed.version != change.session.material_version
        {
            return Err(Error::Contradiction { what: "sealed version and material_version differ" });
        }
        within(caller.deadline, WRITING, async {
            let tx = self.begin(caller, Access::Write, WRITING).await?;
            let read = match change.expected {
                Expected::New => self.insert(&tx, &change.session).await?,
                Expected::Revision(revision) => self.update(&tx, caller, &change, revision).await?,
            };
            let key = &change.session.key;
            match change.material {
                MaterialChange::Keep => {}
                MaterialChange::Replace(sealed) => material::replace(&tx, key, sealed, caller.now).await?,
                MaterialChange::Wipe => material::wipe(&tx, caller, key).await?,
            }
            if let Some(log_out) = &change.log_out {
                Box::pin(log_outs::insert(&tx, key, &change.session.environment, log_out, caller.now))
                    .await?;
            }
            if !change.done_log_outs.is_empty() {
                Box::pin(log_outs::forget(&tx, &change.done_log_outs)).await?;
            }
            if let Some(sealed) = change.future_auth_tokens {
                Box::pin(tokens::replace(&tx, key, sealed)).await?;
            }
            events::append(&tx, key, change.events, caller.now).await?;
            let session = read.session(self.quiet_gap)?;
            commit(tx, WRITING).await?;
            Ok(session)
        })
        .await
    }

    /// Removes the session and its material; its events stay, `event` among them.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::RevisionStale`], [`Error::Leased`]; nothing is removed then.
    pub async fn delete(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: i64,
        lease: &LeaseRule,
        event: NewEvent,
    ) -> Result<(), Error> {
        within(caller.deadline, REMOVING, async {
            let tx = self.begin(caller, Access::Write, REMOVING).await?;
            let mut query = Query::delete();
            query
                .from_table(Entity)
                .cond_where(scope::session(caller, key))
                .and_where(Column::Revision.eq(revision));
            match lease {
                LeaseRule::Ignore | LeaseRule::NoneLive => query.cond_where(self.lease_is_over()),
                LeaseRule::EndMine { lease_id, epoch }
                | LeaseRule::Mine { lease_id, epoch }
                | LeaseRule::DrainMine { lease_id, epoch, .. } => {
                    query.cond_where(leases::held(caller, lease_id, *epoch))
                }
            };
            // The material goes with its session: a foreign key of the schema sees to it.
            let removed = tx.execute(&query).await.map_err(classify(REMOVING))?.rows_affected();
            if removed == 0 {
                return Err(self.refusal(&tx, caller, key, revision, &TicketRule::Any).await?);
            }
            events::append(&tx, key, vec![event], caller.now).await?;
            commit(tx, REMOVING).await
        })
        .await
    }

    /// The logins that this replica runs, as far as their rows say.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn logins_of(&self, caller: &Caller, owner: &ReplicaId) -> Result<Vec<TicketHash>, Error> {
        let mut query = Query::select();
        query
            .column(Column::LoginTicket)
            .from(Entity)
            .cond_where(scope::sessions(caller))
            .and_where(Column::LoginOwner.eq(owner.as_str()))
            .and_where(Column::LoginTicket.is_not_null());
        let rows: Vec<QueryResult> = within(caller.deadline, LISTING, async {
            let tx = self.begin(caller, Access::Read, LISTING).await?;
            let rows = tx.query_all(&query).await.map_err(classify(LISTING))?;
            commit(tx, LISTING).await?;
            Ok(rows)
        })
        .await?;
        let corrupt = |_| Error::Corrupt { what: "login_ticket" };
        rows.iter()
            .map(|row| row.try_get("", "login_ticket").map(TicketHash::from_stored).map_err(corrupt))
            .collect()
    }

    /// How many leases are live now.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn count_leased(&self, caller: &Caller) -> Result<i64, Error> {
        let mut query = Query::select();
        query
            .expr_as(Expr::col(Column::LeaseExpireTime).count(), "leases")
            .from(Entity)
            .cond_where(scope::sessions(caller))
            .and_where(Expr::col(Column::LeaseExpireTime).gt(now(self.backend)));
        within(caller.deadline, LISTING, async {
            let tx = self.begin(caller, Access::Read, LISTING).await?;
            let row = tx.query_one(&query).await.map_err(classify(LISTING))?;
            commit(tx, LISTING).await?;
            let corrupt = Error::Corrupt { what: "count of leases" };
            row.and_then(|row| row.try_get("", "leases").ok()).ok_or(corrupt)
        })
        .await
    }

    /// How many sessions are in each state; states without any are left out.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn count_by_state(&self, caller: &Caller) -> Result<Vec<(StateName, i64)>, Error> {
        let mut query = Query::select();
        query
            .column(Column::State)
            .expr_as(Expr::col(Column::State).count(), "sessions")
            .from(Entity)
            .cond_where(scope::sessions(caller))
            .group_by_col(Column::State);
        let rows: Vec<QueryResult> = within(caller.deadline, LISTING, async {
            let tx = self.begin(caller, Access::Read, LISTING).await?;
            let rows = tx.query_all(&query).await.map_err(classify(LISTING))?;
            commit(tx, LISTING).await?;
            Ok(rows)
        })
        .await?;
        rows.iter()
            .map(|row| {
                let corrupt = |_| Error::Corrupt { what: "count by state" };
                let name: String = row.try_get("", "state").map_err(corrupt)?;
                let state = StateName::parse(&name).ok_or(Error::Corrupt { what: "state" })?;
                Ok((state, row.try_get("", "sessions").map_err(corrupt)?))
            })
            .collect()
    }

    pub(super) async fn read_session(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        key: &SessionKey,
    ) -> Result<Option<Read>, Error> {
        self.read_where(tx, scope::session(caller, key)).await
    }

    pub(super) async fn read_where(
        &self,
        tx: &DatabaseTransaction,
        condition: Condition,
    ) -> Result<Option<Read>, Error> {
        let mut query = Query::select();
        query.exprs(columns(self.backend)).from(Entity).cond_where(condition);
        let row = tx.query_one(&query).await.map_err(classify(READING))?;
        row.map(|row| Read::from_result(&row)).transpose()
    }

    /// No lease is live, none rests: what a grant and a change of custody need.
    pub(super) fn lease_is_over(&self) -> Condition {
        Condition::any()
            .add(Column::LeaseExpireTime.is_null())
            .add(Expr::col(Column::LeaseExpireTime).add(millis(self.quiet_gap)).lte(now(self.backend)))
    }

    async fn insert(&self, tx: &DatabaseTransaction, session: &Session) -> Result<Read, Error> {
        let (names, values): (Vec<Column>, Vec<Value>) = first_columns(session).into_iter().unzip();
        let mut query = Query::insert();
        query
            .into_table(Entity)
            .columns(names)
            .values_panic(values.into_iter().map(Expr::value))
            .on_conflict(OnConflict::columns([Column::TenantId, Column::AppId]).do_nothing().to_owned())
            .returning(returning(self.backend));
        match tx.query_one(&query).await.map_err(classify(WRITING))? {
            Some(row) => Read::from_result(&row),
            None => Err(Error::AlreadyExists),
        }
    }

    async fn update(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        change: &Change,
        revision: i64,
    ) -> Result<Read, Error> {
        let mut query = Query::update();
        query
            .table(Entity)
            .values(
                described(&change.session).into_iter().map(|(column, value)| (column, Expr::value(value))),
            )
            .value(Column::Revision, Expr::col(Column::Revision).add(1))
            .value(Column::LastActivityTime, later_activity(self.backend, &change.session))
            .cond_where(scope::session(caller, &change.session.key))
            .and_where(Column::Revision.eq(revision))
            .returning(returning(self.backend));
        match &change.lease {
            LeaseRule::Ignore => {}
            LeaseRule::NoneLive => {
                query.cond_where(self.lease_is_over());
                query.value(Column::LeaseEpoch, Expr::col(Column::LeaseEpoch).add(1));
                query.values(no_lease());
            }
            LeaseRule::EndMine { lease_id, epoch } => {
                query.cond_where(leases::held(caller, lease_id, *epoch));
                query.and_where(Expr::col(Column::LeaseExpireTime).gt(now(self.backend)));
                query.values(no_lease());
            }
            LeaseRule::Mine { lease_id, epoch } => {
                query.cond_where(self.still_mine(caller, lease_id, *epoch));
            }
            LeaseRule::DrainMine { lease_id, epoch, why } => {
                query.cond_where(self.still_mine(caller, lease_id, *epoch));
                query.value(Column::LeaseEvicted, true);
                query.value(Column::LeaseDrainReason, why.name());
            }
        }
        match &change.login_ticket {
            TicketRule::Any => {}
            TicketRule::MustBe { ticket, owner } => {
                query.and_where(Column::LoginTicket.eq(ticket.as_str()));
                query.and_where(Column::LoginOwner.eq(owner.as_str()));
            }
        }
        match tx.query_one(&query).await.map_err(classify(WRITING))? {
            Some(row) => Read::from_result(&row),
            None => {
                let key = &change.session.key;
                Err(self.refusal(tx, caller, key, revision, &change.login_ticket).await?)
            }
        }
    }

    /// The caller's own lease, not given back and not over.
    fn still_mine(&self, caller: &Caller, lease: &LeaseId, epoch: i64) -> Condition {
        leases::held(caller, lease, epoch)
            .add(Column::LeaseReleased.eq(false))
            .add(Expr::col(Column::LeaseExpireTime).gt(now(self.backend)))
    }

    /// Which condition did not hold. Asked after the fact, so the answer is what is true now.
    async fn refusal(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        key: &SessionKey,
        revision: i64,
        ticket: &TicketRule,
    ) -> Result<Error, Error> {
        let Some(read) = self.read_session(tx, caller, key).await? else {
            return Ok(Error::NotFound);
        };
        if let TicketRule::MustBe { ticket, owner } = ticket
            && (read.row.login_ticket.as_deref() != Some(ticket.as_str())
                || read.row.login_owner.as_deref() != Some(owner.as_str()))
        {
            return Ok(Error::TicketMoved);
        }
        if read.row.revision != revision {
            return Ok(Error::RevisionStale { current: read.row.revision });
        }
        // Of the conditions only the lease is left; it may have ended since.
        Ok(Error::Leased { remaining: read.rest(self.quiet_gap).unwrap_or_default() })
    }
}

/// Of a session whose row is new.
pub(super) const FIRST_REVISION: i64 = 1;

/// The columns of a row that is not there yet; all others are empty.
pub(super) fn first_columns(session: &Session) -> Vec<(Column, Value)> {
    let mut columns = vec![
        (Column::TenantId, session.key.tenant.as_str().into()),
        (Column::AppId, session.key.app.as_str().into()),
        (Column::CreateTime, session.create_time.as_millis().into()),
        (Column::Revision, FIRST_REVISION.into()),
        (Column::LeaseEpoch, 0_i64.into()),
        (Column::LeaseEvicted, false.into()),
        (Column::LeaseReleased, false.into()),
        (Column::LastActivityTime, session.last_activity_time.map(|time| time.as_millis()).into()),
    ];
    columns.extend(described(session));
    columns
}

/// The columns that a change writes, whatever they were.
fn described(session: &Session) -> Vec<(Column, Value)> {
    let state = StateColumns::of(&session.state);
    let account = session.account.as_ref();
    vec![
        (Column::State, state.state.into()),
        (Column::StateReason, state.reason.into()),
        (Column::LogOut, state.log_out.into()),
        (Column::PriorState, state.prior_state.into()),
        (Column::PriorReason, state.prior_reason.into()),
        (Column::PriorLogOut, state.prior_log_out.into()),
        (Column::Custody, session.custody.name().into()),
        (Column::Environment, session.environment.as_str().into()),
        (Column::TelegramUserId, account.map(|account| account.telegram_user_id).into()),
        (Column::Username, account.and_then(|account| account.username.clone()).into()),
        (Column::IsBot, account.map(|account| account.is_bot).into()),
        (Column::DcId, session.dc_id.into()),
        (Column::ApiKeyAlias, session.api_key_alias.clone().into()),
        (Column::Fingerprint, session.fingerprint.as_ref().map(|print| print.as_str()).into()),
        (Column::LegacyFingerprint, session.legacy_fingerprint.clone().into()),
        (Column::Mirrored, session.mirrored.into()),
        (Column::MaterialVersion, session.material_version.into()),
        (Column::LoginTicket, session.login_ticket.as_ref().map(|ticket| ticket.as_str()).into()),
        (Column::LoginOwner, session.login_owner.as_ref().map(|owner| owner.as_str()).into()),
        (Column::Labels, json_map(session.labels.clone()).into()),
        (Column::UpdateTime, session.update_time.as_millis().into()),
        (Column::LastValidatedTime, session.last_validated_time.map(|time| time.as_millis()).into()),
    ]
}

/// Leases move this time without a new revision, so a change that read an older one must not set it back.
fn later_activity(backend: Backend, session: &Session) -> SimpleExpr {
    let later = match backend {
        Backend::Postgres => "nullif(greatest(coalesce(last_activity_time, 0), $1), 0)",
        Backend::Sqlite => "nullif(max(coalesce(last_activity_time, 0), ?), 0)",
    };
    let given = session.last_activity_time.map_or(0, |time| time.as_millis());
    Expr::cust_with_values(later, [given])
}

/// A row without lease; the epoch stays, it only ever grows.
pub(super) fn no_lease() -> Vec<(Column, SimpleExpr)> {
    let text = || Expr::value(Option::<String>::None);
    let number = || Expr::value(Option::<i64>::None);
    vec![
        (Column::LeaseIdHash, text()),
        (Column::LeaseHolder, text()),
        (Column::LeaseSubject, text()),
        (Column::LeaseRequestId, text()),
        (Column::LeasePurpose, text()),
        (Column::LeaseAcquireTime, number()),
        (Column::LeaseExpireTime, number()),
        (Column::LeaseTtl, number()),
        (Column::LeaseEvicted, Expr::value(false)),
        (Column::LeaseDrainReason, text()),
        (Column::LeaseReleased, Expr::value(false)),
    ]
}
