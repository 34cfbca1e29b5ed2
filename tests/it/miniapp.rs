//! Logins from a Mini App, over HTTP: its page, the back ends beside it, and everybody who only pretends.

mod callbacks;
mod floods;
mod forgeries;
mod logins;
mod page;
mod program;
mod replicas;
mod requests;
mod stage;
mod tickets;
