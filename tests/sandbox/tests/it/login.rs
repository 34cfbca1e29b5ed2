//! Every way in, with and without password and migration.

use grammers_client::SignInError;
use grammers_client::session::Session;
use grammers_client::tl::{self, enums, functions as f, types};
use serde_json::json;

use crate::support::{API_HASH, API_ID, Grammers, Rig, error_of, within};

fn is_login_token(update: &enums::Updates) -> bool {
    let enums::Updates::UpdateShort(short) = update else { return false };
    matches!(short.update, enums::Update::LoginToken)
}

fn export() -> f::auth::ExportLoginToken {
    f::auth::ExportLoginToken { api_id: API_ID, api_hash: API_HASH.into(), except_ids: Vec::new() }
}

async fn token(client: &Grammers) -> Vec<u8> {
    match client.invoke(&export()).await.expect("a token") {
        enums::auth::LoginToken::Token(token) => token.token,
        other => panic!("no token but {other:?}"),
    }
}

async fn prove(client: &Grammers, password: &str) -> Result<(), String> {
    let enums::account::Password::Password(question) =
        client.invoke(&f::account::GetPassword {}).await.map_err(|e| e.to_string())?;
    let token = grammers_client::client::PasswordToken::new(question);
    match within(client.client.check_password(token, password)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanned_qr_logs_in() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7, "first_name": "Ada", "phone": "+999 66 00007"})).await;
    let mut client = rig.client(2).await;
    let token = token(&client).await;
    rig.post("/scan", json!({"token": hex::encode(&token), "user_id": 7})).await;
    client.update(is_login_token).await;
    let answer = client.invoke(&export()).await.expect("a login");
    assert!(matches!(answer, enums::auth::LoginToken::Success(_)), "{answer:?}");
    let me = client.me().await.expect("logged in");
    assert_eq!((me.id, me.first_name.as_deref(), me.phone.as_deref()), (7, Some("Ada"), Some("9996600007")));
    let keys = rig.get("/keys").await;
    let own = keys.as_array().expect("a list").iter().find(|key| key["key"] == client.key.as_str());
    let own = own.expect("the key is listed");
    assert_eq!((&own["user"], &own["layer"]), (&json!(7), &json!(tl::LAYER)));
    assert_eq!(
        (&own["init"]["device_model"], &own["init"]["api_id"]),
        (&json!("Test bench"), &json!(API_ID))
    );
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanned_qr_of_another_dc_migrates_and_asks_for_the_password() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7, "dc": 3, "password": "secret", "hint": "the usual"})).await;
    let mut client = rig.client(2).await;
    let token = token(&client).await;
    let scanned = rig.post("/scan", json!({"token": hex::encode(&token), "user_id": 7})).await;
    assert_eq!((&scanned["migrate"], &scanned["password"]), (&json!(true), &json!(true)));
    client.update(is_login_token).await;
    let Ok(enums::auth::LoginToken::MigrateTo(pointer)) = client.invoke(&export()).await else {
        panic!("no migration")
    };
    assert_eq!(pointer.dc_id, 3);
    client.session.set_home_dc_id(3).await.expect("memory");
    let import = f::auth::ImportLoginToken { token: pointer.token };
    assert_eq!(error_of(client.invoke(&import).await), "401 SESSION_PASSWORD_NEEDED");
    assert_eq!(error_of(client.me().await), "401 SESSION_PASSWORD_NEEDED");
    assert!(prove(&client, "wrong").await.is_err_and(|e| e.contains("invalid password")));
    prove(&client, "secret").await.expect("the right one");
    assert_eq!(client.me().await.expect("logged in").id, 7);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_logs_in_by_code() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 8, "phone": "9996600008"})).await;
    let client = rig.client(2).await;
    let token = within(client.client.request_login_code("+9996600008", API_HASH)).await.expect("a code");
    let wrong = within(client.client.sign_in(&token, "00")).await;
    assert!(matches!(wrong, Err(SignInError::InvalidCode)));
    let code = rig.code("9996600008").await;
    let user = within(client.client.sign_in(&token, &code)).await.expect("a login");
    assert_eq!(user.id().bare_id(), Some(8));
    within(client.client.sign_out()).await.expect("a log-out");
    assert_eq!(error_of(client.me().await), "401 AUTH_KEY_UNREGISTERED");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_of_another_dc_migrates_and_asks_for_the_password() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 8, "phone": "9996600008", "dc": 1, "password": "s\u{e9}same"})).await;
    let client = rig.client(2).await;
    let token = within(client.client.request_login_code("+9996600008", API_HASH)).await.expect("a code");
    assert_eq!(client.home(), 1);
    let code = rig.code("9996600008").await;
    let asked = match within(client.client.sign_in(&token, &code)).await {
        Err(SignInError::PasswordRequired(asked)) => asked,
        other => panic!("no password wanted: {:?}", other.map(|user| user.id())),
    };
    // The same question may be answered again after a wrong answer.
    let asked = match within(client.client.check_password(asked, "wrong")).await {
        Err(SignInError::InvalidPassword(asked)) => asked,
        other => panic!("not refused: {:?}", other.map(|user| user.id())),
    };
    let user = within(client.client.check_password(asked, "s\u{e9}same")).await.expect("a login");
    assert_eq!(user.id().bare_id(), Some(8));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_logs_in_by_token_and_migrates() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 9, "bot_token": "9:abc", "first_name": "Bot"})).await;
    rig.post("/users", json!({"id": 10, "bot_token": "10:abc", "first_name": "Far", "dc": 3})).await;
    let near = rig.client(2).await;
    let bot = within(near.client.bot_sign_in("9:abc", API_HASH)).await.expect("a login");
    assert_eq!(bot.id().bare_id(), Some(9));
    let far = rig.client(2).await;
    let bot = within(far.client.bot_sign_in("10:abc", API_HASH)).await.expect("a login");
    assert_eq!((bot.id().bare_id(), far.home()), (Some(10), 3));
    let none = rig.client(2).await;
    assert_eq!(
        error_of(within(none.client.bot_sign_in("11:abc", API_HASH)).await),
        "400 ACCESS_TOKEN_INVALID"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_phone_must_sign_up_elsewhere() {
    let rig = Rig::start().await;
    let client = rig.client(2).await;
    let token = within(client.client.request_login_code("+9996600099", API_HASH)).await.expect("a code");
    let code = rig.code("9996600099").await;
    let answer = within(client.client.sign_in(&token, &code)).await;
    assert!(matches!(answer, Err(SignInError::SignUpRequired)));
    let nonsense = within(client.client.request_login_code("12", API_HASH)).await;
    assert_eq!(error_of(nonsense.map(|_| ())), "400 PHONE_NUMBER_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_dies_of_wrong_tries_and_of_age() {
    let rig = Rig::start().await;
    rig.post("/config", json!({"code": "24680", "code_tries": 2})).await;
    rig.post("/users", json!({"id": 8, "phone": "9996600008"})).await;
    let client = rig.client(2).await;
    let token = within(client.client.request_login_code("9996600008", API_HASH)).await.expect("a code");
    for _ in 0..2 {
        let wrong = within(client.client.sign_in(&token, "11111")).await;
        assert!(matches!(wrong, Err(SignInError::InvalidCode)));
    }
    assert_eq!(rig.get("/codes").await, json!([]));
    rig.post("/config", json!({"code_ttl": 1})).await;
    within(client.client.request_login_code("9996600008", API_HASH)).await.expect("a code");
    rig.until("/codes", |codes| codes == &json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_belongs_to_the_key_that_asked_for_it() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 8, "phone": "9996600008"})).await;
    let (one, two) = (rig.client(2).await, rig.client(2).await);
    let token = within(one.client.request_login_code("9996600008", API_HASH)).await.expect("a code");
    let code = rig.code("9996600008").await;
    let stolen = within(two.client.sign_in(&token, &code)).await;
    // grammers calls every PHONE_CODE_* an invalid code.
    assert!(matches!(stolen, Err(SignInError::InvalidCode)));
    assert!(within(one.client.sign_in(&token, &code)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn resending_changes_the_way_until_none_is_left() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 8, "phone": "9996600008"})).await;
    let client = rig.client(2).await;
    let settings = types::CodeSettings {
        allow_flashcall: false,
        current_number: false,
        allow_app_hash: false,
        allow_missed_call: false,
        allow_firebase: false,
        unknown_number: false,
        logout_tokens: None,
        token: None,
        app_sandbox: None,
    };
    let send = f::auth::SendCode {
        phone_number: "9996600008".into(),
        api_id: API_ID,
        api_hash: API_HASH.into(),
        settings: settings.into(),
    };
    let Ok(enums::auth::SentCode::Code(sent)) = client.invoke(&send).await else { panic!("no code") };
    assert!(matches!(sent.r#type, enums::auth::SentCodeType::App(_)));
    let resend = f::auth::ResendCode {
        phone_number: "9996600008".into(),
        phone_code_hash: sent.phone_code_hash.clone(),
        reason: None,
    };
    let Ok(enums::auth::SentCode::Code(again)) = client.invoke(&resend).await else { panic!("no code") };
    assert!(matches!(again.r#type, enums::auth::SentCodeType::Sms(_)));
    assert!(client.invoke(&resend).await.is_ok());
    assert_eq!(error_of(client.invoke(&resend).await), "406 SEND_CODE_UNAVAILABLE");
    let cancel =
        f::auth::CancelCode { phone_number: "9996600008".into(), phone_code_hash: sent.phone_code_hash };
    assert!(client.invoke(&cancel).await.expect("cancelled"));
    assert_eq!(rig.get("/codes").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_token_spares_the_next_code() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 8, "phone": "9996600008"})).await;
    let key = rig.mint(2, Some(8)).await;
    let client = rig.client_with(2, &key);
    let Ok(enums::auth::LoggedOut::Out(out)) = client.invoke(&f::auth::LogOut {}).await else {
        panic!("no log-out")
    };
    let settings = types::CodeSettings {
        allow_flashcall: false,
        current_number: false,
        allow_app_hash: false,
        allow_missed_call: false,
        allow_firebase: false,
        unknown_number: false,
        logout_tokens: out.future_auth_token.map(|token| vec![token]),
        token: None,
        app_sandbox: None,
    };
    let send = f::auth::SendCode {
        phone_number: "9996600008".into(),
        api_id: API_ID,
        api_hash: API_HASH.into(),
        settings: settings.into(),
    };
    let first = client.invoke(&send).await.expect("an answer");
    assert!(matches!(first, enums::auth::SentCode::Success(_)), "{first:?}");
    assert_eq!(client.me().await.expect("logged in").id, 8);
    let second = client.invoke(&send).await.expect("an answer");
    assert!(matches!(second, enums::auth::SentCode::Code(_)), "a token serves once: {second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires_and_is_used_once() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7})).await;
    rig.post("/config", json!({"qr_ttl": 1})).await;
    let mut client = rig.client(2).await;
    let dead = token(&client).await;
    rig.until("/tokens", |tokens| tokens[0]["expires_in"].as_f64().is_some_and(|left| left < 0.0)).await;
    let scan = |token: &[u8]| json!({"token": hex::encode(token), "user_id": 7}).to_string();
    assert_eq!(rig.request("POST", "/scan", &scan(&dead)).await.0, 409);
    rig.post("/config", json!({"qr_ttl": 30})).await;
    let live = token(&client).await;
    assert_ne!(live, dead);
    rig.post("/scan", json!({"token": hex::encode(&live), "user_id": 7})).await;
    assert_eq!(rig.request("POST", "/scan", &scan(&live)).await.0, 409);
    client.update(is_login_token).await;
    client.invoke(&export()).await.expect("a login");
    let tokens = rig.get("/tokens").await;
    assert_eq!((&tokens[0]["used"], &tokens[1]["used"]), (&json!(false), &json!(true)));
    assert_eq!(tokens[1]["user"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_a_bad_state_cannot_log_in() {
    let rig = Rig::start().await;
    rig.post("/users", json!({"id": 7, "phone": "9996600007"})).await;
    let client = rig.client_with(2, &rig.mint(2, Some(7)).await);
    assert!(client.me().await.is_ok());
    rig.post("/user_state", json!({"user_id": 7, "state": "USER_DEACTIVATED_BAN"})).await;
    assert_eq!(error_of(client.me().await), "401 USER_DEACTIVATED_BAN");
    let other = rig.client(2).await;
    let refused = within(other.client.request_login_code("9996600007", API_HASH)).await;
    assert_eq!(error_of(refused.map(|_| ())), "400 PHONE_NUMBER_BANNED");
    rig.post("/user_state", json!({"user_id": 7, "state": null})).await;
    assert!(client.me().await.is_ok());
    rig.post("/user_state", json!({"user_id": 7, "state": "FROZEN_METHOD_INVALID"})).await;
    assert_eq!(error_of(client.me().await), "420 FROZEN_METHOD_INVALID");
}
