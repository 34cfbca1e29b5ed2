//! `usm.v1.LoginService`

use std::{collections::VecDeque, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use tonic::{Request, Status, async_trait};
use usm_client::v1::{self, login_service_server::LoginService};

use crate::{
    app::{self, App, logins::Start},
    domain::{
        error::Error,
        login::{BotToken, Login, PhoneNumber, Proof},
        secret::Secret,
    },
    grpc::{
        call::{Answer, admitted, answer},
        convert::{self, login::login},
    },
};

/// How often a watcher hears that it still watches; the contract promises 30 s.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// The longest password the contract takes, in characters.
const PASSWORD_LENGTH_MAX: usize = 256;
/// The same of a code.
const CODE_LENGTH_MAX: usize = 64;

pub(crate) struct Logins {
    pub(crate) app: App,
}

#[async_trait]
impl LoginService for Logins {
    async fn start_qr_login(
        &self,
        request: Request<v1::StartQrLoginRequest>,
    ) -> Answer<v1::StartQrLoginResponse> {
        let (call, request) = admitted(request)?;
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let start = Start {
            key,
            proof: Proof::Qr,
            expected_user: convert::account("expected_telegram_user_id", request.expected_telegram_user_id)?,
            api_key_alias: convert::given(request.api_key_alias),
            device: convert::material::device_given(request.device)?,
            proxy: convert::material::proxy_given(request.proxy)?,
            request_id: convert::request_id(&request.request_id)?,
            labels: convert::labels(request.labels)?,
        };
        let started = self.app.start_login(&caller, start).await?;
        answer(v1::StartQrLoginResponse { login: Some(login(&started, app::now())?) })
    }

    async fn start_phone_login(
        &self,
        request: Request<v1::StartPhoneLoginRequest>,
    ) -> Answer<v1::StartPhoneLoginResponse> {
        let (call, request) = admitted(request)?;
        let number = Secret::new(request.phone_number);
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let start = Start {
            key,
            proof: Proof::Phone(PhoneNumber::parse(number.expose_secret())?),
            expected_user: convert::account("expected_telegram_user_id", request.expected_telegram_user_id)?,
            api_key_alias: convert::given(request.api_key_alias),
            device: convert::material::device_given(request.device)?,
            proxy: convert::material::proxy_given(request.proxy)?,
            request_id: convert::request_id(&request.request_id)?,
            labels: convert::labels(request.labels)?,
        };
        let started = self.app.start_login(&caller, start).await?;
        answer(v1::StartPhoneLoginResponse { login: Some(login(&started, app::now())?) })
    }

    async fn start_bot_login(
        &self,
        request: Request<v1::StartBotLoginRequest>,
    ) -> Answer<v1::StartBotLoginResponse> {
        let (call, request) = admitted(request)?;
        let token = Secret::new(request.bot_token);
        let (caller, key) = call.for_session(&request.tenant_id, &request.app_id)?;
        let start = Start {
            key,
            proof: Proof::Bot(BotToken::parse(token.expose_secret())?),
            expected_user: convert::account("expected_telegram_user_id", request.expected_telegram_user_id)?,
            api_key_alias: convert::given(request.api_key_alias),
            device: convert::material::device_given(request.device)?,
            proxy: convert::material::proxy_given(request.proxy)?,
            request_id: convert::request_id(&request.request_id)?,
            labels: convert::labels(request.labels)?,
        };
        let started = self.app.start_login(&caller, start).await?;
        answer(v1::StartBotLoginResponse { login: Some(login(&started, app::now())?) })
    }

    async fn submit_code(&self, request: Request<v1::SubmitCodeRequest>) -> Answer<v1::SubmitCodeResponse> {
        let (call, mut request) = admitted(request)?;
        let code = code(std::mem::take(&mut request.code))?;
        convert::request_id(&request.request_id)?;
        let (caller, ticket) = call.for_ticket(&request.ticket)?;
        let after = self.app.submit_code(&caller, &ticket, code).await?;
        answer(v1::SubmitCodeResponse { login: Some(login(&after, app::now())?) })
    }

    async fn resend_code(&self, request: Request<v1::ResendCodeRequest>) -> Answer<v1::ResendCodeResponse> {
        let (call, request) = admitted(request)?;
        let repeated = convert::request_id(&request.request_id)?;
        let (caller, ticket) = call.for_ticket(&request.ticket)?;
        let after = self.app.resend_code(&caller, &ticket, repeated).await?;
        answer(v1::ResendCodeResponse { login: Some(login(&after, app::now())?) })
    }

    async fn submit_password(
        &self,
        request: Request<v1::SubmitPasswordRequest>,
    ) -> Answer<v1::SubmitPasswordResponse> {
        let (call, mut request) = admitted(request)?;
        let password = password(std::mem::take(&mut request.password))?;
        convert::request_id(&request.request_id)?;
        let (caller, ticket) = call.for_ticket(&request.ticket)?;
        // By contract each call is an attempt, whatever it is named.
        let after = self.app.submit_password(&caller, &ticket, password, None).await?;
        answer(v1::SubmitPasswordResponse { login: Some(login(&after, app::now())?) })
    }

    async fn get_login(&self, request: Request<v1::GetLoginRequest>) -> Answer<v1::GetLoginResponse> {
        let (call, request) = admitted(request)?;
        let (caller, ticket) = call.for_ticket(&request.ticket)?;
        let found = self.app.get_login(&caller, &ticket).await?;
        answer(v1::GetLoginResponse { login: Some(login(&found, app::now())?) })
    }

    type WatchLoginStream = BoxStream<'static, Result<v1::WatchLoginResponse, Status>>;

    async fn watch_login(&self, request: Request<v1::WatchLoginRequest>) -> Answer<Self::WatchLoginStream> {
        let (call, request) = admitted(request)?;
        let (caller, ticket) = call.for_ticket(&request.ticket)?;
        let states = self.app.watch_login(&caller, &ticket).await?;
        answer(Watching::over(states))
    }

    async fn finalize_login(
        &self,
        request: Request<v1::FinalizeLoginRequest>,
    ) -> Answer<v1::FinalizeLoginResponse> {
        let (call, mut request) = admitted(request)?;
        let password = password(std::mem::take(&mut request.password))?;
        let password = if password.is_empty() { None } else { Some(password) };
        let repeated = convert::request_id(&request.request_id)?;
        let (caller, ticket) = call.for_ticket(&request.ticket)?;
        let end = self.app.finalize_login(&caller, &ticket, password, repeated).await?;
        answer(v1::FinalizeLoginResponse { login: Some(login(&end, app::now())?) })
    }

    async fn cancel_login(
        &self,
        request: Request<v1::CancelLoginRequest>,
    ) -> Answer<v1::CancelLoginResponse> {
        let (call, request) = admitted(request)?;
        convert::request_id(&request.request_id)?;
        let (caller, ticket) = call.for_ticket(&request.ticket)?;
        let cancelled = self.app.cancel_login(&caller, &ticket).await?;
        answer(v1::CancelLoginResponse { login: Some(login(&cancelled, app::now())?) })
    }
}

/// # Errors
/// `ARGUMENT_INVALID` for one longer than any code, and for what nobody types.
fn code(text: String) -> Result<Secret, Error> {
    let text = Secret::new(text);
    let code = Secret::new(text.expose_secret().trim());
    if code.expose_secret().chars().any(char::is_control) {
        return Err(Error::invalid("code", "must be the code as Telegram sent it"));
    }
    if code.expose_secret().chars().count() > CODE_LENGTH_MAX {
        return Err(Error::invalid("code", "must be at most 64 characters"));
    }
    Ok(code)
}

/// # Errors
/// `ARGUMENT_INVALID` for one longer than any password.
fn password(text: String) -> Result<Secret, Error> {
    let password = Secret::new(text);
    if password.expose_secret().chars().count() > PASSWORD_LENGTH_MAX {
        return Err(Error::invalid("password", "must be at most 256 characters"));
    }
    Ok(password)
}

/// A login's states on their way to a watcher, with a sign of life where nothing happens.
struct Watching {
    states: BoxStream<'static, Result<Login, Error>>,
    last: Option<Login>,
    /// At most the two answers of one state.
    waiting: VecDeque<v1::WatchLoginResponse>,
    over: bool,
}

impl Watching {
    fn over(
        states: BoxStream<'static, Result<Login, Error>>,
    ) -> BoxStream<'static, Result<v1::WatchLoginResponse, Status>> {
        let watching = Self { states, last: None, waiting: VecDeque::new(), over: false };
        futures::stream::unfold(watching, |mut watching| async move {
            let next = watching.next().await?;
            watching.over |= next.is_err();
            Some((next.map_err(Status::from), watching))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<v1::WatchLoginResponse, Error>> {
        if let Some(answer) = self.waiting.pop_front() {
            return Some(Ok(answer));
        }
        if self.over {
            return None;
        }
        let state = match (tokio::time::timeout(HEARTBEAT, self.states.next()).await, &self.last) {
            (Err(_silence), Some(last)) => return Some(convert::login::heartbeat(last, app::now())),
            // Before the first state there is nothing to repeat.
            (Err(_silence), None) => self.states.next().await?,
            (Ok(state), _) => state?,
        };
        let answers = match state {
            Ok(state) => {
                let answers = convert::login::steps(self.last.as_ref(), &state, app::now());
                self.last = Some(state);
                answers
            }
            Err(error) => Err(error),
        };
        match answers {
            Ok(answers) => {
                self.waiting.extend(answers);
                self.waiting.pop_front().map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
    }
}
