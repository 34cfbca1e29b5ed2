//! What a format could not take, in the contract's words.

use usm_client::v1::{self, ConversionLossKind as Kind};

use crate::formats::{Item, Note};

pub(crate) fn losses(notes: &[Note]) -> Vec<v1::ConversionLoss> {
    notes.iter().filter_map(loss).collect()
}

/// `None` for what is merely worth knowing.
pub(super) fn loss(note: &Note) -> Option<v1::ConversionLoss> {
    let (kind, count) = match note {
        Note::NotCarried(item) => item_lost(item),
        Note::AddressReplaced => (Kind::Address, 1),
        Note::AssumedUser => (Kind::Account, 1),
        _ => return None,
    };
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    Some(v1::ConversionLoss { kind: kind.into(), count, message: note.to_string() })
}

fn item_lost(item: &Item) -> (Kind, u64) {
    match item {
        Item::UserId | Item::BotFlag => (Kind::Account, 1),
        Item::ApiId | Item::Device | Item::Proxy => (Kind::ApiCredentials, 1),
        Item::UpdateState => (Kind::UpdateState, 1),
        Item::ChannelStates(count) => (Kind::UpdateState, *count),
        Item::OtherKeys(count) => (Kind::DcKeys, *count),
        Item::Peers(count) | Item::PeerDetails(count) => (Kind::Entities, *count),
        Item::SentFiles(count) => (Kind::SentFiles, *count),
        Item::TakeoutId | Item::TemporaryKey | Item::Salt | Item::SaveTime => (Kind::Temporary, 1),
        Item::Address | Item::MediaAddress | Item::Ipv6Address | Item::TestFlag => (Kind::Address, 1),
        Item::OtherAccounts(count) => (Kind::OtherAccounts, *count),
        Item::ObsoleteKeys(count) => (Kind::DcKeys, *count),
    }
}
