//! Understands values one by one and collects what is wrong with them.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use crate::{
    config::{
        errors::Mistake,
        setting::{self, Secrecy, Setting},
        source::{Gathered, Given},
    },
    domain::secret::Secret,
};

/// What a value must be, for whoever wrote it.
pub(crate) type Rule = String;

pub(crate) struct Reader {
    pub(crate) gathered: Gathered,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Reader {
    pub(crate) fn new(mut gathered: Gathered) -> Self {
        let mistakes = std::mem::take(&mut gathered.mistakes);
        Self { gathered, mistakes }
    }

    /// The value given for a setting, understood; `None` when nothing is given or it cannot be used.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        let setting = known(name);
        let given = self.gathered.get(setting)?.clone();
        self.parse(setting.secrecy, &given, parse)
    }

    /// The value given for a setting, or its default.
    pub(crate) fn value<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, Rule>) -> T {
        let setting = known(name);
        let given = self.gathered.get(setting).cloned();
        // After a mistake the default only fills the place: the start stops anyway.
        given.and_then(|given| self.parse(setting.secrecy, &given, &parse)).unwrap_or_else(|| {
            let default = setting.default.expect("only settings with a default are read by value");
            parse(default).expect("the table's defaults follow their own rules; a test reads them all")
        })
    }

    pub(crate) fn parse<T>(
        &mut self,
        secrecy: Secrecy,
        given: &Given,
        parse: impl Fn(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        // U+FFFD stands where the environment held something else than text.
        let broken = given.text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
        let parsed = if broken {
            Err("must be text without control characters".to_owned())
        } else {
            parse(&given.text)
        };
        parsed
            .map_err(|rule| {
                let value = match secrecy {
                    Secrecy::Plain => Some(given.text.clone()),
                    Secrecy::Address | Secrecy::Secret => None,
                };
                self.mistakes.push(Mistake { key: given.key.clone(), value, rule });
            })
            .ok()
    }

    /// A rule between settings, told under the name of the one to change.
    pub(crate) fn refuse(&mut self, name: &'static str, rule: &str) {
        let setting = known(name);
        let key = self.gathered.get(setting).map_or(setting.env, |given| given.key.as_str());
        self.mistakes.push(Mistake { key: key.to_owned(), value: None, rule: rule.to_owned() });
    }
}

fn known(name: &'static str) -> &'static Setting {
    setting::find(name).expect("the code reads only settings of the table; a test reads them all")
}

pub(crate) fn text(text: &str) -> Result<String, Rule> {
    Ok(text.to_owned())
}

pub(crate) fn path(text: &str) -> Result<PathBuf, Rule> {
    Ok(PathBuf::from(text))
}

pub(crate) fn secret(text: &str) -> Result<Secret, Rule> {
    Ok(Secret::new(text))
}

pub(crate) fn secret_of(bytes_min: usize) -> impl Fn(&str) -> Result<Secret, Rule> {
    move |text| {
        if text.len() >= bytes_min {
            Ok(Secret::new(text))
        } else {
            Err(format!("must be {bytes_min} bytes or longer"))
        }
    }
}

pub(crate) fn number<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, Rule>
where
    T: FromStr + PartialOrd + Copy + std::fmt::Display,
{
    move |text| match text.trim().parse::<T>() {
        Ok(number) if number >= min && number <= max => Ok(number),
        Ok(_) | Err(_) => Err(format!("must be a whole number from {min} to {max}")),
    }
}

/// So many times a second; a fraction is less often than that.
pub(crate) fn rate(min: f64, max: f64) -> impl Fn(&str) -> Result<f64, Rule> {
    move |text| match text.trim().parse::<f64>() {
        Ok(rate) if (min..=max).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err(format!("must be a number from {min} to {max}, such as 5 or 0.5")),
    }
}

/// Seconds, or a number with `s`, `m`, `h` or `d` after it.
pub(crate) fn span(min: u64, max: u64) -> impl Fn(&str) -> Result<Duration, Rule> {
    move |text| {
        let text = text.trim();
        let (digits, unit) = match text.char_indices().last() {
            Some((at, 's')) => (&text[..at], 1),
            Some((at, 'm')) => (&text[..at], 60),
            Some((at, 'h')) => (&text[..at], 3600),
            Some((at, 'd')) => (&text[..at], 86_400),
            Some(_) | None => (text, 1),
        };
        let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        match seconds {
            Some(seconds) if (min..=max).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            Some(_) | None => Err(format!("must be {min} to {max} seconds")),
        }
    }
}

pub(crate) fn switch(text: &str) -> Result<bool, Rule> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A file mode: decimal, as Python's settings had it, or octal after `0o`.
pub(crate) fn mode(text: &str) -> Result<u32, Rule> {
    const RULE: &str = "must be a file mode such as 384 or 0o600 that gives others nothing";
    let parsed = match text.trim().strip_prefix("0o") {
        Some(octal) => u32::from_str_radix(octal, 8),
        None => text.trim().parse(),
    };
    match parsed {
        Ok(mode) if mode <= 0o777 && mode & 0o007 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        Ok(_) | Err(_) => Err(RULE.to_owned()),
    }
}

pub(crate) fn socket(text: &str) -> Result<SocketAddr, Rule> {
    let text = text.trim();
    // The one name everybody writes; any other would need a resolver before anything runs.
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "must be an address and a port such as 127.0.0.1:50051 or [::]:50051".to_owned())
}

pub(crate) fn http_url(text: &str) -> Result<String, Rule> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !host.starts_with('/') => Ok(text.trim_end_matches('/').to_owned()),
        Some(_) | None => Err("must start with http:// or https:// and name a host".to_owned()),
    }
}
