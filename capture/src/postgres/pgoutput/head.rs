//! The beginning of a message whose rest was not kept: what it is, and the cells that came whole.

use super::message::{OldTuple, OversizedKind, Tuple};
use super::{DecodeError, Decoded, Input, cell};

/// Only changes and logical messages grow with what the apps write; of anything else a part says nothing.
pub(super) fn read(kind: u8, input: &mut Input) -> Decoded<OversizedKind> {
    match kind {
        b'M' => logical(input),
        b'I' => change('c', input),
        b'U' => change('u', input),
        b'D' => change('d', input),
        _ => Err(DecodeError::Truncated("a message that is longer than any of its kind")),
    }
}

fn logical(input: &mut Input) -> Decoded<OversizedKind> {
    let transactional = input.u8("the flags")? & 1 != 0;
    input.lsn("the message's LSN")?;
    Ok(OversizedKind::Logical {
        transactional,
        prefix: input.terminated("the prefix")?,
    })
}

fn change(op: char, input: &mut Input) -> Decoded<OversizedKind> {
    let relation = input.u32("the relation id")?;
    let (mut old, mut new) = (OldTuple::None, Tuple::new());
    // The row that is cut short is the last that there is.
    while let Ok(letter) = input.u8("the kind of tuple") {
        let (cells, whole) = cells(input)?;
        match letter {
            b'K' => old = OldTuple::Key(cells),
            b'O' => old = OldTuple::Full(cells),
            _ => new = cells,
        }
        if !whole {
            break;
        }
    }
    Ok(OversizedKind::Change { op, relation, old, new })
}

/// The cells that came whole, and whether those are all of the row.
fn cells(input: &mut Input) -> Decoded<(Tuple, bool)> {
    let count = usize::from(input.u16("the number of cells")?);
    let mut cells = Tuple::new();
    while cells.len() < count {
        match cell(input) {
            Ok(cell) => cells.push(cell),
            Err(_) => return Ok((cells, false)),
        }
    }
    Ok((cells, true))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Decoder, Message, Oversized, OversizedKind, TupleCell};
    use super::*;

    fn head(bytes: &[u8]) -> Decoded<Message> {
        Decoder::new().decode_head(Bytes::copy_from_slice(bytes), 1 << 30)
    }

    fn text(cell: &'static [u8]) -> TupleCell {
        TupleCell::Text(Bytes::from_static(cell))
    }

    #[test]
    fn cells_that_came_whole_are_known() {
        let update = b"U\0\0\0\x07K\0\x02t\0\0\0\x013nN\0\x02t\0\0\0\x014t\x10\0\0\0abc";
        let what = OversizedKind::Change {
            op: 'u',
            relation: 7,
            old: OldTuple::Key(vec![text(b"3"), TupleCell::Null]),
            new: vec![text(b"4")],
        };
        let expected = Oversized { what, bytes: 1 << 30 };
        assert_eq!(head(update), Ok(Message::Oversized(expected)));
    }

    #[test]
    fn an_old_row_that_is_cut_short_has_no_new_one_after_it() {
        let update = b"U\0\0\0\x07O\0\x02t\0\0\0\x013t\x10\0\0\0abc";
        let Ok(Message::Oversized(Oversized { what, .. })) = head(update) else {
            panic!("it is a change");
        };
        assert!(
            matches!(what, OversizedKind::Change { old: OldTuple::Full(old), new, .. } if old.len() == 1 && new.is_empty())
        );
    }

    #[test]
    fn a_logical_message_is_known_by_its_prefix() {
        let what = OversizedKind::Logical {
            transactional: true,
            prefix: Bytes::from_static(b"app"),
        };
        let expected = Oversized { what, bytes: 1 << 30 };
        assert_eq!(
            head(b"M\x01\0\0\0\0\0\0\0\x09app\0\0\xff\0\0xyz"),
            Ok(Message::Oversized(expected))
        );
    }

    #[test]
    fn nothing_else_is_taken_by_its_beginning() {
        assert!(head(b"R\0\0\0\x07public\0").is_err());
        assert!(head(b"").is_err());
    }
}
