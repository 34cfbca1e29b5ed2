//! What happens to one session between its login and its end. Every claim is checked, none is assumed.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic_types::StatusExt as _;
use usm_client::v1::{self, watch_login_response::Step};

use super::{
    super::{
        Failure,
        connect::{Api, ask, ask_within},
        output,
    },
    phone::Phone,
    steps::Steps,
};
use crate::{
    boot::Server,
    domain::{material::Format, secret::Secret},
    formats,
};

const TENANT: &str = "acme";
const APP: &str = "news";
const USER: i64 = 777_000_123;
const PASSWORD: &str = "correct horse";
/// How long any one thing may take.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Story {
    api: Api,
    phone: Phone,
    telegram: crate::telegram::Telegram,
    token: Secret,
}

impl Story {
    pub(super) async fn begin(server: &Server) -> Result<Self, Failure> {
        let token = server.service_token("quickstart", Duration::from_secs(24 * 3600))?;
        let api = Api::remote(&format!("http://{}", server.address()), Some(token.clone())).await?;
        let admin =
            server.sandbox_admin().ok_or_else(|| Failure::Failed("the sandbox did not start".to_owned()))?;
        Ok(Self { api, phone: Phone::new(admin), telegram: server.telegram(), token })
    }

    pub(super) async fn tell(&self, steps: &mut Steps) -> Result<(), Failure> {
        self.make_account(steps).await?;
        self.log_in(steps).await?;
        let lease = self.work(steps).await?;
        self.refuse_second_worker(steps).await?;
        self.give_back(lease, steps).await?;
        self.revoke(steps).await
    }

    async fn make_account(&self, steps: &mut Steps) -> Result<(), Failure> {
        let account = json!({
            "id": USER, "first_name": "Ada", "username": "ada_example", "dc": 1, "password": PASSWORD, "hint": "xkcd",
        });
        self.phone.post("/users", &account).await?;
        steps.done("The sandbox has an account: Ada, at data centre 1, with a two-step password");
        Ok(())
    }

    async fn log_in(&self, steps: &mut Steps) -> Result<(), Failure> {
        let request = v1::StartQrLoginRequest {
            tenant_id: TENANT.to_owned(),
            app_id: APP.to_owned(),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let started = self.api.logins().start_qr_login(ask(request)).await.map_err(told)?;
        let ticket = started.into_inner().login.unwrap_or_default().ticket;
        let watch = v1::WatchLoginRequest { ticket: ticket.clone() };
        let stream = self.api.logins().watch_login(ask_within(watch, 4 * LIMIT)).await.map_err(told)?;
        let mut answers = stream.into_inner();
        let (mut scanned, mut wrong_refused) = (false, false);
        loop {
            let answer = tokio::time::timeout(LIMIT, answers.next())
                .await
                .map_err(|_| Failure::Failed("the login stood still".to_owned()))?
                .ok_or_else(|| Failure::Failed("the login ended without an authorization".to_owned()))?
                .map_err(told)?;
            match answer.step {
                Some(Step::QrShown(shown)) if !scanned => {
                    output::print_text(output::qr(&shown.qr_url)?);
                    steps.done("A QR code of a login token that Telegram gave");
                    self.phone.post("/scan", &json!({"token": shown.qr_url, "user_id": USER})).await?;
                    scanned = true;
                    steps.done("Ada scanned it with her phone");
                }
                Some(Step::Migrated(to)) => {
                    steps.done(&format!(
                        "Her account lives at data centre {}; the login moved there",
                        to.dc_id
                    ));
                }
                Some(Step::PasswordNeeded(_)) if !wrong_refused => {
                    self.answer_password(&ticket, steps).await?;
                    wrong_refused = true;
                }
                Some(Step::Authorized(by)) => {
                    ensure(by.telegram_user_id == USER, "another account signed in")?;
                    let session = self.session().await?;
                    ensure(session.state() == v1::SessionState::Authorized, "the session is not AUTHORIZED")?;
                    steps.done(&format!(
                        "Session {TENANT}/{APP} is AUTHORIZED as user {}; its key is sealed",
                        by.telegram_user_id
                    ));
                    return Ok(());
                }
                Some(Step::QrShown(_) | Step::PasswordNeeded(_) | Step::CodeSent(_)) | None => {}
                Some(Step::Expired(_) | Step::Cancelled(_) | Step::Superseded(_) | Step::Failed(_)) => {
                    let failure = answer.login.and_then(|login| login.failure).unwrap_or_default();
                    return Err(Failure::Failed(format!(
                        "the login ended: {} {}",
                        failure.reason, failure.message
                    )));
                }
            }
        }
    }

    async fn answer_password(&self, ticket: &str, steps: &mut Steps) -> Result<(), Failure> {
        let wrong = self.submit(ticket, "a guess").await;
        let reason = wrong.err().and_then(|status| reason(&status)).unwrap_or_default();
        ensure(reason == "PASSWORD_INVALID", "a wrong password was not refused")?;
        steps.done("A wrong password was refused with PASSWORD_INVALID; the scan is not lost");
        self.submit(ticket, PASSWORD).await.map_err(told)?;
        steps.done("The right password was accepted (SRP: it never left this process)");
        Ok(())
    }

    async fn submit(&self, ticket: &str, password: &str) -> Result<(), tonic::Status> {
        let request = v1::SubmitPasswordRequest {
            ticket: ticket.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        self.api.logins().submit_password(ask(request)).await.map(|_| ())
    }

    /// A worker borrows the session and asks Telegram who it is, with nothing but what the lease gave it.
    async fn work(&self, steps: &mut Steps) -> Result<v1::Lease, Failure> {
        let answer = self.acquire("worker-1").await.map_err(told)?;
        let (lease, material) = (answer.lease.unwrap_or_default(), answer.material.unwrap_or_default());
        steps.done(&format!(
            "worker-1 leased it: epoch {}, {} s, as a Telethon string session",
            lease.epoch,
            seconds(&lease)
        ));
        let parsed =
            formats::parse(&material.data, Some(Format::TelethonString), self.telegram.addresses()).await?;
        let mut session = parsed.material;
        session.api_id = material.api_id;
        let proof = self.telegram.probe(&session, Instant::now() + LIMIT).await?;
        ensure(proof.account.telegram_user_id == USER, "get_me named another account")?;
        steps.done(&format!(
            "worker-1 called get_me over MTProto with it: user {} (@{})",
            proof.account.telegram_user_id,
            proof.account.username.unwrap_or_default()
        ));
        Ok(lease)
    }

    async fn acquire(&self, holder: &str) -> Result<v1::AcquireLeaseResponse, tonic::Status> {
        let request = v1::AcquireLeaseRequest {
            tenant_id: TENANT.to_owned(),
            app_id: APP.to_owned(),
            holder: holder.to_owned(),
            format: v1::SessionFormat::TelethonString.into(),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        self.api.leases().acquire_lease(ask(request)).await.map(tonic::Response::into_inner)
    }

    async fn refuse_second_worker(&self, steps: &mut Steps) -> Result<(), Failure> {
        let refused = self.acquire("worker-2").await.err();
        let reason = refused.and_then(|status| reason(&status)).unwrap_or_default();
        ensure(reason == "SESSION_LEASED", "a second worker got the session too")?;
        steps.done("worker-2 asked for it and was refused with SESSION_LEASED");
        Ok(())
    }

    async fn give_back(&self, lease: v1::Lease, steps: &mut Steps) -> Result<(), Failure> {
        let request = v1::ReleaseLeaseRequest {
            lease_id: lease.lease_id,
            epoch: lease.epoch,
            connections_closed: true,
            ..Default::default()
        };
        self.api.leases().release_lease(ask(request)).await.map_err(told)?;
        ensure(self.session().await?.lease.is_none(), "the lease is still there")?;
        steps.done("worker-1 closed its connection and gave the session back");
        Ok(())
    }

    async fn revoke(&self, steps: &mut Steps) -> Result<(), Failure> {
        let request = v1::RevokeSessionRequest {
            tenant_id: TENANT.to_owned(),
            app_id: APP.to_owned(),
            ..Default::default()
        };
        let answer = self.api.sessions().revoke_session(ask(request)).await.map_err(told)?;
        let session = answer.into_inner().session.unwrap_or_default();
        ensure(
            session.state() == v1::SessionState::Revoked && !session.log_out_pending,
            "the session is not REVOKED",
        )?;
        let keys = self.phone.get("/keys").await?;
        let alive = keys.as_array().into_iter().flatten().any(|key| key["user"] == json!(USER));
        ensure(!alive, "Telegram still knows an authorization of the account")?;
        let state = self.phone.get("/state").await?;
        ensure(state["counters"]["duplicates"] == json!(0), "a key was used by two connections at once")?;
        steps.done("The session is REVOKED: logged out at Telegram, its key wiped, no authorization left, no key used twice");
        Ok(())
    }

    async fn session(&self) -> Result<v1::Session, Failure> {
        let request = v1::GetSessionRequest { tenant_id: TENANT.to_owned(), app_id: APP.to_owned() };
        let answer = self.api.sessions().get_session(ask(request)).await.map_err(told)?;
        Ok(answer.into_inner().session.unwrap_or_default())
    }

    pub(super) fn how_to_go_on(&self, server: &Server) {
        let address = server.address();
        output::print_text(format!(
            "\nStill running; Ctrl-C ends it.\n  service  {address}\n  metrics  {}\n  sandbox  {}\n\n\
             export USM_SERVER=http://{address}\nexport USM_TOKEN={}\n\n\
             grpcurl -plaintext {address} list\n\
             grpcurl -plaintext -H \"authorization: Bearer $USM_TOKEN\" {address} usm.v1.SessionService/ListSessions\n\
             grpcurl -plaintext -H \"authorization: Bearer $USM_TOKEN\" -d '{{\"tenant_id\":\"{TENANT}\",\"app_id\":\"{APP}\"}}' \
             {address} usm.v1.LoginService/StartQrLogin\n\
             curl -s http://{}/users\n\
             usm login qr --tenant-id {TENANT} --app-id {APP}",
            server.metrics_address().map(|address| address.to_string()).unwrap_or_default(),
            server.sandbox_admin().map(|address| address.to_string()).unwrap_or_default(),
            self.token.expose_secret(),
            server.sandbox_admin().map(|address| address.to_string()).unwrap_or_default(),
        ));
    }
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Failed(otherwise.to_owned())) }
}

fn seconds(lease: &v1::Lease) -> i64 {
    lease.ttl.as_ref().map(|ttl| ttl.seconds).unwrap_or_default()
}

fn reason(status: &tonic::Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

fn told(status: tonic::Status) -> Failure {
    super::super::connect::refused(&status)
}
