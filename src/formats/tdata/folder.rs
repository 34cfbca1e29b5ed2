//! The files of a tdata folder that a session needs, wherever they come from, and which of several counts.

use std::{collections::BTreeMap, fs::Metadata};

use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::{container, key_file::ACCOUNTS_MAX};
use crate::formats::Error;

/// The name in `key_<name>` unless TDesktop was started with another.
const DATA_NAME: &str = "data";
const KEY_PREFIX: &str = "key_";
const DATA_NAME_LENGTH_MAX: usize = 64;
/// Ends every file's name; the other two are of TDesktop before 1.9, which wrote them in turn.
const SUFFIX: char = 's';
const OLD_SUFFIXES: [char; 2] = ['0', '1'];

/// The files that matter weigh some KiB; a map may hold many drafts.
pub(super) const FILE_LENGTH_MAX: u64 = 4 * 1024 * 1024;
pub(super) const LENGTH_MAX: u64 = 32 * 1024 * 1024;

/// One file as it was found.
pub(super) struct Found {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Larger is newer.
    pub(super) modified: i128,
    /// Of a file on a disk.
    pub(super) metadata: Option<Metadata>,
}

/// The files by their paths within the folder, with `/` between.
pub(super) type Files = BTreeMap<String, Found>;

/// The names that a folder's files have.
#[derive(Debug)]
pub(super) struct Names {
    data_name: String,
}

impl Names {
    /// From the names that lie in the folder itself.
    ///
    /// # Errors
    /// `TdataKeyFiles` if several key files are there and none has the usual name.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a str>) -> Result<Self, Error> {
        let mut found: Vec<&str> = files.filter_map(data_name).collect();
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            // Without a key file it is perhaps from before there was one.
            [] => Ok(Self { data_name: DATA_NAME.to_owned() }),
            names if names.contains(&DATA_NAME) => Ok(Self { data_name: DATA_NAME.to_owned() }),
            [name] => Ok(Self { data_name: (*name).to_owned() }),
            _ => Err(Error::TdataKeyFiles),
        }
    }

    pub(super) fn key_file(&self) -> String {
        format!("{KEY_PREFIX}{}", self.data_name)
    }

    /// Of an account: its file, and its folder.
    pub(super) fn account(&self, index: u32) -> String {
        let plain = self.data_name.replace('#', "");
        if index == 0 { file_part(&plain) } else { file_part(&format!("{plain}#{}", index + 1)) }
    }

    /// Every path that is read if it is there.
    pub(super) fn all(&self) -> impl Iterator<Item = String> + '_ {
        let accounts = u32::try_from(ACCOUNTS_MAX).expect("a small number");
        let stems = (0..accounts).flat_map(|index| {
            let account = self.account(index);
            [map(&account), config(&account), account]
        });
        std::iter::once(self.key_file()).chain(stems).flat_map(|stem| with_suffixes(&stem))
    }
}

/// The path without suffix of what TDesktop calls an account's map.
pub(super) fn map(account: &str) -> String {
    format!("{account}/map")
}

pub(super) fn config(account: &str) -> String {
    format!("{account}/config")
}

pub(super) fn with_suffix(stem: &str) -> String {
    format!("{stem}{SUFFIX}")
}

fn with_suffixes(stem: &str) -> [String; 3] {
    [SUFFIX, OLD_SUFFIXES[0], OLD_SUFFIXES[1]].map(|suffix| format!("{stem}{suffix}"))
}

/// The name of the data if the file is a key file.
pub(super) fn data_name(file: &str) -> Option<&str> {
    let name = file.strip_prefix(KEY_PREFIX)?.strip_suffix([SUFFIX, OLD_SUFFIXES[0], OLD_SUFFIXES[1]])?;
    (!name.is_empty() && name.len() <= DATA_NAME_LENGTH_MAX).then_some(name)
}

/// Whether a file's or folder's name is one that accounts have.
pub(super) fn is_account(name: &str) -> bool {
    let is_part = |part: &str| {
        part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
    };
    is_part(name) || name.strip_suffix([SUFFIX, OLD_SUFFIXES[0], OLD_SUFFIXES[1]]).is_some_and(is_part)
}

/// The first half of a name's MD5, as hexadecimal digits of which the lower half of each byte comes first.
fn file_part(data_name: &str) -> String {
    let digest = Md5::digest(data_name.as_bytes());
    digest[..8].iter().flat_map(|byte| [byte & 0xf, byte >> 4]).map(digit).collect()
}

fn digit(half: u8) -> char {
    char::from_digit(half.into(), 16).expect("half a byte").to_ascii_uppercase()
}

/// The payload of the file that counts: the one with the suffix of today if it is there, whatever it holds; else the
/// newer of the old ones that is sound. `None` if there is none.
pub(super) fn payload<'a>(files: &'a Files, stem: &str) -> Option<Result<&'a [u8], Error>> {
    if let Some(found) = files.get(&with_suffix(stem)) {
        return Some(container::open(&found.bytes));
    }
    let mut old: Vec<&Found> =
        OLD_SUFFIXES.iter().filter_map(|suffix| files.get(&format!("{stem}{suffix}"))).collect();
    old.sort_by_key(|found| std::cmp::Reverse(found.modified));
    let mut opened = old.into_iter().map(|found| container::open(&found.bytes));
    let newest = opened.next()?;
    Some(newest.or_else(|error| opened.next().unwrap_or(Err(error.clone())).map_err(|_| error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_the_names_that_tdesktop_gives_them() {
        let names = Names::of(std::iter::empty()).unwrap();
        assert_eq!(names.key_file(), "key_data");
        assert_eq!(names.account(0), "D877F783D5D3EF8C");
        assert_eq!(names.account(1), "A7FDF864FBC10B77");
        assert!(is_account("D877F783D5D3EF8C") && is_account("A7FDF864FBC10B77s"));
        assert!(!is_account("key_datas") && !is_account("d877f783d5d3ef8cs"));
    }

    #[test]
    fn a_key_file_of_another_name_counts_if_it_is_the_only_one() {
        let of = |names: &[&str]| Names::of(names.iter().copied()).map(|names| names.key_file());
        assert_eq!(of(&["key_works", "key_work0", "usertag"]).as_deref(), Ok("key_work"));
        assert_eq!(of(&["key_works", "key_datas", "key_homes"]).as_deref(), Ok("key_data"));
        assert_eq!(of(&["key_works", "key_homes"]), Err(Error::TdataKeyFiles));
    }
}
