//! `usm quickstart`: the whole job, before somebody's eyes, over real sockets and the real protocols.

mod phone;
mod steps;
mod story;

use std::collections::BTreeMap;

use clap::Args;

use super::{Done, Failure, output};
use crate::{
    boot,
    config::{Config, Inputs},
    shutdown::Signals,
};

/// Tells the story of a session, from its login to its end, with everything embedded and nothing left behind.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  usm quickstart\n  usm quickstart --keep-running")]
pub(super) struct Quickstart {
    /// Leave the server and the sandbox running, and print how to talk to them.
    #[arg(long)]
    keep_running: bool,
}

impl Quickstart {
    pub(super) async fn run(self) -> Done {
        let folder = steps::Folder::make()?;
        let mut signals = Signals::install()?;
        let told = tokio::select! {
            told = self.tell(&folder) => told,
            name = signals.next() => Err(Failure::Failed(format!("stopped by {name}"))),
        };
        match told {
            Ok(Some(server)) => {
                signals.next().await;
                output::print_text("stopping");
                server.stop().await;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn tell(&self, folder: &steps::Folder) -> Result<Option<boot::Server>, Failure> {
        let mut steps = steps::Steps::new();
        let server = Box::pin(boot::start(settings(folder)?)).await?;
        steps.done(&format!(
            "Server and Telegram sandbox are up: {} (SQLite in {}, keys sealed by a key ring made for this run)",
            server.address(),
            folder.path().display()
        ));
        let story = story::Story::begin(&server).await?;
        let told = story.tell(&mut steps).await;
        if let Err(failure) = told {
            server.stop().await;
            return Err(failure);
        }
        steps.sum_up();
        if self.keep_running {
            story.how_to_go_on(&server);
            return Ok(Some(server));
        }
        server.stop().await;
        output::print_text("\nNext: `usm quickstart --keep-running`, or `usm serve --sandbox`.");
        Ok(None)
    }
}

/// The embedded defaults in a folder of their own, whatever the environment says.
fn settings(folder: &steps::Folder) -> Result<Config, Failure> {
    let flags: BTreeMap<String, String> = [
        ("data-dir", folder.path().display().to_string()),
        ("telegram", "sandbox".to_owned()),
        ("listen", "127.0.0.1:0".to_owned()),
        ("metrics-listen", "127.0.0.1:0".to_owned()),
        ("log", "warn".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let env = BTreeMap::new();
    let inputs = Inputs::of_process(&flags, &env);
    Config::resolve(inputs).map_err(|mistakes| Failure::Failed(mistakes.to_string()))
}
