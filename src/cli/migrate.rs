//! `usm migrate …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Done,
    output::{self, Format},
    settings::Flags,
};
use crate::{
    boot,
    store::migrate::{self, Rows},
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  usm migrate status")]
pub(super) struct Migrate {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(Debug, Subcommand)]
enum Direction {
    /// Apply what is missing. On PostgreSQL as the owner: USM_MIGRATE_DATABASE_URL.
    #[command(after_help = "Examples:\n  usm migrate up\n  usm migrate up --print-sql > schema.sql")]
    Up {
        /// Print the SQL for a console instead of running it.
        #[arg(long)]
        print_sql: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Take everything back. Refuses while sessions exist.
    #[command(after_help = "Example:\n  usm migrate down")]
    Down {
        /// Drop the sessions too.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Show what is applied.
    #[command(after_help = "Example:\n  usm migrate status --output json")]
    Status(#[command(flatten)] Flags),
}

impl Migrate {
    pub(super) async fn run(self, format: Format) -> Done {
        match self.direction {
            Direction::Up { print_sql, flags } => up(print_sql, &flags, format).await,
            Direction::Down { force, flags } => {
                let database = flags.load_database()?;
                let _alone = boot::lock_database(database.owner_url())?;
                let undone = migrate::down(
                    &database.owner_url().to_url(),
                    if force { Rows::Drop } else { Rows::Keep },
                )
                .await?;
                tell("undone", &undone, format);
                Ok(())
            }
            Direction::Status(flags) => {
                let steps = migrate::status(&flags.load_database()?.owner_url().to_url()).await?;
                match format {
                    Format::Json => {
                        let all: Vec<_> = steps
                            .iter()
                            .map(|step| json!({"name": step.name, "applied": step.applied}))
                            .collect();
                        output::print_document(&json!(all));
                    }
                    Format::Table => {
                        let rows: Vec<_> = steps
                            .into_iter()
                            .map(|step| {
                                vec![step.name, if step.applied { "applied" } else { "pending" }.to_owned()]
                            })
                            .collect();
                        output::print_table(&["MIGRATION", "STATE"], &rows);
                    }
                }
                Ok(())
            }
        }
    }
}

async fn up(print_sql: bool, flags: &Flags, format: Format) -> Done {
    let database = flags.load_database()?;
    let login = migrate::login_of(&database.url.to_url());
    if print_sql {
        output::print_text(migrate::print_sql(login.as_deref()));
        return Ok(());
    }
    let _alone = boot::lock_database(database.owner_url())?;
    let login = database.migrate_url.is_some().then_some(login).flatten();
    let report = migrate::up(&database.owner_url().to_url(), login.as_deref()).await?;
    tell("applied", &report.applied, format);
    if let Some(sql) = report.left_to_do {
        output::note("left to somebody with the right to it:");
        output::note(sql);
    }
    Ok(())
}

fn tell(verb: &str, names: &[String], format: Format) {
    match format {
        Format::Json => output::print_document(&json!({verb: names})),
        Format::Table if names.is_empty() => output::print_text("nothing to do"),
        Format::Table => names.iter().for_each(|name| output::print_text(format!("{verb} {name}"))),
    }
}
