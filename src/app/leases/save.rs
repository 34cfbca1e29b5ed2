//! What changed in the material while it was held, written back under the lease's epoch.
//!
//! A holder never logs in: it may bring keys of further data centres, a home that Telegram moved, and how far it has
//! read updates. Another authorization in place of the one that was lent is refused.

use std::collections::BTreeMap;

use super::{App, epoch_stale};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        id::LeaseId,
        material::{CHANNELS_MAX, DcKey, Format, Material, UpdateState},
        session::Session,
    },
    formats,
    store::{self, Change, LeaseRule},
};

/// How often a save is tried anew when the session changed in between for another reason, such as a new label.
const ATTEMPTS_MAX: u32 = 4;

/// What a holder writes back.
#[derive(Debug)]
pub enum Saved {
    /// The whole session as its library wrote it.
    Whole { format: Format, data: zeroize::Zeroizing<Vec<u8>> },
    /// Single parts; what is not named stays.
    Parts(Parts),
}

#[derive(Debug, Default)]
pub struct Parts {
    pub home_dc: Option<i32>,
    pub keys: Vec<(i32, DcKey)>,
    pub updates: Option<UpdateState>,
    /// By bare ids; of other channels the stored states stay.
    pub channels: BTreeMap<i64, i32>,
}

impl App {
    /// Writes back what changed. Repeating it changes nothing more.
    ///
    /// # Errors
    /// `LEASE_NOT_HELD`, `LEASE_EPOCH_STALE`, `MATERIAL_INVALID`, `FORMAT_UNSUPPORTED`, `ACCOUNT_MISMATCH`; nothing is
    /// changed then.
    pub async fn save_session(
        &self,
        caller: &Caller,
        id: &LeaseId,
        epoch: i64,
        saved: Saved,
    ) -> Result<Session, Error> {
        let given = match saved {
            Saved::Whole { format, data } => {
                let parsed = formats::parse(&data, Some(format), self.0.telegram.addresses()).await?;
                Given::Whole(parsed.material)
            }
            Saved::Parts(parts) => Given::Parts(parts),
        };
        let mut attempt = 1;
        loop {
            match self.try_save(caller, id, epoch, &given).await {
                Err(error) if error.reason == Reason::RevisionStale && attempt < ATTEMPTS_MAX => attempt += 1,
                done => return done,
            }
        }
    }

    async fn try_save(
        &self,
        caller: &Caller,
        id: &LeaseId,
        epoch: i64,
        given: &Given,
    ) -> Result<Session, Error> {
        let (mut session, sealed) = self.held(caller, id, epoch).await?;
        let sealed = sealed.filter(|_| session.state.is_usable()).ok_or_else(|| {
            Error::lease_not_held()
                .fact("state", session.state.name().as_str())
                .fact("state_reason", session.state.reason())
        })?;
        let stored = self.0.vault.unseal(&session.key, &session.environment, &sealed)?;
        let known = session.account.as_ref().map(|account| account.telegram_user_id);
        let material = given.merged_into(&stored, known)?;
        if material == stored {
            return Ok(session);
        }
        let change = self.seal(&mut session, &material)?;
        session.update_time = caller.now;
        let change = Change {
            material: change,
            lease: LeaseRule::Mine { lease_id: id.clone(), epoch },
            events: vec![
                NewEvent::of(Kind::MaterialReplaced, &caller.subject)
                    .detail("epoch", epoch)
                    .detail("dc_id", material.home_dc),
            ],
            ..Change::of(session)
        };
        match self.commit(caller, change).await {
            Ok(session) => Ok(session),
            // The lease ended between the look and the write.
            Err(store::Error::Leased { .. }) => Err(Error::lease_not_held()),
            Err(error) => Err(error.into()),
        }
    }

    /// The session that the caller holds under this lease, and its material if there is any.
    pub(super) async fn held(
        &self,
        caller: &Caller,
        id: &LeaseId,
        epoch: i64,
    ) -> Result<(Session, Option<crate::domain::material::SealedMaterial>), Error> {
        match self.0.store.held(caller, id, epoch).await? {
            store::Holds::Held { session, sealed } => Ok((*session, sealed)),
            store::Holds::NotHeld => Err(Error::lease_not_held()),
            store::Holds::EpochStale { current } => Err(epoch_stale(current)),
        }
    }
}

/// What is written back, read and understood.
enum Given {
    Whole(Material),
    Parts(Parts),
}

impl Given {
    /// # Errors
    /// `MATERIAL_INVALID`, `ACCOUNT_MISMATCH`.
    fn merged_into(&self, stored: &Material, account: Option<i64>) -> Result<Material, Error> {
        let mut material = stored.clone();
        let (home_dc, keys, updates, channels) = match self {
            Self::Whole(given) => {
                if let (Some(given), Some(known)) =
                    (given.telegram_user_id, account.or(stored.telegram_user_id))
                    && given != known
                {
                    return Err(Error::new(
                        Reason::AccountMismatch,
                        "the material belongs to another account than the session",
                    ));
                }
                if given.api_id != 0 && stored.api_id != 0 && given.api_id != stored.api_id {
                    return Err(invalid(
                        "the material names another api_id than the authorization was made with",
                    ));
                }
                material.telegram_user_id = stored.telegram_user_id.or(given.telegram_user_id);
                (
                    Some(given.home_dc),
                    given.keys.clone().into_iter().collect(),
                    given.updates,
                    &given.channels,
                )
            }
            Self::Parts(parts) => (parts.home_dc, parts.keys.clone(), parts.updates, &parts.channels),
        };
        for (dc, key) in keys {
            if dc == stored.home_dc && material.home().is_some_and(|home| home.auth_key != key.auth_key) {
                return Err(invalid(
                    "the key of the home data centre is another one: that is another authorization; log in \
                     through the service instead",
                ));
            }
            // Where a data centre is, this service's endpoint knows better than a worker's file.
            let address = key.address.or_else(|| material.keys.get(&dc).and_then(|known| known.address));
            material.keys.insert(dc, DcKey { auth_key: key.auth_key, address });
        }
        material.home_dc = home_dc.unwrap_or(stored.home_dc);
        material.updates = updates.or(stored.updates);
        material.channels.extend(channels);
        if material.channels.len() > CHANNELS_MAX {
            // The new ones are what somebody reads.
            material.channels.clone_from(channels);
        }
        material.check()?;
        Ok(material)
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(Reason::MaterialInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::material::{AuthKey, Device};

    fn key(byte: u8) -> DcKey {
        DcKey { auth_key: AuthKey::from_slice(&[byte; 256]).expect("a key"), address: None }
    }

    fn material(home_dc: i32, keys: &[(i32, u8)]) -> Material {
        Material {
            home_dc,
            keys: keys.iter().map(|(dc, byte)| (*dc, key(*byte))).collect(),
            telegram_user_id: Some(7),
            is_bot: Some(false),
            api_id: 1,
            device: Device::default(),
            proxy: None,
            updates: None,
            channels: BTreeMap::new(),
        }
    }

    fn refusal(given: &Given) -> Reason {
        given.merged_into(&material(2, &[(2, 1)]), Some(7)).expect_err("refused").reason
    }

    #[test]
    fn keys_of_further_data_centres_are_added_and_nothing_is_forgotten() {
        let given = Given::Whole(material(2, &[(2, 1), (4, 9)]));
        let merged = given.merged_into(&material(2, &[(2, 1), (5, 3)]), Some(7)).expect("merged");
        assert_eq!(merged.keys.keys().copied().collect::<Vec<_>>(), [2, 4, 5]);
    }

    #[test]
    fn a_moved_home_needs_its_key() {
        let parts = |keys| Given::Parts(Parts { home_dc: Some(4), keys, ..Parts::default() });
        assert_eq!(refusal(&parts(Vec::new())), Reason::MaterialInvalid);
        let merged = parts(vec![(4, key(8))]).merged_into(&material(2, &[(2, 1)]), None).expect("merged");
        assert_eq!(merged.home_dc, 4);
    }

    #[test]
    fn states_of_channels_are_added_within_bounds() {
        let stored = Material { channels: BTreeMap::from([(1, 10), (2, 20)]), ..material(2, &[(2, 1)]) };
        let given = |channels| Given::Parts(Parts { channels, ..Parts::default() });
        let merged = given(BTreeMap::from([(2, 21), (3, 30)])).merged_into(&stored, None).expect("merged");
        assert_eq!(merged.channels, BTreeMap::from([(1, 10), (2, 21), (3, 30)]));
        let many: BTreeMap<i64, i32> = (101..=10_100).map(|id| (id, 1)).collect();
        let merged = given(many.clone()).merged_into(&stored, None).expect("merged");
        assert_eq!(merged.channels, many);
    }

    #[test]
    fn another_authorization_is_not_taken_for_a_change() {
        assert_eq!(refusal(&Given::Whole(material(2, &[(2, 9)]))), Reason::MaterialInvalid);
        let other = Material { telegram_user_id: Some(8), ..material(2, &[(2, 1)]) };
        assert_eq!(refusal(&Given::Whole(other)), Reason::AccountMismatch);
        let foreign = Material { api_id: 2, ..material(2, &[(2, 1)]) };
        assert_eq!(refusal(&Given::Whole(foreign)), Reason::MaterialInvalid);
    }
}
