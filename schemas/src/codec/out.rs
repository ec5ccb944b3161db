//! Avro's binary form, written: zigzag numbers, length-prefixed texts, arrays as one block.

use std::fmt::Display;
use std::io::Write as _;

/// Lengths below this are one byte.
const ONE_BYTE_LENGTHS: usize = 64;

/// Appends to a datum.
pub(crate) struct Out<'a>(pub &'a mut Vec<u8>);

impl Out<'_> {
    pub(crate) fn long(&mut self, number: i64) {
        let mut rest = (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned();
        while rest >= 0x80 {
            self.0.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.0.push(rest.to_le_bytes()[0]);
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// The text of a value, in its place at once. Its length, which comes before it, is known when it is written.
    pub(crate) fn shown(&mut self, value: impl Display) {
        let start = self.0.len();
        self.0.push(0);
        let _ = write!(self.0, "{value}"); // a vector takes everything
        let length = self.0.len() - start - 1;
        match u8::try_from(length) {
            Ok(short) if length < ONE_BYTE_LENGTHS => self.0[start] = short << 1,
            _ => {
                self.0.remove(start);
                let end = self.0.len();
                self.length(length);
                let prefix = self.0.len() - end;
                self.0[start..].rotate_right(prefix);
            }
        }
    }

    /// The branch of a union; its value follows.
    pub(crate) fn branch(&mut self, index: usize) {
        self.length(index);
    }

    /// A text in a union of null and string.
    pub(crate) fn optional_text(&mut self, text: Option<&str>) {
        self.branch(usize::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    /// A number in a union of null and long.
    pub(crate) fn optional_long(&mut self, number: Option<i64>) {
        self.branch(usize::from(number.is_some()));
        if let Some(number) = number {
            self.long(number);
        }
    }

    /// All items in one block.
    pub(crate) fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        if !items.is_empty() {
            self.length(items.len());
            items.iter().for_each(|item| write(self, item));
        }
        self.length(0);
    }

    pub(crate) fn length(&mut self, length: usize) {
        self.long(i64::try_from(length).unwrap_or_else(|_| unreachable!("nothing in memory is longer than 2^63")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_a_text() {
        for length in [0, 1, 63, 64, 65, 8191, 8192, 100_000] {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let (mut shown, mut written) = (vec![7], vec![7]);
            Out(&mut shown).shown(&text);
            Out(&mut written).text(&text);
            assert_eq!(shown, written, "{length}");
        }
    }
}
