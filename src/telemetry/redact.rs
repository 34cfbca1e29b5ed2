//! Last line of defence for texts that others wrote, such as error messages of libraries.

/// Runs of this many characters that look like a key or token are cut.
const RUN_MAX: usize = 31;

/// The text without passwords in addresses and without long runs of key-like characters.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=') {
            run.push(c);
        } else {
            flush(&mut out, &mut run);
            out.push(c);
        }
    }
    flush(&mut out, &mut run);
    without_user_info(&out)
}

fn flush(out: &mut String, run: &mut String) {
    // Words joined by dashes or underscores are prose or names; a long one with digits in it is a token.
    let token = run.len() > RUN_MAX && run.bytes().any(|b| b.is_ascii_digit());
    out.push_str(if token { "[redacted]" } else { run });
    run.clear();
}

fn without_user_info(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'')).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str("[redacted]@");
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// An error with all its sources in one line, redacted.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    redact(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_cut() {
        let shown = redact("cannot reach postgres://usm:hunter2@db.example:5432/usm now");
        assert_eq!(shown, "cannot reach postgres://[redacted]@db.example:5432/usm now");
    }

    #[test]
    fn tokens_and_keys_are_cut_and_words_stay() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(redact(&format!("key {hex}!")), "key [redacted]!");
        let jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIiwieCI6MX0.c2lnbmF0dXJlc2lnbmF0dXJl01";
        assert!(!redact(jwt).contains("eyJ"), "{}", redact(jwt));
        assert_eq!(redact("connection refused (os error 111)"), "connection refused (os error 111)");
    }

    #[test]
    fn a_chain_names_every_source_once() {
        let error = crate::domain::error::Error::session_not_found().caused_by("row went away");
        assert!(chain(&error).ends_with(": row went away"));
    }
}
