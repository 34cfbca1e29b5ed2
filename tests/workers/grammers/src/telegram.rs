//! The one connection of this worker, through grammers: opened by the first question, closed for certain.
//!
//! It drives a sender itself instead of leaving that to a pool: so it sees Telegram close its end of the connection,
//! and decides what leaves.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use grammers_mtproto::mtp::Encrypted;
use grammers_mtproto::transport::Full;
use grammers_mtsender::{InvocationError, ReadError, Sender, ServerAddr};
use grammers_tl_types as tl;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use usm_client::Connections;

use crate::limit::{Limited, Term, ping};
use crate::material::Home;

/// grammers waits for ever. Shorter than most leases have left at any time: a ping of a renewal waits for the answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long Telegram gets to close its end.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// How often an idle connection looks for a later deadline.
const LOOK_EVERY: Duration = Duration::from_millis(200);

type Line = Sender<Full, Limited<Encrypted>>;

/// What came in place of an answer.
pub(crate) enum Trouble {
    /// Telegram's own answer; `code` as it sent it.
    Refused { code: i32, message: String },
    /// None came, or the connection broke: says nothing of the session.
    Unanswered(String),
}

pub(crate) struct Connection {
    home: Home,
    term: Rc<Cell<Term>>,
    line: Option<Line>,
    /// A connection was closed here, and Telegram was not seen to close its end.
    unseen: bool,
}

impl Connection {
    /// Opens nothing yet: the first question does.
    pub(crate) fn new(home: Home, term: Term) -> Self {
        Self { home, term: Rc::new(Cell::new(term)), line: None, unseen: false }
    }

    /// The lease was renewed: what leaves from now on asks Telegram to wait that long.
    pub(crate) fn renew(&self, deadline: Instant) {
        if let Term::Until(_) = self.term.get() {
            self.term.set(Term::Until(deadline));
        }
    }

    /// Asks Telegram who the session belongs to.
    ///
    /// # Errors
    /// [`Trouble`], within some seconds.
    ///
    /// # Cancel safety
    /// Dropped midway, the answer is ignored.
    pub(crate) async fn me(&mut self) -> Result<i64, Trouble> {
        let question = tl::functions::users::GetUsers { id: vec![tl::enums::InputUser::UserSelf] };
        let answer = if let Some(line) = &mut self.line {
            timeout(ANSWER_MAX, line.invoke(&question)).await
        } else {
            let line = self.connect().await.map_err(|error| Trouble::Unanswered(error.to_string()))?;
            let opening = tl::functions::InvokeWithLayer { layer: tl::LAYER, query: self.greet(question) };
            timeout(ANSWER_MAX, self.line.insert(line).invoke(&opening)).await
        };
        let users = match answer {
            Ok(Ok(users)) => users,
            Ok(Err(error @ InvocationError::Rpc(_))) => return Err(trouble(&error)),
            Ok(Err(error)) => {
                let fate = if let InvocationError::Io(error) = &error { fate(error) } else { Fate::Open };
                self.hang_up(Instant::now() + FAREWELL_MAX, fate).await;
                return Err(trouble(&error));
            }
            Err(_) => {
                self.hang_up(Instant::now() + FAREWELL_MAX, Fate::Open).await;
                return Err(Trouble::Unanswered("no answer in time".into()));
            }
        };
        users
            .first()
            .map(tl::enums::User::id)
            .ok_or_else(|| Trouble::Unanswered("the answer names nobody".into()))
    }

    /// Keeps the connection alive until then.
    pub(crate) async fn idle(&mut self, until: Instant, deadline: impl Fn() -> Instant) {
        let mut told = self.term.get();
        while Instant::now() < until {
            self.renew(deadline());
            let Some(line) = &mut self.line else {
                return tokio::time::sleep_until(until).await;
            };
            let look = until.min(Instant::now() + LOOK_EVERY);
            let stepped = if told == self.term.get() {
                timeout_at(look, line.step()).await.map(|step| step.map(drop))
            } else {
                told = self.term.get();
                timeout_at(look, line.invoke(&ping(0))).await.map(|pong| match pong {
                    Err(InvocationError::Io(error)) => Err(ReadError::Io(error)),
                    _ => Ok(()),
                })
            };
            if let Ok(Err(error)) = stepped {
                let fate = if let ReadError::Io(error) = &error { fate(error) } else { Fate::Open };
                self.hang_up(Instant::now() + FAREWELL_MAX, fate).await;
            }
        }
    }

    /// Closes the connection, at the latest at `until`, and tells whether Telegram was seen to close its end too.
    pub(crate) async fn close(mut self, until: Instant) -> Connections {
        self.term.set(Term::Over);
        self.hang_up(until.min(Instant::now() + FAREWELL_MAX), Fate::Open).await;
        if self.unseen { Connections::Unknown } else { Connections::Closed }
    }

    async fn connect(&self) -> io::Result<Line> {
        if self.unseen && self.term.get() != Term::Endless {
            return Err(io::Error::other("an older connection may still be open at Telegram"));
        }
        let mtp = Limited::new(Encrypted::build().finish(*self.home.auth_key), Rc::clone(&self.term));
        let address = ServerAddr::Tcp { address: self.home.address };
        // What is dropped midway has sent nothing yet.
        timeout(CONNECT_MAX, Sender::connect(Full::new(), mtp, address)).await?
    }

    fn greet<Q>(&self, query: Q) -> tl::functions::InitConnection<Q> {
        let device = &self.home.device;
        tl::functions::InitConnection {
            api_id: self.home.api_id,
            device_model: device.device_model.clone(),
            system_version: device.system_version.clone(),
            app_version: device.app_version.clone(),
            system_lang_code: device.system_lang_code.clone(),
            lang_pack: String::new(),
            lang_code: device.lang_code.clone(),
            proxy: None,
            params: None,
            query,
        }
    }

    /// Closes what is open.
    async fn hang_up(&mut self, until: Instant, fate: Fate) {
        // Forgotten midway, nobody has seen the end.
        let Some(mut line) = self.line.take() else { return };
        let before = std::mem::replace(&mut self.unseen, true);
        let seen = match fate {
            Fate::Open => timeout_at(until, farewell(&mut line)).await.unwrap_or(false),
            Fate::Ended => true,
            Fate::Lost => false,
        };
        self.unseen = before || !seen;
    }
}

/// Says that nothing more comes, and waits until Telegram says so too. Tells whether it did.
async fn farewell(line: &mut Line) -> bool {
    if line.disconnect().await.is_err() {
        return true; // reset before
    }
    loop {
        match line.step().await {
            Ok(_) => {}
            // It still had something to write, which now cannot leave.
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(ReadError::Io(error)) => return fate(&error) == Fate::Ended,
            Err(_) => return false,
        }
    }
}

/// What an error says of Telegram's end of the connection.
#[derive(PartialEq, Eq)]
enum Fate {
    Open,
    Ended,
    /// This machine gave up: nobody knows.
    Lost,
}

/// grammers reports an orderly end as a reset, too; a pipe breaks after one.
fn fate(error: &io::Error) -> Fate {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Fate::Ended,
        _ => Fate::Lost,
    }
}

fn trouble(error: &InvocationError) -> Trouble {
    match error {
        InvocationError::Rpc(error) => {
            let message = match error.value {
                Some(value) => format!("{}_{value}", error.name),
                None => error.name.clone(),
            };
            Trouble::Refused { code: error.code, message }
        }
        other => Trouble::Unanswered(other.to_string()),
    }
}
