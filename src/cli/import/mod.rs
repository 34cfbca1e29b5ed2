//! `usm import`: sessions of another system.
//!
//! A walk finds sources, some tasks read them, others have the service take them in, and a report tells of each, all in
//! one order and with no more under way than is bounded. Whatever stops it, it is simply run again: what is there
//! already stays as it is.

mod line;
mod passwords;
mod report;
mod sending;
mod twice;
mod walk;

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use clap::Args;
use futures::stream::{self, StreamExt as _};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{
    line::Line,
    passwords::Passwords,
    report::{Report, Summary},
    sending::{Order, Ready, Sent},
    twice::Seen,
    walk::Found,
};
use super::{
    Done, Failure,
    connect::{Api, Target},
    given::PasscodeSource,
    output::{self, Format},
};

/// Sources read one after the other by one task.
const READ_TOGETHER: usize = 16;
/// Such tasks at the same time: more than processors, because files may lie across a network.
const READ_PARALLEL: usize = 4;
/// Sources sent by one call.
const SEND_TOGETHER: usize = 64;
/// Calls under way at once: what the service does together, twice over, so that it finds more when it is done.
const SEND_PARALLEL: usize = 6;
/// The same where other material gives way, which Telegram may have to end.
const REPLACE_PARALLEL: usize = 1;
/// The same where Telegram is asked in each; it is about one source then.
const ASK_PARALLEL: usize = 4;
/// Finds that wait to be read.
const FOUND_MAX: usize = 256;
/// Without a terminal a line tells of the progress after so many files.
const TELL_EVERY: u64 = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  usm import --sessions-dir /app/sessions --dry-run\n  \
                        usm import --sessions-dir /app/sessions --report import.json\n  \
                        usm import --sessions-dir /app/sessions --legacy-stopped --validate\n  \
                        usm import --sessions-dir /app/flat --tenant acme\n  \
                        usm import --strings sessions.txt --tenant acme\n  \
                        usm import --sessions-dir /app/sessions --mint --legacy-paused --passwords 2fa.txt\n\n\
                        Run again, it goes on where it was and changes nothing twice. Exit code 1 if anything was \
                        refused.")]
pub(super) struct Import {
    /// Folder with <tenant>/<app>.session; files that lie directly in it need --tenant.
    #[arg(long, value_name = "DIR", env = "SESSIONS_BASE_PATH", required_unless_present = "strings")]
    sessions_dir: Option<PathBuf>,
    /// Session strings instead of a folder: lines of tenant/app, a space or tab, and the string; - is standard input.
    #[arg(long, value_name = "FILE")]
    strings: Option<PathBuf>,
    /// Only this tenant: its folder, and what lies directly in the sessions folder or names no tenant.
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// Do everything but write.
    #[arg(long)]
    dry_run: bool,
    /// The legacy system does not use these files any more: this service may lend the sessions.
    #[arg(long)]
    legacy_stopped: bool,
    /// Ask Telegram about each session before it is taken; needs --legacy-stopped.
    #[arg(long, requires = "legacy_stopped", conflicts_with = "mint")]
    validate: bool,
    /// Log in anew by each session, which goes on living with the legacy system, and keep the new authorization.
    #[arg(long)]
    mint: bool,
    /// With --mint: the legacy system is not connected while this runs, and goes on afterwards.
    #[arg(long, requires = "mint")]
    legacy_paused: bool,
    /// With --mint: two-step passwords, lines of tenant/app, a space or tab, and the password.
    #[arg(long, value_name = "FILE", requires = "mint")]
    passwords: Option<PathBuf>,
    /// Which account of folders of TDesktop that hold several, from 0.
    #[arg(long, value_name = "N")]
    account_index: Option<usize>,
    #[command(flatten)]
    passcode: PasscodeSource,
    /// Take what the sources hold in place of other authorizations under the same names.
    #[arg(long)]
    replace: bool,
    /// Which configured api_id the sessions were made with.
    #[arg(long, value_name = "ALIAS", default_value = "")]
    api_key_alias: String,
    /// Where to write what became of each file, as JSON; text beside it with the ending .txt.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Where sources are looked for.
#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Strings(PathBuf),
}

impl Place {
    /// Blocks; hands each find on.
    fn walk(&self, tenant: Option<&str>, emit: walk::Emit<'_>) -> Done {
        match self {
            Self::Folder(root) => walk::folder(root, tenant, emit),
            Self::Strings(list) => walk::strings(list, tenant, emit),
        }
    }

    /// How much there is, where that can be told beforehand.
    fn count(&self, tenant: Option<&str>) -> Result<Option<u64>, Failure> {
        if matches!(self, Self::Strings(list) if list.as_os_str() == "-") {
            return Ok(None);
        }
        let mut count = 0;
        self.walk(tenant, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(Some(count))
    }
}

impl Import {
    pub(super) async fn run(self, format: Format) -> Done {
        if self.mint && !self.legacy_stopped && !self.legacy_paused {
            return Err(Failure::Usage(
                "--mint connects with each legacy key for a moment, and Telegram ends an authorization that is \
                 connected twice; say --legacy-paused when the legacy system is not connected meanwhile, or \
                 --legacy-stopped"
                    .to_owned(),
            ));
        }
        let place = match (&self.strings, &self.sessions_dir) {
            (Some(list), _) => Place::Strings(list.clone()),
            (None, Some(root)) => Place::Folder(root.clone()),
            (None, None) => return Err(Failure::Usage("name the folder with --sessions-dir".to_owned())),
        };
        let passwords = Passwords::read(self.passwords.as_deref(), self.tenant.as_deref())?;
        let (counted, tenant) = (place.clone(), self.tenant.clone());
        let total = tokio::task::spawn_blocking(move || counted.count(tenant.as_deref())).await??;
        if let (Place::Folder(root), Some(0)) = (&place, total) {
            output::note(format!("no .session files in {}", root.display()));
        }
        let report = Report::begin(format, self.report.as_deref())?;
        let seen = Seen::new()?;
        let (parallel, together) = match (self.mint || self.validate, self.replace) {
            (true, _) => (ASK_PARALLEL, 1),
            (false, true) => (REPLACE_PARALLEL, SEND_TOGETHER),
            (false, false) => (SEND_PARALLEL, SEND_TOGETHER),
        };
        let summary = Summary { dry_run: self.dry_run, interrupted: None };
        let order = Order {
            root: match &place {
                Place::Folder(root) => root.clone(),
                Place::Strings(_) => PathBuf::new(),
            },
            salt: seen.salt(),
            dry_run: self.dry_run,
            legacy_stopped: self.legacy_stopped || self.legacy_paused,
            validate: self.validate,
            mint: self.mint,
            replace: self.replace,
            api_key_alias: self.api_key_alias,
            passwords,
            passcode: self.passcode.if_given()?,
            account: self.account_index,
            room: Order::room(),
        };
        let api = Arc::new(self.target.connect().await?);
        let run = Run {
            order: Arc::new(order),
            api: Arc::clone(&api),
            parallel,
            together,
            bar: progress(total),
            total,
        };
        let done = Box::pin(run.all(place, self.tenant, seen, report, summary)).await;
        if let Some(api) = Arc::into_inner(api) {
            api.close().await;
        }
        done
    }
}

/// One import under way.
struct Run {
    order: Arc<Order>,
    api: Arc<Api>,
    parallel: usize,
    together: usize,
    bar: indicatif::ProgressBar,
    total: Option<u64>,
}

impl Run {
    async fn all(
        self,
        place: Place,
        tenant: Option<String>,
        seen: Seen,
        mut report: Report,
        mut summary: Summary,
    ) -> Done {
        let (walking, found) = look(place, tenant);
        let enough = CancellationToken::new();
        let mut lines = std::pin::pin!(self.lines(found, seen, enough.clone()));
        loop {
            let sent = tokio::select! {
                biased;
                // The second time what is under way is left to itself.
                _ = tokio::signal::ctrl_c() => {
                    if enough.is_cancelled() {
                        break;
                    }
                    enough.cancel();
                    summary.interrupted = Some("stopped; run it again to go on".to_owned());
                    continue;
                }
                sent = lines.next() => sent,
            };
            match sent {
                None => break,
                Some(Sent::Line(line)) => self.tell(&mut report, &line)?,
                Some(Sent::Unheard(line)) => {
                    enough.cancel();
                    self.tell(&mut report, &line)?;
                    summary.interrupted.get_or_insert_with(|| {
                        format!("the service does not answer ({}); run it again to go on", line.message)
                    });
                }
            }
        }
        self.bar.finish_and_clear();
        let interrupted = summary.interrupted.is_some();
        let counts = report.end(&summary)?;
        if !interrupted {
            walking.await??;
        }
        let (all, refused) = (counts.all(), counts.refusals());
        match summary.interrupted {
            Some(why) => Err(Failure::Failed(format!("after {all} files: {why}"))),
            None if refused > 0 => Err(Failure::Failed(format!("{refused} of {all} files were refused"))),
            None => Ok(()),
        }
    }

    /// What becomes of each source, in the order of the walk.
    fn lines(
        &self,
        found: mpsc::Receiver<Found>,
        seen: Seen,
        enough: CancellationToken,
    ) -> impl futures::Stream<Item = Sent> {
        let reading = Arc::clone(&self.order);
        let (sending, api) = (Arc::clone(&self.order), Arc::clone(&self.api));
        let mut seen = seen;
        stream::unfold(found, async |mut found| found.recv().await.map(|one| (one, found)))
            .take_until(enough.cancelled_owned())
            .ready_chunks(READ_TOGETHER)
            .map(move |found| {
                let (order, names) = (Arc::clone(&reading), named(&found));
                // A task of its own, so that all processors read.
                async move {
                    let read = tokio::spawn(order.read_all(found)).await;
                    read.unwrap_or_else(|_| names.into_iter().map(|name| Err(Box::new(died(name)))).collect())
                }
            })
            .buffered(READ_PARALLEL)
            .flat_map(stream::iter)
            .map(move |read: Result<Ready, Box<Line>>| {
                let ready = read?;
                match seen.refusal(&ready.file, &ready.key, ready.mark) {
                    None => Ok(ready),
                    Some(refusal) => Err(Box::new(refusal)),
                }
            })
            .ready_chunks(self.together)
            .map(move |read| {
                let (order, api) = (Arc::clone(&sending), Arc::clone(&api));
                let known: Vec<_> = read
                    .iter()
                    .map(|read| read.as_ref().map(|it| it.file.clone()).map_err(Clone::clone))
                    .collect();
                async move {
                    let sent = tokio::spawn(order.send_all(api, read)).await;
                    let line = |known: Result<String, Box<Line>>| known.map_or_else(|line| *line, died);
                    sent.unwrap_or_else(|_| known.into_iter().map(line).map(Sent::Line).collect())
                }
            })
            .buffered(self.parallel)
            .flat_map(stream::iter)
    }

    fn tell(&self, report: &mut Report, line: &Line) -> Done {
        // Above the bar, which is drawn again below it.
        self.bar.suspend(|| report.add(line))?;
        self.bar.inc(1);
        if self.bar.is_hidden() && self.bar.position().is_multiple_of(TELL_EVERY) {
            let total = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
            let rate = self.bar.per_sec();
            let left = self.bar.eta().as_secs();
            output::note(format!("{}{total} files, {rate:.0} a second, {left} s left", self.bar.position()));
        }
        Ok(())
    }
}

/// Walks in a thread of its own, no further ahead than a bound.
fn look(place: Place, tenant: Option<String>) -> (JoinHandle<Done>, mpsc::Receiver<Found>) {
    let (told, found) = mpsc::channel(FOUND_MAX);
    let walking = tokio::task::spawn_blocking(move || {
        place.walk(tenant.as_deref(), &mut |one| match told.blocking_send(one) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    });
    (walking, found)
}

fn named(found: &[Found]) -> Vec<String> {
    found.iter().map(|found| found.name.clone()).collect()
}

fn died(file: String) -> Line {
    Line::refused(file, None, "internal", "reading or sending it stopped midway; see the log")
}

fn progress(total: Option<u64>) -> indicatif::ProgressBar {
    let (bar, template) = match total {
        Some(total) => (indicatif::ProgressBar::new(total), "{bar:40} {pos}/{len}  {per_sec}  {eta} left"),
        None => (indicatif::ProgressBar::new_spinner(), "{spinner} {pos}  {per_sec}"),
    };
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
