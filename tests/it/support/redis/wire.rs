//! The protocol of Redis, as much as a test needs to look into a server from outside: by a socket in its folder,
//! whatever it asks of those who come by the network.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// What Redis answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Answer>),
    Refused(String),
}

impl Answer {
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// The answer itself, or the members of a list, as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.bytes().iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
    }

    /// The answer itself, or the members of a list.
    pub(crate) fn bytes(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Number(number) => vec![number.to_string().into_bytes()],
            Self::Bytes(bytes) => vec![bytes.clone()],
            Self::List(members) => members.iter().flat_map(Self::bytes).collect(),
            Self::Refused(error) => panic!("Redis refused: {error}"),
        }
    }
}

pub(super) struct Connection(UnixStream);

impl Connection {
    pub(super) fn open(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(Self(stream))
    }

    pub(super) fn is_ready(&mut self) -> bool {
        match self.send(&["PING"]) {
            Answer::Bytes(_) => true,
            // A server with a password says so only when it is up.
            Answer::Refused(error) => error.starts_with("NOAUTH"),
            Answer::Nothing | Answer::Number(_) | Answer::List(_) => false,
        }
    }

    pub(super) fn send(&mut self, arguments: &[&str]) -> Answer {
        let mut request = format!("*{}\r\n", arguments.len());
        for argument in arguments {
            request.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
        }
        if self.0.write_all(request.as_bytes()).is_err() {
            return Answer::Refused("the connection broke".to_owned());
        }
        self.answer().unwrap_or_else(|error| Answer::Refused(error.to_string()))
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(std::io::Error::other);
        Ok(match kind {
            "+" => Answer::Bytes(rest.into()),
            "-" => Answer::Refused(rest.to_owned()),
            ":" => Answer::Number(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Answer::Nothing,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Answer::Bytes(bytes)
                }
            },
            "*" => {
                let length = number()?.max(0);
                Answer::List((0..length).map(|_| self.answer()).collect::<Result<_, _>>()?)
            }
            other => Answer::Refused(format!("unexpected {other}")),
        })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.0.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}
