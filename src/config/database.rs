//! The database's address.

use std::path::{Path, PathBuf};

use crate::{config::read::Rule, domain::secret::Secret};

/// Which database, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    /// `postgres://…`; may hold a password.
    Postgres(Secret),
}

impl DatabaseUrl {
    /// # Errors
    /// The rule the address breaks.
    pub fn parse(text: &str) -> Result<Self, Rule> {
        const RULE: &str = "must be sqlite://FILE, postgres://… or postgresql+asyncpg://…";
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(RULE.to_owned());
        };
        match scheme {
            "sqlite" => {
                let file = rest.split_once('?').map_or(rest, |(file, _)| file);
                if file.is_empty() || file == ":memory:" {
                    return Err("must name a file: a database in memory would lose every session".to_owned());
                }
                Ok(Self::Sqlite(PathBuf::from(file)))
            }
            "postgres" | "postgresql" | "postgresql+asyncpg" => {
                if rest.is_empty() || rest.starts_with('/') {
                    return Err("must name a host, and a database after it".to_owned());
                }
                // asyncpg calls it ssl; everybody else sslmode.
                let rest = rest.replace("?ssl=", "?sslmode=").replace("&ssl=", "&sslmode=");
                Ok(Self::Postgres(Secret::new(format!("postgres://{rest}"))))
            }
            _ => Err(RULE.to_owned()),
        }
    }

    /// As the drivers read it.
    pub fn to_url(&self) -> Secret {
        match self {
            Self::Sqlite(file) => Secret::new(format!("sqlite://{}", file.display())),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// The file of an embedded database.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(file),
            Self::Postgres(_) => None,
        }
    }
}
