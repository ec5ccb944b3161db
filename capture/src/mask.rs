//! Pure: what becomes of a value that must not be seen, or not as a whole: stars, a hash, or its beginning.
//!
//! Equal to Debezium's byte for byte, so that a hash made by one joins with a hash made by the other. Its first kind of hash
//! is taken of Java's serialization of the text, its second of the text.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_256};

use crate::selection::{SelectionError, error};

/// What is done to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// That many stars, whatever the value is; for NULL as well.
    Stars(usize),
    /// A hash in hexadecimal digits.
    Hash(Hash),
    /// Its first so many characters (of Java: UTF-16 units) or bytes.
    Truncate(usize),
}

/// How a hash is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    algorithm: Algorithm,
    /// Of Java's serialization of the text, and not of the text.
    serialized: bool,
    salt: Salt,
}

/// Whoever knows it can guess at values, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
struct Salt(Vec<u8>);

impl std::fmt::Debug for Salt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Salt(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512Of256,
}

impl Mask {
    /// The text to be written instead; `None` for what is NULL or stays so. `length_max`: characters that the column holds.
    pub fn text(&self, text: Option<&str>, length_max: Option<usize>) -> Option<String> {
        match self {
            Mask::Stars(count) => Some("*".repeat(*count)),
            Mask::Hash(hash) => {
                let mut digits = hash.of(text?);
                digits.truncate(length_max.unwrap_or(usize::MAX));
                Some(digits)
            }
            Mask::Truncate(count) => Some(beginning(text?, *count).to_owned()),
        }
    }

    /// The parameter by which the schema tells of it. `length_max` as in [`Mask::text`].
    pub fn parameter(&self, length_max: Option<usize>) -> Option<(&'static str, String)> {
        match self {
            Mask::Stars(_) | Mask::Hash(_) => Some(("masked", "true".to_owned())),
            Mask::Truncate(count) if length_max.is_some_and(|length| length <= *count) => None,
            Mask::Truncate(count) => Some(("truncateLength", count.to_string())),
        }
    }
}

impl Hash {
    fn of(&self, text: &str) -> String {
        let data = match self.serialized {
            true => serialized(text),
            false => text.as_bytes().to_vec(),
        };
        let salt = &self.salt.0;
        match self.algorithm {
            Algorithm::Md5 => digits::<Md5>(salt, &data),
            Algorithm::Sha1 => digits::<Sha1>(salt, &data),
            Algorithm::Sha224 => digits::<Sha224>(salt, &data),
            Algorithm::Sha256 => digits::<Sha256>(salt, &data),
            Algorithm::Sha384 => digits::<Sha384>(salt, &data),
            Algorithm::Sha512 => digits::<Sha512>(salt, &data),
            Algorithm::Sha512Of256 => digits::<Sha512_256>(salt, &data),
        }
    }
}

fn digits<D: Digest>(salt: &[u8], data: &[u8]) -> String {
    use std::fmt::Write;
    let digest = D::new().chain_update(salt).chain_update(data).finalize();
    digest.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The text as Java's ObjectOutputStream writes it: a header, a length, and Java's own UTF-8, in which NUL takes two bytes
/// and what lies beyond 16 bits is written as two surrogates of three bytes each.
fn serialized(text: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(text.len());
    for unit in text.encode_utf16() {
        // The bits from `shift` on, as many as `mask` has, behind the mark of a first or a later byte.
        let part = |mark: u8, shift: u16, mask: u16| mark | u8::try_from(unit >> shift & mask).unwrap_or_default();
        match unit {
            1..=0x7F => body.push(part(0, 0, 0x7F)),
            0..=0x7FF => body.extend([part(0xC0, 6, 0x1F), part(0x80, 0, 0x3F)]),
            _ => body.extend([part(0xE0, 12, 0x0F), part(0x80, 6, 0x3F), part(0x80, 0, 0x3F)]),
        }
    }
    let mut out = vec![0xAC, 0xED, 0, 5];
    match u16::try_from(body.len()) {
        Ok(length) => {
            out.push(0x74);
            out.extend(length.to_be_bytes());
        }
        Err(_) => {
            out.push(0x7C);
            out.extend((body.len() as u64).to_be_bytes());
        }
    }
    out.extend(body);
    out
}

/// The first so many UTF-16 units; a character of two of them is not cut in half.
fn beginning(text: &str, units_max: usize) -> &str {
    let mut units = 0;
    for (index, character) in text.char_indices() {
        units += character.len_utf16();
        if units > units_max {
            return &text[..index];
        }
    }
    text
}

/// The mask that a property names: `column.mask.with.N.chars`, `column.truncate.to.N.chars`,
/// `column.mask.hash[.v2].ALGORITHM.with.salt.SALT`.
pub(crate) fn of_property(property: &str) -> Result<Option<Mask>, SelectionError> {
    let number = |start, end| {
        property
            .strip_prefix(start)
            .and_then(|rest: &str| rest.strip_suffix(end))
    };
    let count = |text: &str| {
        let remedy = "write a number of characters";
        text.parse()
            .map_err(|_| error(property, format!("{text:?} is no number"), remedy))
    };
    if let Some(text) = number("column.mask.with.", ".chars") {
        return count(text).map(Mask::Stars).map(Some);
    }
    if let Some(text) = number("column.truncate.to.", ".chars") {
        return count(text).map(Mask::Truncate).map(Some);
    }
    let Some(rest) = property.strip_prefix("column.mask.hash.") else {
        return Ok(None);
    };
    let (serialized, rest) = match rest.strip_prefix("v2.") {
        Some(rest) => (false, rest),
        None => (true, rest),
    };
    let Some((algorithm, salt)) = rest.split_once(".with.salt.") else {
        let cause = "no algorithm and salt in its name".to_owned();
        return Err(error(
            &shown(property),
            cause,
            "write column.mask.hash.v2.SHA-256.with.salt.SALT",
        ));
    };
    Ok(Some(Mask::Hash(Hash {
        algorithm: parse(algorithm).ok_or_else(|| {
            let cause = format!("{algorithm:?} is not supported");
            error(
                &shown(property),
                cause,
                "use SHA-256, or one of MD5, SHA-1, SHA-224, SHA-384, SHA-512, SHA-512/256",
            )
        })?,
        serialized,
        salt: Salt(salt.as_bytes().to_vec()),
    })))
}

fn parse(algorithm: &str) -> Option<Algorithm> {
    Some(match algorithm.to_ascii_uppercase().as_str() {
        "MD5" => Algorithm::Md5,
        "SHA" | "SHA1" | "SHA-1" => Algorithm::Sha1,
        "SHA-224" | "SHA224" => Algorithm::Sha224,
        "SHA-256" | "SHA256" => Algorithm::Sha256,
        "SHA-384" | "SHA384" => Algorithm::Sha384,
        "SHA-512" | "SHA512" => Algorithm::Sha512,
        "SHA-512/256" => Algorithm::Sha512Of256,
        _ => return None,
    })
}

/// The property's name without its salt.
pub(crate) fn shown(property: &str) -> String {
    match property.split_once(".with.salt.") {
        Some((start, _)) => format!("{start}.with.salt.***"),
        None => property.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(property: &str) -> Mask {
        of_property(property).unwrap().unwrap()
    }

    #[test]
    fn stars_are_for_null_too_and_the_rest_is_not() {
        assert_eq!(
            mask("column.mask.with.3.chars").text(None, None),
            Some("***".to_owned())
        );
        assert_eq!(
            mask("column.mask.with.0.chars").text(Some("x"), None),
            Some(String::new())
        );
        assert_eq!(mask("column.mask.hash.v2.MD5.with.salt.s").text(None, None), None);
        assert_eq!(mask("column.truncate.to.3.chars").text(None, None), None);
    }

    #[test]
    fn a_text_is_cut_where_java_cuts_it_but_not_within_a_character() {
        let cut = |count, text| Mask::Truncate(count).text(Some(text), None).unwrap();
        assert_eq!((cut(3, "abcd"), cut(3, "äöü")), ("abc".to_owned(), "äöü".to_owned()));
        assert_eq!((cut(3, "ab🦀"), cut(4, "ab🦀c")), ("ab".to_owned(), "ab🦀".to_owned()));
    }

    /// The digests were made by Debezium's own class.
    #[test]
    fn hashes_are_those_of_debezium() {
        for (property, text, expected) in [
            (
                "column.mask.hash.MD5.with.salt.salt",
                "secret",
                "d29f11c5217b914f9f3fe2384d089fe3",
            ),
            (
                "column.mask.hash.MD5.with.salt.salt",
                "häß🦀\0",
                "d19fdd0ecd9a8849094abf606050ff8e",
            ),
            (
                "column.mask.hash.MD5.with.salt.salt",
                "",
                "f7b84b26a44d5b5a9eb9895429174c85",
            ),
            (
                "column.mask.hash.v2.MD5.with.salt.salt",
                "secret",
                "d42a0f742ffc1be4e1cc0845c2429c97",
            ),
            (
                "column.mask.hash.v2.MD5.with.salt.salt",
                "häß🦀\0",
                "8f7ce96594bbcea30e6e234de284e619",
            ),
            (
                "column.mask.hash.v2.MD5.with.salt.salt",
                "",
                "ceb20772e0c9d240c75eb26b0e37abee",
            ),
            (
                "column.mask.hash.SHA-1.with.salt.salt",
                "secret",
                "74f24262af6683d3ac3cbf52e7d887c5d912e6eb",
            ),
            (
                "column.mask.hash.SHA-1.with.salt.salt",
                "häß🦀\0",
                "cf3a6187d0f59fde38b54e551ad46718cc341834",
            ),
            (
                "column.mask.hash.v2.SHA-1.with.salt.salt",
                "secret",
                "da00ec2e6ff9ed4d342b24a16e262c82f3c8b10b",
            ),
            (
                "column.mask.hash.v2.SHA-1.with.salt.salt",
                "häß🦀\0",
                "b94938227d613929da29c1ea4fc8f3b460ddbe7a",
            ),
            (
                "column.mask.hash.SHA-256.with.salt.salt",
                "secret",
                "415495384c888900929e5499d91b87e3051f44ece0f24218307c4f89e6dd7ccb",
            ),
            (
                "column.mask.hash.SHA-256.with.salt.salt",
                "häß🦀\0",
                "6bccdf742c46bc91635724c55de63ac23780843fa3fc73f7932a39586c127b08",
            ),
            (
                "column.mask.hash.SHA-256.with.salt.salt",
                "",
                "5b3d6ca0412baec5bd29469bcf15b3d11a89841fb2aaed6509e63dd51531bbb0",
            ),
            (
                "column.mask.hash.v2.SHA-256.with.salt.salt",
                "secret",
                "bede90386d450cea8b77b822f8887065e4e5abf132c2f9dccfcc7fbd4cba5e35",
            ),
            (
                "column.mask.hash.v2.SHA-256.with.salt.salt",
                "häß🦀\0",
                "e0bfc44c94b3d2eb3667e896211edba1f6992551974da1e82f27d2bdf4b92456",
            ),
            (
                "column.mask.hash.v2.SHA-256.with.salt.salt",
                "",
                "63479ad69a090b258277ec8fba6f99419a2ffb248981510657c944ccd1148e97",
            ),
            (
                "column.mask.hash.SHA-512.with.salt.salt",
                "secret",
                "3663750f28b22c0ce2c61344a11adf7e6bd832a92161419e55fc967a9a01d6a5f0d868959ba20d7f2d8ea64490bee89c58c585fdd4fc96ccb021184d4fe57767",
            ),
            (
                "column.mask.hash.SHA-512.with.salt.salt",
                "häß🦀\0",
                "874cc1add4ba6b37439af64b002aebef1f37d0ddfcdc91b43b72d18caea89531b95799dd9dc0b629b5ecc0984edcc46dcd9aa176642235986a7afe634e7ebfdb",
            ),
            (
                "column.mask.hash.v2.SHA-512.with.salt.salt",
                "secret",
                "9901847ff8c76bd5fb473b7bd2e4f4ddd110332a52a888fd69deb276613885ddf382e5cf1210ed0decdb8010ae3994331a9e0639c3ca7e9e8b110dd50978ce76",
            ),
            (
                "column.mask.hash.v2.SHA-512.with.salt.salt",
                "häß🦀\0",
                "8cfca77669ee5c1b16946e1fe484b29cea8805b0f44235d34b47352d520866295306c9c9a6637cf0caf50a8d91f592270176d8987eae53b414b316809b24df5e",
            ),
        ] {
            assert_eq!(
                mask(property).text(Some(text), None).as_deref(),
                Some(expected),
                "{property}"
            );
        }
        let cut = mask("column.mask.hash.v2.SHA-256.with.salt.s")
            .text(Some("x"), Some(5))
            .unwrap();
        assert_eq!(cut.len(), 5);
    }

    #[test]
    fn a_long_text_is_serialized_with_a_long_length() {
        let bytes = serialized(&"x".repeat(70_000));
        assert_eq!(&bytes[4..13], [0x7C, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn the_schema_tells_of_it() {
        assert_eq!(Mask::Stars(1).parameter(None), Some(("masked", "true".to_owned())));
        assert_eq!(
            Mask::Truncate(5).parameter(None),
            Some(("truncateLength", "5".to_owned()))
        );
        assert_eq!(Mask::Truncate(5).parameter(Some(5)), None);
    }

    #[test]
    fn a_salt_is_in_no_message() {
        let found = of_property("column.mask.hash.ROT13.with.salt.hush")
            .unwrap_err()
            .to_string();
        assert!(found.contains("ROT13") && !found.contains("hush"), "{found}");
        assert!(!format!("{:?}", mask("column.mask.hash.MD5.with.salt.hush")).contains("hush"));
    }
}
