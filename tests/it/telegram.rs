//! Talking to a Telegram that is real but for its owner: logins, probes, and all that goes wrong on the way.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::net::TcpListener;
use usm::{
    domain::{
        error::{Error as DomainError, Reason},
        material::{Device, Proxy},
        secret::Secret,
        session::Loss,
    },
    telegram::{
        Telegram,
        endpoint::Endpoint,
        error::Error,
        sign_in::{Abandoned, Authorized, PasswordOutcome, SignIn, Step, Way, checkpoint::Checkpoint},
    },
};

use crate::support::telegram::{Fault, TelegramSandbox, User, Wire, api_key, soon};

mod stored_keys;
mod trouble_while_logging_in;

const ANN: i64 = 1001;

async fn sandbox_with(user: User<'_>) -> TelegramSandbox {
    let sandbox = TelegramSandbox::start().await;
    sandbox.add(user).await;
    sandbox
}

fn ann() -> User<'static> {
    User { id: ANN, username: Some("ann"), ..User::default() }
}

async fn start(sandbox: &TelegramSandbox) -> SignIn {
    sandbox
        .telegram()
        .sign_in(Way::Qr, api_key(), Device::default(), None, soon())
        .await
        .expect("a login starts")
}

async fn token(login: &mut SignIn) -> Secret {
    match login.next(soon()).await {
        Ok(Step::Token { url, .. }) => url,
        other => panic!("a token was expected, not {other:?}"),
    }
}

async fn authorized(login: &mut SignIn) -> Authorized {
    match login.next(soon()).await {
        Ok(Step::Authorized(authorized)) => *authorized,
        other => panic!("an authorization was expected, not {other:?}"),
    }
}

/// Shows a code to `user`'s phone and returns what follows.
async fn scanned(sandbox: &TelegramSandbox, login: &mut SignIn, user: i64) -> Step {
    let url = token(login).await;
    sandbox.scan(&url, user).await.expect("the code is valid");
    login.next(soon()).await.expect("the login goes on")
}

fn accepted(outcome: Result<PasswordOutcome, Error>) -> Authorized {
    match outcome {
        Ok(PasswordOutcome::Authorized(authorized)) => *authorized,
        other => panic!("an authorization was expected, not {other:?}"),
    }
}

mod logging_in {
    use super::*;

    #[tokio::test]
    async fn a_scan_brings_an_authorization_that_works() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        let url = token(&mut login).await;
        assert!(url.expose_secret().starts_with("tg://login?token="));
        sandbox.scan(&url, ANN).await.unwrap();
        let authorized = authorized(&mut login).await;

        assert_eq!(authorized.account.telegram_user_id, ANN);
        assert_eq!(authorized.account.username.as_deref(), Some("ann"));
        assert!(!authorized.account.is_bot);
        assert_eq!(sandbox.open_connections().await, 0, "the connection is closed before the key is given");
        authorized.material.check().unwrap();
        let proof = sandbox.telegram().probe(&authorized.material, soon()).await.unwrap();
        assert_eq!(proof.account, authorized.account);
        assert_eq!(sandbox.open_connections().await, 0);
        assert_eq!(sandbox.keys().await.len(), 1);
    }

    #[tokio::test]
    async fn the_device_is_introduced_as_given() {
        let sandbox = sandbox_with(ann()).await;
        let device = Device { device_model: "Teapot".to_owned(), ..Device::default() };
        let mut login = sandbox.telegram().sign_in(Way::Qr, api_key(), device, None, soon()).await.unwrap();
        token(&mut login).await;
        let init = sandbox.keys().await[0].init.to_string();
        assert!(init.contains("Teapot") && init.contains("17349"), "{init}");
    }

    #[tokio::test]
    async fn a_code_is_replaced_before_it_expires_and_the_new_one_works() {
        let sandbox = sandbox_with(ann()).await;
        sandbox.configure(json!({"qr_ttl": 2})).await;
        let mut login = start(&sandbox).await;
        let first = token(&mut login).await;
        let second = token(&mut login).await;
        assert!(first != second);
        assert!(matches!(scanned(&sandbox, &mut login, ANN).await, Step::Authorized(_)));
        assert_eq!(sandbox.keys().await.len(), 1, "rotation stays on one key");
    }

    #[tokio::test]
    async fn a_wrong_password_may_be_followed_by_the_right_one() {
        let sandbox =
            sandbox_with(User { password: Some("correct horse"), hint: Some("staple"), ..ann() }).await;
        let mut login = start(&sandbox).await;
        match scanned(&sandbox, &mut login, ANN).await {
            Step::PasswordNeeded { hint } => assert_eq!(hint.as_deref(), Some("staple")),
            other => panic!("{other:?}"),
        }
        let wrong = login.password(&Secret::new("wrong horse"), soon()).await;
        assert!(matches!(wrong, Ok(PasswordOutcome::Wrong)), "{wrong:?}");
        assert!(sandbox.authorizations().await.is_empty());
        let right = accepted(login.password(&Secret::new("correct horse"), soon()).await);
        assert_eq!(right.account.telegram_user_id, ANN);
        assert!(sandbox.telegram().probe(&right.material, soon()).await.is_ok());
        let step = login.next(soon()).await.unwrap();
        assert!(matches!(step, Step::Authorized(_)), "the outcome is repeated");
    }

    #[tokio::test]
    async fn an_account_of_another_data_centre_is_followed_there() {
        let sandbox = sandbox_with(User { dc: Some(3), ..ann() }).await;
        let mut login = start(&sandbox).await;
        assert!(matches!(scanned(&sandbox, &mut login, ANN).await, Step::Migrated { dc: 3 }));
        let authorized = authorized(&mut login).await;
        assert_eq!(authorized.material.home_dc, 3);
        assert_eq!(authorized.material.keys.len(), 1);
        assert!(sandbox.telegram().probe(&authorized.material, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn migration_and_password_come_together() {
        let sandbox = sandbox_with(User { dc: Some(3), password: Some("horse"), ..ann() }).await;
        let mut login = start(&sandbox).await;
        assert!(matches!(scanned(&sandbox, &mut login, ANN).await, Step::Migrated { dc: 3 }));
        let step = login.next(soon()).await.unwrap();
        assert!(matches!(step, Step::PasswordNeeded { hint: None }), "{step:?}");
        let authorized = accepted(login.password(&Secret::new("horse"), soon()).await);
        assert_eq!(authorized.material.home_dc, 3);
    }

    #[tokio::test]
    async fn a_new_data_centre_may_need_a_moment_to_know_the_key() {
        let sandbox = sandbox_with(User { dc: Some(3), ..ann() }).await;
        sandbox.fault("auth.importLoginToken", 2, Fault::Error("AUTH_KEY_UNREGISTERED")).await;
        let mut login = start(&sandbox).await;
        assert!(matches!(scanned(&sandbox, &mut login, ANN).await, Step::Migrated { dc: 3 }));
        assert_eq!(authorized(&mut login).await.material.home_dc, 3);
    }

    #[tokio::test]
    async fn a_password_nobody_asked_for_changes_nothing() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        let url = token(&mut login).await;
        let outcome = login.password(&Secret::new("horse"), soon()).await;
        assert!(matches!(outcome, Ok(PasswordOutcome::NotAsked)));
        sandbox.scan(&url, ANN).await.unwrap();
        authorized(&mut login).await;
    }

    #[tokio::test]
    async fn a_proxy_is_refused_and_never_gone_around() {
        let sandbox = sandbox_with(ann()).await;
        let proxy = Some(Proxy { url: Secret::new("socks5://127.0.0.1:1") });
        let refused =
            sandbox.telegram().sign_in(Way::Qr, api_key(), Device::default(), proxy.clone(), soon()).await;
        assert!(matches!(refused, Err(Error::ProxyUnsupported)));
        let mut material = sandbox.mint(2, ANN).await;
        material.proxy = proxy;
        assert!(matches!(sandbox.telegram().probe(&material, soon()).await, Err(Error::ProxyUnsupported)));
        assert_eq!(sandbox.counter("connections").await, 0);
    }
}

mod ending_a_login {
    use super::*;

    #[tokio::test]
    async fn a_late_acceptance_is_logged_out() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        let url = token(&mut login).await;
        assert!(login.acceptable_for() > Duration::from_secs(10));
        let watch = tokio::spawn(login.abandon(soon()));
        sandbox.scan(&url, ANN).await.unwrap();
        let end = watch.await.unwrap().unwrap();
        assert!(matches!(end, Abandoned::LoggedOut(account) if account.telegram_user_id == ANN));
        assert!(sandbox.authorizations().await.is_empty());
        assert_eq!(sandbox.open_connections().await, 0);
    }

    #[tokio::test]
    async fn a_late_acceptance_is_found_though_the_connection_was_lost() {
        let sandbox = sandbox_with(User { dc: Some(3), ..ann() }).await;
        let mut login = start(&sandbox).await;
        let url = token(&mut login).await;
        sandbox.kick().await;
        sandbox.scan(&url, ANN).await.unwrap();
        let end = login.abandon(soon()).await.unwrap();
        assert!(matches!(end, Abandoned::LoggedOut(_)), "{end:?}");
        assert!(sandbox.authorizations().await.is_empty());
    }

    #[tokio::test]
    async fn another_process_can_end_a_login_that_was_accepted_meanwhile() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        let url = token(&mut login).await;
        let checkpoint = login.checkpoint();
        login.close().await;
        sandbox.scan(&url, ANN).await.unwrap();
        let telegram = sandbox.telegram();
        let login = telegram.resume(checkpoint, api_key(), Device::default()).unwrap();
        assert!(login.acceptable_for() > Duration::from_secs(20), "a code may still be on a screen");
        assert!(matches!(login.abandon(soon()).await.unwrap(), Abandoned::LoggedOut(_)));
        assert!(sandbox.authorizations().await.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_login_nobody_accepted() {
        let sandbox = sandbox_with(User { password: Some("horse"), ..ann() }).await;
        sandbox.configure(json!({"qr_ttl": 1})).await;
        let mut login = start(&sandbox).await;
        token(&mut login).await;
        assert_eq!(login.abandon(soon()).await.unwrap(), Abandoned::Unused);

        sandbox.configure(json!({"qr_ttl": 30})).await;
        let mut login = start(&sandbox).await;
        assert!(matches!(scanned(&sandbox, &mut login, ANN).await, Step::PasswordNeeded { .. }));
        assert_eq!(login.abandon(soon()).await.unwrap(), Abandoned::PasswordMissing);
        assert!(sandbox.authorizations().await.is_empty());
        assert_eq!(sandbox.open_connections().await, 0);
    }

    #[tokio::test]
    async fn an_unwanted_authorization_is_logged_out() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        let step = scanned(&sandbox, &mut login, ANN).await;
        let Step::Authorized(authorized) = step else { panic!("{step:?}") };
        login.log_out(soon()).await.unwrap();
        assert!(sandbox.authorizations().await.is_empty());
        let gone = sandbox.telegram().probe(&authorized.material, soon()).await;
        assert!(gone.is_err_and(|error| error.is_gone()));
    }

    #[tokio::test]
    async fn a_dropped_login_leaves_no_connection() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        token(&mut login).await;
        drop(login);
        let deadline = soon();
        while sandbox.open_connections().await > 0 {
            assert!(Instant::now() < deadline, "a connection stays open");
        }
    }
}

mod unreachable {
    use super::*;

    fn at(address: SocketAddr, sandbox: &TelegramSandbox) -> Telegram {
        let key = [sandbox.public_key_pem()];
        let endpoint = Endpoint::sandbox(2, [(2, address)].into(), &key);
        Telegram::new(endpoint.expect("a sound description"))
    }

    #[tokio::test]
    async fn a_telegram_that_is_not_there_is_unavailable() {
        let sandbox = TelegramSandbox::start().await;
        // Bound and let go: nobody listens there.
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let telegram = at(nobody, &sandbox);
        assert!(telegram.reachable(soon()).await.is_err());
        let failed = telegram.sign_in(Way::Qr, api_key(), Device::default(), None, soon()).await;
        assert!(failed.is_err_and(|error| error.is_transient()));
        assert!(sandbox.telegram().reachable(soon()).await.is_ok());
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_left_at_the_deadline() {
        let sandbox = sandbox_with(ann()).await;
        let material = sandbox.mint(2, ANN).await;
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let telegram = at(mute.local_addr().unwrap(), &sandbox);
        let began = Instant::now();
        let deadline = began + Duration::from_millis(500);
        let started = telegram.sign_in(Way::Qr, api_key(), Device::default(), None, deadline).await;
        assert!(matches!(started, Err(Error::TimedOut { .. })), "{started:?}");
        let probed = telegram.probe(&material, Instant::now() + Duration::from_millis(500)).await;
        assert!(matches!(probed, Err(Error::TimedOut { .. })), "{probed:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_server_with_another_rsa_key_is_not_trusted() {
        let (sandbox, other) = (TelegramSandbox::start().await, TelegramSandbox::start().await);
        let failed =
            at(sandbox.address(2), &other).sign_in(Way::Qr, api_key(), Device::default(), None, soon()).await;
        assert!(matches!(failed, Err(Error::Untrusted { .. })), "{failed:?}");
    }
}
