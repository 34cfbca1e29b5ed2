//! `usm fingerprint`: what identifies a file of another system.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Done, Failure};
use crate::{
    cli::output::{self, Format},
    formats,
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  usm fingerprint /app/sessions/acme/news.session")]
pub(in crate::cli) struct Fingerprint {
    file: PathBuf,
}

impl Fingerprint {
    pub(in crate::cli) async fn run(self, format: Format) -> Done {
        let file = self.file.clone();
        // Reading blocks, on a file system over a network for long.
        let read = tokio::task::spawn_blocking(move || formats::fingerprint_file(&file)).await?;
        let fingerprint =
            read.map_err(|error| Failure::Failed(format!("{}: {error}", self.file.display())))?.to_string();
        match format {
            Format::Json => output::print_document(&json!({"file": self.file, "fingerprint": fingerprint})),
            Format::Table => output::print_text(fingerprint),
        }
        Ok(())
    }
}
