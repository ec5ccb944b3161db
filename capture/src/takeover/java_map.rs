//! Pure: the offset file of a standalone Connect worker: a `HashMap<byte[], byte[]>` as Java's serialisation writes it.
//!
//! Only this one shape is read: the header of that class with its load factor and threshold, the block with capacity and
//! size, then keys and values that are byte arrays, or null. Anything else is refused rather than guessed at.

/// What stands before the first entry of every such file: stream header, class descriptor, field types.
const HEADER: &[u8] = b"\xac\xed\0\x05sr\0\x11java.util.HashMap\x05\x07\xda\xc1\xc3\x16\x60\xd1\x03\0\x02F\0\x0aloadFactorI\0\x09thresholdxp";
/// Load factor, threshold and the tag and length of the block with capacity and size.
const FIELDS_BYTES: usize = 4 + 4;
const BLOCK: &[u8] = b"w\x08";
/// The first byte array is preceded by its class, later ones by a reference to that.
const ARRAY_CLASS: &[u8] = b"ur\0\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\0\0xp";
const ARRAY_AGAIN: &[u8] = b"uq\0~\0\x02";
const NULL: u8 = b'p';

/// A map's key and value, either of which may be null.
pub type Entry = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Whether the bytes are Java's serialisation of something.
pub fn is_java(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xac\xed")
}

/// The entries of the map.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let mut rest = Rest(bytes);
    rest.expect(HEADER, "a HashMap")?;
    rest.take(FIELDS_BYTES)?;
    rest.expect(BLOCK, "the map's size")?;
    rest.number()?;
    let size = rest.number()?;
    // An entry takes two bytes at least, so the size is bounded by the file's.
    let mut entries = Vec::new();
    for _ in 0..size {
        entries.push((rest.array()?, rest.array()?));
    }
    Ok(entries)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn expect(&mut self, bytes: &[u8], what: &str) -> Result<(), String> {
        self.0 = self
            .0
            .strip_prefix(bytes)
            .ok_or_else(|| format!("{what} is expected"))?;
        Ok(())
    }

    fn number(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn array(&mut self) -> Result<Option<Vec<u8>>, String> {
        if self.0.first() == Some(&NULL) {
            self.take(1)?;
            return Ok(None);
        }
        let prefix = [ARRAY_CLASS, ARRAY_AGAIN]
            .into_iter()
            .find(|prefix| self.0.starts_with(prefix));
        self.take(prefix.ok_or("an array of bytes is expected")?.len())?;
        let length = self.number()?;
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        self.take(length).map(|bytes| Some(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written by Java 17's ObjectOutputStream, as FileOffsetBackingStore does it.
    pub(crate) const FILE: &[u8] = include_bytes!("standalone-offsets.dat");

    #[test]
    fn a_file_of_java_is_read() {
        let entries = parse(FILE).unwrap();
        let texts: Vec<String> = entries
            .iter()
            .map(|(key, _)| String::from_utf8(key.clone().unwrap()).unwrap())
            .collect();
        assert_eq!(
            texts,
            [
                r#"["inventory",{"server":"fulfil"}]"#,
                r#"["third",{"server":"y"}]"#,
                r#"["other",{"server":"x"}]"#
            ]
        );
        assert!(entries[0].1.as_ref().unwrap().starts_with(b"{\"lsn_proc\":33816528"));
        assert_eq!(entries[2].1, None);
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(!is_java(b"{}") && is_java(FILE));
        for end in 0..FILE.len() - 2 {
            assert!(parse(&FILE[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn noise_is_read_or_refused(at in 0..FILE.len(), byte in any::<u8>()) {
            let mut bytes = FILE.to_vec();
            bytes[at] = byte;
            let _ = parse(&bytes);
        }
    }
}
