//! Budgets of logins, and pauses that Telegram asked for, shared by all replicas.

use std::time::Duration;

use fred::types::Value;

use super::{Redis, millis};
use crate::{
    domain::budget::{Budget, Paused, Spent},
    tickets::Error,
};

const SPEND: &str = include_str!("../lua/spend.lua");
const PAUSE: &str = include_str!("../lua/pause.lua");

impl Redis {
    pub(in crate::tickets) async fn spend(
        &self,
        pauses: &[Paused],
        budgets: &[Budget],
    ) -> Result<Spent, Error> {
        let mut keys: Vec<String> = pauses.iter().map(|paused| self.keys.pause(paused)).collect();
        keys.extend(budgets.iter().map(|budget| self.keys.budget(&budget.scope)));
        let mut arguments = vec![Value::from(i64::try_from(pauses.len()).unwrap_or(i64::MAX))];
        for budget in budgets {
            arguments.push(i64::from(budget.limit.logins).into());
            arguments.push(millis(budget.limit.span).into());
        }
        let answer: Vec<Value> = self.run("spending a login", SPEND, keys, arguments).await?;
        let unreadable = || Error::Unreadable { source: None };
        let number = |at: usize| answer.get(at).and_then(Value::as_i64).ok_or_else(unreadable);
        let span = |at: usize| {
            number(at).and_then(|ms| u64::try_from(ms).map(Duration::from_millis).map_err(|_| unreadable()))
        };
        match answer.first().and_then(Value::as_string).as_deref() {
            Some("spent") => Ok(Spent::Spent),
            Some("paused") => Ok(Spent::Paused(span(1)?)),
            Some("exhausted") => {
                let at = usize::try_from(number(1)?).ok().and_then(|at| at.checked_sub(1));
                let budget = at.and_then(|at| budgets.get(at)).ok_or_else(unreadable)?;
                Ok(Spent::Exhausted(budget.scope.name(), span(2)?))
            }
            _ => Err(unreadable()),
        }
    }

    pub(in crate::tickets) async fn pause(&self, paused: &Paused, span: Duration) -> Result<(), Error> {
        let keys = vec![self.keys.pause(paused)];
        self.run::<i64>("remembering a pause", PAUSE, keys, vec![millis(span).into()]).await?;
        Ok(())
    }
}
