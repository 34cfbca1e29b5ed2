//! Which sessions a list shows, as conditions.

use std::collections::BTreeMap;

use sea_orm::{
    ColumnTrait as _, Condition, ExprTrait as _,
    sea_query::{Expr, SimpleExpr, Value},
};

use crate::{
    domain::{
        fingerprint::Fingerprint,
        id::{SessionKey, TenantId},
        lease::{Filter, Phase},
        session::{Custody, LogOut, StateName},
        time::Timestamp,
    },
    store::{Backend, Error, Store, clock::now, entity::session::Column, rows::json_map},
};

/// Which sessions are asked for; nothing set means all that exist for the caller.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    pub tenant: Option<TenantId>,
    /// Any of these; empty means every state.
    pub states: Vec<StateName>,
    pub custody: Option<Custody>,
    /// All of these, exactly.
    pub labels: BTreeMap<String, String>,
    pub lease: LeaseFilter,
    pub log_out: Option<LogOut>,
    /// Those that hold this authorization, or held it last.
    pub fingerprint: Option<Fingerprint>,
    pub mirror: MirrorFilter,
    /// Only rows that changed at this time or later.
    pub updated_since: Option<Timestamp>,
}

/// Whether a file that is kept for the legacy system matters for a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MirrorFilter {
    #[default]
    Any,
    /// Only sessions that the legacy system owns, or of which a copy was asked for.
    Mirrored,
}

/// Whether a lease matters for a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LeaseFilter {
    #[default]
    Any,
    /// Only sessions that are leased or rest after a lease, and whose lease matches.
    Leased(Filter),
    /// Only sessions without a lease, of which none rests.
    Free,
}

impl Store {
    pub(super) fn matching(&self, filter: &SessionFilter) -> Condition {
        let mut all = Condition::all();
        if let Some(tenant) = &filter.tenant {
            all = all.add(Column::TenantId.eq(tenant.as_str()));
        }
        if !filter.states.is_empty() {
            all = all.add(Column::State.is_in(filter.states.iter().map(|state| state.as_str())));
        }
        if let Some(custody) = filter.custody {
            all = all.add(Column::Custody.eq(custody.name()));
        }
        if let Some(log_out) = filter.log_out {
            all = all.add(Column::LogOut.eq(log_out.name()));
        }
        if let Some(fingerprint) = &filter.fingerprint {
            all = all.add(Column::Fingerprint.eq(fingerprint.as_str()));
        }
        if filter.mirror == MirrorFilter::Mirrored {
            let asked = Condition::any()
                .add(Column::Custody.eq(Custody::Legacy.name()))
                .add(Column::Mirrored.eq(true));
            all = all.add(asked);
        }
        if let Some(since) = filter.updated_since {
            all = all.add(Column::UpdateTime.gte(since.as_millis()));
        }
        for (name, text) in &filter.labels {
            all = all.add(self.has_label(name, text));
        }
        match &filter.lease {
            LeaseFilter::Any => all,
            LeaseFilter::Free => all.add(self.lease_is_over()),
            LeaseFilter::Leased(Filter { holder, phases }) => {
                all = all.add(self.lease_is_over().not());
                if let Some(holder) = holder {
                    all = all.add(Column::LeaseHolder.eq(holder.as_str()));
                }
                if phases.is_empty() {
                    return all;
                }
                let any = Condition::any();
                all.add(phases.iter().fold(any, |any, phase| any.add(self.in_phase(*phase))))
            }
        }
    }

    fn in_phase(&self, phase: Phase) -> Condition {
        let live = Condition::all()
            .add(Column::LeaseReleased.eq(false))
            .add(Expr::col(Column::LeaseExpireTime).gt(now(self.backend)));
        match phase {
            Phase::Held => live.add(Column::LeaseEvicted.eq(false)),
            Phase::Draining => live.add(Column::LeaseEvicted.eq(true)),
            Phase::Quarantined => live.not(),
        }
    }

    fn has_label(&self, name: &str, text: &str) -> SimpleExpr {
        match self.backend {
            Backend::Postgres => {
                Expr::cust_with_values("labels @> $1", [Value::from(json_map([(name, text.to_owned())]))])
            }
            Backend::Sqlite => Expr::cust_with_values(
                "exists (select 1 from json_each(labels) as label where label.key = ? and label.value = ?)",
                [name, text],
            ),
        }
    }
}

/// Rows after the last one of the page before; the token is its key.
pub(super) fn after_key(token: &str) -> Result<Condition, Error> {
    let key = token
        .split_once('/')
        .and_then(|(tenant, app)| SessionKey::parse(tenant, app).ok())
        .ok_or(Error::PageToken)?;
    Ok(Condition::any().add(Column::TenantId.gt(key.tenant.as_str())).add(
        Condition::all()
            .add(Column::TenantId.eq(key.tenant.as_str()))
            .add(Column::AppId.gt(key.app.as_str())),
    ))
}
