//! The program itself: it reads its files, and at its loudest tells nothing of what signs somebody in.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;
use usm::domain::secret::Secret;

use super::{
    page::Page,
    stage::{CALLBACK_SECRET, Followed, Signer, TOKEN, WITH_TOKEN, WITHOUT_TOKEN, now},
};
use crate::support::{
    poll,
    process::Outside,
    scanner::Scanner,
    telegram::User,
    world::{Shape, World, on_both_shapes},
};

on_both_shapes!(the_program_signs_users_in_by_its_files_and_tells_nobody_how);

const CAT: i64 = 3001;
const PASSWORD: &str = "correct-horse-battery-staple";
const TENANTS: &str = r#"
[bots.111]
tenant = "acme"
app_ids = ["user-{user_id}"]
[bots.222]
tenant = "acme"
app_ids = ["news"]
"#;

async fn the_program_signs_users_in_by_its_files_and_tells_nobody_how(shape: Shape) {
    let (telegram, folder) = (Signer::new(), tempfile::tempdir().unwrap());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let settings = [
        ("USM_LOG", "trace"),
        ("USM_MINIAPP_TENANTS", &file("tenants.toml", TENANTS)),
        ("USM_MINIAPP_BOT_TOKENS", &file("tokens", &format!("# of tests\n{TOKEN}\n"))),
        ("USM_MINIAPP_PUBLIC_KEY", &hex::encode(telegram.public_key())),
        ("MINIAPP_HMAC_SECRET", CALLBACK_SECRET),
    ];
    let world = World::outside(shape, &settings).await;
    let cat = User { id: CAT, password: Some(PASSWORD), ..User::default() };
    world.sandbox.add(cat).await;
    let page = Page::at(world.server.process.address());
    let mut scanner = Scanner::default();
    scanner.add_text("the bot's token", TOKEN);
    scanner.add_text("the secret of callbacks", CALLBACK_SECRET);
    scanner.add_text("the password", PASSWORD);

    for (bot, app) in [(WITH_TOKEN, format!("user-{CAT}")), (WITHOUT_TOKEN, "news".to_owned())] {
        let init_data = telegram.init_data(bot, CAT, now());
        for pair in
            init_data.split('&').filter(|pair| pair.starts_with("hash=") || pair.starts_with("signature="))
        {
            scanner.add_text("a proof", pair.split_once('=').unwrap().1);
        }
        let answer =
            page.with(format!("tma {init_data}")).post("/api/qr/start", &json!({"app_id": app})).await;
        let login = Followed::of(&page, &answer);
        scanner.add_text("a ticket", &login.ticket);
        scanner.add_text("an access token", &login.access_token);
        scanner.add_text("a login token", login.qr_url.strip_prefix("tg://login?token=").unwrap());
        world.sandbox.scan(&Secret::new(login.qr_url.as_str()), CAT).await.expect("a valid code");
        login.once("WAITING_PASSWORD").await;
        assert_eq!(login.password("incorrect-donkey").await.status, 400);
        assert_eq!(login.password(PASSWORD).await.good()["state"], "AUTHORIZED");
        login.page.get(&format!("/api/qr/events?ticket={}", login.ticket)).await;
    }
    let log = poll::until("the calls are in the log", || async {
        let log = String::from_utf8_lossy(&world.server.installation.printed()).into_owned();
        log.contains("http.route=\"/api/qr/password\"").then_some(log)
    })
    .await;
    assert!(!log.contains("donkey"));

    let World { server: Outside { installation, mut process, .. }, .. } = world;
    assert!(process.stop().await.success());
    assert_eq!(scanner.found_in(&installation.printed()), Vec::<&str>::new(), "in the log");
}
