//! From a tdata folder of opentele2 to a string that Telethon connects with.

use usm::{
    domain::material::Format,
    formats::{self, Addresses},
};

use super::foreign::opentele2;
use crate::{
    formats::python,
    support::telegram::{TelegramSandbox, User},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_out_of_tdata_is_the_account() {
    let sandbox = TelegramSandbox::start().await;
    sandbox.add(User { id: 4711, ..User::default() }).await;
    let minted = sandbox.mint(2, 4711).await;
    let key = hex::encode(minted.home().unwrap().auth_key.expose_secret());
    let folder = tempfile::tempdir().unwrap();
    let accounts = serde_json::json!([{"dc": 2, "key": key, "user_id": 4711}]);
    opentele2("write", folder.path(), "", &accounts);

    let addresses = Addresses::from([(2, sandbox.address(2))]);
    let read = formats::read_tdata(folder.path(), folder.path(), &addresses, None).await.unwrap();
    let material = read.into_iter().next().unwrap().parsed.unwrap().material;
    assert_eq!(material.telegram_user_id, Some(4711));
    let string = formats::write(&material, Format::TelethonString, &addresses).await.unwrap();
    std::fs::write(folder.path().join("session.txt"), &*string.data).unwrap();
    std::fs::write(folder.path().join("key.pem"), sandbox.public_key_pem()).unwrap();
    let telethon = python::telethon("1.45.0");
    let path = folder.path().to_owned();
    // The sandbox lives in this process and must go on while the script runs.
    let me = tokio::task::spawn_blocking(move || {
        python::run("telethon_connects.py", &[telethon.as_os_str(), path.as_os_str()])
    });
    assert_eq!(me.await.unwrap()["id"], 4711);

    // And back: what we write of it is what opentele2 finds.
    let ours = formats::write_tdata(std::slice::from_ref(&material), None).await.unwrap();
    let back = folder.path().join("back");
    super::save(&ours.files.into_iter().map(|(path, bytes)| (path, bytes.to_vec())).collect(), &back);
    let seen = opentele2("read", &back, "", &serde_json::json!([]));
    assert_eq!(seen["accounts"][0]["key"], key);
}
