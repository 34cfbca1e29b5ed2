//! What a form leaves out is said, item by item; and what stands for something else comes back as that.

use usm::{
    domain::material::{DcKey, Device, Format, Material, Proxy, UpdateState},
    domain::secret::Secret,
    formats::{self, Item, Note},
};

use super::{addresses, auth_key, full_material};

async fn notes(material: &Material, format: Format) -> Vec<String> {
    let written = formats::write(material, format, &addresses()).await.unwrap();
    let mut notes: Vec<String> = written.notes.iter().map(ToString::to_string).collect();
    notes.sort();
    notes
}

#[tokio::test]
async fn every_form_says_what_of_a_full_session_it_leaves_out() {
    let full =
        Material { proxy: Some(Proxy { url: Secret::new("socks5://1.2.3.4:1080") }), ..full_material() };
    let (address, api_id, bot, user) =
        ("address of the data centre", "api_id", "whether it is a bot", "user id");
    let (device, proxy, keys) = ("device parameters", "proxy", "1 keys of other data centres");
    let (updates, channels) = ("update state", "update state of 2 channels");
    for (format, items) in [
        (Format::TelethonSqlite, vec![api_id, bot, device, keys, proxy]),
        (Format::TelethonString, vec![api_id, bot, device, keys, proxy, updates, channels, user]),
        (Format::PyrogramSqlite, vec![address, device, keys, proxy, updates, channels]),
        (Format::PyrogramString, vec![address, device, keys, proxy, updates, channels]),
        (Format::GramjsString, vec![api_id, bot, device, keys, proxy, updates, channels, user]),
        (Format::MtcuteString, vec![api_id, device, keys, proxy, updates, channels]),
        (Format::Grammers, vec![api_id, device, proxy]),
        (Format::Raw, vec![]),
    ] {
        let mut expected: Vec<String> =
            items.into_iter().map(|item| format!("not carried over: {item}")).collect();
        expected.sort();
        assert_eq!(notes(&full, format).await, expected, "{}", format.name());
    }
}

#[tokio::test]
async fn what_is_made_up_is_said() {
    let bare = Material {
        keys: [(4, DcKey { auth_key: auth_key(0x44), address: None })].into(),
        telegram_user_id: None,
        is_bot: None,
        api_id: 0,
        device: Device::default(),
        updates: None,
        channels: Default::default(),
        ..full_material()
    };
    let known = Material { telegram_user_id: Some(5), ..bare.clone() };
    for (format, of_nobody, of_somebody) in [
        (Format::PyrogramString, vec![Note::AssumedNobody], vec![Note::AssumedUser]),
        (Format::PyrogramSqlite, vec![Note::AssumedNobody], vec![Note::AssumedUser]),
        (Format::MtcuteString, vec![], vec![Note::AssumedUser]),
        (Format::GramjsString, vec![], vec![Note::NotCarried(Item::UserId)]),
    ] {
        for (material, expected) in [(&bare, of_nobody), (&known, of_somebody)] {
            let written = formats::write(material, format, &addresses()).await.unwrap();
            assert_eq!(written.notes, expected, "{}", format.name());
        }
    }
    let high = DcKey { auth_key: auth_key(0x44), address: Some("10.0.0.1:40000".parse().unwrap()) };
    let high = Material { keys: [(4, high)].into(), ..bare };
    let written = formats::write(&high, Format::GramjsString, &addresses()).await.unwrap();
    assert_eq!(written.notes, [Note::PortNegative]);
    let read = formats::parse(&written.data, None, &addresses()).await.unwrap();
    assert_eq!(read.material, high);
}

#[tokio::test]
async fn a_test_flag_and_the_address_it_stands_for_are_one() {
    let test = |address: &str| Material {
        home_dc: 2,
        keys: [(2, DcKey { auth_key: auth_key(1), address: Some(address.parse().unwrap()) })].into(),
        api_id: 0,
        device: Device::default(),
        updates: None,
        channels: Default::default(),
        ..full_material()
    };
    for format in [Format::PyrogramString, Format::PyrogramSqlite, Format::MtcuteString] {
        let material = test("149.154.167.40:80");
        let written = formats::write(&material, format, &addresses()).await.unwrap();
        assert_eq!(written.notes, [], "{}", format.name());
        let read = formats::parse(&written.data, None, &addresses()).await.unwrap();
        assert_eq!(read.material, material, "{}", format.name());
        assert_eq!(read.notes, [Note::AddressOfTestDc], "{}", format.name());
    }
    // On another port the flag is told, and the port is not.
    let written =
        formats::write(&test("149.154.167.40:443"), Format::PyrogramString, &addresses()).await.unwrap();
    assert_eq!(written.notes, [Note::NotCarried(Item::Address)]);
    let read = formats::parse(&written.data, None, &addresses()).await.unwrap();
    assert_eq!(read.material, test("149.154.167.40:80"));
}

#[tokio::test]
async fn a_session_without_any_address_goes_into_the_forms_that_need_none() {
    let nowhere = formats::Addresses::new();
    let material = Material {
        keys: [(4, DcKey { auth_key: auth_key(0x44), address: None })].into(),
        updates: Some(UpdateState { pts: 1, qts: 2, date: 3, seq: 4 }),
        ..full_material()
    };
    for format in [Format::PyrogramString, Format::PyrogramSqlite, Format::Raw] {
        assert!(formats::write(&material, format, &nowhere).await.is_ok());
    }
    for format in [Format::GramjsString, Format::MtcuteString, Format::TelethonString] {
        let refused = formats::write(&material, format, &nowhere).await.unwrap_err();
        assert_eq!(refused, formats::Error::AddressUnknown(4));
    }
}
