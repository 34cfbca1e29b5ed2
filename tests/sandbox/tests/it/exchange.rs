//! The whole key exchange, written against the documentation with grammers' primitives.

use std::net::SocketAddr;

use grammers_client::tl::{self, Cursor, Deserializable, Serializable, enums};
use grammers_crypto::{AuthKey, aes, factorize, generate_key_data_from_nonce, rsa};
use grammers_mtproto::{mtp, transport};
use grammers_mtsender::{InvocationError, Sender, ServerAddr};
use num_bigint::BigUint;
use sha1::{Digest, Sha1};

use crate::support::{Minted, Rig, error_of, within};

type Plain = Sender<transport::Full, mtp::Plain>;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("randomness");
    bytes
}

/// What goes into the encrypted part of `req_DH_params`.
#[derive(Clone, Copy)]
enum Kind {
    Bare,
    Dc(i32),
    Temporary(i32),
}

/// A started exchange.
struct Client {
    sender: Plain,
    nonce: [u8; 16],
    server_nonce: [u8; 16],
    new_nonce: [u8; 32],
    pq: Vec<u8>,
    p: Vec<u8>,
    q: Vec<u8>,
    fingerprint: i64,
}

impl Client {
    async fn start(address: SocketAddr) -> Self {
        let mut sender =
            Sender::connect(transport::Full::new(), mtp::Plain::new(), ServerAddr::Tcp { address })
                .await
                .expect("it listens");
        let nonce = random();
        let enums::ResPq::Pq(answer) =
            sender.invoke(&tl::functions::ReqPqMulti { nonce }).await.expect("an answer");
        assert_eq!(answer.nonce, nonce);
        let pq: [u8; 8] = answer.pq.as_slice().try_into().expect("pq takes exactly 8 bytes");
        let (p, q) = factorize(u64::from_be_bytes(pq));
        let short = |n: u64| n.to_be_bytes()[(n.leading_zeros() / 8) as usize..].to_vec();
        Self {
            sender,
            nonce,
            server_nonce: answer.server_nonce,
            new_nonce: random(),
            pq: pq.to_vec(),
            p: short(p),
            q: short(q),
            fingerprint: answer.server_public_key_fingerprints[0],
        }
    }

    fn inner(&self, kind: Kind) -> Vec<u8> {
        let (pq, p, q) = (self.pq.clone(), self.p.clone(), self.q.clone());
        let (nonce, server_nonce, new_nonce) = (self.nonce, self.server_nonce, self.new_nonce);
        match kind {
            Kind::Bare => {
                let data = tl::types::PQInnerData { pq, p, q, nonce, server_nonce, new_nonce };
                enums::PQInnerData::Data(data).to_bytes()
            }
            Kind::Dc(dc) => {
                let data = tl::types::PQInnerDataDc { pq, p, q, nonce, server_nonce, new_nonce, dc };
                enums::PQInnerData::Dc(data).to_bytes()
            }
            Kind::Temporary(expires_in) => {
                let data =
                    tl::types::PQInnerDataTemp { pq, p, q, nonce, server_nonce, new_nonce, expires_in };
                enums::PQInnerData::Temp(data).to_bytes()
            }
        }
    }

    async fn offer(&mut self, encrypted_data: Vec<u8>) -> Result<enums::ServerDhParams, InvocationError> {
        let request = tl::functions::ReqDhParams {
            nonce: self.nonce,
            server_nonce: self.server_nonce,
            p: self.p.clone(),
            q: self.q.clone(),
            public_key_fingerprint: self.fingerprint,
            encrypted_data,
        };
        self.sender.invoke(&request).await
    }

    /// The last step, with a public value of the caller's making.
    async fn agree(
        &mut self,
        offer: enums::ServerDhParams,
        public: impl Fn(&BigUint, &BigUint) -> (BigUint, BigUint),
    ) -> (enums::SetClientDhParamsAnswer, [u8; 256]) {
        let enums::ServerDhParams::Ok(mut offer) = offer else { panic!("no offer") };
        let (key, iv) = generate_key_data_from_nonce(&self.server_nonce, &self.new_nonce);
        aes::ige_decrypt(&mut offer.encrypted_answer, &key, &iv);
        let plain = &offer.encrypted_answer[20..];
        let mut cursor = Cursor::from_slice(plain);
        let enums::ServerDhInnerData::Data(dh) =
            enums::ServerDhInnerData::deserialize(&mut cursor).expect("it reads");
        assert_eq!(Sha1::digest(&plain[..cursor.pos()])[..], offer.encrypted_answer[..20]);
        let prime = BigUint::from_bytes_be(&dh.dh_prime);
        let b = BigUint::from_bytes_be(&random::<256>());
        let own = BigUint::from(dh.g as u32).modpow(&b, &prime);
        let shared = BigUint::from_bytes_be(&dh.g_a).modpow(&b, &prime);
        let (g_b, shared) = public(&own, &shared);
        let data = enums::ClientDhInnerData::Data(tl::types::ClientDhInnerData {
            nonce: self.nonce,
            server_nonce: self.server_nonce,
            retry_id: 0,
            g_b: g_b.to_bytes_be(),
        })
        .to_bytes();
        let mut block = Sha1::digest(&data).to_vec();
        block.extend(&data);
        block.resize(block.len().next_multiple_of(16), 0);
        aes::ige_encrypt(&mut block, &key, &iv);
        let request = tl::functions::SetClientDhParams {
            nonce: self.nonce,
            server_nonce: self.server_nonce,
            encrypted_data: block,
        };
        let answer = self.sender.invoke(&request).await.expect("an answer");
        let mut auth_key = [0; 256];
        let bytes = shared.to_bytes_be();
        auth_key[256 - bytes.len()..].copy_from_slice(&bytes);
        (answer, auth_key)
    }
}

async fn server_key(rig: &Rig) -> (rsa::Key, BigUint, BigUint) {
    let key = rig.get("/public_key").await;
    let (n, e) = (key["n"].as_str().expect("text"), key["e"].as_str().expect("text"));
    let number = |text: &str| BigUint::parse_bytes(text.as_bytes(), 10).expect("a number");
    (rsa::Key::new(n, e).expect("numbers"), number(n), number(e))
}

/// SHA-1 in front of the data, as clients did it before RSA_PAD.
fn encrypt_old(data: &[u8], n: &BigUint, e: &BigUint) -> Vec<u8> {
    let mut block = Sha1::digest(data).to_vec();
    block.extend(data);
    let padding = random::<255>();
    block.extend(&padding[block.len()..]);
    let encrypted = BigUint::from_bytes_be(&block).modpow(e, n).to_bytes_be();
    let mut out = vec![0; 256 - encrypted.len()];
    out.extend(encrypted);
    out
}

async fn complete(rig: &Rig, kind: Kind, old: bool) -> [u8; 256] {
    let (key, n, e) = server_key(rig).await;
    let mut client = Client::start(rig.address(2)).await;
    assert_eq!(client.fingerprint, rig.sandbox.fingerprint());
    let inner = client.inner(kind);
    let encrypted =
        if old { encrypt_old(&inner, &n, &e) } else { rsa::encrypt_hashed(&inner, &key, &random()) };
    let offer = client.offer(encrypted).await.expect("an offer");
    let (answer, auth_key) = client.agree(offer, |own, shared| (own.clone(), shared.clone())).await;
    let enums::SetClientDhParamsAnswer::DhGenOk(ok) = answer else { panic!("not agreed: {answer:?}") };
    let hash = AuthKey::from_bytes(auth_key).calc_new_nonce_hash(&client.new_nonce, 1);
    assert_eq!(ok.new_nonce_hash1, hash);
    auth_key
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchanged_key_serves_a_login() {
    let rig = Rig::start().await;
    rig.post("/users", serde_json::json!({"id": 5, "phone": "9996600005"})).await;
    for (kind, old) in
        [(Kind::Bare, false), (Kind::Bare, true), (Kind::Dc(2), false), (Kind::Dc(10_002), false)]
    {
        let auth_key = within(complete(&rig, kind, old)).await;
        let client = rig.client_with(2, &Minted { id: String::new(), auth_key });
        assert_eq!(error_of(client.me().await), "401 AUTH_KEY_UNREGISTERED");
        client.close().await;
    }
    assert_eq!(rig.get("/state").await["counters"]["handshakes"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_means_another_dc_is_turned_away() {
    let rig = Rig::start().await;
    let (key, ..) = server_key(&rig).await;
    let mut client = within(Client::start(rig.address(2))).await;
    let inner = client.inner(Kind::Dc(3));
    let refused = within(client.offer(rsa::encrypt_hashed(&inner, &key, &random()))).await;
    assert!(error_of(refused).contains("444"));
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_in_place_of_the_encrypted_part_is_turned_away() {
    let rig = Rig::start().await;
    let mut client = within(Client::start(rig.address(2))).await;
    let mut noise = random::<256>().to_vec();
    noise[0] = 0;
    assert!(error_of(within(client.offer(noise)).await).contains("404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_value_that_leaks_the_key_is_refused() {
    let rig = Rig::start().await;
    let (key, ..) = server_key(&rig).await;
    let mut client = within(Client::start(rig.address(2))).await;
    let inner = client.inner(Kind::Bare);
    let offer = within(client.offer(rsa::encrypt_hashed(&inner, &key, &random()))).await.expect("an offer");
    let one = |_: &BigUint, _: &BigUint| (BigUint::from(1_u8), BigUint::from(1_u8));
    let (answer, _) = within(client.agree(offer, one)).await;
    assert!(matches!(answer, enums::SetClientDhParamsAnswer::DhGenFail(_)), "{answer:?}");
    assert_eq!(rig.get("/state").await["keys"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_key_says_nothing_until_it_is_bound() {
    let rig = Rig::start().await;
    let auth_key = within(complete(&rig, Kind::Temporary(3600), false)).await;
    let client = rig.client_with(2, &Minted { id: String::new(), auth_key });
    assert_eq!(error_of(client.me().await), "401 AUTH_KEY_PERM_EMPTY");
    assert_eq!(rig.get("/keys").await, serde_json::json!([]), "only permanent keys are listed");
}
