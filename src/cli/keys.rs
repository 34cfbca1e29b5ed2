//! `usm keys …`

use clap::Subcommand;
use serde_json::json;

use super::{
    Done,
    output::{self, Format},
    settings::Flags,
};
use crate::{
    app::now,
    vault::{KeyRing, Standing},
};

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make the key ring file, or add a key that seals from now on.
    #[command(after_help = "Example:\n  usm keys generate --encryption-keys /etc/usm/keys.json")]
    Generate(#[command(flatten)] Flags),
    /// Show the names of the keys.
    #[command(after_help = "Example:\n  usm keys list --encryption-keys /etc/usm/keys.json")]
    List(#[command(flatten)] Flags),
}

impl Keys {
    pub(super) fn run(self, format: Format) -> Done {
        let ring = match self {
            Self::Generate(flags) => {
                let config = flags.load()?;
                let path = config.keys.ring.path();
                if path.exists() { KeyRing::generate(path, now())? } else { KeyRing::create(path, now())? }
            }
            Self::List(flags) => KeyRing::open(flags.load()?.keys.ring.path())?,
        };
        let rows: Vec<(String, &str, i64)> = ring
            .keys()
            .iter()
            .map(|key| {
                let standing = match key.standing() {
                    Standing::Current => "current",
                    Standing::Former => "former",
                };
                (key.id().to_owned(), standing, key.create_time().as_seconds())
            })
            .collect();
        match format {
            Format::Json => {
                let all: Vec<_> = rows
                    .iter()
                    .map(|(id, standing, made)| json!({"id": id, "standing": standing, "create_time_seconds": made}))
                    .collect();
                output::print_document(&json!(all));
            }
            Format::Table => {
                let rows: Vec<_> = rows
                    .into_iter()
                    .map(|(id, standing, made)| {
                        let at = prost_types::Timestamp { seconds: made, nanos: 0 };
                        vec![id, standing.to_owned(), output::time(Some(&at))]
                    })
                    .collect();
                output::print_table(&["KEY", "STANDING", "MADE"], &rows);
            }
        }
        Ok(())
    }
}
