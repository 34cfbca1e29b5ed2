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
}

/// Whether a lease matters for a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LeaseFilter {
    #[default]
    Any,
    /// Only sessions that are leased or rest after a lease, and whose lease matches.
    Leased(Filter),
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
        for (name, text) in &filter.labels {
            all = all.add(self.has_label(name, text));
        }
        match &filter.lease {
            LeaseFilter::Any => all,
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
