//! What a reader or writer wants people to know although it succeeded.

use std::fmt;

/// Something odd about a source, or something a target has no place for. Printable; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// White space or line breaks around a string were left out.
    Trimmed,
    /// The string has the shortest of its library's lengths, and could be a longer one that was cut.
    MaybeCut,
    /// The header says that the database is in WAL mode, but only its main part was at hand.
    WalWithoutLog,
    /// The file was read together with its `-journal`, which was left by a program that stopped midway.
    WithJournal,
    /// The file was read together with its `-wal`.
    WithWal,
    /// A file called `.session` that is no SQLite database, though a session.
    NameUnlikeContent,
    /// The source tells no address; the endpoint's own will be used.
    AddressMissing,
    /// The source tells a host name in place of an address; the endpoint's own address will be used.
    AddressIsHostName,
    /// The address is that of another data centre.
    AddressOfOtherDc,
    /// The address is one of Telegram's test data centres.
    AddressOfTestDc,
    /// Another address of the data centre was written, because the target's library would destroy a session
    /// with an IPv6 address.
    AddressReplaced,
    /// The target has to say whether the account is a bot, and the source does not: written as a user.
    AssumedUser,
    /// The target has to name the account and say whether it is a bot, and the source does not: written as 0.
    AssumedNobody,
    /// The source's form is read and never written; the name of its library.
    ReadOnlyForm(&'static str),
    /// The target's library will take the port for a negative number, and connect to its own.
    PortNegative,
    /// The source's api_id cannot be one.
    ApiIdImplausible,
    /// A passcode was given, and the tdata folder is not locked.
    PasscodeUnused,
    /// The tdata folder lacks the account's map, without which TDesktop forgets the account.
    MapMissing,
    /// TDesktop shows a fourth account and more only with Telegram Premium.
    AccountBeyondThird,
    /// The source's user id cannot be one.
    UserIdImplausible,
    /// The source's update state has values that cannot be.
    UpdateStateImplausible,
    /// What the target has no place for, or this program does not keep.
    NotCarried(Item),
}

/// A part of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    UserId,
    BotFlag,
    ApiId,
    Device,
    Proxy,
    UpdateState,
    /// Keys of data centres other than the home one.
    OtherKeys(u64),
    /// Known users, groups and channels with their access hashes.
    Peers(u64),
    /// Names, usernames, phone numbers or kinds of peers that were carried otherwise.
    PeerDetails(u64),
    /// How far each channel was read.
    ChannelStates(u64),
    /// Files known to Telegram by their hashes.
    SentFiles(u64),
    TakeoutId,
    TemporaryKey,
    /// The home data centre's.
    Address,
    /// Of the data centre's servers for files.
    MediaAddress,
    /// That the session belongs into Telegram's test environment.
    TestFlag,
    /// When the source's library last saved it.
    SaveTime,
    /// Further accounts of the same source.
    OtherAccounts(u64),
    /// Keys that waited to be given up.
    ObsoleteKeys(u64),
    /// Session salt of a source too old to need it.
    Salt,
    Ipv6Address,
}

impl Note {
    /// The stable name, for reports.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::MaybeCut => "maybe_cut",
            Self::WalWithoutLog => "wal_without_log",
            Self::WithJournal => "with_journal",
            Self::WithWal => "with_wal",
            Self::NameUnlikeContent => "name_unlike_content",
            Self::AddressMissing => "address_missing",
            Self::AddressIsHostName => "address_is_host_name",
            Self::AddressOfOtherDc => "address_of_other_dc",
            Self::AddressOfTestDc => "address_of_test_dc",
            Self::AddressReplaced => "address_replaced",
            Self::AssumedUser => "assumed_user",
            Self::AssumedNobody => "assumed_nobody",
            Self::ReadOnlyForm(_) => "read_only_form",
            Self::PortNegative => "port_negative",
            Self::ApiIdImplausible => "api_id_implausible",
            Self::PasscodeUnused => "passcode_unused",
            Self::MapMissing => "map_missing",
            Self::AccountBeyondThird => "account_beyond_third",
            Self::UserIdImplausible => "user_id_implausible",
            Self::UpdateStateImplausible => "update_state_implausible",
            Self::NotCarried(_) => "not_carried",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trimmed => "white space around the string was left out",
            Self::MaybeCut => "an old short string, or a newer one that was cut; see that the session works",
            Self::WalWithoutLog => "the database is in WAL mode; a -wal file beside it would be newer",
            Self::WithJournal => "read together with its -journal",
            Self::WithWal => "read together with its -wal",
            Self::NameUnlikeContent => "the file is called .session but is not a SQLite database",
            Self::AddressMissing => "no address of the data centre; the endpoint's own will be used",
            Self::AddressIsHostName => "a host name as address; the endpoint's own address will be used",
            Self::AddressOfOtherDc => "the address belongs to another data centre",
            Self::AddressOfTestDc => "the address is one of Telegram's test data centres",
            Self::AddressReplaced => "the IPv6 address was replaced by an IPv4 one",
            Self::AssumedUser => "not known whether the account is a bot; written as a user",
            Self::AssumedNobody => "not known whose account it is; written as user 0, not a bot",
            Self::ReadOnlyForm(library) => {
                return write!(f, "a session of {library}, which is read and never written");
            }
            Self::PortNegative => {
                "a port above 32767, which the target's library takes for a negative number"
            }
            Self::ApiIdImplausible => "the stored api_id cannot be one and was left out",
            Self::PasscodeUnused => "the tdata folder has no passcode; the one given was not used",
            Self::MapMissing => {
                "the account's map is missing; Telegram Desktop itself would forget the account"
            }
            Self::AccountBeyondThird => {
                "Telegram Desktop shows more than three accounts only if one of them has Telegram Premium"
            }
            Self::UserIdImplausible => "the stored user id cannot be one and was left out",
            Self::UpdateStateImplausible => "the stored update state cannot be one and was left out",
            Self::NotCarried(item) => return write!(f, "not carried over: {item}"),
        })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserId => f.write_str("user id"),
            Self::BotFlag => f.write_str("whether it is a bot"),
            Self::ApiId => f.write_str("api_id"),
            Self::Device => f.write_str("device parameters"),
            Self::Proxy => f.write_str("proxy"),
            Self::UpdateState => f.write_str("update state"),
            Self::OtherKeys(count) => write!(f, "{count} keys of other data centres"),
            Self::Peers(count) => write!(f, "{count} peers"),
            Self::PeerDetails(count) => write!(f, "details of {count} peers, such as names"),
            Self::ChannelStates(count) => write!(f, "update state of {count} channels"),
            Self::SentFiles(count) => write!(f, "{count} sent files"),
            Self::TakeoutId => f.write_str("takeout id"),
            Self::OtherAccounts(count) => write!(f, "{count} other accounts of the same source"),
            Self::ObsoleteKeys(count) => write!(f, "{count} keys that waited to be given up"),
            Self::TemporaryKey => f.write_str("temporary key"),
            Self::Address => f.write_str("address of the data centre"),
            Self::MediaAddress => f.write_str("address for files"),
            Self::TestFlag => f.write_str("test flag"),
            Self::SaveTime => f.write_str("time of the last save"),
            Self::Salt => f.write_str("salt"),
            Self::Ipv6Address => f.write_str("IPv6 address"),
        }
    }
}
