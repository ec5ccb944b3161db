//! pgoutput, the decoding plug-in's own format: bytes to messages, and nothing else.
//!
//! Pure. It knows no socket, no catalogue and no meaning of a value: a cell is the text the server sent, as a slice of
//! the buffer it arrived in (`Bytes`), so that a value is copied once, into the record for Kafka.
//!
//! Any sequence of bytes gives a message or a [`DecodeError`], never a panic, and nothing is allocated by a length that
//! the bytes do not hold. The one piece of state is whether a streamed block is open (protocol 2 and later put the
//! transaction id before each message inside it); capture does not ask for streaming, but the decoder knows it.

use bytes::{Buf, Bytes};
use syncline_schemas::position::Lsn;

mod head;
mod message;

pub use message::{
    Begin, Column, Commit, Delete, Insert, LogicalMessage, Message, OldTuple, Origin, Oversized, OversizedKind,
    Relation, ReplicaIdentity, StreamAbort, StreamCommit, StreamStart, Truncate, Tuple, TupleCell, TwoPhase, TypeName,
    Update,
};

/// Microseconds between 1970-01-01, where Unix counts from, and 2000-01-01, where PostgreSQL does.
const POSTGRES_EPOCH_UNIX_US: i64 = 946_684_800_000_000;

/// Bytes that are no pgoutput message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends too soon.
    #[error("the message ends within {0}")]
    Truncated(&'static str),
    /// No such kind of message.
    #[error("unknown kind of message {0:#04x}")]
    UnknownKind(u8),
    /// A field has a value that does not exist.
    #[error("{field} cannot be {value:#04x}")]
    BadValue {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// A name is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
}

type Decoded<T> = Result<T, DecodeError>;

/// Decodes the messages of one stream in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    in_stream: bool,
}

impl Decoder {
    /// For a stream that begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// The message in `payload` (the body of one XLogData).
    pub fn decode(&mut self, payload: Bytes) -> Decoded<Message> {
        let mut input = Input(payload);
        let kind = input.u8("the kind")?;
        if self.in_stream && !matches!(kind, b'E' | b'c' | b'A' | b'p') {
            input.u32("the transaction id")?;
        }
        let message = message(kind, &mut input)?;
        match message {
            Message::StreamStart(_) => self.in_stream = true,
            Message::StreamStop => self.in_stream = false,
            _ => {}
        }
        input.end()?;
        Ok(message)
    }
}

impl Decoder {
    /// The message of which only the `head` was kept, of `bytes` in all.
    pub fn decode_head(&self, head: Bytes, bytes: u64) -> Decoded<Message> {
        let mut input = Input(head);
        let kind = input.u8("the kind")?;
        if self.in_stream {
            input.u32("the transaction id")?;
        }
        let what = head::read(kind, &mut input)?;
        Ok(Message::Oversized(Oversized { what, bytes }))
    }
}

fn message(kind: u8, input: &mut Input) -> Decoded<Message> {
    Ok(match kind {
        b'B' => Message::Begin(begin(input)?),
        b'C' => Message::Commit(commit(input)?),
        b'O' => Message::Origin(Origin {
            commit_lsn: input.lsn("the origin")?,
            name: input.string("the origin")?,
        }),
        b'R' => Message::Relation(relation(input)?),
        b'Y' => Message::Type(type_name(input)?),
        b'I' => Message::Insert(insert(input)?),
        b'U' => Message::Update(update(input)?),
        b'D' => Message::Delete(delete(input)?),
        b'T' => Message::Truncate(truncate(input)?),
        b'M' => Message::Logical(logical(input)?),
        b'S' => Message::StreamStart(StreamStart {
            xid: input.u32("the transaction id")?,
            first: input.u8("the part of the stream")? != 0,
        }),
        b'E' => Message::StreamStop,
        b'c' => Message::StreamCommit(StreamCommit {
            xid: input.u32("the transaction id")?,
            commit: commit(input)?,
        }),
        b'A' => Message::StreamAbort(stream_abort(input)?),
        b'b' => two_phase(input, TwoPhase::Begin),
        b'P' => two_phase(input, TwoPhase::Prepare),
        b'K' => two_phase(input, TwoPhase::CommitPrepared),
        b'r' => two_phase(input, TwoPhase::RollbackPrepared),
        b'p' => two_phase(input, TwoPhase::StreamPrepare),
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    })
}

fn begin(input: &mut Input) -> Decoded<Begin> {
    Ok(Begin {
        final_lsn: input.lsn("the commit's LSN")?,
        commit_us: input.time_us()?,
        xid: input.u32("the transaction id")?,
    })
}

fn commit(input: &mut Input) -> Decoded<Commit> {
    input.u8("the flags")?;
    Ok(Commit {
        commit_lsn: input.lsn("the commit's LSN")?,
        end_lsn: input.lsn("the commit's end")?,
        commit_us: input.time_us()?,
    })
}

fn relation(input: &mut Input) -> Decoded<Relation> {
    let oid = input.u32("the relation id")?;
    let schema = input.string("the schema's name")?;
    let table = input.string("the table's name")?;
    let letter = input.u8("the replica identity")?;
    let identity = ReplicaIdentity::from_letter(letter).ok_or(DecodeError::BadValue {
        field: "the replica identity",
        value: letter,
    })?;
    let count = input.u16("the number of columns")?;
    let columns = (0..count).map(|_| column(input)).collect::<Decoded<_>>()?;
    Ok(Relation {
        oid,
        schema,
        table,
        identity,
        columns,
    })
}

fn column(input: &mut Input) -> Decoded<Column> {
    let is_key = input.u8("a column's flags")? & 1 != 0;
    Ok(Column {
        name: input.string("a column's name")?,
        type_oid: input.u32("a column's type")?,
        type_modifier: input.i32("a column's type")?,
        is_key,
    })
}

fn type_name(input: &mut Input) -> Decoded<TypeName> {
    Ok(TypeName {
        oid: input.u32("the type id")?,
        schema: input.string("the type's schema")?,
        name: input.string("the type's name")?,
    })
}

fn insert(input: &mut Input) -> Decoded<Insert> {
    let relation = input.u32("the relation id")?;
    input.expect(b'N', "the kind of tuple")?;
    Ok(Insert {
        relation,
        new: tuple(input)?,
    })
}

fn update(input: &mut Input) -> Decoded<Update> {
    let relation = input.u32("the relation id")?;
    let old = match input.u8("the kind of tuple")? {
        b'N' => {
            return Ok(Update {
                relation,
                old: OldTuple::None,
                new: tuple(input)?,
            });
        }
        kind => old_tuple(kind, input)?,
    };
    input.expect(b'N', "the kind of tuple")?;
    Ok(Update {
        relation,
        old,
        new: tuple(input)?,
    })
}

fn delete(input: &mut Input) -> Decoded<Delete> {
    let relation = input.u32("the relation id")?;
    let kind = input.u8("the kind of tuple")?;
    Ok(Delete {
        relation,
        old: old_tuple(kind, input)?,
    })
}

fn old_tuple(kind: u8, input: &mut Input) -> Decoded<OldTuple> {
    match kind {
        b'K' => Ok(OldTuple::Key(tuple(input)?)),
        b'O' => Ok(OldTuple::Full(tuple(input)?)),
        value => Err(DecodeError::BadValue {
            field: "the kind of tuple",
            value,
        }),
    }
}

fn tuple(input: &mut Input) -> Decoded<Tuple> {
    let count = input.u16("the number of cells")?;
    // A cell takes a byte at least: a count that lies reserves no more than the message is long.
    let mut cells = Vec::with_capacity(usize::from(count).min(input.0.len()));
    for _ in 0..count {
        cells.push(cell(input)?);
    }
    Ok(cells)
}

fn cell(input: &mut Input) -> Decoded<TupleCell> {
    match input.u8("a cell")? {
        b'n' => Ok(TupleCell::Null),
        b'u' => Ok(TupleCell::Unchanged),
        b't' => Ok(TupleCell::Text(input.counted("a cell")?)),
        b'b' => Ok(TupleCell::Binary(input.counted("a cell")?)),
        value => Err(DecodeError::BadValue {
            field: "the kind of a cell",
            value,
        }),
    }
}

fn truncate(input: &mut Input) -> Decoded<Truncate> {
    let count = input.u32("the number of tables")?;
    let options = input.u8("the options")?;
    let relations = (0..count).map(|_| input.u32("a relation id")).collect::<Decoded<_>>()?;
    Ok(Truncate {
        relations,
        cascade: options & 1 != 0,
        restart_identity: options & 2 != 0,
    })
}

fn logical(input: &mut Input) -> Decoded<LogicalMessage> {
    Ok(LogicalMessage {
        transactional: input.u8("the flags")? & 1 != 0,
        lsn: input.lsn("the message's LSN")?,
        prefix: input.terminated("the prefix")?,
        content: input.counted("the content")?,
    })
}

fn stream_abort(input: &mut Input) -> Decoded<StreamAbort> {
    let abort = StreamAbort {
        xid: input.u32("the transaction id")?,
        subxid: input.u32("the subtransaction id")?,
    };
    // Protocol 4 with parallel streaming adds where and when; no length says so but the message's own.
    if !input.0.is_empty() {
        input.lsn("the abort's LSN")?;
        input.time_us()?;
    }
    Ok(abort)
}

fn two_phase(input: &mut Input, kind: TwoPhase) -> Message {
    input.0.clear();
    Message::TwoPhase(kind)
}

/// What is left of a message.
struct Input(Bytes);

impl Input {
    fn u8(&mut self, field: &'static str) -> Decoded<u8> {
        self.0.try_get_u8().map_err(|_| DecodeError::Truncated(field))
    }

    fn u16(&mut self, field: &'static str) -> Decoded<u16> {
        self.0.try_get_u16().map_err(|_| DecodeError::Truncated(field))
    }

    fn u32(&mut self, field: &'static str) -> Decoded<u32> {
        self.0.try_get_u32().map_err(|_| DecodeError::Truncated(field))
    }

    fn i32(&mut self, field: &'static str) -> Decoded<i32> {
        self.0.try_get_i32().map_err(|_| DecodeError::Truncated(field))
    }

    fn lsn(&mut self, field: &'static str) -> Decoded<Lsn> {
        self.0.try_get_u64().map(Lsn).map_err(|_| DecodeError::Truncated(field))
    }

    fn time_us(&mut self) -> Decoded<i64> {
        let since_2000 = self.0.try_get_i64().map_err(|_| DecodeError::Truncated("the time"))?;
        Ok(since_2000.saturating_add(POSTGRES_EPOCH_UNIX_US))
    }

    fn expect(&mut self, wanted: u8, field: &'static str) -> Decoded<()> {
        match self.u8(field)? {
            value if value == wanted => Ok(()),
            value => Err(DecodeError::BadValue { field, value }),
        }
    }

    /// Bytes up to a zero.
    fn terminated(&mut self, field: &'static str) -> Decoded<Bytes> {
        let length = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(DecodeError::Truncated(field))?;
        let bytes = self.0.split_to(length);
        self.0.advance(1);
        Ok(bytes)
    }

    fn string(&mut self, field: &'static str) -> Decoded<String> {
        let bytes = self.terminated(field)?;
        String::from_utf8(bytes.into()).map_err(|_| DecodeError::NotUtf8(field))
    }

    /// Bytes after their number.
    fn counted(&mut self, field: &'static str) -> Decoded<Bytes> {
        let length = usize::try_from(self.u32(field)?).map_err(|_| DecodeError::Truncated(field))?;
        if length > self.0.len() {
            return Err(DecodeError::Truncated(field));
        }
        Ok(self.0.split_to(length))
    }

    fn end(&self) -> Decoded<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.0.len()))
        }
    }
}
