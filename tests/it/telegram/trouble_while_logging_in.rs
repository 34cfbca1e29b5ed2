//! Logins that lose connections, answers, time and callers on the way.

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
                Step::Migrated { .. } | Step::Token { .. } | Step::CodeSent(_) => {}
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
        let mut login = telegram.sign_in(Way::Qr, api_key(), Device::default(), None, soon()).await.unwrap();
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
    let bytes = login.checkpoint().to_bytes().unwrap();
    login.close().await;
    sandbox.scan(&url, ANN).await.unwrap();

    let checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
    let telegram = sandbox.telegram();
    let mut login = telegram.resume(checkpoint, api_key(), Device::default()).unwrap();
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
    let started = sandbox.telegram().sign_in(Way::Qr, api_key(), Device::default(), None, soon()).await;
    assert!(started.is_err_and(|error| matches!(error, Error::Unavailable { .. })));
    let messages = sandbox.get("/calls").await.unwrap().as_array().unwrap().len();
    assert!(messages < 200, "it is not flooded, but got {messages}");
}
