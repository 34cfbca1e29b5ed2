//! A folder of sessions, converted by all processors at once and told in order. What is held does not grow with the
//! folder: names are read as they are needed.

use std::{
    collections::BTreeSet,
    fs::{self, ReadDir},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    Convert, Done, Failure, Line,
    out::{self, Out},
    report::Report,
};
use crate::{
    cli::output::{self, Format},
    formats::{self, Addresses, Conversion, Data, Error, Options},
};

/// Files converted before the next names are read.
const BATCH: usize = 256;
/// Converting is more than half waiting for memory and the file system beyond that.
const THREADS_MAX: usize = 8;
/// Without a terminal a line tells of the progress after so many files.
const TELL_EVERY: u64 = 10_000;

pub(super) fn run(command: &Convert, options: &Options, out: &Out, format: Format) -> Done {
    if matches!(out, Out::Standard) && !super::is_line(command.to) {
        return Err(Failure::Usage(format!(
            "{} is a file, and there are several; name a folder with --out",
            command.to.name()
        )));
    }
    if let Out::Path { path, .. } = out {
        prepare(&command.source, path)?;
    }
    let addresses = formats::production_addresses();
    let total = Sources::of(command)?.try_fold(0_u64, |total, source| source.map(|_| total + 1))?;
    let bar = progress(total);
    let mut report = Report::new(format, matches!(out, Out::Path { .. }));
    let mut sources = Sources::of(command)?;
    loop {
        let mut batch = sources.by_ref().take(BATCH).collect::<Result<Vec<_>, _>>()?;
        if batch.is_empty() {
            break;
        }
        batch.sort();
        let mut folders = BTreeSet::new();
        for (source, (line, data)) in batch.iter().zip(convert(command, (&addresses, options), &batch, out)) {
            if let Some(data) = data {
                out::print(&data, Some(&output::harmless(&name(command, source))))?;
            } else if let Out::Path { path, .. } = out {
                folders.insert(target(command, source, path).parent().unwrap_or(path).to_owned());
            }
            bar.suspend(|| report.add(&line));
            bar.inc(1);
            if bar.is_hidden() && bar.position().is_multiple_of(TELL_EVERY) {
                output::note(format!(
                    "{} of {total} files, {:.0} a second, {:?} left",
                    bar.position(),
                    bar.per_sec(),
                    std::time::Duration::from_secs(bar.eta().as_secs())
                ));
            }
        }
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            out::settle(folder)?;
        }
    }
    bar.finish_and_clear();
    report.sum();
    if total == 0 {
        output::note(format!("no .{} files in {}", command.ending, command.source.display()));
    }
    match report.refused {
        0 => Ok(()),
        refused => Err(Failure::Failed(format!("{refused} of {total} files were refused"))),
    }
}

fn name(command: &Convert, source: &Path) -> String {
    source.strip_prefix(&command.source).unwrap_or(source).display().to_string()
}

/// Where a session belongs below the new folder.
fn target(command: &Convert, source: &Path, folder: &Path) -> PathBuf {
    let below = source.strip_prefix(&command.source).unwrap_or(source);
    folder.join(below).with_extension(super::ending(command.to))
}

/// Converts one file; what comes back is still to be printed.
fn one(command: &Convert, conversion: &Conversion<'_>, source: &Path, out: &Out) -> (Line, Option<Data>) {
    let converted = match conversion.file(&command.source, source) {
        Ok(converted) => converted,
        Err(error) => return (Line::refused(name(command, source), error.code(), &error.to_string()), None),
    };
    let line = Line::converted(name(command, source), command.to, &converted);
    let Out::Path { path, force } = out else { return (line, Some(converted.data)) };
    let target = target(command, source, path);
    let done = private_folder(target.parent().unwrap_or(path))
        .and_then(|()| out::check(&target, Some(&source.to_owned()), *force))
        .and_then(|()| out::keep(converted.data, &target, *force));
    match done {
        Ok(()) => (line, None),
        Err(failure) => (Line::refused(name(command, source), "not_written", failure.text()), None),
    }
}

/// Converts a batch, in its order.
fn convert(
    command: &Convert,
    (addresses, options): (&Addresses, &Options),
    batch: &[PathBuf],
    out: &Out,
) -> Vec<(Line, Option<Data>)> {
    let next = AtomicUsize::new(0);
    let folder = match out {
        Out::Standard => None,
        Out::Path { path, .. } => Some(path.as_path()),
    };
    let work = || {
        let conversion = command.conversion(addresses, options, folder);
        let mut done = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = batch.get(n) else { return done };
            done.push((n, one(command, &conversion, source, out)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let mut results: Vec<Option<_>> = batch.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // A panic is a defect, and is shown by the thread it happened in.
            for (n, result) in worker.join().unwrap_or_default() {
                results[n] = Some(result);
            }
        }
    });
    let lost = |source: &PathBuf| {
        let error = Error::Internal("a worker ended");
        (Line::refused(name(command, source), error.code(), &error.to_string()), None)
    };
    let results = results.into_iter().zip(batch);
    results.map(|(result, source)| result.unwrap_or_else(|| lost(source))).collect()
}

/// Makes the new folder, which may not be the old one: with the old names, new files would lie over their sources.
fn prepare(source: &Path, target: &Path) -> Done {
    private_folder(target)?;
    if target.canonicalize()? == source.canonicalize()? {
        return Err(Failure::Usage("the new folder is the source; name another one".to_owned()));
    }
    Ok(())
}

fn private_folder(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::Failed(format!("{} cannot be made: {error}", folder.display())))
}

/// The session files of a folder and of the folders right in it, in no order.
struct Sources<'a> {
    command: &'a Convert,
    folders: Vec<PathBuf>,
    open: Option<ReadDir>,
    is_top: bool,
}

impl<'a> Sources<'a> {
    fn of(command: &'a Convert) -> Result<Self, Failure> {
        let top = match &command.tenant {
            Some(tenant) if Path::new(tenant).components().count() == 1 && tenant != ".." => {
                command.source.join(tenant)
            }
            Some(_) => return Err(Failure::Usage("--tenant is the name of a folder".to_owned())),
            None => command.source.clone(),
        };
        let open = Some(read(&top)?);
        Ok(Self { command, folders: Vec::new(), open, is_top: command.tenant.is_none() })
    }

    fn is_session(&self, path: &Path) -> bool {
        let ending = format!(".{}", self.command.ending).to_ascii_lowercase();
        path.file_name().is_some_and(|name| {
            // Compared as bytes, because a name need not be text.
            let name = name.as_bytes().to_ascii_lowercase();
            name.len() > ending.len() && name.ends_with(ending.as_bytes())
        })
    }
}

impl Iterator for Sources<'_> {
    type Item = Result<PathBuf, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(open) = &mut self.open else {
                let folder = self.folders.pop()?;
                match read(&folder) {
                    Ok(open) => self.open = Some(open),
                    Err(failure) => return Some(Err(failure)),
                }
                continue;
            };
            let Some(entry) = open.next() else {
                self.open = None;
                self.is_top = false;
                continue;
            };
            let (path, kind) = match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
                Ok(entry) => entry,
                Err(error) => return Some(Err(Failure::from(error))),
            };
            // Links to folders are not followed; those to files are judged when they are read.
            if kind.is_dir() {
                if self.is_top {
                    self.folders.push(path);
                }
            } else if self.is_session(&path) {
                return Some(Ok(path));
            }
        }
    }
}

fn read(folder: &Path) -> Result<ReadDir, Failure> {
    fs::read_dir(folder)
        .map_err(|error| Failure::Failed(format!("the folder {} cannot be read: {error}", folder.display())))
}

fn progress(files: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(files);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}
