//! Reads every session of a folder with opentele2-core and writes it as a string, a few times over; prints the seconds
//! of each.

use std::{
    net::{IpAddr, SocketAddr},
     path::PathBuf,
    time::Instant,
};

use opentele2_core::session::{telethon::StringSession, telethon_file};

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("a folder");
    let rounds: usize = args.next().expect("rounds").parse().expect("a number");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for _ in 0..rounds {
        let began = Instant::now();
        let mut length = 0;
        for file in &files {
            let rows = telethon_file::read_session_file(file).expect("a session");
            let ip: IpAddr = rows.server_address.parse().expect("an address");
            let session = StringSession {
                dc_id: u8::try_from(rows.dc_id).expect("a data centre"),
                addr: SocketAddr::new(ip, rows.port),
                auth_key: rows.auth_key,
            };
            length += session.encode().len();
        }
        assert_eq!(length, files.len() * 353);
        println!("{}", began.elapsed().as_secs_f64());
    }
}
