//! What pgoutput says: one type for each of its messages. A cell is a slice of the buffer that it arrived in.

use bytes::Bytes;
use syncline_schemas::position::Lsn;

/// One message of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins.
    Begin(Begin),
    /// It ends. What it did is in force.
    Commit(Commit),
    /// Where the transaction came from, if it was itself replicated.
    Origin(Origin),
    /// The shape of a table. Sent before the first change of it, and again after DDL.
    Relation(Relation),
    /// A type that is not built in.
    Type(TypeName),
    /// A row was inserted.
    Insert(Insert),
    /// A row was updated.
    Update(Update),
    /// A row was deleted.
    Delete(Delete),
    /// Tables were emptied.
    Truncate(Truncate),
    /// `pg_logical_emit_message`.
    Logical(LogicalMessage),
    /// Part of a transaction that has not ended yet follows.
    StreamStart(StreamStart),
    /// That part is over.
    StreamStop,
    /// A streamed transaction ends. What it did is in force.
    StreamCommit(StreamCommit),
    /// A streamed transaction, or a part of it, was rolled back.
    StreamAbort(StreamAbort),
    /// A message of two-phase commit. Never sent unless the slot was made for it; kept so that its arrival is named.
    TwoPhase(TwoPhase),
    /// A change or message that was refused before memory was taken for it.
    Oversized(Oversized),
}

/// The beginning of a message that is larger than it may be. The rest was passed over as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oversized {
    /// What it is.
    pub what: OversizedKind,
    /// How large it is.
    pub bytes: u64,
}

/// What an [`Oversized`] message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OversizedKind {
    /// Debezium's letter for the change, the table, and the cells that came whole: of the old row first, if there is one.
    Change {
        /// `c`, `u` or `d`.
        op: char,
        /// The table.
        relation: u32,
        /// The old row, if the message has one.
        old: OldTuple,
        /// The new row, if the message has one.
        new: Tuple,
    },
    /// A logical message.
    Logical {
        /// In a transaction.
        transactional: bool,
        /// Its prefix.
        prefix: Bytes,
    },
}

/// Begin of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// LSN of the commit record: equal to [`Commit::commit_lsn`].
    pub final_lsn: Lsn,
    /// Commit time, microseconds since 1970.
    pub commit_us: i64,
    /// Transaction id.
    pub xid: u32,
}

/// End of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// LSN of the commit record.
    pub commit_lsn: Lsn,
    /// LSN after it: the transaction's place in the order, and what is acknowledged.
    pub end_lsn: Lsn,
    /// Commit time, microseconds since 1970.
    pub commit_us: i64,
}

/// Origin of a replicated transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// LSN of its commit at the origin.
    pub commit_lsn: Lsn,
    /// Name of the origin.
    pub name: String,
}

/// The shape of a table as it was when the changes that follow were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Object id: how the changes refer to it.
    pub oid: u32,
    /// Schema of the table. pgoutput leaves it empty for `pg_catalog`.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// What the log holds of an old row.
    pub identity: ReplicaIdentity,
    /// The published columns, in the order of the cells.
    pub columns: Vec<Column>,
}

/// What the log holds of the old row of an update or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing.
    Nothing,
    /// All columns.
    Full,
    /// The columns of a chosen unique index.
    Index,
}

impl ReplicaIdentity {
    /// From the letter in `pg_class.relreplident`.
    pub fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'd' => Some(Self::Default),
            b'n' => Some(Self::Nothing),
            b'f' => Some(Self::Full),
            b'i' => Some(Self::Index),
            _ => None,
        }
    }
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Object id of its type.
    pub type_oid: u32,
    /// Type modifier (`varchar(20)`: 24), -1 if none.
    pub type_modifier: i32,
    /// Part of the replica identity. With identity full this is true of all.
    pub is_key: bool,
}

/// A type that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// Object id.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
}

/// The cells of a row, one for each column of its relation.
pub type Tuple = Vec<TupleCell>;

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TupleCell {
    /// SQL NULL. In an old *key* tuple it also stands for every column outside the key and then says nothing.
    Null,
    /// A large value that the update left alone and the log therefore does not hold. Not NULL.
    Unchanged,
    /// The value in the type's text form.
    Text(Bytes),
    /// The value in the type's binary form (only if asked for).
    Binary(Bytes),
}

impl TupleCell {
    /// Length of the value in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Null | Self::Unchanged => 0,
            Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it holds no bytes (the empty text holds none either).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the log holds of the row before the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldTuple {
    /// Nothing: the update left the replica identity alone.
    None,
    /// The columns of the replica identity; all others are [`TupleCell::Null`] and say nothing.
    Key(Tuple),
    /// The whole row.
    Full(Tuple),
}

/// An inserted row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// Object id of the table.
    pub relation: u32,
    /// The row.
    pub new: Tuple,
}

/// An updated row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Object id of the table.
    pub relation: u32,
    /// Before.
    pub old: OldTuple,
    /// After.
    pub new: Tuple,
}

/// A deleted row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Object id of the table.
    pub relation: u32,
    /// Before: never [`OldTuple::None`].
    pub old: OldTuple,
}

/// Emptied tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// Object ids of the tables, in the order of the command.
    pub relations: Vec<u32>,
    /// `CASCADE`.
    pub cascade: bool,
    /// `RESTART IDENTITY`.
    pub restart_identity: bool,
}

/// A message written with `pg_logical_emit_message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalMessage {
    /// Part of the running transaction; else it stands alone, outside any.
    pub transactional: bool,
    /// Its LSN.
    pub lsn: Lsn,
    /// Who it is for. Foreign messages need not be UTF-8.
    pub prefix: Bytes,
    /// What it says.
    pub content: Bytes,
}

/// Begin of a part of a transaction in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStart {
    /// Transaction id.
    pub xid: u32,
    /// The first part of it.
    pub first: bool,
}

/// End of a streamed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCommit {
    /// Transaction id.
    pub xid: u32,
    /// Where and when.
    pub commit: Commit,
}

/// Roll-back of a streamed transaction or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAbort {
    /// Transaction id.
    pub xid: u32,
    /// Id of the part (equal to `xid` if it is the whole).
    pub subxid: u32,
}

/// The kind of a message of two-phase commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwoPhase {
    /// BEGIN PREPARE.
    Begin,
    /// PREPARE.
    Prepare,
    /// COMMIT PREPARED.
    CommitPrepared,
    /// ROLLBACK PREPARED.
    RollbackPrepared,
    /// PREPARE of a streamed transaction.
    StreamPrepare,
}
