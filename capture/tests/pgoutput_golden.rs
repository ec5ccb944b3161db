//! pgoutput against a recorded stream, against messages written here by the protocol's description, and against noise.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]

use bytes::Bytes;
use proptest::prelude::*;
use syncline_capture::postgres::pgoutput::{
    Begin, Column, Commit, DecodeError, Decoder, Delete, Insert, LogicalMessage, Message, OldTuple, Relation,
    ReplicaIdentity, StreamAbort, StreamCommit, StreamStart, Truncate, Tuple, TupleCell, TwoPhase, TypeName, Update,
};
use syncline_schemas::position::Lsn;

const RECORDED: &str = include_str!("fixtures/pgoutput_15.txt");

/// Hexadecimal digits to bytes, with `{78*3000}` for a byte repeated.
fn bytes(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        if let Some(repeated) = rest.strip_prefix('{') {
            let (inside, after) = repeated.split_once('}').unwrap();
            let (byte, count) = inside.split_once('*').unwrap();
            bytes.extend(std::iter::repeat_n(
                u8::from_str_radix(byte, 16).unwrap(),
                count.parse().unwrap(),
            ));
            rest = after;
        } else {
            bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
            rest = &rest[2..];
        }
    }
    bytes
}

fn recorded() -> Vec<Vec<u8>> {
    RECORDED
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(bytes)
        .collect()
}

fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    Decoder::new().decode(Bytes::copy_from_slice(bytes))
}

fn text(text: &str) -> TupleCell {
    TupleCell::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn column(name: &str, type_oid: u32, type_modifier: i32, is_key: bool) -> Column {
    Column {
        name: name.to_owned(),
        type_oid,
        type_modifier,
        is_key,
    }
}

fn commit(commit_lsn: u64, end_lsn: u64, commit_us: i64) -> Message {
    Message::Commit(Commit {
        commit_lsn: Lsn(commit_lsn),
        end_lsn: Lsn(end_lsn),
        commit_us,
    })
}

fn logical(transactional: bool, lsn: u64, prefix: &'static str, content: &'static [u8]) -> Message {
    let (prefix, content) = (Bytes::from_static(prefix.as_bytes()), Bytes::from_static(content));
    Message::Logical(LogicalMessage {
        transactional,
        lsn: Lsn(lsn),
        prefix,
        content,
    })
}

fn expected() -> Vec<Message> {
    use TupleCell::{Null, Unchanged};
    let (t, f) = (0x40cf, 0x40d6);
    let key = |id: &str| OldTuple::Key(vec![text(id), Null, Null, Null]);
    let begin = |lsn: u64, commit_us: i64, xid: u32| {
        Message::Begin(Begin {
            final_lsn: Lsn(lsn),
            commit_us,
            xid,
        })
    };
    let table = |oid: u32, table: &str, identity: ReplicaIdentity, columns: Vec<Column>| {
        Message::Relation(Relation {
            oid,
            schema: "public".to_owned(),
            table: table.to_owned(),
            identity,
            columns,
        })
    };
    let t_columns = vec![
        column("id", 23, -1, true),
        column("name", 1043, 24, false),
        column("big", 25, -1, false),
        column("m", 0x40cb, -1, false),
    ];
    let f_columns = vec![column("id", 23, -1, true), column("name", 25, -1, true)];
    let times = [0x303f2b51a4980_i64, 0x303f2b51a4c7e, 0x303f2b51a5cd0].map(|us| us + 946_684_800_000_000);
    vec![
        begin(0x11b7b190, times[0], 2312),
        Message::Type(TypeName {
            oid: 0x40cb,
            schema: "public".to_owned(),
            name: "mood".to_owned(),
        }),
        table(t, "t", ReplicaIdentity::Default, t_columns),
        Message::Insert(Insert {
            relation: t,
            new: vec![text("1"), text("a"), text(&"x".repeat(3000)), text("ok")],
        }),
        logical(true, 0x11b7af68, "syncline", b"{}"),
        Message::Update(Update {
            relation: t,
            old: OldTuple::None,
            new: vec![text("1"), Null, Unchanged, text("ok")],
        }),
        Message::Update(Update {
            relation: t,
            old: key("1"),
            new: vec![text("2"), Null, Unchanged, text("ok")],
        }),
        Message::Delete(Delete {
            relation: t,
            old: key("2"),
        }),
        commit(0x11b7b190, 0x11b7b1c0, times[0]),
        begin(0x11b7b2a0, times[1], 2313),
        table(f, "f", ReplicaIdentity::Full, f_columns),
        Message::Insert(Insert {
            relation: f,
            new: vec![text("1"), text("é")],
        }),
        Message::Update(Update {
            relation: f,
            old: OldTuple::Full(vec![text("1"), text("é")]),
            new: vec![text("1"), text("b")],
        }),
        Message::Delete(Delete {
            relation: f,
            old: OldTuple::Full(vec![text("1"), text("b")]),
        }),
        commit(0x11b7b2a0, 0x11b7b2d0, times[1]),
        logical(false, 0x11b7b310, "other", &[0xff, 0x00]),
        begin(0x11b7c6d0, times[2], 2314),
        Message::Truncate(Truncate {
            relations: vec![t, f],
            cascade: true,
            restart_identity: false,
        }),
        commit(0x11b7c6d0, 0x11b7c910, times[2]),
    ]
}

#[test]
fn a_recorded_stream_is_read_to_the_byte() {
    let mut decoder = Decoder::new();
    let messages: Vec<_> = recorded()
        .into_iter()
        .map(|bytes| decoder.decode(bytes.into()).unwrap())
        .collect();
    assert_eq!(messages, expected());
}

#[test]
fn every_beginning_of_a_message_is_an_error_and_so_is_anything_after_it() {
    for whole in recorded() {
        for length in (0..whole.len()).filter(|length| length % 97 < 60) {
            assert!(decode(&whole[..length]).is_err(), "{length} bytes of {:#04x}", whole[0]);
        }
        let longer = [whole, vec![0]].concat();
        assert!(decode(&longer).is_err());
    }
}

#[test]
fn inside_a_streamed_block_the_transaction_id_comes_first() {
    let mut decoder = Decoder::new();
    let mut read = |hex: &str| decoder.decode(bytes(hex).into()).unwrap();
    let delete = Message::Delete(Delete {
        relation: 7,
        old: OldTuple::Key(vec![text("1")]),
    });
    assert_eq!(
        read("530000000901"),
        Message::StreamStart(StreamStart { xid: 9, first: true })
    );
    assert_eq!(read("4400000009000000074b0001740000000131"), delete);
    assert_eq!(
        read("4d000000090100000000000000016100000000017a"),
        logical(true, 1, "a", b"z")
    );
    assert_eq!(read("45"), Message::StreamStop);
    assert_eq!(read("44000000074b0001740000000131"), delete);
    assert_eq!(
        read("410000000900000008"),
        Message::StreamAbort(StreamAbort { xid: 9, subxid: 8 })
    );
    let parallel = "41000000090000000900000000000000010000000000000002";
    assert_eq!(read(parallel), Message::StreamAbort(StreamAbort { xid: 9, subxid: 9 }));
    let Message::Commit(end) = commit(1, 2, 946_684_800_000_000) else {
        unreachable!()
    };
    let ended = "63000000090000000000000000010000000000000002".to_owned() + "0000000000000000";
    assert_eq!(
        read(&ended),
        Message::StreamCommit(StreamCommit { xid: 9, commit: end })
    );
}

#[test]
fn messages_of_two_phase_commit_are_named() {
    assert_eq!(decode(b"bwhatever"), Ok(Message::TwoPhase(TwoPhase::Begin)));
    assert_eq!(decode(b"K"), Ok(Message::TwoPhase(TwoPhase::CommitPrepared)));
}

#[test]
fn what_is_wrong_is_said() {
    assert_eq!(decode(b""), Err(DecodeError::Truncated("the kind")));
    assert_eq!(decode(b"?"), Err(DecodeError::UnknownKind(b'?')));
    assert_eq!(
        decode(&bytes("49000000074b")),
        Err(DecodeError::BadValue {
            field: "the kind of tuple",
            value: b'K'
        })
    );
    // Two thousand million tables, or a cell as long, are claimed and not there.
    assert_eq!(
        decode(&bytes("547fffffff00")),
        Err(DecodeError::Truncated("a relation id"))
    );
    assert_eq!(
        decode(&bytes("49000000074e0001747fffffff")),
        Err(DecodeError::Truncated("a cell"))
    );
    assert_eq!(
        decode(&bytes("5200000001ff00740064ffff")),
        Err(DecodeError::NotUtf8("the schema's name"))
    );
}

fn any_cell() -> impl Strategy<Value = TupleCell> {
    prop_oneof![
        Just(TupleCell::Null),
        Just(TupleCell::Unchanged),
        any::<Vec<u8>>().prop_map(|bytes| TupleCell::Text(bytes.into())),
        any::<Vec<u8>>().prop_map(|bytes| TupleCell::Binary(bytes.into())),
    ]
}

/// A tuple as the server writes it.
fn written(tuple: &Tuple) -> Vec<u8> {
    let mut out = u16::try_from(tuple.len()).unwrap().to_be_bytes().to_vec();
    for cell in tuple {
        let (kind, value) = match cell {
            TupleCell::Null => (b'n', None),
            TupleCell::Unchanged => (b'u', None),
            TupleCell::Text(value) => (b't', Some(value)),
            TupleCell::Binary(value) => (b'b', Some(value)),
        };
        out.push(kind);
        if let Some(value) = value {
            out.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            out.extend(value);
        }
    }
    out
}

proptest! {
    #[test]
    fn noise_never_panics(messages in prop::collection::vec(any::<Vec<u8>>(), 1..5)) {
        let mut decoder = Decoder::new();
        for message in messages {
            let _ = decoder.decode(message.into());
        }
    }

    #[test]
    fn a_damaged_message_never_panics(which in 0_usize..19, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut message = recorded().swap_remove(which);
        let place = at.index(message.len());
        message[place] = byte;
        let _ = decode(&message);
        message.truncate(cut.index(message.len()));
        let _ = decode(&message);
    }

    #[test]
    fn any_row_is_read_back(relation: u32, old in prop::collection::vec(any_cell(), 0..6), new in prop::collection::vec(any_cell(), 0..6)) {
        let message = [b"U".to_vec(), relation.to_be_bytes().to_vec(), b"O".to_vec(), written(&old), b"N".to_vec(), written(&new)].concat();
        let update = Update { relation, old: OldTuple::Full(old), new };
        prop_assert_eq!(decode(&message), Ok(Message::Update(update)));
    }
}
