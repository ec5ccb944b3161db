//! Bytes: out of PostgreSQL's hexadecimal text, and into the alphabets that Debezium offers.

use super::Unfit;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Base64 with `+` and `/`.
    Base64,
    /// Base64 with `-` and `_`.
    UrlSafe,
    /// Hexadecimal, in lower case.
    Hex,
}

impl Alphabet {
    /// Appends the text of these bytes.
    pub fn write(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Alphabet::Base64 => base64(bytes, STANDARD, out),
            Alphabet::UrlSafe => base64(bytes, URL_SAFE, out),
            Alphabet::Hex => {
                for byte in bytes {
                    out.push(HEX[usize::from(byte >> 4)]);
                    out.push(HEX[usize::from(byte & 15)]);
                }
            }
        }
    }
}

fn base64(bytes: &[u8], letters: &[u8; 64], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let part = |index: usize| chunk.get(index).copied().map_or(0, usize::from);
        let bits = part(0) << 16 | part(1) << 8 | part(2);
        out.push(letters[bits >> 18]);
        out.push(letters[bits >> 12 & 63]);
        out.push(if chunk.len() > 1 { letters[bits >> 6 & 63] } else { b'=' });
        out.push(if chunk.len() > 2 { letters[bits & 63] } else { b'=' });
    }
}

/// Appends the bytes of `\x00ff`.
pub fn bytea(text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    hex(text.strip_prefix("\\x").ok_or(Unfit("bytea"))?, out).ok_or(Unfit("bytea"))
}

/// Appends the bytes of `00ff`.
pub fn hex(digits: &str, out: &mut Vec<u8>) -> Option<()> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    out.reserve(digits.len() / 2);
    for pair in digits.as_bytes().chunks_exact(2) {
        let (high, low) = nibble(pair[0]).zip(nibble(pair[1]))?;
        out.push(high << 4 | low);
    }
    Some(())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The number of the coordinate system that an EWKB geometry names, if it names one.
pub fn srid(ewkb: &[u8]) -> Option<i32> {
    const HAS_SRID: u32 = 0x2000_0000;
    let word = |start: usize| -> Option<u32> {
        let bytes = ewkb.get(start..start + 4)?.try_into().ok()?;
        Some(if ewkb[0] == 0 {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    };
    let kind = word(1)?;
    (kind & HAS_SRID != 0).then(|| word(5))?.map(u32::cast_signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_hexadecimal() {
        let mut out = Vec::new();
        bytea("\\x00ffA0", &mut out).unwrap();
        assert_eq!(out, [0, 0xff, 0xa0]);
        for wrong in ["\\x0", "00", "\\x0g"] {
            assert!(bytea(wrong, &mut out).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_written_in_each_alphabet() {
        let text = |alphabet: Alphabet, bytes: &[u8]| {
            let mut out = Vec::new();
            alphabet.write(bytes, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(Alphabet::Base64, &[0, 255, 16]), "AP8Q");
        assert_eq!(text(Alphabet::Base64, b"1"), "MQ==");
        assert_eq!(text(Alphabet::Base64, &[1, 2]), "AQI=");
        assert_eq!(text(Alphabet::Base64, &[255, 254]), "//4=");
        assert_eq!(text(Alphabet::UrlSafe, &[255, 254]), "__4=");
        assert_eq!(text(Alphabet::Hex, &[0, 255, 16]), "00ff10");
        assert_eq!(text(Alphabet::Base64, &[]), "");
    }

    #[test]
    fn a_geometry_says_its_coordinate_system() {
        let srid_of = |text: &str| {
            let mut out = Vec::new();
            hex(text, &mut out).unwrap();
            srid(&out)
        };
        assert_eq!(
            srid_of("0101000020E6100000000000000000F03F0000000000000040"),
            Some(4326)
        );
        assert_eq!(srid_of("0101000000000000000000F03F0000000000000040"), None);
        assert_eq!(
            srid_of("0020000001000010E63FF00000000000004000000000000000"),
            Some(4326)
        );
        assert_eq!(srid_of("01"), None);
    }
}
