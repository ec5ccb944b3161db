//! The row that capture could not write, on the wire.

use super::{CodecError, Datum, Fields, Out, ParsedSchema, Wire};
use crate::dead_letter::{DeadColumn, DeadContent, DeadLetter};

/// Length of a text that was left out and did not come to its end.
const UNKNOWN_BYTES: i64 = -1;

impl Wire for DeadLetter {
    fn schema_json() -> &'static str {
        include_str!("../../avro/dead_letter.avsc")
    }

    fn write(&self, datum: &mut Vec<u8>) {
        let out = &mut Out(datum);
        out.text(&self.slot);
        out.text(&self.table);
        out.shown(self.op);
        out.optional_text(self.key.as_deref());
        out.text(&self.position);
        out.text(&self.lsn);
        out.text(&self.code);
        out.text(&self.reason);
        out.long(self.bytes.cast_signed());
        out.array(&self.columns, write_column);
    }

    fn decode(writer: &ParsedSchema, datum: &[u8]) -> Result<Self, CodecError> {
        let node = writer.read(datum)?;
        let letter = Fields::of(&node)?;
        Ok(Self {
            slot: letter.text("slot")?.to_owned(),
            table: letter.text("table")?.to_owned(),
            op: letter.parsed("op")?,
            key: letter.optional_text("key")?.map(str::to_owned),
            position: letter.text("position")?.to_owned(),
            lsn: letter.text("lsn")?.to_owned(),
            code: letter.text("code")?.to_owned(),
            reason: letter.text("reason")?.to_owned(),
            bytes: letter.long("bytes")?.cast_unsigned(),
            columns: letter.list("columns", |node| read_column(&Fields::of(node)?))?,
        })
    }
}

fn write_column(out: &mut Out<'_>, column: &DeadColumn) {
    out.text(&column.name);
    match &column.content {
        DeadContent::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => {
                out.branch(1);
                out.text(text);
            }
            Err(_) => {
                out.branch(2);
                out.bytes(text);
            }
        },
        DeadContent::Null | DeadContent::LeftOut(_) => out.branch(0),
    }
    match column.content {
        DeadContent::LeftOut(bytes) => {
            out.branch(1);
            out.long(bytes.map_or(UNKNOWN_BYTES, u64::cast_signed));
        }
        DeadContent::Null | DeadContent::Text(_) => out.branch(0),
    }
}

fn read_column(column: &Fields<'_>) -> Result<DeadColumn, CodecError> {
    let content = match (
        column.get("text").map(|node| &node.datum),
        column.optional_long("left_out_bytes")?,
    ) {
        (_, Some(bytes)) => DeadContent::LeftOut(u64::try_from(bytes).ok()),
        (Some(Datum::Text(text)), None) => DeadContent::Text(text.as_bytes().to_vec()),
        (Some(Datum::Bytes(bytes)), None) => DeadContent::Text(bytes.to_vec()),
        _ => DeadContent::Null,
    };
    Ok(DeadColumn {
        name: column.text("name")?.to_owned(),
        content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let column = |name: &str, content| DeadColumn {
            name: name.to_owned(),
            content,
        };
        let letter = DeadLetter {
            slot: "s".to_owned(),
            table: "public.t".to_owned(),
            op: 'u',
            key: Some(r#"{"id":7}"#.to_owned()),
            position: "1:0/10:2".to_owned(),
            lsn: "0/10".to_owned(),
            code: "UNENCODABLE_ROW".to_owned(),
            reason: "column a: the value is no UTF-8 text".to_owned(),
            bytes: 1 << 40,
            columns: vec![
                column("id", DeadContent::Text(b"7".to_vec())),
                column("a", DeadContent::Text(vec![0xff, 0xfe])),
                column("b", DeadContent::Null),
                column("c", DeadContent::LeftOut(Some(5_000_000))),
                column("d", DeadContent::LeftOut(None)),
            ],
        };
        let mut datum = Vec::new();
        letter.write(&mut datum);
        let schema = ParsedSchema::parse(DeadLetter::schema_json()).unwrap();
        assert_eq!(DeadLetter::decode(&schema, &datum), Ok(letter));
    }
}
