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
        let mut reader = Reader::new(self, datum);
        let node = reader.node(&self.root, 0)?;
        reader.end()?;
        Ok(node)
    }
}

fn wrong(what: &str) -> CodecError {
    CodecError::Datum(what.to_owned())
}

/// A datum that is being read, from its start to its end.
pub(crate) struct Reader<'a> {
    schema: &'a ParsedSchema,
    rest: &'a [u8],
    budget: usize,
}

impl<'a> Reader<'a> {
    /// At the start of a datum.
    pub(crate) fn new(schema: &'a ParsedSchema, datum: &'a [u8]) -> Self {
        Self {
            schema,
            rest: datum,
            budget: datum.len().saturating_mul(4).saturating_add(FREE_NODES_MAX),
        }
    }

    /// Fails if there is more.
    pub(crate) fn end(&self) -> Result<(), CodecError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(wrong("longer than its schema says")),
        }
    }

    /// Counts a value, within what a datum of this size may hold.
    fn count(&mut self, depth: usize) -> Result<(), CodecError> {
        let left = self.budget.checked_sub(1);
        self.budget = left.ok_or_else(|| wrong("too many values for its size"))?;
        match depth {
            0..=NESTING_MAX => Ok(()),
            _ => Err(wrong("nested too deeply")),
        }
    }

    /// The record that stands here, its fields being next; none if a null does.
    pub(crate) fn record(&mut self, kind: &'a Type, depth: usize) -> Result<Option<&'a RecordType>, CodecError> {
        self.count(depth)?;
        match &kind.kind {
            Kind::Null => Ok(None),
            Kind::Union(branches) => {
                let branch = self.branch(branches)?;
                self.record(branch, depth + 1)
            }
            Kind::Named(index) => match self.schema.named(*index) {
                Named::Record(record) => Ok(Some(record)),
                _ => Err(wrong("a record was expected")),
            },
            _ => Err(wrong("a record was expected")),
        }
    }

    /// Passes over a value. Its lengths are held against the bytes that are there; what it says is not looked at.
    pub(crate) fn skip(&mut self, kind: &'a Type, depth: usize) -> Result<(), CodecError> {
        self.count(depth)?;
        match &kind.kind {
            Kind::Null => Ok(()),
            Kind::Boolean => self.take(1).map(|_| ()),
            Kind::Int | Kind::Long => self.long().map(|_| ()),
            Kind::Float => self.take(size_of::<f32>()).map(|_| ()),
            Kind::Double => self.take(size_of::<f64>()).map(|_| ()),
            Kind::Bytes | Kind::Text => self.bytes().map(|_| ()),
            // A Vec of nothing takes no memory.
            Kind::Array(items) => self.blocks(|reader| reader.skip(items, depth + 1)).map(|_| ()),
            Kind::Map(values) => self
                .blocks(|reader| reader.bytes().and_then(|_| reader.skip(values, depth + 1)))
                .map(|_| ()),
            Kind::Union(branches) => {
                let branch = self.branch(branches)?;
                self.skip(branch, depth + 1)
            }
            Kind::Named(index) => match self.schema.named(*index) {
                Named::Record(record) => record
                    .fields
                    .iter()
                    .try_for_each(|(_, kind)| self.skip(kind, depth + 1)),
                Named::Enum(_) => self.long().map(|_| ()),
                Named::Fixed(size, _) => self.take(*size).map(|_| ()),
            },
        }
    }

    fn branch(&mut self, branches: &'a [Type]) -> Result<&'a Type, CodecError> {
        let branch = usize::try_from(self.long()?).ok().and_then(|index| branches.get(index));
        branch.ok_or_else(|| wrong("no such branch of a union"))
    }

    /// The value that stands here.
    pub(crate) fn node(&mut self, kind: &'a Type, depth: usize) -> Result<Node<'a>, CodecError> {
        self.count(depth)?;
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
                let branch = self.branch(branches)?;
                return self.node(branch, depth + 1);
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
        // Nearly all of them: lengths and branches.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
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
