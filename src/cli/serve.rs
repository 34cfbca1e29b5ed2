//! `usm serve`

use clap::Args;

use super::{Done, output, settings::Flags};
use crate::{boot, shutdown::Signals};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  usm serve                          embedded: SQLite and keys in the data folder\n  \
                        usm serve --sandbox                the same with the bundled Telegram sandbox\n  \
                        usm serve --config /etc/usm.toml   PostgreSQL and Redis as the file says"
)]
pub(super) struct Serve {
    /// Use the bundled Telegram sandbox in place of Telegram.
    #[cfg(feature = "sandbox")]
    #[arg(long)]
    sandbox: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    pub(super) async fn run(self) -> Done {
        #[cfg(feature = "sandbox")]
        let mut flags = self.flags;
        #[cfg(not(feature = "sandbox"))]
        let flags = self.flags;
        #[cfg(feature = "sandbox")]
        if self.sandbox {
            flags.0.insert("telegram".to_owned(), "sandbox".to_owned());
        }
        let config = flags.load()?;
        let mut signals = Signals::install()?;
        let server = Box::pin(boot::start(config)).await?;
        #[cfg(feature = "sandbox")]
        if let Some(line) = server.sandbox_line() {
            output::print_line(&line);
        }
        output::print_text(server.ready_line());
        server.run(&mut signals).await?;
        Ok(())
    }
}
