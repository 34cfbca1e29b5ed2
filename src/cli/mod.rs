//! The command line: one file per family of commands.
//!
//! Commands speak to the service through the generated client, like anybody else; with a database named instead of a
//! server they run the same service in their own process.

mod connect;
mod convert;
mod custody;
mod export;
mod fingerprint;
mod given;
mod grants;
mod health;
mod import;
mod keys;
mod lease;
mod login;
mod migrate;
mod mirror;
mod outcome;
mod output;
#[cfg(feature = "sandbox")]
mod quickstart;
mod reconcile;
#[cfg(feature = "sandbox")]
mod sandbox;
mod serve;
mod session;
mod settings;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use self::output::Format;

/// Owns Telegram user sessions and lends each to one worker at a time.
#[derive(Debug, Parser)]
#[command(
    name = "usm",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  usm quickstart                                   the whole job before your eyes\n  \
                  usm serve --sandbox                              a server with the bundled Telegram sandbox\n  \
                  usm login qr --tenant-id acme --app-id news      sign an account in\n  \
                  usm session list                                 what there is\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How data is printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(serve::Serve),
    /// Watch the whole job: server, login, lease, refusal, release, revocation.
    #[cfg(feature = "sandbox")]
    Quickstart(quickstart::Quickstart),
    /// Bring the database to this version's tables, or back.
    Migrate(migrate::Migrate),
    /// Take in session files of another system.
    Import(import::Import),
    /// Write sessions as files, for the legacy system or another one.
    Export(export::Export),
    /// Turn sessions from one library's form into another's.
    Convert(convert::Convert),
    /// Say which system may use a session's key: this service or the legacy one.
    #[command(subcommand, after_help = "Example:\n  usm custody take --tenant-id acme --app-id news")]
    Custody(custody::Custody),
    /// Look at sessions and end them.
    #[command(subcommand, after_help = "Example:\n  usm session list --output json")]
    Session(session::Session),
    /// Sign accounts in.
    #[command(subcommand, after_help = "Example:\n  usm login qr --tenant-id acme --app-id news")]
    Login(login::Login),
    /// Borrow sessions and give them back.
    #[command(subcommand, after_help = "Example:\n  usm lease list")]
    Lease(lease::Lease),
    /// Print the fingerprint of a session file as the legacy system has it, or find copies in a folder.
    Fingerprint(fingerprint::Fingerprint),
    /// Look after the keys that seal sessions.
    #[command(subcommand, after_help = "Example:\n  usm keys list")]
    Keys(keys::Keys),
    /// Make access tokens.
    #[command(subcommand, after_help = "Example:\n  usm token issue --role service_role --ttl 12h")]
    Token(token::Token),
    /// Ask the service how it and what it depends on are doing.
    Health(health::Health),
    /// Look at the settings.
    #[command(subcommand, after_help = "Example:\n  usm config check")]
    Config(settings::Config),
    /// Run the bundled Telegram sandbox by itself.
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::Sandbox),
    /// Print a completion script.
    #[command(after_help = "Example:\n  usm completions bash > /etc/bash_completion.d/usm")]
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

/// What a command that failed says, and how the program ends.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2.
    Usage(String),
}

impl Failure {
    fn text(&self) -> &str {
        match self {
            Self::Failed(text) | Self::Usage(text) => text,
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

type Done = Result<(), Failure>;

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::Failed(format!("the runtime could not be started: {error}"))),
    };
    let done = runtime.block_on(run(cli));
    // Whatever blocks, such as a prompt nobody answers, must not keep the program.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match done {
        Ok(()) => match output::printed() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => fail(&failure),
        },
        Err(failure) => fail(&failure),
    }
}

async fn run(cli: Cli) -> Done {
    let output = cli.output;
    match cli.command {
        Command::Serve(command) => command.run().await,
        #[cfg(feature = "sandbox")]
        Command::Quickstart(command) => command.run().await,
        Command::Migrate(command) => command.run(output).await,
        Command::Import(command) => command.run(output).await,
        Command::Export(command) => command.run(output).await,
        Command::Convert(command) => tokio::task::spawn_blocking(move || command.run(output)).await?,
        Command::Custody(command) => command.run(output).await,
        Command::Session(command) => command.run(output).await,
        Command::Login(command) => command.run(output).await,
        Command::Lease(command) => command.run(output).await,
        Command::Fingerprint(command) => command.run(output).await,
        Command::Keys(command) => command.run(output),
        Command::Token(command) => command.run(output),
        Command::Health(command) => command.run(output).await,
        Command::Config(command) => command.run(output),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(command) => command.run().await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "usm", &mut script);
            output::print_text(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    }
}

fn fail(failure: &Failure) -> ExitCode {
    output::note(format_args!("usm: {}", failure.text()));
    match failure {
        Failure::Failed(_) => ExitCode::from(1),
        Failure::Usage(_) => ExitCode::from(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_flags_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "no example in the help of{path}");
            command.get_subcommands().for_each(|sub| check(sub, &path));
        }
        check(&Cli::command(), "");
    }
}
