//! A login's link as a picture.

use image::{ExtendedColorType, ImageEncoder as _, Luma, codecs::png::PngEncoder};
use qrcode::QrCode;

use crate::{domain::error::Error, grpc::status};

/// Side of the picture in pixels, at least: phones read it from a screen at arm's length.
const SIDE_MIN: u32 = 256;

/// The text as a QR code in a PNG. Whoever sees the picture can sign in, like whoever has the text.
pub(crate) fn png(text: &str) -> Result<Vec<u8>, Error> {
    let too_long = |_| status::internal("a login link does not fit into a QR code");
    let code = QrCode::new(text).map_err(too_long)?;
    let picture = code.render::<Luma<u8>>().min_dimensions(SIDE_MIN, SIDE_MIN).build();
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::L8)
        .map_err(|_| status::internal("a QR code cannot be written as PNG"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_a_square_png_large_enough_to_scan() {
        let bytes = png("tg://login?token=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").expect("drawn");
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
        let side = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(side(16), side(20));
        assert!(side(16) >= SIDE_MIN);
    }
}
