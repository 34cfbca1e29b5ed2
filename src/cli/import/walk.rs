//! Finding what is to be imported: a folder, walked name by name, or a list of strings.
//!
//! Blocks, and hands each find on before it looks for the next, so that a folder of any size takes little memory: the
//! names of one folder, packed, are all that is kept.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, Read as _},
    ops::ControlFlow,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::Failure;
use crate::{domain::id::SessionKey, formats};

/// Names in one folder; a larger one is imported in parts.
const NAMES_MAX: usize = 1_000_000;
/// A line of a list of strings: a name, and the longest string that any library writes, with room.
const LINE_LENGTH_MAX: u64 = 16 * 1024;

/// Something to import, and the session it is to become.
pub(super) struct Found {
    pub(super) source: Source,
    /// How reports call it.
    pub(super) name: String,
    pub(super) key: Result<SessionKey, Rule>,
}

pub(super) enum Source {
    File(PathBuf),
    /// A folder of TDesktop.
    Tdata(PathBuf),
    Text(Zeroizing<Vec<u8>>),
    /// Nothing that could be read.
    Nothing,
}

/// Why something is refused before it is read: a stable code and a text for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) code: &'static str,
    pub(super) text: &'static str,
}

const fn name_rule(text: &'static str) -> Rule {
    Rule { code: "name", text }
}

const NOT_TEXT: Rule = name_rule("its name is not UTF-8");
const NO_TENANT: Rule = name_rule("lies outside a tenant's folder; name its tenant with --tenant");
const BAD_NAME: Rule =
    name_rule("its folder and name must be 1-128 characters of A-Z a-z 0-9 . _ - not starting with . or -");

/// Takes what is found; a break ends the walk.
pub(super) type Emit<'a> = &'a mut dyn FnMut(Found) -> ControlFlow<()>;

/// Walks a folder of sessions in a fixed order, so that two runs tell the same.
///
/// # Errors
/// When the folder itself cannot be read, or is too large.
pub(super) fn folder(root: &Path, tenant: Option<&str>, emit: Emit<'_>) -> Result<(), Failure> {
    let names = Names::read(root).map_err(|error| unreadable(root, &error))?;
    let mut walk = Walk { root, tenant, emit };
    for name in names.iter() {
        if walk.top(name)?.is_break() {
            break;
        }
    }
    Ok(())
}

struct Walk<'a, 'b> {
    root: &'a Path,
    tenant: Option<&'a str>,
    emit: Emit<'b>,
}

impl Walk<'_, '_> {
    /// An entry of the sessions folder itself.
    fn top(&mut self, name: &OsStr) -> Result<ControlFlow<()>, Failure> {
        let path = self.root.join(name);
        if is_session_name(name) && !path.is_dir() {
            let key = self.tenant.map_or(Err(NO_TENANT), |tenant| key_of_file(OsStr::new(tenant), name));
            return Ok(self.found(Source::File(path), key));
        }
        // Cheap for what is no folder: most entries of a flat one are files.
        if !path.is_dir() {
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(tdata) = formats::find_tdata(&path) {
            let key = self.tenant.map_or(Err(NO_TENANT), |tenant| key_of(OsStr::new(tenant), name));
            return Ok(self.found(Source::Tdata(tdata), key));
        }
        if self.tenant.is_some_and(|tenant| name != OsStr::new(tenant)) {
            return Ok(ControlFlow::Continue(()));
        }
        // Nothing outside the folder is looked at, so a link is told instead of followed.
        if path.is_symlink() {
            let rule = name_rule("is a link to a folder; import that folder itself");
            return Ok(self.refused(&path, rule));
        }
        self.of_tenant(&path, name)
    }

    fn of_tenant(&mut self, folder: &Path, tenant: &OsStr) -> Result<ControlFlow<()>, Failure> {
        let names = match Names::read(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(unreadable(folder, &error));
            }
            // The others of the run are none the worse for it.
            Err(_) => {
                let rule =
                    Rule { code: "unreadable", text: "the folder cannot be read; check its owner and mode" };
                return Ok(self.refused(folder, rule));
            }
        };
        for name in names.iter() {
            let path = folder.join(name);
            let step = if is_session_name(name) && !path.is_dir() {
                self.found(Source::File(path), key_of_file(tenant, name))
            } else if let Some(tdata) = formats::find_tdata(&path) {
                self.found(Source::Tdata(tdata), key_of(tenant, name))
            } else {
                ControlFlow::Continue(())
            };
            if step.is_break() {
                return Ok(step);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn found(&mut self, source: Source, key: Result<SessionKey, Rule>) -> ControlFlow<()> {
        let path = match &source {
            Source::File(path) | Source::Tdata(path) => path.as_path(),
            Source::Text(_) | Source::Nothing => self.root,
        };
        let name = path.strip_prefix(self.root).unwrap_or(path).display().to_string();
        (self.emit)(Found { source, name, key })
    }

    fn refused(&mut self, path: &Path, rule: Rule) -> ControlFlow<()> {
        let name = path.strip_prefix(self.root).unwrap_or(path).display().to_string();
        (self.emit)(Found { source: Source::Nothing, name, key: Err(rule) })
    }
}

/// Telethon's own ending; compared as bytes, because a name need not be text.
fn is_session_name(name: &OsStr) -> bool {
    name.as_bytes().to_ascii_lowercase().ends_with(b".session")
}

fn key_of_file(tenant: &OsStr, file: &OsStr) -> Result<SessionKey, Rule> {
    key_of(tenant, Path::new(file).file_stem().unwrap_or_default())
}

fn key_of(tenant: &OsStr, app: &OsStr) -> Result<SessionKey, Rule> {
    let (tenant, app) = (tenant.to_str().ok_or(NOT_TEXT)?, app.to_str().ok_or(NOT_TEXT)?);
    SessionKey::parse(tenant, app).map_err(|_| BAD_NAME)
}

fn unreadable(folder: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("the folder {} cannot be read: {error}", folder.display()))
}

/// The names in one folder, in order, one behind the other in one buffer.
struct Names {
    bytes: Vec<u8>,
    /// Where each begins and ends.
    spans: Vec<(u32, u32)>,
}

impl Names {
    fn read(folder: &Path) -> io::Result<Self> {
        let mut names = Self { bytes: Vec::new(), spans: Vec::new() };
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            let too_many = || {
                io::Error::new(io::ErrorKind::FileTooLarge, "more than a million names; import it in parts")
            };
            if names.spans.len() >= NAMES_MAX {
                return Err(too_many());
            }
            let begin = u32::try_from(names.bytes.len()).map_err(|_| too_many())?;
            names.bytes.extend_from_slice(name.as_bytes());
            let end = u32::try_from(names.bytes.len()).map_err(|_| too_many())?;
            names.spans.push((begin, end));
        }
        let bytes = &names.bytes;
        let of = |(begin, end): (u32, u32)| &bytes[begin as usize..end as usize];
        names.spans.sort_unstable_by(|a, b| of(*a).cmp(of(*b)));
        Ok(names)
    }

    fn iter(&self) -> impl Iterator<Item = &OsStr> {
        self.spans.iter().map(|(begin, end)| OsStr::from_bytes(&self.bytes[*begin as usize..*end as usize]))
    }
}

/// Reads lines of `tenant/app string`, or `app string` with the tenant named; `-` is standard input. Empty lines and
/// those that begin with `#` are passed over.
///
/// # Errors
/// When the list cannot be read.
pub(super) fn strings(list: &Path, tenant: Option<&str>, emit: Emit<'_>) -> Result<(), Failure> {
    let told = |error: io::Error| {
        Failure::Failed(format!("the list of strings {} cannot be read: {error}", list.display()))
    };
    let mut reader: Box<dyn io::BufRead> = if list == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(io::BufReader::new(std::fs::File::open(list).map_err(told)?))
    };
    for number in 1_u64.. {
        let mut line = Zeroizing::new(Vec::with_capacity(LINE_LENGTH_MAX as usize + 1));
        let read = reader.by_ref().take(LINE_LENGTH_MAX).read_until(b'\n', &mut line).map_err(told)?;
        if read == 0 {
            break;
        }
        let whole = line.ends_with(b"\n") || read < LINE_LENGTH_MAX as usize;
        if !whole {
            skip_line(&mut reader).map_err(told)?;
        }
        let name = format!("line {number}");
        let found = if whole { of_line(&line, name, tenant) } else { Some(too_long(name)) };
        if found.is_some_and(|found| emit(found).is_break()) {
            break;
        }
    }
    Ok(())
}

/// What a line holds; `None` for one without content.
fn of_line(line: &[u8], name: String, tenant: Option<&str>) -> Option<Found> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return None;
    }
    let split = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (who, text) = (&line[..split], line[split..].trim_ascii());
    let key = match (std::str::from_utf8(who), tenant) {
        (Err(_), _) => Err(NOT_TEXT),
        _ if text.is_empty() => Err(Rule {
            code: "line",
            text: "holds no string; a line is tenant/app, a space or tab, and the string",
        }),
        (Ok(who), tenant) => match (who.split_once('/'), tenant) {
            (Some((named, _)), Some(only)) if named != only => return None,
            (Some((named, app)), _) => SessionKey::parse(named, app).map_err(|_| BAD_NAME),
            (None, Some(tenant)) => SessionKey::parse(tenant, who).map_err(|_| BAD_NAME),
            (None, None) => Err(name_rule("names no tenant; write tenant/app, or give --tenant")),
        },
    };
    Some(Found { source: Source::Text(Zeroizing::new(text.to_vec())), name, key })
}

fn too_long(name: String) -> Found {
    let rule = Rule { code: "line", text: "is longer than any session string" };
    Found { source: Source::Nothing, name, key: Err(rule) }
}

/// Passes over the rest of a line of any length.
fn skip_line(reader: &mut impl io::BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                reader.consume(at + 1);
                return Ok(());
            }
            None => {
                let length = buffer.len();
                reader.consume(length);
            }
        }
    }
}
