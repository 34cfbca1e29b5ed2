//! The fingerprint of a session file as the legacy system recorded it.

use std::{
    fmt,
    fs::Metadata,
    io::{self, Read},
    time::UNIX_EPOCH,
};

use sha2::{Digest as _, Sha256};

/// What identifies a file's content and last change.
///
/// As text `sha256:size:mtime`: the content's SHA-256 in lower-case hexadecimal, its length in bytes, and the time
/// of the last change in whole seconds since the Unix epoch, rounded down. It tells whether a *file* changed; two
/// copies of one authorization differ, see [`crate::domain::fingerprint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyFingerprint {
    pub sha256: [u8; 32],
    pub size: u64,
    pub mtime_seconds: i64,
}

impl LegacyFingerprint {
    /// Of a file that was read.
    ///
    /// # Errors
    /// When the system does not tell when it was written.
    pub fn of_bytes(bytes: &[u8], metadata: &Metadata) -> io::Result<Self> {
        let size = bytes.len() as u64;
        Ok(Self { sha256: Sha256::digest(bytes).into(), size, mtime_seconds: mtime_seconds(metadata)? })
    }

    /// Reads to the end, in pieces.
    ///
    /// # Errors
    /// The reader's.
    pub fn of_reader(mut reader: impl Read, metadata: &Metadata) -> io::Result<Self> {
        let mut digest = Sha256::new();
        let mut buffer = zeroize::Zeroizing::new(vec![0; 64 * 1024]);
        let mut size = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    digest.update(&buffer[..length]);
                    size += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { sha256: digest.finalize().into(), size, mtime_seconds: mtime_seconds(metadata)? })
    }

    /// Of a recorded text; a fraction of the seconds, which Python writes, is dropped. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (digest, size, mtime) = (parts.next()?, parts.next()?, parts.next()?);
        let seconds = match mtime.split_once('.') {
            Some((seconds, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit()) => seconds,
            Some(_) => return None,
            None => mtime,
        };
        if parts.next().is_some() || digest.len() != 64 {
            return None;
        }
        let mut sha256 = [0; 32];
        hex::decode_to_slice(digest, &mut sha256).ok()?;
        Some(Self { sha256, size: size.parse().ok()?, mtime_seconds: seconds.parse().ok()? })
    }
}

impl fmt::Display for LegacyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", hex::encode(self.sha256), self.size, self.mtime_seconds)
    }
}

fn mtime_seconds(metadata: &Metadata) -> io::Result<i64> {
    let modified = metadata.modified()?;
    let seconds = match modified.duration_since(UNIX_EPOCH) {
        Ok(span) => i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let span = before.duration();
            let whole = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
            if span.subsec_nanos() > 0 { -whole - 1 } else { -whole }
        }
    };
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_texts_are_read_back() {
        let digest = "ab".repeat(32);
        let text = format!("{digest}:28672:1700000000");
        assert_eq!(LegacyFingerprint::parse(&text).map(|print| print.to_string()), Some(text.clone()));
        assert_eq!(LegacyFingerprint::parse(&format!("{text}.25")), LegacyFingerprint::parse(&text));
        for bad in ["", "a:b:c", &format!("{text}:1"), &format!("{digest}:1"), &format!("{text}.x")] {
            assert_eq!(LegacyFingerprint::parse(bad), None, "{bad}");
        }
    }
}
