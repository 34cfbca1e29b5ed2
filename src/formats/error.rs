//! Why bytes were refused: a name of its own for each trap, a text that says the way out, never a piece of the
//! input.

use std::fmt;

use crate::domain::{
    error::{self, Reason},
    material::Format,
};

/// One table for all refusals, so that no name, reason or text can be forgotten.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $(($($payload:ty),+))? = $code:literal, $reason:ident, $message:literal;)+) => {
        /// Why material could not be read or written.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Error {
            $($(#[$doc])* $name $(($($payload),+))?,)+
        }

        impl Error {
            /// Every code there is.
            pub const CODES: &'static [&'static str] = &[$($code),+];

            /// The stable name, for reports.
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$name { .. } => $code,)+ }
            }

            /// What a caller is told.
            pub const fn reason(&self) -> Reason {
                match self { $(Self::$name { .. } => Reason::$reason,)+ }
            }

            /// What went wrong and what to do about it.
            pub const fn message(&self) -> &'static str {
                match self { $(Self::$name { .. } => $message,)+ }
            }
        }
    };
}

refusals! {
    // What the bytes are.
    Empty = "empty", MaterialInvalid,
        "there is nothing in it; take the file from a backup, or log in anew";
    TooLarge = "too_large", MaterialTooLarge,
        "it is larger than any session that is read, 64 MiB; look whether it is the right file";
    Truncated = "truncated", MaterialInvalid,
        "the SQLite file is cut short; copy it again from where it came from";
    NotSqlite = "not_sqlite", MaterialInvalid,
        "it is neither a SQLite database nor any known session string; look whether it is the right file";
    NotUtf8 = "not_utf8", MaterialInvalid,
        "the text is not UTF-8; save the session string as plain text";
    /// The format that was asked for is not the one found.
    OtherFormat(Format) = "other_format", MaterialInvalid,
        "it is a session of another format than the one named; leave the format out to have it recognised";
    /// Recognised, and not read or written by this version.
    Unsupported(Format) = "unsupported", FormatUnsupported,
        "the session's format is known but not supported; convert it to a Telethon session first";
    /// Recognised as another library's; it has no name among the formats.
    UnsupportedLibrary(&'static str) = "unsupported_library", FormatUnsupported,
        "the session belongs to a library that is not supported; convert it to a Telethon session first";

    // SQLite files.
    Corrupt = "corrupt", MaterialInvalid,
        "the SQLite file is damaged; take it from a backup, or let `sqlite3` recover it";
    UnknownSchema = "unknown_schema", MaterialInvalid,
        "the SQLite file holds no session tables of a known library; look whether it is the right file";
    /// A schema version that no release of the library wrote.
    UnknownVersion(i64) = "unknown_version", MaterialInvalid,
        "the session's schema has a version that is not known; convert it with the library that wrote it";
    NotATable = "not_a_table", MaterialInvalid,
        "a view, virtual table or computed column stands where a session table belongs; no library writes that";
    TimeLimit = "time_limit", MaterialInvalid,
        "reading took too long and was given up; the file is damaged or made to stall its reader";

    // What is in them.
    NoSession = "no_session", MaterialInvalid,
        "the session table has no row: nobody ever logged in with it; log in anew";
    SeveralSessions = "several_sessions", MaterialInvalid,
        "the session table has several rows and does not say which one counts; keep the right one only";
    NoKey = "no_key", MaterialInvalid,
        "it holds no authorization key: nobody is logged in with it; log in anew";
    NotSignedIn = "not_signed_in", MaterialInvalid,
        "it holds a key but names no account: its program connected and nobody logged in; log in anew";
    FlagInvalid = "flag", MaterialInvalid,
        "a field that says yes or no holds something else; the session is damaged";
    /// Its length in bytes.
    KeyLength(u64) = "key_length", MaterialInvalid,
        "the authorization key is not 256 bytes long; take the file from a backup, or log in anew";
    KeyType = "key_type", MaterialInvalid,
        "the authorization key is stored as text or number where bytes belong; no library writes that";
    /// The data centre it names.
    DataCentre(i64) = "dc", MaterialInvalid,
        "the data centre is not one of 1-5; the session is damaged";
    DataCentreUnknown = "dc_unknown", MaterialInvalid,
        "the session names its data centre by an address that is not known; name the address in the endpoint file";
    AddressInvalid = "address", MaterialInvalid,
        "the data centre's address is neither an IP address nor a host name; the session is damaged";
    PortInvalid = "port", MaterialInvalid,
        "the data centre's port is not 1-65535; the session is damaged";

    // Strings and JSON.
    StringMalformed(&'static str) = "string_malformed", MaterialInvalid,
        "the session string is damaged; copy it again, whole and without anything around it";
    StringVersion = "string_version", MaterialInvalid,
        "the session string has a version that is not known; write it again with Telethon 1";
    /// The line and column where reading stopped, as far as known.
    JsonMalformed(usize, usize) = "json_malformed", MaterialInvalid,
        "the JSON document is damaged or has a field that does not belong; compare it with the format's description";
    JsonUnknown = "json_unknown", MaterialInvalid,
        "the JSON document is not a session; look whether it is the right file";

    // Telegram Desktop's folders, and archives of them.
    PasscodeNeeded = "passcode_needed", MaterialInvalid,
        "the tdata folder is locked with a passcode; say which";
    WrongPasscode = "wrong_passcode", MaterialInvalid,
        "the passcode does not open the tdata folder; it is the one that Telegram Desktop asks for at its start";
    PasscodeCost = "passcode_cost", MaterialInvalid,
        "opening the tdata folder would take more time or memory than Telegram Desktop ever asks for; it was made to stall its reader";
    /// How many there are.
    SeveralAccounts(usize) = "several_accounts", MaterialInvalid,
        "the tdata folder holds several accounts; say which, from 0";
    /// How many there are.
    NoSuchAccount(usize) = "no_such_account", MaterialInvalid,
        "there are not that many accounts; they are counted from 0";
    TdataOneFile = "tdata_one_file", MaterialInvalid,
        "it is one file of a tdata folder; give the whole folder, or a ZIP archive of it";
    TdataNoKeyFile = "tdata_no_key_file", MaterialInvalid,
        "there is no key file, key_datas, in it: nothing else can be opened; copy the whole tdata folder";
    TdataKeyFiles = "tdata_key_files", MaterialInvalid,
        "there are several key files and none is called key_datas; keep the right one only";
    TdataNoAccountFile = "tdata_no_account_file", MaterialInvalid,
        "the account's file is missing; copy the whole tdata folder, or log in anew if it never was logged in";
    TdataFolders = "tdata_folders", MaterialInvalid,
        "the archive holds several tdata folders; pack each by itself";
    TdataFileEmpty = "tdata_file_empty", MaterialInvalid,
        "a file of the tdata folder is empty; copy the folder again, while Telegram Desktop does not run";
    TdataMagic = "tdata_magic", MaterialInvalid,
        "a file of the tdata folder is not one of Telegram Desktop's; copy the folder again";
    TdataTruncated = "tdata_truncated", MaterialInvalid,
        "a file of the tdata folder is cut short; copy the folder again, while Telegram Desktop does not run";
    TdataChecksum = "tdata_checksum", MaterialInvalid,
        "the checksum of a file of the tdata folder does not hold; copy the folder again, or take it from a backup";
    TdataDamaged(&'static str) = "tdata_damaged", MaterialInvalid,
        "the tdata folder is damaged, or its files do not belong together; copy it again, or take it from a backup";
    /// Its number.
    TdataBlock(u32) = "tdata_block", MaterialInvalid,
        "the account's file has a block that is not known; let a newer Telegram Desktop open the folder once";
    ArchiveDamaged = "archive_damaged", MaterialInvalid,
        "the ZIP archive is damaged or packed in a way that is not read; pack the tdata folder again";
    ArchiveSealed = "archive_sealed", MaterialInvalid,
        "the ZIP archive is locked with a password of its own; pack the tdata folder without";
    ArchivePath = "archive_path", MaterialInvalid,
        "the ZIP archive names a file outside of itself; pack the tdata folder again";
    ArchiveTooLarge = "archive_too_large", MaterialTooLarge,
        "the ZIP archive holds too many or too large files; pack key_datas, and each account's file and folder only";
    ChannelStates = "channel_states", MaterialInvalid,
        "the states of channels are more than 10,000, or name one twice or by an id that is not above 0";

    // Files.
    OutsideFolder = "outside_folder", MaterialInvalid,
        "the path leads out of the sessions folder; put the file itself into the folder";
    NotRegular = "not_regular", MaterialInvalid,
        "it is not a regular file; look whether it is the right path";
    NotFound = "not_found", MaterialInvalid,
        "there is no such file, or it is a link to nowhere";
    Unreadable = "unreadable", MaterialInvalid,
        "the file cannot be read; check its owner and mode";
    Locked = "locked", MaterialInvalid,
        "another program is writing to the file; stop the program, or try again";
    Changing = "changing", MaterialInvalid,
        "the file changed while it was read; stop the program that writes to it, or try again";
    JournalShared = "journal_shared", MaterialInvalid,
        "the file's journal belongs to several databases; open it once with `sqlite3` to settle it";

    // Writing.
    PasscodeUnusable = "passcode_unusable", MaterialInvalid,
        "the format knows no passcode; leave it out";
    /// How many were given.
    AccountCount(usize) = "account_count", MaterialInvalid,
        "a tdata folder holds one to six accounts; write several folders";
    UserIdNeeded = "user_id_needed", MaterialInvalid,
        "the format needs the account's user id, which the session does not tell; validate it first, or take another format";
    TdataBot = "tdata_bot", FormatUnsupported,
        "Telegram Desktop holds no bots; take another format";
    TdataTestDc = "tdata_test_dc", FormatUnsupported,
        "the session belongs to Telegram's test environment, which Telegram Desktop does not open; take another format";
    ExistsOther = "exists_other", FingerprintMismatch,
        "the file that is there holds another authorization; move it away, or say --force to replace it";
    /// The format of the file that is there.
    ExistsOtherFormat(Format) = "exists_other_format", FingerprintMismatch,
        "the file that is there holds the same session in another format; name that one, or say --force to replace it";
    IsLink = "is_link", MaterialInvalid,
        "a link stands in the place of the file or its folder, and is not followed; remove it, or name the folder it leads to";
    JournalBeside = "journal_beside", MaterialInvalid,
        "a -journal or -wal lies beside the file: its program runs or was killed; stop it and open the file once with `sqlite3`";
    Unwritable = "unwritable", Internal,
        "the file or its folder cannot be written; check its owner, its mode and the room on the disk";
    AddressUnknown(i32) = "address_unknown", MaterialInvalid,
        "no address of the session's data centre is known; name it in the endpoint file";
    Internal(&'static str) = "internal", Internal,
        "the session could not be processed; see the log";
}

impl Error {
    /// The particulars, as names and harmless values.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("code", self.code().to_owned())];
        match self {
            Self::OtherFormat(format) | Self::Unsupported(format) | Self::ExistsOtherFormat(format) => {
                facts.push(("format", format.name().to_owned()));
            }
            Self::UnsupportedLibrary(library) => facts.push(("library", (*library).to_owned())),
            Self::UnknownVersion(version) => facts.push(("version", version.to_string())),
            Self::KeyLength(length) => facts.push(("length", length.to_string())),
            Self::DataCentre(dc) => facts.push(("dc_id", dc.to_string())),
            Self::AddressUnknown(dc) => facts.push(("dc_id", dc.to_string())),
            Self::SeveralAccounts(count) | Self::NoSuchAccount(count) | Self::AccountCount(count) => {
                facts.push(("accounts", count.to_string()));
            }
            Self::TdataBlock(number) => facts.push(("block", number.to_string())),
            Self::StringMalformed(detail) | Self::TdataDamaged(detail) | Self::Internal(detail) => {
                facts.push(("detail", (*detail).to_owned()));
            }
            Self::JsonMalformed(line, column) => {
                facts.push(("line", line.to_string()));
                facts.push(("column", column.to_string()));
            }
            _ => {}
        }
        facts
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        let facts = self.facts();
        for (n, (name, value)) in facts.iter().skip(1).enumerate() {
            write!(f, "{}{name} {value}", if n == 0 { " (" } else { ", " })?;
        }
        if facts.len() > 1 { f.write_str(")") } else { Ok(()) }
    }
}

impl std::error::Error for Error {}

impl From<Error> for error::Error {
    fn from(refusal: Error) -> Self {
        let mut error = Self::new(refusal.reason(), refusal.message());
        error.facts = refusal.facts();
        error
    }
}
