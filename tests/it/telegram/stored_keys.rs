//! Probing and ending authorizations that exist already.

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
