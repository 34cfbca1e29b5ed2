//! Looks for secrets in bytes, in every spelling in which they could get there.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// How much of a long secret is looked for at once: less of it is no use to a thief, and more could be split
/// between two pages of a database.
const PIECE: usize = 24;

/// Secrets, spelled out.
#[derive(Default)]
pub(crate) struct Scanner {
    needles: Vec<(String, Vec<u8>)>,
}

impl Scanner {
    /// Bytes that may stand raw, in hexadecimal, in base64 of either alphabet at any offset, or as a list of numbers.
    pub(crate) fn add_key(&mut self, name: &str, key: &[u8]) {
        assert!(key.len() >= PIECE, "{name} is too short to be told from chance");
        let last = key.len() - PIECE;
        for start in [0, last / 3, last / 2, last] {
            let piece = &key[start..start + PIECE];
            self.add(name, "raw", piece.to_vec());
            self.add(name, "hexadecimal", hex::encode(piece).into_bytes());
            self.add(name, "hexadecimal", hex::encode_upper(piece).into_bytes());
            let numbers: Vec<_> = piece.iter().map(u8::to_string).collect();
            self.add(name, "numbers", numbers.join(", ").into_bytes());
            self.add(name, "numbers", numbers.join(",").into_bytes());
            for before in 0..3 {
                self.add_base64(name, piece, before);
            }
        }
    }

    /// What `piece` looks like with so many bytes before it: the letters that depend on it alone.
    fn add_base64(&mut self, name: &str, piece: &[u8], before: usize) {
        let bytes = [&[0; 2][..before], piece].concat();
        let (skip, whole) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            self.add(name, "base64", text.as_bytes()[skip..whole].to_vec());
        }
    }

    /// A text that may stand as it is, or in any spelling of its bytes.
    pub(crate) fn add_text(&mut self, name: &str, text: &str) {
        self.add(name, "text", text.as_bytes().to_vec());
        if text.len() >= PIECE {
            self.add_key(name, text.as_bytes());
        } else {
            self.add(name, "hexadecimal", hex::encode(text).into_bytes());
        }
    }

    fn add(&mut self, name: &str, spelling: &str, needle: Vec<u8>) {
        assert!(needle.len() >= 8, "{name} is too short to be told from chance");
        self.needles.push((format!("{name} ({spelling})"), needle));
    }

    /// Which secrets are in there.
    pub(crate) fn found_in(&self, haystack: &[u8]) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for (name, needle) in &self.needles {
            if contains(haystack, needle) && !found.contains(&name.as_str()) {
                found.push(name);
            }
        }
        found
    }
}

/// Fast enough for megabytes in a debug build: `memchr` is the standard library's, under `str::find` and this.
fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let (first, rest) = (needle[0], &needle[1..]);
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| *byte == first) {
        let after = from + at + 1;
        if haystack[after..].starts_with(rest) {
            return true;
        }
        from = after;
    }
    false
}
