//! A login's link as a picture, for both edges. Knows nothing of logins.

use qrcode::{Color, QrCode};

use crate::domain::error::{Error, Reason};

/// Pixels per module: a login's link then is about 300 pixels wide, which phones read from a screen.
const SCALE: usize = 6;
/// Light modules around the code; readers need four (ISO/IEC 18004).
const QUIET_ZONE: usize = 4;

/// The text as a QR code in a PNG. Whoever sees the picture can sign in, like whoever has the text.
pub(crate) fn png(text: &str) -> Result<Vec<u8>, Error> {
    let code = QrCode::new(text).map_err(|_| undrawn("a login link does not fit into a QR code"))?;
    write(&code).map_err(|_| undrawn("a QR code cannot be written as PNG"))
}

fn undrawn(why: &'static str) -> Error {
    Error::new(Reason::Internal, why)
}

fn write(code: &QrCode) -> Result<Vec<u8>, png::EncodingError> {
    let modules = code.width();
    let side = (modules + 2 * QUIET_ZONE) * SCALE;
    let mut pixels = vec![0xFF; side * side];
    for (at, color) in code.to_colors().into_iter().enumerate() {
        match color {
            Color::Light => {}
            Color::Dark => {
                let (row, column) = (at / modules + QUIET_ZONE, at % modules + QUIET_ZONE);
                for line in row * SCALE..(row + 1) * SCALE {
                    let start = line * side + column * SCALE;
                    pixels[start..start + SCALE].fill(0);
                }
            }
        }
    }
    let mut bytes = Vec::new();
    let pixels_per_side = u32::try_from(side).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(&mut bytes, pixels_per_side, pixels_per_side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_the_code_inside_its_quiet_zone() {
        let text = "tg://login?token=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        let bytes = png(text).expect("drawn");
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let frame = reader.next_frame(&mut pixels).expect("a picture");
        let side = usize::try_from(frame.width).expect("small");
        assert_eq!(frame.width, frame.height);
        let code = QrCode::new(text).expect("fits");
        assert_eq!(side, (code.width() + 8) * SCALE);
        let pixel = |row: usize, column: usize| pixels[(row * SCALE + 1) * side + column * SCALE + 1];
        for row in 0..code.width() {
            for column in 0..code.width() {
                let dark = code[(column, row)] == Color::Dark;
                assert_eq!(pixel(row + 4, column + 4) == 0, dark, "{row} {column}");
            }
        }
        assert!((0..code.width() + 8).all(|at| pixel(at, 3) == 0xFF && pixel(3, at) == 0xFF));
    }
}
