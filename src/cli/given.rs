//! Secrets that a person hands to a command: by environment, file or prompt, and with a warning by flag.

use std::{
    convert::Infallible,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Failure, output};
use crate::domain::secret::Secret;

/// No password is longer, in bytes.
const LENGTH_MAX: u64 = 64 * 1024;

/// How the two-step password of an account is given.
#[derive(Debug, Args)]
pub(super) struct PasswordSource {
    /// The account's password; better given by its variable, a file or the prompt [env: USM_PASSWORD]
    #[arg(long, value_name = "P", value_parser = secret, conflicts_with = "password_file")]
    password: Option<Secret>,
    /// File that holds the password; - is standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// How the passcode of a locked source is given.
#[derive(Debug, Default, Args)]
pub(super) struct PasscodeSource {
    /// File that holds the passcode of folders of TDesktop; - is standard input [env: USM_PASSCODE]
    #[arg(long, value_name = "FILE")]
    passcode_file: Option<PathBuf>,
}

/// How the code that the account's owner got is given.
#[derive(Debug, Args)]
pub(super) struct CodeSource {
    /// The code; better given by its variable, a file or the prompt [env: USM_CODE]
    #[arg(long, value_name = "C", value_parser = secret, conflicts_with = "code_file")]
    code: Option<Secret>,
    /// File that holds the code; - is standard input
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
}

/// How a bot's token is given.
#[derive(Debug, Args)]
pub(super) struct BotTokenSource {
    /// The bot's token; better given by its variable, a file or the prompt [env: USM_BOT_TOKEN]
    #[arg(long, value_name = "T", value_parser = secret, conflicts_with = "bot_token_file")]
    bot_token: Option<Secret>,
    /// File that holds the bot's token; - is standard input
    #[arg(long, value_name = "FILE")]
    bot_token_file: Option<PathBuf>,
}

impl PasswordSource {
    /// The password if one was given, without asking for it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn if_given(self) -> Result<Option<Secret>, Failure> {
        one_of("password", "USM_PASSWORD", self.password, self.password_file)
    }

    /// The password, asked for at the terminal unless it was given.
    ///
    /// # Errors
    /// When there is nobody to ask.
    pub(super) fn or_asked(self) -> Result<Secret, Failure> {
        self.if_given()?.map_or_else(|| ask("two-step password", "USM_PASSWORD"), Ok)
    }
}

impl PasscodeSource {
    /// The passcode if one was given.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn if_given(self) -> Result<Option<Secret>, Failure> {
        one_of("passcode", "USM_PASSCODE", None, self.passcode_file)
    }
}

impl CodeSource {
    /// The code, asked for at the terminal unless it was given.
    ///
    /// # Errors
    /// When there is nobody to ask.
    pub(super) fn or_asked(self) -> Result<Secret, Failure> {
        one_of("code", "USM_CODE", self.code, self.code_file)?
            .map_or_else(|| ask("login code", "USM_CODE"), Ok)
    }
}

impl BotTokenSource {
    /// The token, asked for at the terminal unless it was given.
    ///
    /// # Errors
    /// When there is nobody to ask.
    pub(super) fn or_asked(self) -> Result<Secret, Failure> {
        one_of("bot-token", "USM_BOT_TOKEN", self.bot_token, self.bot_token_file)?
            .map_or_else(|| ask("bot token", "USM_BOT_TOKEN"), Ok)
    }
}

/// A secret from its flag, its file or its variable.
fn one_of(
    name: &str,
    variable_name: &str,
    flag: Option<Secret>,
    file: Option<PathBuf>,
) -> Result<Option<Secret>, Failure> {
    if flag.is_some() {
        warn(name, variable_name);
        return Ok(flag);
    }
    match file {
        Some(path) => read(&path, name).map(Some),
        None => Ok(variable(variable_name).map(Secret::new)),
    }
}

/// Asks at the terminal, without showing what is typed. Blocks.
///
/// # Errors
/// When there is no terminal.
pub(super) fn ask(what: &str, variable_name: &str) -> Result<Secret, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "nobody can be asked for the {what} without a terminal; give it by {variable_name} or a file"
        )));
    }
    Ok(Secret::new(rpassword::prompt_password(format!("{what}: "))?))
}

/// A secret from its flag, its variable, or else a refusal.
///
/// # Errors
/// Wrong usage when neither is given.
pub(super) fn required(flag: Option<Secret>, name: &str, variable_name: &str) -> Result<Secret, Failure> {
    match flag {
        Some(value) => {
            warn(name, variable_name);
            Ok(value)
        }
        None => variable(variable_name).map(Secret::new).ok_or_else(|| {
            Failure::Usage(format!("--{name} is missing; it is better given by {variable_name}"))
        }),
    }
}

/// A variable of the environment that is set and not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
}

/// Keeps what was typed from showing.
pub(super) fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

pub(super) fn warn(flag: &str, instead: &str) {
    output::note(format!(
        "warning: --{flag} on the command line can be seen by other users of this machine; use {instead}"
    ));
}

/// Warns of an address that holds a password.
pub(super) fn warn_of_password(flag: &str, instead: &str, url: Option<&Secret>) {
    let has_password = |url: &Secret| {
        let user_info = url.expose_secret().split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        user_info.is_some_and(|(user_info, _)| user_info.contains(':'))
            || url.expose_secret().contains("password=")
    };
    if url.is_some_and(has_password) {
        warn(flag, instead);
    }
}

/// The first line of a file, or of standard input for `-`.
fn read(path: &Path, name: &str) -> Result<Secret, Failure> {
    let told = |error: std::io::Error| Failure::Failed(format!("the {name} cannot be read: {error}"));
    let mut text = zeroize::Zeroizing::new(String::new());
    if path == Path::new("-") {
        std::io::stdin().take(LENGTH_MAX).read_to_string(&mut text).map_err(told)?;
    } else {
        std::fs::File::open(path).map_err(told)?.take(LENGTH_MAX).read_to_string(&mut text).map_err(told)?;
    }
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        Some(_) | None => Err(Failure::Usage(format!("the {name} is empty"))),
    }
}
