//! The columns of a table from the text that created it, as long as the text is of the simplest kind.

/// Longer statements are left to SQLite.
const LENGTH_MAX: usize = 1024;

/// What a `create table` statement says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// In lower case, in the order of a record's values.
    pub(super) names: Vec<String>,
    /// The column whose value is the rowid and not in the record.
    pub(super) rowid: Option<usize>,
    /// Whether the key has an index of its own.
    pub(super) has_index: bool,
}

/// `None` for every statement beyond names, three types, `not null`, and a primary key, where SQLite has to be asked.
pub(super) fn columns(sql: &str, table: &str) -> Option<Columns> {
    if sql.len() > LENGTH_MAX || !sql.is_ascii() {
        return None;
    }
    let lower = sql.to_ascii_lowercase();
    let (head, rest) = lower.split_once('(')?;
    let body = rest.trim_end().strip_suffix(')')?;
    let head: Vec<&str> = head.split_ascii_whitespace().collect();
    if head != ["create", "table", &table.to_ascii_lowercase()] || !is_name(table) {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    let mut types: Vec<&str> = Vec::new();
    let mut key: Option<Vec<&str>> = None;
    for part in parts(body)? {
        let words: Vec<&str> = part.split_ascii_whitespace().collect();
        if let Some(list) = part.trim().strip_prefix("primary") {
            let list =
                list.trim_start().strip_prefix("key")?.trim_start().strip_prefix('(')?.strip_suffix(')')?;
            if key.replace(list.split(',').map(str::trim).collect()).is_some() {
                return None;
            }
            continue;
        }
        // Nothing follows a constraint of the whole table.
        if key.as_ref().is_some_and(|key| key.len() != 1 || !names.iter().any(|name| *name == key[0])) {
            return None;
        }
        let (name, kind, constraint) = match words[..] {
            [name, kind] => (name, kind, &[][..]),
            [name, kind, ..] => (name, kind, &words[2..]),
            _ => return None,
        };
        if !is_name(name)
            || names.iter().any(|known| known == name)
            || !matches!(kind, "integer" | "text" | "blob")
        {
            return None;
        }
        match constraint {
            [] | ["not", "null"] => {}
            ["primary", "key"] if key.is_none() => key = Some(vec![name]),
            _ => return None,
        }
        names.push(name.to_owned());
        types.push(kind);
    }
    let place = |column: &&str| names.iter().position(|name| name == column);
    let places: Vec<usize> = key.unwrap_or_default().iter().map(place).collect::<Option<_>>()?;
    let rowid = match places[..] {
        [one] if types[one] == "integer" => Some(one),
        _ => None,
    };
    let has_index = !places.is_empty() && rowid.is_none();
    (!names.is_empty()).then_some(Columns { names, rowid, has_index })
}

/// Splits at commas outside parentheses.
fn parts(body: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                parts.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&body[start..]);
    (depth == 0).then_some(parts)
}

/// Names that need no quotes. `primary` and others that begin a constraint are none.
fn is_name(name: &str) -> bool {
    !matches!(
        name.to_ascii_lowercase().as_str(),
        "primary" | "unique" | "check" | "foreign" | "constraint" | "not" | "null" | "table" | "create"
    ) && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], rowid: Option<usize>, has_index: bool) -> Option<Columns> {
        Some(Columns { names: names.iter().map(|name| (*name).to_owned()).collect(), rowid, has_index })
    }

    #[test]
    fn statements_of_libraries_are_understood() {
        assert_eq!(
            columns("CREATE TABLE version (version integer primary key)", "version"),
            of(&["version"], Some(0), false)
        );
        assert_eq!(
            columns("CREATE TABLE dc_home (\n dc_id INTEGER NOT NULL,\n PRIMARY KEY(dc_id))", "dc_home"),
            of(&["dc_id"], Some(0), false)
        );
        assert_eq!(
            columns(
                "CREATE TABLE sent_files (\n md5_digest blob,\n file_size integer,\n type integer,\n \
                 primary key(md5_digest, file_size, type)\n)",
                "sent_files"
            ),
            of(&["md5_digest", "file_size", "type"], None, true)
        );
    }

    #[test]
    fn everything_else_is_left_to_sqlite() {
        for sql in [
            "CREATE TABLE t (id integer primary key) without rowid",
            "CREATE TABLE t (id integer primary key) strict",
            "CREATE TABLE t (id integer primary key desc)",
            "CREATE TABLE t (id integer, x integer default 5)",
            "CREATE TABLE t (id integer, x integer as (id + 1))",
            "CREATE TABLE t (id integer, x real)",
            "CREATE TABLE t (id integer, x text unique)",
            "CREATE TABLE t (id integer, unique (id))",
            "CREATE TABLE t (\"id\" integer)",
            "CREATE TABLE t (id integer, id integer)",
            "CREATE TABLE t (id integer primary key, primary key (id))",
            "CREATE TABLE t (id integer /* , */ , x text)",
            "CREATE TABLE t (id integer, primary key (id), x text) --)",
            "CREATE TABLE other (id integer)",
            "CREATE VIRTUAL TABLE t using fts5(x)",
            "CREATE TABLE t AS SELECT 1",
            "CREATE TABLE t ()",
        ] {
            assert_eq!(columns(sql, "t"), None, "{sql}");
        }
    }
}
