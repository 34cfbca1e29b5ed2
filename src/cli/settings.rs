//! Settings of the service as flags, and looking at them.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, FromArgMatches, Subcommand};
use serde_json::json;

use super::{Done, Failure, given, output};
use crate::{
    config::{self, Secrecy},
    domain::secret::Secret,
};

/// Every setting of the service as a flag, made from the table of settings.
#[derive(Clone, Default)]
pub(super) struct Flags(pub(super) BTreeMap<String, String>);

impl std::fmt::Debug for Flags {
    /// Values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Args for Flags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("TOML file with settings [env: USM_CONFIG]");
        let settings = config::SETTINGS.iter().map(|setting| {
            let default = setting.default.filter(|text| !text.is_empty());
            let default = default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
            Arg::new(setting.name)
                .long(setting.name)
                .value_name("VALUE")
                .help(format!("{}{default} [env: {}]", setting.help, setting.env))
                .help_heading("Settings")
        });
        command.arg(config.help_heading("Settings")).args(settings)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = BTreeMap::new();
        let config = std::iter::once("config");
        for name in config::SETTINGS.iter().map(|setting| setting.name).chain(config) {
            if let Some(value) = matches.get_one::<String>(name) {
                flags.insert(name.to_owned(), value.clone());
            }
        }
        Ok(Self(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Flags {
    /// # Errors
    /// Every mistake at once, as wrong usage.
    pub(super) fn load(&self) -> Result<config::Config, Failure> {
        self.warn();
        config::Config::load(&self.0).map_err(|mistakes| Failure::Usage(mistakes.to_string()))
    }

    /// # Errors
    /// Every mistake about the database at once, as wrong usage.
    pub(super) fn load_database(&self) -> Result<config::Database, Failure> {
        self.warn();
        config::Config::load_database(&self.0).map_err(|mistakes| Failure::Usage(mistakes.to_string()))
    }

    fn warn(&self) {
        for setting in config::SETTINGS {
            let Some(value) = self.0.get(setting.name) else { continue };
            match setting.secrecy {
                Secrecy::Plain => {}
                Secrecy::Secret => given::warn(setting.name, setting.env),
                Secrecy::Address => {
                    let value = Secret::new(value.as_str());
                    given::warn_of_password(setting.name, setting.env, Some(&value));
                }
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Tell every mistake in the settings at once.
    #[command(after_help = "Example:\n  usm config check --config /etc/usm.toml")]
    Check(#[command(flatten)] Flags),
    /// Show every setting, where it came from, and no secret.
    #[command(after_help = "Example:\n  usm config print")]
    Print(#[command(flatten)] Flags),
}

impl Config {
    pub(super) fn run(self, format: output::Format) -> Done {
        match self {
            Self::Check(flags) => {
                flags.load()?;
                output::print_text("the settings are sound");
            }
            Self::Print(flags) => {
                let config = flags.load()?;
                print(config.print(), format);
            }
        }
        Ok(())
    }
}

fn print(settings: &[config::Effective], format: output::Format) {
    match format {
        output::Format::Json => {
            let all: BTreeMap<_, _> = settings
                .iter()
                .map(|effective| {
                    let entry = json!({"value": effective.shown, "origin": format!("{:?}", effective.origin).to_lowercase()});
                    (effective.setting.env, entry)
                })
                .collect();
            output::print_document(&json!(all));
        }
        output::Format::Table => {
            let rows: Vec<_> = settings
                .iter()
                .map(|effective| {
                    vec![
                        effective.setting.env.to_owned(),
                        effective.shown.clone(),
                        format!("{:?}", effective.origin).to_lowercase(),
                    ]
                })
                .collect();
            output::print_table(&["SETTING", "VALUE", "FROM"], &rows);
        }
    }
}

/// The name under which the audit log knows whoever runs this program: what the system says, not the environment.
pub(super) fn os_user() -> String {
    let uid = nix::unistd::getuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}
