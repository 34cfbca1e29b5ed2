//! `usm lease …`

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use usm_client::v1;
use zeroize::Zeroizing;

use super::{
    Done, Failure,
    connect::{Key, Target, ask, ask_within, refused},
    given,
    output::{self, Format},
};
use crate::domain::secret::Secret;

/// Rows asked for at a time.
const PAGE: i32 = 200;
/// The variable of a lease's secret.
const LEASE_ID: &str = "USM_LEASE_ID";

#[derive(Debug, Subcommand)]
pub(super) enum Lease {
    /// Borrow a session. The material goes to a file that only you can read.
    #[command(
        after_help = "Example:\n  usm lease acquire --tenant-id acme --app-id news --holder worker-1 --out worker.session --format telethon-sqlite"
    )]
    Acquire(Acquire),
    /// Keep a session longer.
    #[command(after_help = "Example:\n  USM_LEASE_ID=L usm lease renew --epoch 3")]
    Renew(Renew),
    /// Give a session back.
    #[command(after_help = "Example:\n  USM_LEASE_ID=L usm lease release --epoch 3 --connections-closed")]
    Release(Release),
    /// Show who holds what.
    #[command(after_help = "Example:\n  usm lease list --holder worker-1 --state held --state draining")]
    List(List),
    /// Refuse a holder any further renewal.
    #[command(after_help = "Example:\n  usm lease evict --tenant-id acme --app-id news")]
    Evict(Evict),
}

#[derive(Debug, Args)]
pub(super) struct Acquire {
    #[command(flatten)]
    key: Key,
    /// Your name in the lease.
    #[arg(long, value_name = "NAME")]
    holder: String,
    /// Seconds to borrow it for, 10-600.
    #[arg(long, value_name = "S")]
    ttl: Option<u32>,
    /// Seconds to wait while somebody else has it.
    #[arg(long, value_name = "S", default_value_t = 0)]
    wait: u32,
    /// telethon-string, telethon-sqlite, pyrogram-string, pyrogram-sqlite, gramjs-string, mtcute-string, grammers,
    /// tdata (a ZIP archive) or raw.
    #[arg(long, value_name = "F", default_value = "telethon-string")]
    format: String,
    /// Where the material goes; without it, it is not written anywhere.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Renew {
    /// What `lease acquire` answered; better given by its variable [env: USM_LEASE_ID]
    #[arg(long, value_name = "L", value_parser = given::secret)]
    lease_id: Option<Secret>,
    #[arg(long, value_name = "N")]
    epoch: i64,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Release {
    /// What `lease acquire` answered; better given by its variable [env: USM_LEASE_ID]
    #[arg(long, value_name = "L", value_parser = given::secret)]
    lease_id: Option<Secret>,
    #[arg(long, value_name = "N")]
    epoch: i64,
    /// Every connection of the session is closed: it is free at once.
    #[arg(long)]
    connections_closed: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[arg(long, value_name = "T", default_value = "")]
    tenant_id: String,
    /// Only leases of this holder.
    #[arg(long, value_name = "NAME", default_value = "")]
    holder: String,
    /// Only leases in this phase; may be given more than once.
    #[arg(long = "state", value_name = "S", value_parser = ["held", "draining", "quarantined"])]
    states: Vec<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct Evict {
    #[command(flatten)]
    key: Key,
    /// Only the lease of this epoch, not one that somebody else got meanwhile.
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch: i64,
    #[command(flatten)]
    target: Target,
}

impl Lease {
    pub(super) async fn run(self, format: Format) -> Done {
        match self {
            Self::Acquire(command) => command.run(format).await,
            Self::Renew(command) => {
                let lease_id = given::required(command.lease_id, "lease-id", LEASE_ID)?;
                let api = command.target.connect().await?;
                let request = v1::RenewLeaseRequest {
                    lease_id: lease_id.expose_secret().to_owned(),
                    epoch: command.epoch,
                    ..Default::default()
                };
                let answer = api.leases().renew_lease(ask(request)).await.map_err(|status| refused(&status));
                api.close().await;
                show(&answer?.into_inner().lease.unwrap_or_default(), format)
            }
            Self::Release(command) => {
                let lease_id = given::required(command.lease_id, "lease-id", LEASE_ID)?;
                let api = command.target.connect().await?;
                let request = v1::ReleaseLeaseRequest {
                    lease_id: lease_id.expose_secret().to_owned(),
                    epoch: command.epoch,
                    connections_closed: command.connections_closed,
                    ..Default::default()
                };
                let answer =
                    api.leases().release_lease(ask(request)).await.map_err(|status| refused(&status));
                api.close().await;
                show(&answer?.into_inner().lease.unwrap_or_default(), format)
            }
            Self::List(command) => command.run(format).await,
            Self::Evict(command) => {
                let api = command.target.connect().await?;
                let request = v1::EvictLeaseRequest {
                    tenant_id: command.key.tenant_id,
                    app_id: command.key.app_id,
                    epoch: command.epoch,
                    ..Default::default()
                };
                let answer = api.leases().evict_lease(ask(request)).await.map_err(|status| refused(&status));
                api.close().await;
                show(&answer?.into_inner().lease.unwrap_or_default(), format)
            }
        }
    }
}

impl Acquire {
    async fn run(self, format: Format) -> Done {
        let session_format = v1::SessionFormat::from_str_name(&format!(
            "SESSION_FORMAT_{}",
            self.format.to_uppercase().replace('-', "_")
        ))
        .ok_or_else(|| Failure::Usage(format!("no format is called {}", self.format)))?;
        let seconds = |seconds: u32| prost_types::Duration { seconds: i64::from(seconds), nanos: 0 };
        let request = v1::AcquireLeaseRequest {
            tenant_id: self.key.tenant_id,
            app_id: self.key.app_id,
            holder: self.holder,
            ttl: self.ttl.map(seconds),
            wait: Some(seconds(self.wait)),
            format: session_format.into(),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let out = self.out.map(Out::create).transpose()?;
        let api = self.target.connect().await?;
        let limit = std::time::Duration::from_secs(u64::from(self.wait) + 30);
        let answer =
            api.leases().acquire_lease(ask_within(request, limit)).await.map_err(|status| refused(&status));
        api.close().await;
        let answer = answer?.into_inner();
        let lease = answer.lease.unwrap_or_default();
        // The lease first: without its id it could not be given back if the file cannot be written.
        match format {
            Format::Json => output::print_document(&output::json("Lease", &lease)?),
            Format::Table => {
                show(&lease, format)?;
                output::print_facts(&[("lease id", lease.lease_id)]);
            }
        }
        match (out, answer.material) {
            (Some(out), Some(material)) => out.fill(&Zeroizing::new(material.data)),
            (Some(_), None) => Err(Failure::Failed("the service sent no material".to_owned())),
            (None, _) => Ok(()),
        }
    }
}

/// A new file that only its owner can read; gone again unless it was filled.
struct Out {
    path: PathBuf,
    file: std::fs::File,
    filled: bool,
}

impl Out {
    /// An existing file is left alone.
    fn create(path: PathBuf) -> Result<Self, Failure> {
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Self { path, file, filled: false }),
            Err(error) => Err(Failure::Failed(format!("{} cannot be written: {error}", path.display()))),
        }
    }

    fn fill(mut self, data: &[u8]) -> Done {
        self.file.write_all(data).and_then(|()| self.file.sync_all()).map_err(|error| {
            Failure::Failed(format!(
                "{} cannot be written: {error}; give the lease back",
                self.path.display()
            ))
        })?;
        self.filled = true;
        output::note(format!(
            "wrote the session to {}; whoever reads it owns the account",
            self.path.display()
        ));
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.filled
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            output::note(format!("{} could not be removed: {error}", self.path.display()));
        }
    }
}

impl List {
    async fn run(self, format: Format) -> Done {
        let api = self.target.connect().await?;
        let states = self.states.iter().filter_map(|state| {
            v1::LeaseState::from_str_name(&format!("LEASE_STATE_{}", state.to_uppercase())).map(i32::from)
        });
        let mut request = v1::ListLeasesRequest {
            tenant_id: self.tenant_id,
            holder: self.holder,
            states: states.collect(),
            page_size: PAGE,
            ..Default::default()
        };
        let mut leases = Vec::new();
        loop {
            let answer =
                api.leases().list_leases(ask(request.clone())).await.map_err(|status| refused(&status))?;
            let page = answer.into_inner();
            leases.extend(page.leases);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        api.close().await;
        match format {
            Format::Json => {
                let all =
                    leases.iter().map(|lease| output::json("Lease", lease)).collect::<Result<Vec<_>, _>>()?;
                output::print_document(&json!(all));
            }
            Format::Table => {
                let rows: Vec<_> = leases
                    .iter()
                    .map(|lease| {
                        vec![
                            lease.tenant_id.clone(),
                            lease.app_id.clone(),
                            lease.holder.clone(),
                            lease.epoch.to_string(),
                            state(lease),
                            output::span(lease.ttl.as_ref()),
                        ]
                    })
                    .collect();
                output::print_table(&["TENANT", "APP", "HOLDER", "EPOCH", "STATE", "LEFT"], &rows);
            }
        }
        Ok(())
    }
}

/// A lease on one line.
pub(super) fn line(lease: &v1::Lease) -> String {
    format!(
        "{} epoch {} {} {} left",
        lease.holder,
        lease.epoch,
        state(lease),
        output::span(lease.ttl.as_ref())
    )
}

fn show(lease: &v1::Lease, format: Format) -> Done {
    match format {
        Format::Json => output::print_document(&output::json("Lease", lease)?),
        Format::Table => output::print_facts(&[
            ("session", format!("{}/{}", lease.tenant_id, lease.app_id)),
            ("holder", lease.holder.clone()),
            ("epoch", lease.epoch.to_string()),
            ("state", state(lease)),
            ("ttl", output::span(lease.ttl.as_ref())),
            ("renew after", output::span(lease.renew_after.as_ref())),
            ("free after", output::span(lease.free_after.as_ref())),
        ]),
    }
    Ok(())
}

fn state(lease: &v1::Lease) -> String {
    lease.state().as_str_name().trim_start_matches("LEASE_STATE_").to_lowercase()
}
