//! What happened and when, for whoever checks that no two workers had a connection at the same time.
//!
//! One line of JSON each, with `event`, `tenant`, `app`, `holder`, `epoch` (null before a lease is granted) and `t`,
//! the nanoseconds of `CLOCK_MONOTONIC`: all processes of a machine share that clock. Other fields ending in `_t` are
//! of the same clock. Never a lease id, a token or a key.

use std::io::{self, Write as _};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

/// Who writes.
pub(crate) struct History {
    tenant: String,
    app: String,
    holder: String,
}

impl History {
    pub(crate) fn new(tenant: &str, app: &str, holder: &str) -> Self {
        Self { tenant: tenant.to_owned(), app: app.to_owned(), holder: holder.to_owned() }
    }

    /// Writes one line, at once and whole. `facts` is an object.
    ///
    /// # Errors
    /// If nobody reads: what is not written down must not go on.
    pub(crate) fn tell(&self, event: &str, epoch: Option<i64>, facts: &Value) -> io::Result<()> {
        let mut line = self.line(event, epoch, facts)?.to_string();
        line.push('\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes())?;
        stdout.flush()
    }

    fn line(&self, event: &str, epoch: Option<i64>, facts: &Value) -> io::Result<Value> {
        let mut line = Map::new();
        line.insert("event".into(), json!(event));
        line.insert("t".into(), json!(now()?));
        line.insert("tenant".into(), json!(self.tenant));
        line.insert("app".into(), json!(self.app));
        line.insert("holder".into(), json!(self.holder));
        line.insert("epoch".into(), json!(epoch));
        line.extend(facts.as_object().cloned().unwrap_or_default());
        Ok(Value::Object(line))
    }
}

/// Nanoseconds of the machine's monotonic clock.
///
/// # Errors
/// If the machine has none.
pub(crate) fn now() -> io::Result<u64> {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// The instant that is so far away, in the same clock.
///
/// # Errors
/// Those of [`now`].
pub(crate) fn after(span: Duration) -> io::Result<u64> {
    Ok(now()?.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_what_and_when() {
        let before = now().unwrap();
        let line =
            History::new("acme", "news", "w").line("granted", Some(7), &json!({"server": "a"})).unwrap();
        assert_eq!(
            (&line["event"], &line["epoch"], &line["server"]),
            (&json!("granted"), &json!(7), &json!("a"))
        );
        assert!(line["t"].as_u64().unwrap() >= before);
    }
}
