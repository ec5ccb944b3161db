//! A datum, read by its writer's schema into a tree that borrows its texts and bytes.
//!
//! Nothing is allocated by a length that has not been checked against the bytes that are left, nesting is bounded, and
//! items that take no bytes (nulls) are counted, so a hostile datum costs no more than a small multiple of its size.

use super::CodecError;
use super::schema::{Kind, Meaning, Named, ParsedSchema, RecordType, Type};

const NESTING_MAX: usize = 64;
const FREE_NODES_MAX: usize = 65_536;

/// A value and what it means.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub meaning: Meaning,
    pub datum: Datum<'a>,
}

/// A value. The branch of a union is the value itself.
#[derive(Debug, Clone)]
pub(crate) enum Datum<'a> {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Node<'a>>),
    Map(Vec<(&'a str, Node<'a>)>),
    Record(&'a RecordType, Vec<Node<'a>>),
}

impl ParsedSchema {
    /// Reads the whole datum.
    pub(crate) fn read<'a>(&'a self, datum: &'a [u8]) -> Result<Node<'a>, CodecError> {
        let budget = datum.len().saturating_mul(4).saturating_add(FREE_NODES_MAX);
        let mut reader = Reader {
            schema: self,
            rest: datum,
            budget,
        };
        let node = reader.node(&self.root, 0)?;
        if reader.rest.is_empty() {
            Ok(node)
        } else {
            Err(wrong("longer than its schema says"))
        }
    }
}

fn wrong(what: &str) -> CodecError {
    CodecError::Datum(what.to_owned())
}

struct Reader<'a> {
    schema: &'a ParsedSchema,
    rest: &'a [u8],
    budget: usize,
}

impl<'a> Reader<'a> {
    fn node(&mut self, kind: &'a Type, depth: usize) -> Result<Node<'a>, CodecError> {
        self.budget = self
            .budget
            .checked_sub(1)
            .ok_or_else(|| wrong("too many values for its size"))?;
        if depth > NESTING_MAX {
            return Err(wrong("nested too deeply"));
        }
        let datum = match &kind.kind {
            Kind::Null => Datum::Null,
            Kind::Boolean => Datum::Boolean(self.take(1)?[0] != 0),
            Kind::Int => Datum::Int(i32::try_from(self.long()?).map_err(|_| wrong("an int out of range"))?),
            Kind::Long => Datum::Long(self.long()?),
            Kind::Float => Datum::Float(f32::from_le_bytes(self.array()?)),
            Kind::Double => Datum::Double(f64::from_le_bytes(self.array()?)),
            Kind::Bytes => Datum::Bytes(self.bytes()?),
            Kind::Text => Datum::Text(self.text()?),
            Kind::Array(items) => Datum::Array(self.blocks(|reader| reader.node(items, depth + 1))?),
            Kind::Map(values) => {
                Datum::Map(self.blocks(|reader| Ok((reader.text()?, reader.node(values, depth + 1)?)))?)
            }
            Kind::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|index| branches.get(index));
                return self.node(branch.ok_or_else(|| wrong("no such branch of a union"))?, depth + 1);
            }
            Kind::Named(index) => return self.named(self.schema.named(*index), depth),
        };
        Ok(Node {
            meaning: kind.meaning,
            datum,
        })
    }

    fn named(&mut self, named: &'a Named, depth: usize) -> Result<Node<'a>, CodecError> {
        let (meaning, datum) = match named {
            Named::Record(record) => {
                // Not collected: what may fail is collected without knowing how much it will be.
                let mut fields = Vec::with_capacity(record.fields.len());
                for (_, kind) in &record.fields {
                    fields.push(self.node(kind, depth + 1)?);
                }
                (Meaning::Plain, Datum::Record(record, fields))
            }
            Named::Enum(symbols) => {
                let symbol = usize::try_from(self.long()?).ok().and_then(|index| symbols.get(index));
                (
                    Meaning::Plain,
                    Datum::Text(symbol.ok_or_else(|| wrong("no such symbol of an enum"))?),
                )
            }
            Named::Fixed(size, meaning) => (*meaning, Datum::Bytes(self.take(*size)?)),
        };
        Ok(Node { meaning, datum })
    }

    fn blocks<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, CodecError>) -> Result<Vec<T>, CodecError> {
        let mut items = Vec::new();
        loop {
            let count = match self.long()? {
                0 => return Ok(items),
                // A negative count is followed by the size of the block in bytes, which only skipping needs.
                negative @ ..0 => {
                    self.long()?;
                    negative.checked_neg().ok_or_else(|| wrong("a block without end"))?
                }
                positive => positive,
            };
            for _ in 0..count {
                items.push(item(self)?);
            }
        }
    }

    fn long(&mut self) -> Result<i64, CodecError> {
        let mut number = 0u64;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(wrong("a number without end"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = usize::try_from(self.long()?).map_err(|_| wrong("a negative length"))?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| wrong("a text that is not UTF-8"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| wrong("shorter than its schema says"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(schema: &str, datum: &[u8]) -> Result<String, CodecError> {
        ParsedSchema::parse(schema)
            .unwrap()
            .read(datum)
            .map(|node| format!("{:?}", node.datum))
    }

    #[test]
    fn numbers_are_zigzag() {
        for (datum, number) in [(&[0][..], 0), (&[1], -1), (&[2], 1), (&[0x80, 1], 64)] {
            assert_eq!(read(r#""long""#, datum), Ok(format!("Long({number})")));
        }
    }

    #[test]
    fn hostile_datums_are_refused_without_allocating() {
        let two_gigabytes = [0xFE, 0xFF, 0xFF, 0xFF, 0x0F, b'x'];
        assert!(read(r#""string""#, &two_gigabytes).is_err());
        let many_nulls = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0];
        assert!(read(r#"{"type":"array","items":"null"}"#, &many_nulls).is_err());
        let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
        assert!(read(list, &[vec![2; 1000], vec![0]].concat()).is_err());
        assert!(read(list, &[2, 2, 0]).is_ok());
        assert!(read(r#""int""#, &[2, 2]).is_err(), "bytes left over");
        assert!(read(r#""long""#, &[0xFF; 12]).is_err());
    }
}
