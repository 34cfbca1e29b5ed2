//! Grants, renewals and releases of many callers, done together: one transaction for whoever asks at the same time.
//!
//! Nobody waits for a batch to fill. An ask that finds the desk free is served at once; what arrives meanwhile is served
//! together as soon as that is done, or before, if it is much or if that takes long. So one caller pays what it always paid, and many share the round trips and the
//! commit, which is what a durable write costs. Each ask is judged by its own row, in the same statements; one that
//! fails takes nobody with it: what a batch could not do is done again one by one.
//!
//! Asks of one authority are a part of the batch: for each part the transaction takes that role and those claims, so that
//! row-level security decides for each ask as it would alone. There is at most one ask about each lease and each session.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{DatabaseTransaction, QueryResult};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::{
    domain::{
        caller::{Authority, Caller},
        lease::Request,
        material::SealedMaterial,
        time::Timestamp,
    },
    store::{
        Backend, Error, Store,
        leases::{
            Acquire, Released, Renew,
            express::Rows,
            grant::{self, Decided},
            release::Ending,
            renewal::{self, Renewal},
            sql::Texts,
        },
        tx::{Access, commit, within},
    },
};

/// Asks served by one transaction at most.
const TOGETHER_MAX: usize = 64;
/// Authorities whose asks one transaction serves at most: each costs round trips of its own.
const PARTS_MAX: usize = 16;
/// As many as wait before a second transaction is begun beside one that is under way. For fewer it costs more than it
/// brings: what a transaction costs the database is its statements, one or two for each authority in it, hardly its rows.
const SOME: usize = 32;
/// As many as wait before there are more than two.
const MANY: usize = 96;
/// Or so long, because the one under way may be stuck.
const LONG: Duration = Duration::from_millis(50);
/// How long a batch waits for a row that somebody else holds, before it lets those go ahead that can.
pub(in crate::store) const LOCK_PATIENCE: Duration = Duration::from_millis(100);
/// How long a batch may take, whatever its callers allow.
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// How long asks under way are waited for when the database is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
const SERVING: &str = "serving leases";

/// One ask and whom to tell.
pub(super) struct Ask<W, A> {
    pub(super) caller: Caller,
    pub(super) work: W,
    reply: oneshot::Sender<Result<A, Error>>,
}

impl<W, A> Ask<W, A> {
    /// Nobody waits for the answer any more, so nothing should be done.
    fn is_idle(&self) -> bool {
        self.reply.is_closed() || Instant::now() >= self.caller.deadline
    }
}

pub(super) enum Item {
    Grant(Ask<Request, Acquire>),
    Renew(Ask<Renewal, Renew>),
    Release(Ask<Ending, Released>),
}

impl Item {
    fn authority(&self) -> &Authority {
        match self {
            Self::Grant(ask) => &ask.caller.authority,
            Self::Renew(ask) => &ask.caller.authority,
            Self::Release(ask) => &ask.caller.authority,
        }
    }

    /// What no other ask of the same batch may be about.
    fn subject(&self) -> String {
        match self {
            Self::Grant(ask) => ask.work.key.to_string(),
            Self::Renew(ask) => ask.work.hash.clone(),
            Self::Release(ask) => ask.work.hash.clone(),
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Self::Grant(ask) => ask.is_idle(),
            Self::Renew(ask) => ask.is_idle(),
            Self::Release(ask) => ask.is_idle(),
        }
    }

    fn deadline(&self) -> Instant {
        match self {
            Self::Grant(ask) => ask.caller.deadline,
            Self::Renew(ask) => ask.caller.deadline,
            Self::Release(ask) => ask.caller.deadline,
        }
    }
}

/// Makes the asks of one kind.
pub(super) fn ask<W, A>(
    caller: &Caller,
    work: W,
    into: fn(Ask<W, A>) -> Item,
) -> (Item, oneshot::Receiver<Result<A, Error>>) {
    let (reply, answer) = oneshot::channel();
    (into(Ask { caller: caller.clone(), work, reply }), answer)
}

/// Asks as a statement takes them.
pub(in crate::store) fn list(asks: impl Iterator<Item = impl serde::Serialize>) -> String {
    // Numbers and texts always have a form in JSON.
    serde_json::to_string(&asks.collect::<Vec<_>>()).unwrap_or_default()
}

/// Where asks wait while others are served. Belongs to the store, whose clones share it.
#[derive(Debug)]
pub(in crate::store) struct Desk {
    pub(in crate::store) texts: Texts,
    clerks_max: usize,
    /// Short sections: taking and putting asks.
    waiting: Mutex<Waiting>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<(Instant, Item)>,
    clerks: usize,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("items", &self.items.len()).field("clerks", &self.clerks).finish()
    }
}

impl Desk {
    pub(in crate::store) fn new(backend: Backend) -> Self {
        let clerks_max = match backend {
            Backend::Postgres => 4,
            // There is one writer.
            Backend::Sqlite => 1,
        };
        Self { texts: Texts::new(backend), clerks_max, waiting: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// Waits for the asks under way, within a bound.
    pub(in crate::store) async fn close(&self) {
        self.tasks.close();
        if tokio::time::timeout(CLOSE_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("Closed the database under leases that were still being served");
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has to come to serve it.
    fn put(&self, item: Item) -> bool {
        let mut waiting = self.waiting();
        waiting.items.push_back((Instant::now(), item));
        let long = waiting.items.front().is_some_and(|(since, _)| since.elapsed() >= LONG);
        let come = match waiting.clerks {
            0 => true,
            1 => self.clerks_max > 1 && (long || waiting.items.len() >= SOME),
            clerks => clerks < self.clerks_max && (long || waiting.items.len() >= MANY),
        };
        if come {
            waiting.clerks += 1;
        }
        come
    }

    /// What is to be served next; `None` ends the clerk that asked.
    fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting();
        waiting.items.retain(|(_, item)| !item.is_idle());
        let Some((_, first)) = waiting.items.pop_front() else {
            waiting.clerks -= 1;
            return None;
        };
        let mut batch = Batch::of(first);
        let mut left = VecDeque::with_capacity(waiting.items.len());
        while let Some((since, item)) = waiting.items.pop_front() {
            if let Some(item) = batch.join(item) {
                left.push_back((since, item));
            }
        }
        waiting.items = left;
        Some(batch)
    }
}

/// Asks that are served together.
pub(super) struct Batch {
    deadline: Instant,
    subjects: HashSet<String>,
    pub(super) parts: Vec<Part>,
}

/// Those of one authority among them.
pub(super) struct Part {
    pub(super) authority: Authority,
    pub(super) grants: Vec<Ask<Request, Acquire>>,
    pub(super) renewals: Vec<Ask<Renewal, Renew>>,
    pub(super) releases: Vec<Ask<Ending, Released>>,
}

impl Part {
    fn of(authority: Authority) -> Self {
        Self { authority, grants: Vec::new(), renewals: Vec::new(), releases: Vec::new() }
    }

    fn items(self) -> impl Iterator<Item = Item> {
        let grants = self.grants.into_iter().map(Item::Grant);
        let renewals = self.renewals.into_iter().map(Item::Renew);
        let releases = self.releases.into_iter().map(Item::Release);
        renewals.chain(releases).chain(grants)
    }
}

impl Batch {
    fn of(item: Item) -> Self {
        let mut batch = Self { deadline: item.deadline(), subjects: HashSet::new(), parts: Vec::new() };
        let refused = batch.join(item);
        debug_assert!(refused.is_none(), "the first one always finds room");
        batch
    }

    /// Takes the item in, or gives it back to wait for another batch.
    fn join(&mut self, item: Item) -> Option<Item> {
        let known = self.parts.iter().position(|part| part.authority == *item.authority());
        if self.subjects.len() >= TOGETHER_MAX
            || (known.is_none() && self.parts.len() >= PARTS_MAX)
            || !self.subjects.insert(item.subject())
        {
            return Some(item);
        }
        self.deadline = self.deadline.max(item.deadline());
        let part = known.unwrap_or_else(|| {
            self.parts.push(Part::of(item.authority().clone()));
            self.parts.len() - 1
        });
        let part = &mut self.parts[part];
        match item {
            Item::Grant(ask) => part.grants.push(ask),
            Item::Renew(ask) => part.renewals.push(ask),
            Item::Release(ask) => part.releases.push(ask),
        }
        None
    }

    fn is_alone(&self) -> bool {
        self.subjects.len() == 1
    }

    /// Each ask as a batch of its own.
    fn one_by_one(self) -> impl Iterator<Item = Batch> {
        self.parts.into_iter().flat_map(Part::items).map(Self::of)
    }

    fn answer(self, answers: Vec<Answers>) {
        fn tell<W, A>(asks: Vec<Ask<W, A>>, answers: Vec<A>) {
            for (ask, answer) in asks.into_iter().zip(answers) {
                // Who hung up meanwhile asks again, or lets the lease run out.
                let _ = ask.reply.send(Ok(answer));
            }
        }
        for (part, answers) in self.parts.into_iter().zip(answers) {
            tell(part.renewals, answers.renewals);
            tell(part.releases, answers.releases);
            tell(part.grants, answers.grants);
        }
    }

    /// Whether it holds nothing but asks of some who wait in queues: theirs is the careful way.
    fn is_waiting(&self) -> bool {
        self.parts.iter().all(|part| {
            part.renewals.is_empty()
                && part.releases.is_empty()
                && part.grants.iter().all(|ask| ask.work.queued)
        })
    }

    /// Answers what the rows tell, and gives back the rest.
    fn answer_from(self, store: &Store, rows: Vec<Rows>) -> Option<Batch> {
        let mut left: Option<Batch> = None;
        let mut keep = |item: Item| match &mut left {
            None => left = Some(Batch::of(item)),
            Some(batch) => {
                let refused = batch.join(item);
                debug_assert!(refused.is_none(), "what was one batch is one again");
            }
        };
        for (part, rows) in self.parts.into_iter().zip(rows) {
            let renewed = readable(&rows.renewed, Store::renewed);
            for ask in part.renewals {
                match renewed.get(&ask.work.hash).map(|row| renewal::extended(row, &ask.work.lease)) {
                    Some(Ok(answer)) => drop(ask.reply.send(Ok(answer))),
                    Some(Err(_)) | None => keep(Item::Renew(ask)),
                }
            }
            let mut ended = readable(&rows.released, Store::ended);
            for ask in part.releases {
                match ended.remove(&ask.work.hash).map(|row| row.view(store.quiet_gap)) {
                    Some(Ok(ended)) => drop(ask.reply.send(Ok(Released::Done(Box::new(ended))))),
                    Some(Err(_)) | None => keep(Item::Release(ask)),
                }
            }
            let mut lent = readable(&rows.granted, Store::decided);
            let mut sealed = readable(&rows.granted, Store::opened);
            for ask in part.grants {
                let Some(decided) = lent.remove(&ask.work.key) else {
                    keep(Item::Grant(ask));
                    continue;
                };
                let material = sealed.remove(&ask.work.key);
                store.lend(ask, decided, material);
            }
        }
        left
    }

    fn fail(self, error: &Error) {
        fn tell<W, A>(asks: Vec<Ask<W, A>>, error: &Error) {
            for ask in asks {
                let _ = ask.reply.send(Err(error.again()));
            }
        }
        for part in self.parts {
            tell(part.renewals, error);
            tell(part.releases, error);
            tell(part.grants, error);
        }
    }
}

/// Rows by what they are about, without those that cannot be read: they concern nobody else, and the careful way, which
/// looks at each again, tells what is wrong with them.
fn readable<'a, K: Eq + std::hash::Hash, V>(
    rows: &'a [QueryResult],
    read: impl Fn(&'a [QueryResult]) -> Result<HashMap<K, V>, Error>,
) -> HashMap<K, V> {
    rows.iter().filter_map(|row| read(std::slice::from_ref(row)).ok()).flatten().collect()
}

/// Why a batch was not served.
struct Failure {
    error: Error,
    /// So that its asks may be tried again.
    nothing_happened: bool,
}

/// One answer for each ask of a part, in their order.
struct Answers {
    grants: Vec<Acquire>,
    renewals: Vec<Renew>,
    releases: Vec<Released>,
}

impl Store {
    /// Has an item served, now or together with others.
    pub(super) async fn served<A>(
        &self,
        deadline: Instant,
        doing: &'static str,
        (item, answer): (Item, oneshot::Receiver<Result<A, Error>>),
    ) -> Result<A, Error> {
        within(deadline, doing, async {
            if self.desk.put(item) {
                let store = self.clone();
                self.desk.tasks.spawn(async move {
                    while let Some(batch) = store.desk.take() {
                        store.serve(batch).await;
                    }
                });
            }
            match answer.await {
                Ok(answer) => answer,
                Err(died) => Err(Error::Unavailable { doing, source: died.into() }),
            }
        })
        .await
    }

    async fn serve(&self, batch: Batch) {
        let Some(batch) = self.serve_at_once(batch).await else { return };
        let Some((batch, error)) = self.try_serve(batch).await else { return };
        if batch.is_alone() || !error.nothing_happened {
            return batch.fail(&error.error);
        }
        tracing::debug!(error = %error.error, "Leases are served one by one");
        for single in batch.one_by_one() {
            let store = self.clone();
            // A row that somebody holds for long keeps only its own ask waiting.
            self.desk.tasks.spawn(async move {
                if let Some((single, error)) = store.try_serve(single).await {
                    single.fail(&error.error);
                }
            });
        }
    }

    /// Answers what one message can do, and gives back the rest.
    async fn serve_at_once(&self, batch: Batch) -> Option<Batch> {
        if self.backend != Backend::Postgres || batch.is_waiting() {
            return Some(batch);
        }
        let sent = AtomicBool::new(false);
        let deadline = batch.deadline.min(Instant::now() + BATCH_LIMIT);
        let pool = self.write.get_postgres_connection_pool();
        match within(deadline, SERVING, self.express(pool, &batch, deadline, &sent)).await {
            Ok(rows) => batch.answer_from(self, rows),
            // A lock that was waited for, or a row that cannot be read: nothing happened, and each is told for itself.
            Err(error) if !error.is_unclear() || !sent.load(Ordering::Relaxed) => {
                tracing::debug!(error = %error, "Leases are served the careful way");
                Some(batch)
            }
            Err(error) => {
                batch.fail(&error);
                None
            }
        }
    }

    /// Answers a grant that is committed: if that goes wrong, the lease runs out.
    fn lend(&self, ask: Ask<Request, Acquire>, decided: Decided, sealed: Option<SealedMaterial>) {
        let is_fitting = sealed.as_ref().is_some_and(|sealed| decided.fits(sealed));
        if is_fitting {
            let _ = ask.reply.send(grant::fresh(&ask.work, &decided, sealed));
            return;
        }
        // It changed while its row was waited for. Under the lease it stays.
        let store = self.clone();
        self.desk.tasks.spawn(async move {
            let sealed = store.material(&ask.caller, &ask.work.key).await;
            let _ = ask.reply.send(sealed.and_then(|sealed| grant::fresh(&ask.work, &decided, sealed)));
        });
    }

    /// Serves and answers a batch, or gives it back with what went wrong.
    async fn try_serve(&self, batch: Batch) -> Option<(Batch, Failure)> {
        let committing = AtomicBool::new(false);
        let deadline = batch.deadline.min(Instant::now() + BATCH_LIMIT);
        match within(deadline, SERVING, self.attempt(&batch, deadline, &committing)).await {
            Ok(answers) => {
                batch.answer(answers);
                None
            }
            Err(error) => {
                // Once the commit was on its way nobody knows, and nothing is done twice. A database that is away is
                // as far away for each alone.
                let nothing_happened =
                    !committing.load(Ordering::Relaxed) && !matches!(error, Error::Unavailable { .. });
                Some((batch, Failure { error, nothing_happened }))
            }
        }
    }

    async fn attempt(
        &self,
        batch: &Batch,
        deadline: Instant,
        committing: &AtomicBool,
    ) -> Result<Vec<Answers>, Error> {
        let patience = if batch.is_alone() { Duration::ZERO } else { LOCK_PATIENCE };
        let tx = self.begin_as_nobody(deadline, Access::Write, SERVING).await?;
        let mut answers = Vec::with_capacity(batch.parts.len());
        for part in &batch.parts {
            let caller = Caller {
                authority: part.authority.clone(),
                ..Caller::as_service("", Timestamp::EPOCH, deadline)
            };
            self.act_as(&tx, &caller, SERVING, patience).await?;
            answers.push(self.attempt_part(&tx, part).await?);
        }
        committing.store(true, Ordering::Relaxed);
        commit(tx, SERVING).await?;
        Ok(answers)
    }

    /// Renewals, then releases, then grants: who is given back a session can be lent it in the same breath.
    async fn attempt_part(&self, tx: &DatabaseTransaction, part: &Part) -> Result<Answers, Error> {
        let mut told = Vec::new();
        let renewals = self.renew_all(tx, &part.renewals, &part.authority).await?;
        let releases = self.release_all(tx, &part.releases, &part.authority, &mut told).await?;
        let grants = self.grant_all(tx, &part.grants, &part.authority, &mut told).await?;
        self.tell_all(tx, told).await?;
        Ok(Answers { grants, renewals, releases })
    }
}
