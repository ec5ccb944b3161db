//! The text format of COPY: bytes to rows of cells. Pure and incremental.
//!
//! Fields end with a tab, rows with a newline, NULL is `\N`, and a backslash escapes the rest, so that a newline byte
//! always ends a row. A field without a backslash is a slice of what arrived; only the others are copied.

use bytes::{Bytes, BytesMut};

use crate::postgres::pgoutput::TupleCell;

/// A row that is not in the format, or that does not end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// Another number of fields than asked for.
    #[error("a row of {found} fields instead of {expected}")]
    Fields {
        /// As many as there are.
        found: usize,
        /// As many as there should be.
        expected: usize,
    },
    /// A backslash at the end of a field.
    #[error("an escape without a character")]
    Escape,
    /// The data ends within a row.
    #[error("the data ends within a row")]
    Unfinished,
}

/// Cuts what arrives into rows.
#[derive(Debug)]
pub struct CopyText {
    fields: usize,
    /// The beginning of a row whose end has not arrived.
    partial: BytesMut,
}

impl CopyText {
    /// For rows of `fields` fields.
    pub fn new(fields: usize) -> Self {
        Self {
            fields,
            partial: BytesMut::new(),
        }
    }

    /// Takes what arrived, cut anywhere, and gives each row that ends in it to `row`.
    pub fn push(&mut self, mut chunk: Bytes, mut row: impl FnMut(Vec<TupleCell>)) -> Result<(), CopyError> {
        while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
            let mut line = chunk.split_to(end + 1);
            line.truncate(end);
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(&line);
                line = self.partial.split().freeze();
            }
            row(cells(line, self.fields)?);
        }
        self.partial.extend_from_slice(&chunk);
        Ok(())
    }

    /// The data is at its end.
    pub fn finish(&self) -> Result<(), CopyError> {
        if self.partial.is_empty() {
            Ok(())
        } else {
            Err(CopyError::Unfinished)
        }
    }
}

fn cells(mut line: Bytes, expected: usize) -> Result<Vec<TupleCell>, CopyError> {
    // A row without columns is an empty line.
    if expected == 0 && line.is_empty() {
        return Ok(Vec::new());
    }
    let mut cells = Vec::with_capacity(expected);
    loop {
        let Some(tab) = line.iter().position(|&byte| byte == b'\t') else {
            cells.push(cell(line)?);
            break;
        };
        let field = line.split_to(tab);
        let _tab = line.split_to(1);
        cells.push(cell(field)?);
    }
    if cells.len() != expected {
        return Err(CopyError::Fields {
            found: cells.len(),
            expected,
        });
    }
    Ok(cells)
}

fn cell(field: Bytes) -> Result<TupleCell, CopyError> {
    if field.as_ref() == br"\N" {
        return Ok(TupleCell::Null);
    }
    if !field.contains(&b'\\') {
        return Ok(TupleCell::Text(field));
    }
    Ok(TupleCell::Text(unescape(&field)?))
}

fn unescape(field: &[u8]) -> Result<Bytes, CopyError> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        text.extend_from_slice(&rest[..at]);
        let (&escaped, after) = rest[at + 1..].split_first().ok_or(CopyError::Escape)?;
        let (byte, after) = match escaped {
            b'b' => (0x08, after),
            b'f' => (0x0C, after),
            b'n' => (b'\n', after),
            b'r' => (b'\r', after),
            b't' => (b'\t', after),
            b'v' => (0x0B, after),
            b'0'..=b'7' => number(&rest[at + 1..], 8, 3),
            b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => number(after, 16, 2),
            other => (other, after),
        };
        text.push(byte);
        rest = after;
    }
    text.extend_from_slice(rest);
    Ok(Bytes::from(text))
}

/// A byte as at most `digits_max` digits. The server writes none of these; the format knows them.
fn number(digits: &[u8], radix: u32, digits_max: usize) -> (u8, &[u8]) {
    let count = digits
        .iter()
        .take(digits_max)
        .take_while(|&&byte| char::from(byte).is_digit(radix))
        .count();
    let (digits, rest) = digits.split_at(count);
    let value = digits.iter().filter_map(|&byte| char::from(byte).to_digit(radix));
    let value = value.fold(0, |value, digit| value * radix + digit);
    (u8::try_from(value & 0xFF).unwrap_or(0), rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> TupleCell {
        TupleCell::Text(Bytes::copy_from_slice(bytes))
    }

    fn rows(data: &[u8], fields: usize) -> Result<Vec<Vec<TupleCell>>, CopyError> {
        let mut rows = Vec::new();
        let mut parser = CopyText::new(fields);
        parser.push(Bytes::copy_from_slice(data), |row| rows.push(row))?;
        parser.finish()?;
        Ok(rows)
    }

    #[test]
    fn fields_nulls_and_escapes() {
        let data = b"1\t\\N\t\n\\\\N\ta\\tb\\nc\\\\\tx\\b\\f\\r\\v\n";
        let expected = vec![
            vec![text(b"1"), TupleCell::Null, text(b"")],
            vec![text(b"\\N"), text(b"a\tb\nc\\"), text(b"x\x08\x0C\r\x0B")],
        ];
        assert_eq!(rows(data, 3), Ok(expected));
    }

    #[test]
    fn octal_and_hexadecimal() {
        assert_eq!(rows(b"\\101\\x42\\xg\\7\n", 1), Ok(vec![vec![text(b"ABxg\x07")]]));
    }

    #[test]
    fn what_is_not_the_format_is_an_error() {
        assert_eq!(rows(b"1\t2\n", 3), Err(CopyError::Fields { found: 2, expected: 3 }));
        assert_eq!(rows(b"1\\\n", 1), Err(CopyError::Escape));
        assert_eq!(rows(b"1", 1), Err(CopyError::Unfinished));
    }

    /// As the server's CopyAttributeOutText writes it.
    fn written(row: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut line = Vec::new();
        for (index, field) in row.iter().enumerate() {
            if index > 0 {
                line.push(b'\t');
            }
            match field {
                None => line.extend_from_slice(b"\\N"),
                Some(bytes) => {
                    for &byte in bytes {
                        match byte {
                            0x08 => line.extend_from_slice(b"\\b"),
                            0x0C => line.extend_from_slice(b"\\f"),
                            b'\n' => line.extend_from_slice(b"\\n"),
                            b'\r' => line.extend_from_slice(b"\\r"),
                            b'\t' => line.extend_from_slice(b"\\t"),
                            0x0B => line.extend_from_slice(b"\\v"),
                            b'\\' => line.extend_from_slice(b"\\\\"),
                            other => line.push(other),
                        }
                    }
                }
            }
        }
        line.push(b'\n');
        line
    }

    proptest! {
        #[test]
        fn what_the_server_writes_is_read_back_however_it_is_cut(
            table in prop::collection::vec(prop::collection::vec(any::<Option<Vec<u8>>>(), 3), 0..5),
            cut in 1_usize..7,
        ) {
            let data: Vec<u8> = table.iter().flat_map(|row| written(row)).collect();
            let mut rows = Vec::new();
            let mut parser = CopyText::new(3);
            for chunk in data.chunks(cut) {
                parser.push(Bytes::copy_from_slice(chunk), |row| rows.push(row)).unwrap();
            }
            parser.finish().unwrap();
            let cell = |field: &Option<Vec<u8>>| field.as_deref().map_or(TupleCell::Null, text);
            let expected: Vec<Vec<_>> = table.iter().map(|row| row.iter().map(cell).collect()).collect();
            prop_assert_eq!(rows, expected);
        }

        #[test]
        fn noise_never_panics(data: Vec<u8>, fields in 0_usize..4) {
            let _ = rows(&data, fields);
        }
    }
}
