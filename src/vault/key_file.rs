//! The key ring's file: its JSON form, and the care with which it is read and written.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key_ring::Error;

#[derive(Deserialize)]
pub(super) struct Versioned {
    pub(super) version: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RingFile {
    pub(super) version: u32,
    pub(super) root: Hex32,
    pub(super) current: String,
    pub(super) keys: Vec<KeyFile>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFile {
    pub(super) id: String,
    pub(super) create_time: i64,
    pub(super) secret: Hex32,
}

/// 32 secret bytes, in the file as hexadecimal digits.
#[derive(Clone, Default)]
pub(super) struct Hex32(pub(super) Zeroizing<[u8; 32]>);

impl Hex32 {
    pub(super) fn draw(&mut self) -> io::Result<()> {
        getrandom::fill(self.0.as_mut_slice()).map_err(io::Error::from)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

impl PartialEq for Hex32 {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Serialize for Hex32 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(hex::encode(self.0.as_slice())))
    }
}

impl<'de> Deserialize<'de> for Hex32 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl serde::de::Visitor<'_> for Digits {
            type Value = Hex32;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hex32, E> {
                let mut bytes = Hex32::default();
                // The default message would quote the text.
                hex::decode_to_slice(text, bytes.0.as_mut_slice())
                    .map_err(|_| E::custom("not 64 hexadecimal digits"))?;
                Ok(bytes)
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

/// Opens the file and looks at what was opened, not at what the name meant a moment before.
pub(super) fn open_file(path: &Path) -> Result<File, Error> {
    let io = |source| Error::Io { path: path.to_owned(), doing: "read", source };
    // Opening a pipe would wait for somebody to write into it.
    match fs::metadata(path) {
        Ok(it) if !it.is_file() => return Err(Error::NotAFile { path: path.to_owned() }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { path: path.to_owned() });
        }
        Err(error) => return Err(io(error)),
    }
    let file = File::open(path).map_err(io)?;
    let it = file.metadata().map_err(io)?;
    if !it.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    if it.mode() & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned() });
    }
    Ok(file)
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(|source| Error::Io {
        path: path.to_owned(),
        doing: "make durable",
        source,
    })
}

/// A complete copy beside the ring's place; gone again when dropped, unless it was renamed.
pub(super) struct Draft {
    pub(super) path: PathBuf,
}

impl Draft {
    pub(super) fn write(target: &Path, text: &[u8]) -> Result<Self, Error> {
        let io = |doing| move |source| Error::Io { path: target.to_owned(), doing, source };
        let mut tag = [0; 8];
        getrandom::fill(&mut tag).map_err(|error| io("draw random numbers for")(error.into()))?;
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", hex::encode(tag)));
        let path = target.with_file_name(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io("write beside"))?;
        let draft = Self { path };
        file.write_all(text).and_then(|()| file.sync_all()).map_err(io("write"))?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}
