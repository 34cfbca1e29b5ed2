//! Bytes that no client sends: the server closes or refuses, and goes on.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Rig, within};

/// Sends bytes and returns all that comes until the server closes.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(bytes).await.expect("it reads");
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    answer
}

fn packet() -> Vec<u8> {
    let mut packet = vec![7; 8];
    packet.extend([1; 16]);
    packet.extend([2; 48]);
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_gets_404_in_the_form_of_its_transport() {
    let rig = Rig::start().await;
    let code = (-404_i32).to_le_bytes();
    let packet = packet();
    let mut full = (packet.len() as u32 + 12).to_le_bytes().to_vec();
    full.extend([0; 4]);
    full.extend(&packet);
    let mut crc = flate2::Crc::new();
    crc.update(&full);
    full.extend(crc.sum().to_le_bytes());
    assert_eq!(answer_to(rig.address(2), &full).await, code);

    let mut abridged = vec![0xef, (packet.len() / 4) as u8];
    abridged.extend(&packet);
    assert_eq!(answer_to(rig.address(2), &abridged).await, [&[1], &code[..]].concat());

    for tag in [0xee, 0xdd] {
        let mut intermediate = vec![tag; 4];
        intermediate.extend((packet.len() as u32).to_le_bytes());
        intermediate.extend(&packet);
        assert_eq!(answer_to(rig.address(2), &intermediate).await, [&[4, 0, 0, 0], &code[..]].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_closes_the_connection_without_an_answer() {
    let rig = Rig::start().await;
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: some browser\r\n\r\n";
    assert_eq!(answer_to(rig.address(2), http).await, b"");
    assert_eq!(answer_to(rig.address(2), &[0xff; 4096]).await, b"");
    let endless = [&[0xee; 4][..], &[0xff, 0xff, 0xff, 0x7f]].concat();
    assert_eq!(answer_to(rig.address(2), &endless).await, b"");
    rig.until("/state", |state| state["open_connections"] == 0).await;
    rig.post("/users", json!({"id": 7})).await;
    assert!(rig.client_with(2, &rig.mint(2, Some(7)).await).me().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_place_of_a_key_exchange_gets_404() {
    let rig = Rig::start().await;
    let mut message = vec![0xef, 8];
    message.extend([0; 8]);
    message.extend([1; 8]);
    message.extend(8_u32.to_le_bytes());
    message.extend([9; 12]);
    assert_eq!(answer_to(rig.address(2), &message).await, [&[1], &(-404_i32).to_le_bytes()[..]].concat());
}
