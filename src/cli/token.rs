//! `usm token …`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Done, Failure,
    output::{self, Format},
    settings::Flags,
};
use crate::{
    app::now,
    auth::{self, Order, Role},
    boot, config,
    domain::{caller::Scope, id::TenantId},
};

/// No token made here is good for longer: ten years.
const TTL_MAX: Duration = Duration::from_secs(3650 * 86_400);

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make an access token with the service's own secret.
    #[command(after_help = "Examples:\n  usm token issue --role service_role\n  \
                            usm token issue --role authenticated --tenant acme --scope lease --ttl 3600")]
    Issue(Box<Issue>),
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// anon, authenticated or service_role.
    #[arg(long, value_name = "R")]
    role: String,
    /// Whose sessions the holder may see; required for authenticated.
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// read, login, lease or admin; may be repeated. Default: read and login.
    #[arg(long, value_name = "S")]
    scope: Vec<String>,
    /// Name of the holder in the audit log; leases are bound to it.
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// How long the token is good for: seconds, or such as 15m, 12h, 30d.
    #[arg(long, value_name = "D", default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    #[command(flatten)]
    flags: Flags,
}

impl Token {
    pub(super) fn run(self, format: Format) -> Done {
        let Self::Issue(issue) = self;
        let role = Role::parse(&issue.role)
            .ok_or_else(|| Failure::Usage("--role must be anon, authenticated or service_role".to_owned()))?;
        let scopes = issue
            .scope
            .iter()
            .map(|name| {
                Scope::parse(name).ok_or_else(|| {
                    Failure::Usage(format!("no scope is called {name}; there are read, login, lease, admin"))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let order = Order {
            role,
            tenant: issue
                .tenant
                .as_deref()
                .map(TenantId::parse)
                .transpose()
                .map_err(|error| Failure::Usage(format!("--tenant: {error}")))?,
            scopes: (!scopes.is_empty()).then_some(scopes),
            subject: issue.subject,
            ttl: issue.ttl,
        };
        let secret = boot::jwt_secret(&issue.flags.load()?)?;
        let token = auth::issue(&secret, &order, now()).map_err(|error| Failure::Usage(error.to_string()))?;
        match format {
            Format::Json => {
                output::print_document(
                    &json!({"token": token.expose_secret(), "expires_in_seconds": issue.ttl.as_secs()}),
                );
            }
            Format::Table => output::print_text(token.expose_secret()),
        }
        Ok(())
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    config::span(1, TTL_MAX.as_secs(), text)
}
