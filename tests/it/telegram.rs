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
        qr::{Abandoned, Authorized, PasswordOutcome, QrLogin, Step, checkpoint::Checkpoint},
    },
};

use crate::support::telegram::{Fault, TelegramSandbox, User, Wire, api_key, soon};

const ANN: i64 = 1001;

async fn sandbox_with(user: User<'_>) -> TelegramSandbox {
    let sandbox = TelegramSandbox::start().await;
    sandbox.add(user).await;
    sandbox
}

fn ann() -> User<'static> {
    User { id: ANN, username: Some("ann"), ..User::default() }
}

async fn start(sandbox: &TelegramSandbox) -> QrLogin {
    sandbox.telegram().start_qr(api_key(), Device::default(), None, soon()).await.expect("a login starts")
}

async fn token(login: &mut QrLogin) -> Secret {
    match login.next(soon()).await {
        Ok(Step::Token { url, .. }) => url,
        other => panic!("a token was expected, not {other:?}"),
    }
}

async fn authorized(login: &mut QrLogin) -> Authorized {
    match login.next(soon()).await {
        Ok(Step::Authorized(authorized)) => *authorized,
        other => panic!("an authorization was expected, not {other:?}"),
    }
}

/// Shows a code to `user`'s phone and returns what follows.
async fn scanned(sandbox: &TelegramSandbox, login: &mut QrLogin, user: i64) -> Step {
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
        let mut login = sandbox.telegram().start_qr(api_key(), device, None, soon()).await.unwrap();
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
        let refused = sandbox.telegram().start_qr(api_key(), Device::default(), proxy.clone(), soon()).await;
        assert!(matches!(refused, Err(Error::ProxyUnsupported)));
        let mut material = sandbox.mint(2, ANN).await;
        material.proxy = proxy;
        assert!(matches!(sandbox.telegram().probe(&material, soon()).await, Err(Error::ProxyUnsupported)));
        assert_eq!(sandbox.counter("connections").await, 0);
    }
}

mod trouble_while_logging_in {
    use super::*;

    #[tokio::test]
    async fn a_scan_is_found_though_the_connection_was_lost_before_it() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        let url = token(&mut login).await;
        sandbox.kick().await;
        sandbox.scan(&url, ANN).await.unwrap();
        assert_eq!(authorized(&mut login).await.account.telegram_user_id, ANN);
    }

    #[tokio::test]
    async fn a_lost_connection_is_made_again_and_shows_a_new_code() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        token(&mut login).await;
        sandbox.kick().await;
        let step = scanned(&sandbox, &mut login, ANN).await;
        assert!(matches!(step, Step::Authorized(_)), "{step:?}");
        assert_eq!(sandbox.counter("handshakes").await, 1, "with the key it had");
    }

    #[tokio::test]
    async fn an_answer_lost_on_its_way_is_looked_for() {
        for (method, dc, password) in [
            ("auth.exportLoginToken", 2, None),
            ("auth.importLoginToken", 3, None),
            ("auth.checkPassword", 2, Some("horse")),
        ] {
            let sandbox = sandbox_with(User { dc: Some(dc), password, ..ann() }).await;
            let mut login = start(&sandbox).await;
            let url = token(&mut login).await;
            sandbox.scan(&url, ANN).await.unwrap();
            sandbox.fault(method, 1, Fault::Drop).await;
            let outcome = loop {
                match login.next(soon()).await.unwrap() {
                    Step::Authorized(authorized) => break *authorized,
                    Step::PasswordNeeded { .. } => {
                        match login.password(&Secret::new("horse"), soon()).await {
                            Ok(PasswordOutcome::Authorized(authorized)) => break *authorized,
                            // Whether Telegram judged it is unknown; asked again, it is.
                            Err(error) if error.is_transient() => {
                                break accepted(login.password(&Secret::new("horse"), soon()).await);
                            }
                            other => panic!("{method}: {other:?}"),
                        }
                    }
                    Step::Migrated { .. } | Step::Token { .. } => {}
                    Step::Nothing => panic!("{method}: nothing happened"),
                }
            };
            assert_eq!(outcome.account.telegram_user_id, ANN, "{method}");
        }
    }

    /// Waits until Telegram has bound a key to somebody, whatever the client heard of it.
    async fn until_bound(sandbox: &TelegramSandbox) {
        let deadline = soon();
        while sandbox.authorizations().await.is_empty() {
            assert!(Instant::now() < deadline, "nobody is bound");
        }
    }

    #[tokio::test]
    async fn an_authorization_is_found_though_the_word_of_it_was_lost() {
        for dc in [2, 3] {
            let sandbox = sandbox_with(User { dc: Some(dc), ..ann() }).await;
            sandbox.configure(json!({"qr_ttl": 2})).await;
            let wires = [Wire::to(sandbox.address(2)).await, Wire::to(sandbox.address(3)).await];
            let dcs = [(2, wires[0].address()), (3, wires[1].address())].into();
            let endpoint = Endpoint::sandbox(2, dcs, &[sandbox.public_key_pem()]).unwrap();
            let telegram = Telegram::new(endpoint);
            let mut login = telegram.start_qr(api_key(), Device::default(), None, soon()).await.unwrap();
            let url = token(&mut login).await;
            if dc == 3 {
                sandbox.scan(&url, ANN).await.unwrap();
                assert!(matches!(login.next(soon()).await.unwrap(), Step::Migrated { dc: 3 }));
            }
            wires.iter().for_each(Wire::deafen);
            if dc == 2 {
                sandbox.scan(&url, ANN).await.unwrap();
            }
            let next = tokio::spawn(async move { login.next(soon()).await });
            until_bound(&sandbox).await;
            wires.iter().for_each(Wire::cut);
            let step = next.await.unwrap().unwrap();
            let Step::Authorized(authorized) = step else { panic!("{dc}: {step:?}") };
            assert_eq!(authorized.material.home_dc, dc);
            assert_eq!(sandbox.calls("users.getUsers").await, 1, "it was looked for");
        }
    }

    #[tokio::test]
    async fn a_password_accepted_while_the_caller_left_is_found() {
        let sandbox = sandbox_with(User { password: Some("horse"), ..ann() }).await;
        let mut login = start(&sandbox).await;
        assert!(matches!(scanned(&sandbox, &mut login, ANN).await, Step::PasswordNeeded { .. }));
        {
            let password = Secret::new("horse");
            let mut submitted = std::pin::pin!(login.password(&password, soon()));
            while sandbox.authorizations().await.is_empty() {
                // While the sandbox is asked, nobody reads what it answers.
                let _ = tokio::time::timeout(Duration::from_millis(1), &mut submitted).await;
            }
        }
        assert_eq!(authorized(&mut login).await.account.telegram_user_id, ANN);
    }

    #[tokio::test]
    async fn telegrams_own_trouble_is_waited_out() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        sandbox.fault("auth.exportLoginToken", 1, Fault::Error("AUTH_RESTART")).await;
        assert!(matches!(scanned(&sandbox, &mut login, ANN).await, Step::Authorized(_)));
    }

    #[tokio::test]
    async fn a_flood_wait_is_told_and_then_kept() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        sandbox.fault("auth.exportLoginToken", 1, Fault::Error("FLOOD_WAIT_2")).await;
        let told = login.next(soon()).await;
        let wait = Duration::from_secs(2);
        assert!(matches!(told, Err(Error::FloodWait { retry_after }) if retry_after == wait), "{told:?}");
        let began = Instant::now();
        token(&mut login).await;
        assert!(began.elapsed() > Duration::from_millis(1800), "asked again too early");
    }

    #[tokio::test]
    async fn a_silent_telegram_holds_nobody_beyond_the_time_given() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        sandbox.fault("auth.exportLoginToken", 100, Fault::Silent).await;
        let began = Instant::now();
        let step = login.next(began + Duration::from_millis(700)).await.unwrap();
        assert!(matches!(step, Step::Nothing));
        assert!(began.elapsed() < Duration::from_secs(3));
        sandbox.clear_faults().await;
        token(&mut login).await;
    }

    #[tokio::test]
    async fn a_step_may_be_dropped_at_any_time() {
        let sandbox = sandbox_with(User { dc: Some(3), ..ann() }).await;
        let mut login = start(&sandbox).await;
        let (mut scanned, mut cuts) = (false, 0);
        let outcome = loop {
            // Cuts connecting, key exchange and calls at various places, and lets each end some time.
            let patience = Duration::from_millis([3, 9, 20, 40, 3000][cuts % 5]);
            match tokio::time::timeout(patience, login.next(soon())).await {
                Err(_) => {}
                Ok(Ok(Step::Token { url, .. })) => {
                    if !scanned {
                        sandbox.scan(&url, ANN).await.unwrap();
                    }
                    scanned = true;
                }
                Ok(Ok(Step::Authorized(authorized))) => break *authorized,
                Ok(Ok(Step::Migrated { dc })) => assert_eq!(dc, 3),
                other => panic!("{other:?}"),
            }
            cuts += 1;
        };
        assert_eq!(outcome.material.home_dc, 3);
    }

    #[tokio::test]
    async fn another_process_goes_on_from_a_checkpoint() {
        let sandbox = sandbox_with(User { password: Some("horse"), ..ann() }).await;
        let mut login = start(&sandbox).await;
        let url = token(&mut login).await;
        let bytes = login.checkpoint().to_bytes();
        login.close().await;
        sandbox.scan(&url, ANN).await.unwrap();

        let checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
        let telegram = sandbox.telegram();
        let mut login =
            telegram.resume_qr(checkpoint, api_key(), Device::default(), None, soon()).await.unwrap();
        assert!(matches!(login.next(soon()).await.unwrap(), Step::PasswordNeeded { .. }));
        accepted(login.password(&Secret::new("horse"), soon()).await);
        assert_eq!(sandbox.counter("handshakes").await, 1);
    }

    #[tokio::test]
    async fn a_refused_api_key_ends_the_login() {
        let sandbox = sandbox_with(ann()).await;
        let mut login = start(&sandbox).await;
        sandbox.fault("auth.exportLoginToken", 1, Fault::Error("API_ID_INVALID")).await;
        assert!(matches!(login.next(soon()).await, Err(Error::ApiKeyInvalid)));
    }

    #[tokio::test]
    async fn a_server_behind_our_clock_is_given_up_on_without_a_storm() {
        let sandbox = sandbox_with(ann()).await;
        sandbox.configure(json!({"skew": -400})).await;
        let started = sandbox.telegram().start_qr(api_key(), Device::default(), None, soon()).await;
        assert!(started.is_err_and(|error| matches!(error, Error::Unavailable { .. })));
        let messages = sandbox.get("/calls").await.unwrap().as_array().unwrap().len();
        assert!(messages < 200, "it is not flooded, but got {messages}");
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
        let login = telegram.resume_qr(checkpoint, api_key(), Device::default(), None, soon()).await.unwrap();
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

mod stored_keys {
    use super::*;

    #[tokio::test]
    async fn a_live_key_proves_whose_it_is() {
        let sandbox = sandbox_with(User { dc: Some(3), ..ann() }).await;
        let material = sandbox.mint(3, ANN).await;
        let proof = sandbox.telegram().probe(&material, soon()).await.unwrap();
        assert_eq!(proof.account.telegram_user_id, ANN);
        assert_eq!(proof.account.username.as_deref(), Some("ann"));
        assert_eq!(sandbox.counter("handshakes").await, 0);
        assert_eq!(sandbox.open_connections().await, 0);
    }

    #[tokio::test]
    async fn each_way_to_lose_an_authorization_is_told_apart() {
        for (name, loss) in [
            ("SESSION_REVOKED", Loss::RevokedByUser),
            ("SESSION_EXPIRED", Loss::Expired),
            ("AUTH_KEY_DUPLICATED", Loss::Duplicated),
        ] {
            let sandbox = sandbox_with(ann()).await;
            let material = sandbox.mint(2, ANN).await;
            sandbox.revoke(&sandbox.keys().await[0], name).await;
            let lost = sandbox.telegram().probe(&material, soon()).await;
            assert!(matches!(&lost, Err(Error::Lost(told)) if *told == loss), "{name}: {lost:?}");
        }
        for (name, loss) in [("USER_DEACTIVATED_BAN", Loss::Banned), ("USER_DEACTIVATED", Loss::Deleted)] {
            let sandbox = sandbox_with(ann()).await;
            let material = sandbox.mint(2, ANN).await;
            sandbox.condemn(ANN, name).await;
            let lost = sandbox.telegram().probe(&material, soon()).await;
            assert!(matches!(&lost, Err(Error::Lost(told)) if *told == loss), "{name}: {lost:?}");
        }
    }

    #[tokio::test]
    async fn a_key_logged_out_elsewhere_is_unauthorized() {
        let sandbox = sandbox_with(ann()).await;
        let material = sandbox.mint(2, ANN).await;
        sandbox.revoke(&sandbox.keys().await[0], "logout").await;
        let lost = sandbox.telegram().probe(&material, soon()).await;
        assert!(matches!(lost, Err(Error::Unauthorized)), "{lost:?}");
    }

    #[tokio::test]
    async fn a_forgotten_key_is_never_replaced_silently() {
        let sandbox = sandbox_with(ann()).await;
        let material = sandbox.mint(2, ANN).await;
        sandbox.revoke(&sandbox.keys().await[0], "forget").await;
        let keys = sandbox.keys().await.len();
        let lost = sandbox.telegram().probe(&material, soon()).await;
        assert!(matches!(lost, Err(Error::KeyUnknown)), "{lost:?}");
        assert_eq!(sandbox.counter("handshakes").await, 0);
        assert_eq!(sandbox.keys().await.len(), keys);
    }

    #[tokio::test]
    async fn logging_out_ends_the_authorization_and_may_be_repeated() {
        let sandbox = sandbox_with(ann()).await;
        let material = sandbox.mint(2, ANN).await;
        sandbox.telegram().log_out(&material, soon()).await.unwrap();
        assert!(sandbox.authorizations().await.is_empty());
        sandbox.telegram().log_out(&material, soon()).await.unwrap();
        assert_eq!(sandbox.open_connections().await, 0);
    }

    #[tokio::test]
    async fn a_log_out_that_telegram_did_not_hear_is_not_called_done() {
        let sandbox = sandbox_with(ann()).await;
        let material = sandbox.mint(2, ANN).await;
        sandbox.fault("auth.logOut", 100, Fault::Error("FLOOD_WAIT_30")).await;
        let refused = sandbox.telegram().log_out(&material, soon()).await;
        assert!(matches!(refused, Err(Error::FloodWait { .. })), "{refused:?}");
        assert_eq!(sandbox.authorizations().await.len(), 1);
    }

    #[tokio::test]
    async fn a_call_that_fails_once_is_repeated_once() {
        for fault in [Fault::Drop, Fault::Error("500 INTERNAL")] {
            let sandbox = sandbox_with(ann()).await;
            let material = sandbox.mint(2, ANN).await;
            sandbox.fault("users.getUsers", 1, fault).await;
            assert!(sandbox.telegram().probe(&material, soon()).await.is_ok());
            sandbox.fault("users.getUsers", 2, fault).await;
            let failed = sandbox.telegram().probe(&material, soon()).await;
            assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
        }
    }

    #[tokio::test]
    async fn a_frozen_account_is_no_flood_wait() {
        let sandbox = sandbox_with(ann()).await;
        let material = sandbox.mint(2, ANN).await;
        sandbox.fault("users.getUsers", 1, Fault::Error("FROZEN_METHOD_INVALID")).await;
        let frozen = sandbox.telegram().probe(&material, soon()).await;
        assert!(matches!(frozen, Err(Error::Frozen)), "{frozen:?}");
    }

    #[tokio::test]
    async fn a_silent_telegram_is_unavailable_at_the_deadline() {
        let sandbox = sandbox_with(ann()).await;
        let material = sandbox.mint(2, ANN).await;
        sandbox.fault("*", 1000, Fault::Silent).await;
        let began = Instant::now();
        let failed = sandbox.telegram().probe(&material, began + Duration::from_millis(800)).await;
        assert!(began.elapsed() < Duration::from_secs(3));
        let refusal = DomainError::from(failed.unwrap_err());
        assert_eq!(refusal.reason, Reason::TelegramUnavailable);
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
        let failed = telegram.start_qr(api_key(), Device::default(), None, soon()).await;
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
        let started = telegram.start_qr(api_key(), Device::default(), None, deadline).await;
        assert!(matches!(started, Err(Error::TimedOut { .. })), "{started:?}");
        let probed = telegram.probe(&material, Instant::now() + Duration::from_millis(500)).await;
        assert!(matches!(probed, Err(Error::TimedOut { .. })), "{probed:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_server_with_another_rsa_key_is_not_trusted() {
        let (sandbox, other) = (TelegramSandbox::start().await, TelegramSandbox::start().await);
        let failed =
            at(sandbox.address(2), &other).start_qr(api_key(), Device::default(), None, soon()).await;
        assert!(matches!(failed, Err(Error::Untrusted { .. })), "{failed:?}");
    }
}
