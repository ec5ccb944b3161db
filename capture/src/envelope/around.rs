//! What stands around before and after: source, transaction, operation, times.

use std::io::Write;

use crate::avro;
use crate::avro_schema::Release;
use crate::companions::Order;
use crate::form::Form;

/// The connector that we stand in for, as the source block names it.
const CONNECTOR: &str = "postgresql";

/// The circumstances of a change.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Debezium's letter for the operation.
    pub op: char,
    /// `false` in the stream; in a snapshot where in it the row stands.
    pub snapshot: &'a str,
    /// Commit time, microseconds since 1970.
    pub commit_us: i64,
    /// LSN of the change.
    pub lsn: u64,
    /// Whether `source.lsn` says it; `source.sequence` does in any case.
    pub tells_lsn: bool,
    /// Where the last transaction before it ended; none in a snapshot.
    pub last_commit_lsn: Option<u64>,
    /// Transaction id.
    pub xid: Option<u32>,
    /// Where the transaction came from, if it was itself replicated: name and LSN there.
    pub origin: Option<(&'a str, u64)>,
    /// Its place in its transaction, if places are told.
    pub transaction: Option<Block>,
    /// Now, nanoseconds since 1970.
    pub now_ns: i64,
}

/// The place of an event in its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// First part of the transaction's id: its number.
    pub xid: u32,
    /// Second part: an LSN.
    pub lsn: u64,
    /// Its place.
    pub order: Order,
}

/// What is the same in each `source` of a table, or of what belongs to none.
#[derive(Clone, Debug)]
pub struct SourceBlock {
    /// version, connector, name.
    head: Vec<u8>,
    /// db.
    database: Vec<u8>,
    /// schema, table.
    names: Vec<u8>,
    release: Release,
}

impl SourceBlock {
    /// For the source called `prefix` on that database; `names` are of schema and table.
    pub fn new(form: &Form, prefix: &str, database: &str, names: (&str, &str)) -> Self {
        let text = |parts: &[&str]| {
            let mut out = Vec::new();
            parts.iter().for_each(|part| avro::bytes(part.as_bytes(), &mut out));
            out
        };
        Self {
            head: text(&[&form.emulated.version, CONNECTOR, prefix]),
            database: text(&[database]),
            names: text(&[names.0, names.1]),
            release: Release::of(&form.emulated),
        }
    }

    /// Appends `source`.
    pub(super) fn write(&self, at: &Circumstances<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        avro::long(at.commit_us.div_euclid(1000), out);
        out.push(avro::FIRST);
        avro::bytes(at.snapshot.as_bytes(), out);
        out.extend_from_slice(&self.database);
        out.push(avro::SECOND);
        sequence(at, out);
        if self.release.fine_times {
            avro::optional_long(Some(at.commit_us), out);
            avro::optional_long(Some(at.commit_us.saturating_mul(1000)), out);
        }
        out.extend_from_slice(&self.names);
        avro::optional_long(at.xid.map(i64::from), out);
        avro::optional_long(Some(at.lsn.cast_signed()).filter(|_| at.tells_lsn), out);
        out.push(avro::FIRST); // xmin
        if !self.release.origin {
            return;
        }
        avro::optional_text(at.origin.map(|(name, _)| name), out);
        avro::optional_long(at.origin.map(|(_, lsn)| lsn.cast_signed()), out);
    }
}

/// `["<last commit>","<lsn>"]`. The first is where the transaction ended that was read before this one. With nothing else
/// in between that is where this one begins, but a transaction that began earlier and committed later has it in its middle.
fn sequence(at: &Circumstances<'_>, out: &mut Vec<u8>) {
    let _ = avro::sized(out, |out| match at.last_commit_lsn {
        Some(last) => write!(out, "[\"{last}\",\"{}\"]", at.lsn),
        None => write!(out, "[null,\"{}\"]", at.lsn),
    });
}

/// Up to 2.5 the transaction came last, and times were in milliseconds only.
pub(super) fn tail(release: Release, at: &Circumstances<'_>, out: &mut Vec<u8>) {
    if release.fine_times {
        transaction(at.transaction.as_ref(), out);
    }
    operation(at, out);
    if release.fine_times {
        avro::optional_long(Some(at.now_ns.div_euclid(1000)), out);
        avro::optional_long(Some(at.now_ns), out);
    } else {
        transaction(at.transaction.as_ref(), out);
    }
}

/// Appends what a message's value has before its content: operation, time, source, transaction.
pub fn message_head(source: &SourceBlock, at: &Circumstances<'_>, out: &mut Vec<u8>) {
    operation(at, out);
    source.write(at, out);
    transaction(at.transaction.as_ref(), out);
}

fn operation(at: &Circumstances<'_>, out: &mut Vec<u8>) {
    let mut letter = [0; 4];
    avro::bytes(at.op.encode_utf8(&mut letter).as_bytes(), out);
    avro::optional_long(Some(at.now_ns.div_euclid(1_000_000)), out);
}

fn transaction(block: Option<&Block>, out: &mut Vec<u8>) {
    let Some(block) = block else {
        return out.push(avro::FIRST);
    };
    out.push(avro::SECOND);
    let _ = avro::sized(out, |out| write!(out, "{}:{}", block.xid, block.lsn));
    avro::long(block.order.total.cast_signed(), out);
    avro::long(block.order.in_collection.cast_signed(), out);
}
