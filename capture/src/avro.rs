//! The handful of Avro's binary rules that our schemas need: zigzag integers, length-prefixed bytes, union branches.

/// Appends a zigzag variable-length integer: an `int` or a `long`.
pub fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// Appends a length.
pub fn length(value: usize, out: &mut Vec<u8>) {
    long(i64::try_from(value).unwrap_or(i64::MAX), out);
}

/// Appends a `string` or `bytes`.
pub fn bytes(value: &[u8], out: &mut Vec<u8>) {
    length(value.len(), out);
    out.extend_from_slice(value);
}

/// The bytes of the `string` or `bytes` at the beginning of `written`.
pub fn bytes_at(written: &[u8]) -> Option<&[u8]> {
    let size = written.iter().position(|byte| byte & 0x80 == 0)?;
    let zigzag = written[..=size]
        .iter()
        .rev()
        .fold(0usize, |length, byte| length << 7 | usize::from(byte & 0x7F));
    written.get(size + 1..size + 1 + (zigzag >> 1))
}

/// Appends the bytes that `write` makes as one `bytes` or `string`.
pub fn sized<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    out.push(0);
    write(out)?;
    let size = out.len() - start - 1;
    if size < 64 {
        out[start] = size.to_le_bytes()[0] << 1;
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(10);
    length(size, &mut prefix);
    out.splice(start..=start, prefix);
    Ok(())
}

/// Branch 0 of a union.
pub const FIRST: u8 = 0;
/// Branch 1 of a union.
pub const SECOND: u8 = 2;

/// Appends a nullable long whose null comes first.
pub fn optional_long(value: Option<i64>, out: &mut Vec<u8>) {
    match value {
        None => out.push(FIRST),
        Some(value) => {
            out.push(SECOND);
            long(value, out);
        }
    }
}

/// Appends a nullable string whose null comes first.
pub fn optional_text(value: Option<&str>, out: &mut Vec<u8>) {
    match value {
        None => out.push(FIRST),
        Some(value) => {
            out.push(SECOND);
            bytes(value.as_bytes(), out);
        }
    }
}

/// The zigzag integer at the start of `bytes`, and what follows it.
pub fn read_long(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let value = (number >> 1).cast_signed() ^ -((number & 1).cast_signed());
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_again() {
        for length in [0, 1, 63, 64, 8191, 8192, 70_000] {
            let value = vec![7; length];
            let mut out = Vec::new();
            bytes(&value, &mut out);
            out.push(1);
            assert_eq!(bytes_at(&out), Some(value.as_slice()), "{length}");
        }
        assert_eq!((bytes_at(&[]), bytes_at(&[4, 1])), (None, None));
    }

    #[test]
    fn integers_are_zigzag() {
        let encoded = |value| {
            let mut out = Vec::new();
            long(value, &mut out);
            out
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(-1), [1]);
        assert_eq!(encoded(64), [0x80, 1]);
        assert_eq!(
            encoded(i64::MIN),
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [0, -1, 64, i64::MIN, i64::MAX, 9_000_000_000] {
            let mut out = Vec::new();
            long(value, &mut out);
            out.push(7);
            assert_eq!(read_long(&out), Some((value, [7].as_slice())));
        }
        assert_eq!(read_long(&[0x80]), None);
    }

    #[test]
    fn a_size_is_known_afterwards() {
        for size in [0usize, 1, 63, 64, 200, 70_000] {
            let (mut direct, mut later) = (vec![9], vec![9]);
            bytes(&vec![7; size], &mut direct);
            sized(&mut later, |out| {
                out.resize(out.len() + size, 7);
                Ok::<_, ()>(())
            })
            .unwrap();
            assert_eq!(direct, later);
        }
    }
}
