//! Taking off the wrappers around a request: layer, connection parameters, and those that change nothing here.

use std::borrow::Cow;

use grammers_tl_types::{Identifiable, functions as f};

use crate::session::inflate;
use crate::state::key::Init;
use crate::tl::{Malformed, Reader, id};

/// Wrappers around one request.
const DEPTH_MAX: usize = 8;
/// `inputClientProxy` inside `initConnection`.
const INPUT_CLIENT_PROXY: u32 = 0x7558_8b3f;
/// Characters kept of each text of `initConnection`.
const TEXT_MAX: usize = 256;

/// A request without its wrappers.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: u32,
    /// What follows the method's number.
    pub(super) args: Vec<u8>,
    pub(super) layer: Option<i32>,
    pub(super) init: Option<Init>,
    /// Whether the session may get pushes from now on.
    pub(super) updates: bool,
}

pub(super) fn unwrap(body: &[u8]) -> Result<Request, Malformed> {
    let mut body = Cow::Borrowed(body);
    let (mut layer, mut init, mut updates) = (None, None, true);
    for _ in 0..DEPTH_MAX {
        let mut r = Reader::new(&body);
        match r.u32()? {
            f::InvokeWithLayer::<Skip>::CONSTRUCTOR_ID => layer = Some(r.i32()?),
            f::InitConnection::<Skip>::CONSTRUCTOR_ID => init = Some(connection(&mut r)?),
            f::InvokeWithoutUpdates::<Skip>::CONSTRUCTOR_ID => updates = false,
            f::InvokeAfterMsg::<Skip>::CONSTRUCTOR_ID | f::InvokeWithTakeout::<Skip>::CONSTRUCTOR_ID => {
                r.i64()?;
            }
            f::InvokeAfterMsgs::<Skip>::CONSTRUCTOR_ID => {
                r.longs()?;
            }
            f::InvokeWithMessagesRange::<Skip>::CONSTRUCTOR_ID => {
                r.take(12)?;
            }
            id::GZIP_PACKED => {
                let clear = inflate(r.bytes()?)?;
                body = Cow::Owned(clear);
                continue;
            }
            method => return Ok(Request { method, args: r.rest().to_vec(), layer, init, updates }),
        }
        let at = r.pos();
        body = match body {
            Cow::Borrowed(whole) => Cow::Borrowed(&whole[at..]),
            Cow::Owned(whole) => Cow::Owned(whole[at..].to_vec()),
        };
    }
    Err(Malformed)
}

/// Stands for the wrapped query where only a wrapper's number is wanted.
type Skip = grammers_tl_types::Blob;

fn connection(r: &mut Reader<'_>) -> Result<Init, Malformed> {
    let flags = r.u32()?;
    let api_id = r.i32()?;
    let mut text = || r.string().map(|text| text.chars().take(TEXT_MAX).collect());
    let init = Init {
        api_id,
        device_model: text()?,
        system_version: text()?,
        app_version: text()?,
        system_lang_code: text()?,
        lang_pack: text()?,
        lang_code: text()?,
    };
    if flags & 1 != 0 {
        if r.u32()? != INPUT_CLIENT_PROXY {
            return Err(Malformed);
        }
        r.bytes()?;
        r.i32()?;
    }
    if flags & 2 != 0 {
        r.skip_json()?;
    }
    Ok(init)
}

#[cfg(test)]
mod tests {
    use grammers_tl_types::Serializable;

    use super::*;

    #[test]
    fn layer_and_parameters_are_read_and_taken_off() {
        let body = f::InvokeWithLayer {
            layer: 230,
            query: f::InitConnection {
                api_id: 4,
                device_model: "d".into(),
                system_version: "s".into(),
                app_version: "a".into(),
                system_lang_code: "sl".into(),
                lang_pack: String::new(),
                lang_code: "l".into(),
                proxy: Some(
                    grammers_tl_types::types::InputClientProxy { address: "h".into(), port: 1 }.into(),
                ),
                params: None,
                query: f::InvokeWithoutUpdates { query: f::help::GetConfig {} },
            },
        }
        .to_bytes();
        let request = unwrap(&body).expect("it reads");
        assert_eq!(request.method, f::help::GetConfig::CONSTRUCTOR_ID);
        assert_eq!((request.layer, request.updates), (Some(230), false));
        assert_eq!(request.init.map(|init| (init.api_id, init.lang_code)), Some((4, "l".to_owned())));
    }

    #[test]
    fn endless_wrapping_is_refused() {
        let body = [0xbf, 0x94, 0x59, 0xb7].repeat(9);
        let swapped: Vec<u8> = body.chunks(4).flat_map(|c| [c[3], c[2], c[1], c[0]]).collect();
        assert!(unwrap(&swapped).is_err());
        assert!(unwrap(&[1, 2, 3]).is_err());
    }
}
