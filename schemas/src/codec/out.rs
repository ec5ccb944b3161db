//! Avro's binary form, written: zigzag numbers, length-prefixed texts, arrays as one block.

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
