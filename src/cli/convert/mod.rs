//! `usm convert`: sessions from one library's form into another's, without a service.

mod folder;
mod out;
mod report;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use self::{out::Out, report::Line};
use super::{Done, Failure, given::PasscodeSource, output::Format};
use crate::{
    domain::material,
    formats::{self, Addresses, Conversion, Data, Options},
};

/// No session string or document given at standard input is longer, in bytes.
const STDIN_LENGTH_MAX: u64 = 8 * 1024 * 1024;
/// Standard input as a source, standard output as a target.
const STANDARD: &str = "-";

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  usm convert news.session --to telethon-string > news.txt\n  \
                  usm convert news.session --to grammers --out news.grammers\n  \
                  usm convert - --to raw --out news.json < news.txt\n  \
                  usm convert sessions/ --to telethon-string --out strings/\n  \
                  usm convert TelegramDesktop/tdata --to telethon-sqlite --out news.session\n  \
                  usm convert news.session --to tdata --out tdata\n  \
                  usm convert sessions/ --to telethon-string | gpg --encrypt --recipient ops > strings.gpg\n\n\
                  Sources are only read. Whatever has no place in the new form is told, file by file. A\n\
                  session is a key: use it with one program at a time, or Telegram ends it.")]
pub(super) struct Convert {
    /// A session file, a folder of them, a tdata folder of TDesktop, or - for a string at standard input.
    source: PathBuf,
    /// telethon-string, telethon-sqlite, pyrogram-string, pyrogram-sqlite, gramjs-string, mtcute-string, grammers,
    /// tdata (a folder, or a ZIP archive if --out ends with .zip) or raw.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    to: material::Format,
    /// Refuse sources of any other format; without it the format is recognised.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    from: Option<material::Format>,
    /// The new file, or the folder for the new files; - is standard output, even on a terminal.
    #[arg(long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long, requires = "out")]
    force: bool,
    /// Only this tenant's folder of a folder with <tenant>/<app>.session.
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// What the names of session files in a folder end with.
    #[arg(long, value_name = "ENDING", default_value = "session")]
    ending: String,
    /// Which account of a source that holds several, from 0.
    #[arg(long, value_name = "N")]
    account_index: Option<usize>,
    #[command(flatten)]
    passcode: PasscodeSource,
}

fn format(name: &str) -> Result<material::Format, String> {
    let format = material::Format::parse(name).ok_or_else(|| {
        let names: Vec<_> = material::Format::ALL.iter().map(|format| format.name()).collect();
        format!("no format is called so; there are {}", names.join(", "))
    })?;
    Ok(format)
}

impl Convert {
    /// Blocks; the work is done by threads of its own.
    pub(super) fn run(mut self, format: Format) -> Done {
        let passcode = std::mem::take(&mut self.passcode).if_given()?;
        let options = Options { passcode, account: self.account_index };
        formats::writable(self.to).map_err(|error| Failure::Usage(error.to_string()))?;
        let is_standard = |path: &Path| path == Path::new(STANDARD);
        let out = match &self.out {
            Some(path) if !is_standard(path) => Out::Path { path: path.clone(), force: self.force },
            given => Out::standard(given.is_some())?,
        };
        let tdata = if is_standard(&self.source) { None } else { formats::find_tdata(&self.source) };
        if !is_standard(&self.source) && self.source.is_dir() && tdata.is_none() {
            return folder::run(&self, &options, &out, format);
        }
        if self.tenant.is_some() {
            return Err(Failure::Usage(
                "--tenant names a folder of a folder; the source is one file".to_owned(),
            ));
        }
        self.one(&options, tdata.as_deref(), &out, format)
    }

    fn one(&self, options: &Options, tdata: Option<&Path>, out: &Out, format: Format) -> Done {
        let addresses = formats::production_addresses();
        let is_stdin = self.source == Path::new(STANDARD);
        let name = if is_stdin { "standard input".to_owned() } else { self.source.display().to_string() };
        if let Out::Path { path, .. } = out {
            out::check(path, (!is_stdin).then_some(&self.source), self.force)?;
        }
        let conversion = self.conversion(&addresses, options, out.folder());
        let converted = if is_stdin {
            let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
            std::io::stdin().lock().take(STDIN_LENGTH_MAX).read_to_end(&mut bytes)?;
            conversion.bytes(&bytes)
        } else {
            // Whoever names a file means that file, wherever a link leads.
            let path = self.source.canonicalize();
            let path = path.map_err(|error| Failure::Failed(format!("{name} cannot be read: {error}")))?;
            match tdata {
                Some(folder) => conversion.tdata(&path, folder),
                None => conversion.file(path.parent().unwrap_or(Path::new("/")), &path),
            }
        };
        let line = match converted {
            Ok(converted) => {
                let line = Line::converted(name, self.to, &converted);
                match out {
                    Out::Path { path, force } => {
                        if self.to == material::Format::Tdata && !out::is_archive(path) {
                            out::keep_folder(bytes(&converted.data)?, path)?;
                        } else {
                            out::keep(converted.data, path, *force)?;
                        }
                        out::settle(out::parent(path))?;
                    }
                    Out::Standard => out::print(&converted.data, None)?,
                }
                line
            }
            Err(error) => Line::refused(name, error.code(), &error.to_string()),
        };
        let is_refused = line.is_refused();
        let mut report = report::Report::new(format, matches!(out, Out::Path { .. }));
        report.add(&line);
        if is_refused { Err(Failure::Failed("the session was not converted".to_owned())) } else { Ok(()) }
    }

    fn conversion<'a>(
        &self,
        addresses: &'a Addresses,
        options: &'a Options,
        folder: Option<&'a Path>,
    ) -> Conversion<'a> {
        Conversion { to: self.to, from: self.from, addresses, options, folder }
    }
}

/// The ending of a new file's name.
const fn ending(format: material::Format) -> &'static str {
    match format {
        material::Format::TelethonSqlite | material::Format::PyrogramSqlite | material::Format::Grammers => {
            "session"
        }
        material::Format::Raw => "json",
        material::Format::Tdata => "zip",
        material::Format::TelethonString
        | material::Format::PyrogramString
        | material::Format::GramjsString
        | material::Format::MtcuteString => "txt",
    }
}

/// Whether a form is one line of text.
const fn is_line(format: material::Format) -> bool {
    match format {
        material::Format::TelethonString
        | material::Format::PyrogramString
        | material::Format::GramjsString
        | material::Format::MtcuteString
        | material::Format::Raw => true,
        material::Format::TelethonSqlite
        | material::Format::PyrogramSqlite
        | material::Format::Grammers
        | material::Format::Tdata => false,
    }
}

/// # Errors
/// For what was too large for memory.
fn bytes(data: &Data) -> Result<&[u8], Failure> {
    match data {
        Data::Memory(bytes) => Ok(bytes),
        Data::File(_) => {
            Err(Failure::Failed("the session is too large for standard output; name --out".to_owned()))
        }
    }
}
