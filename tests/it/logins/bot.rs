//! Logins with a bot's token.

use usm_client::v1::{self, LoginMethod, LoginState, SessionState};

use crate::support::world::{ANN, Shape, World, bot, fact, on_both_shapes, reason, refused};

const ROBOT: i64 = 424_242;
const TOKEN: &str = "424242:AAbot-token_of-the-tests";

on_both_shapes!(
    a_token_signs_the_bot_in_at_once,
    a_bot_of_another_data_centre_is_followed_there,
    a_token_that_telegram_does_not_know_is_refused,
    the_wrong_bot_is_signed_out_again,
);

async fn world_with_robot(shape: Shape, dc: i32) -> World {
    let world = World::start(shape).await;
    let robot = serde_json::json!({
        "id": ROBOT, "first_name": "Robot", "username": "robot", "dc": dc, "is_bot": true, "bot_token": TOKEN,
    });
    world.sandbox.post("/users", robot).await.expect("a bot");
    world
}

async fn a_token_signs_the_bot_in_at_once(shape: Shape) {
    let world = world_with_robot(shape, 2).await;
    let done = world.begin_bot(bot("robot", TOKEN)).await.expect("signed in");
    assert_eq!((done.method(), done.state()), (LoginMethod::Bot, LoginState::Authorized));
    let session = world.session("robot").await;
    assert_eq!((session.state(), session.telegram_user_id), (SessionState::Authorized, ROBOT));
    assert!(session.is_bot);
    assert_eq!(session.username, "robot");
    let named =
        v1::StartBotLoginRequest { request_id: uuid::Uuid::new_v4().to_string(), ..bot("robot", TOKEN) };
    let first = world.begin_bot(named.clone()).await.expect("signed in");
    assert_eq!(world.begin_bot(named.clone()).await.expect("found").ticket, first.ticket);
    let other = v1::StartBotLoginRequest { bot_token: "424243:AAbot-token_of-the-tests".to_owned(), ..named };
    assert_eq!(reason(&refused(world.begin_bot(other).await)), "REQUEST_ID_REUSED");
    world.lend("robot").await;
    world.stop().await;
}

async fn a_bot_of_another_data_centre_is_followed_there(shape: Shape) {
    let world = world_with_robot(shape, 3).await;
    let done = world.begin_bot(bot("robot", TOKEN)).await.expect("signed in");
    assert_eq!(done.state(), LoginState::Authorized);
    assert_eq!(world.session("robot").await.dc_id, 3);
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    world.stop().await;
}

async fn a_token_that_telegram_does_not_know_is_refused(shape: Shape) {
    let world = world_with_robot(shape, 2).await;
    let unknown = refused(world.begin_bot(bot("robot", "424242:AAanother")).await);
    assert_eq!(reason(&unknown), "BOT_TOKEN_INVALID");
    assert_eq!(world.session("robot").await.state(), SessionState::Absent);
    for text in ["", "424242", "robot:AA", "424242:not a token"] {
        let malformed = refused(world.begin_bot(bot("malformed", text)).await);
        assert_eq!(reason(&malformed), "BOT_TOKEN_INVALID", "{text}");
    }
    refused(world.find("malformed").await);
    world.stop().await;
}

async fn the_wrong_bot_is_signed_out_again(shape: Shape) {
    let world = world_with_robot(shape, 2).await;
    let request = v1::StartBotLoginRequest { expected_telegram_user_id: ANN, ..bot("robot", TOKEN) };
    let refusal = refused(world.begin_bot(request).await);
    assert_eq!(reason(&refusal), "ACCOUNT_MISMATCH");
    assert_eq!(fact(&refusal, "attempts_left"), None);
    world.nobody_is_signed_in().await;
    world.stop().await;
}
