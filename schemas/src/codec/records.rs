//! Our own records on the wire: one schema each, values as their JSON text, positions as their text.

use std::fmt::Display;
use std::str::FromStr;

use super::datum::{Datum, Node};
use super::{CodecError, Out, ParsedSchema, RecordType, Wire};
use crate::action::{Action, ActionKind};
use crate::conflict::{Candidate, Conflict, Status};
use crate::decision::Decision;
use crate::identity::{IdentityAct, IdentityWord};
use crate::mapped::{FieldValue, Mapped, MappedRecord, RowKey, RowOp};
use crate::mark::{Mark, PlacedMark};
use crate::pause::{End, PauseRecord, Paused, Resumed};
use crate::position::{Position, Vector};
use crate::progress::{MarkRecord, Progress, SnapshotState, TableProgress};
use crate::table_record::TableRecord;
use crate::tick::Tick;
use crate::value::Value;

/// An entry of merge's changelog: the state of one entity. What it says is merge's own and means nothing elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Format of the state; a reader that does not know it must not guess.
    pub format: i32,
    /// The state, where that is a text.
    pub state: String,
    /// The state, where that is bytes.
    pub packed: Vec<u8>,
}

/// The entity that a row belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crosswalk {
    /// Entity id.
    pub cid: String,
    /// Where the row that had this key went on under another; events of the key after that are of another row.
    pub left_at: Option<Position>,
    /// Where another row took the key that had been left; events of the key before that are of the row that left.
    pub since: Option<Position>,
    /// Of an entity that others refer to: Kafka's time of the change that made the row known, milliseconds since 1970. None
    /// if the row was there when the table was first read.
    pub known_ms: Option<i64>,
}

impl Crosswalk {
    /// Whether another row has had the key since one left it at `position`: it was taken, or left once more, after that.
    pub fn taken_after(&self, position: Position) -> bool {
        self.since.max(self.left_at) > Some(position)
    }
}

/// The fields of a record that was read, by name.
pub(crate) struct Fields<'a> {
    record: &'a RecordType,
    nodes: &'a [Node<'a>],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(node: &'a Node<'a>) -> Result<Self, CodecError> {
        match &node.datum {
            Datum::Record(record, nodes) => Ok(Self { record, nodes }),
            _ => Err(CodecError::Datum("a record was expected".to_owned())),
        }
    }

    /// The name of the record without its namespace.
    pub(crate) fn name(&self) -> &'a str {
        self.record.name.rsplit('.').next().unwrap_or_default()
    }

    pub(crate) fn full_name(&self) -> &'a str {
        &self.record.name
    }

    /// All fields in the writer's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Node<'a>)> + use<'a> {
        self.record.fields.iter().map(|(name, _)| name.as_str()).zip(self.nodes)
    }

    /// The field, if the writer knew it.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Node<'a>> {
        self.record.index(name).map(|index| &self.nodes[index])
    }

    fn wrong(name: &str) -> CodecError {
        CodecError::field(name, "is missing or of another type")
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str, CodecError> {
        self.optional_text(name)?.ok_or_else(|| Self::wrong(name))
    }

    /// None when it is null or not there.
    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<&'a str>, CodecError> {
        match self.get(name).map(|node| &node.datum) {
            Some(Datum::Text(text)) => Ok(Some(text)),
            None | Some(Datum::Null) => Ok(None),
            Some(_) => Err(Self::wrong(name)),
        }
    }

    /// Empty when it is not there.
    pub(crate) fn bytes(&self, name: &str) -> Result<&'a [u8], CodecError> {
        match self.get(name).map(|node| &node.datum) {
            Some(Datum::Bytes(bytes)) => Ok(bytes),
            None | Some(Datum::Null) => Ok(&[]),
            Some(_) => Err(Self::wrong(name)),
        }
    }

    pub(crate) fn long(&self, name: &str) -> Result<i64, CodecError> {
        self.optional_long(name)?.ok_or_else(|| Self::wrong(name))
    }

    pub(crate) fn optional_long(&self, name: &str) -> Result<Option<i64>, CodecError> {
        match self.get(name).map(|node| &node.datum) {
            Some(Datum::Int(number)) => Ok(Some(i64::from(*number))),
            Some(Datum::Long(number)) => Ok(Some(*number)),
            None | Some(Datum::Null) => Ok(None),
            Some(_) => Err(Self::wrong(name)),
        }
    }

    pub(crate) fn int(&self, name: &str) -> Result<i32, CodecError> {
        i32::try_from(self.long(name)?).map_err(|_| Self::wrong(name))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<bool, CodecError> {
        match self.get(name).map(|node| &node.datum) {
            Some(Datum::Boolean(value)) => Ok(*value),
            _ => Err(Self::wrong(name)),
        }
    }

    /// False when the writer did not know it.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, CodecError> {
        self.get(name).map_or(Ok(false), |_| self.boolean(name))
    }

    /// Empty when it is not there.
    pub(crate) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&'a Node<'a>) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        match self.get(name).map(|node| &node.datum) {
            Some(Datum::Array(items)) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.push(read(item)?);
                }
                Ok(list)
            }
            None | Some(Datum::Null) => Ok(Vec::new()),
            Some(_) => Err(Self::wrong(name)),
        }
    }

    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<T, CodecError> {
        self.text(name)?
            .parse()
            .map_err(|_| CodecError::field(name, "cannot be read"))
    }

    pub(crate) fn optional_parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, CodecError> {
        let text = self.optional_text(name)?;
        text.map(|text| text.parse().map_err(|_| CodecError::field(name, "cannot be read")))
            .transpose()
    }

    pub(crate) fn row(&self, name: &str) -> Result<RowKey, CodecError> {
        Ok(RowKey(self.text(name)?.to_owned()))
    }

    pub(crate) fn vector(&self, name: &str) -> Result<Vector, CodecError> {
        let entries = self.list(name, |node| {
            let entry = Fields::of(node)?;
            Ok((entry.text("source")?, entry.parsed::<Position>("position")?))
        })?;
        Ok(entries.into_iter().collect())
    }
}

impl Out<'_> {
    pub(crate) fn optional_shown(&mut self, value: Option<impl Display>) {
        self.branch(usize::from(value.is_some()));
        if let Some(value) = value {
            self.shown(value);
        }
    }

    pub(crate) fn vector(&mut self, vector: &Vector) {
        if !vector.is_empty() {
            self.length(vector.iter().count());
            for (source, position) in vector.iter() {
                self.text(source);
                self.shown(position);
            }
        }
        self.length(0);
    }

    fn fields(&mut self, fields: &[FieldValue]) {
        self.array(fields, |out, field| {
            out.text(&field.name);
            out.shown(&field.value);
        });
    }
}

/// Keeps the frame of every [`Wire`] implementation in one place: schema, writing, reading by name.
macro_rules! wire {
    ($record:ty, $schema:literal, $write:ident, $read:ident) => {
        impl Wire for $record {
            fn schema_json() -> &'static str {
                include_str!(concat!("../../avro/", $schema))
            }

            fn write(&self, datum: &mut Vec<u8>) {
                $write(self, &mut Out(datum));
            }

            fn decode(writer: &ParsedSchema, datum: &[u8]) -> Result<Self, CodecError> {
                $read(&Fields::of(&writer.read(datum)?)?)
            }
        }
    };
}

wire!(MappedRecord, "mapped.avsc", write_mapped, read_mapped);
wire!(Conflict, "conflict.avsc", write_conflict, read_conflict);
wire!(Decision, "decision.avsc", write_decision, read_decision);
wire!(IdentityWord, "identity.avsc", write_identity_word, read_identity_word);
wire!(Tick, "tick.avsc", write_tick, read_tick);
wire!(Action, "action.avsc", write_action, read_action);
wire!(MarkRecord, "mark.avsc", write_mark, read_mark);
wire!(PauseRecord, "pause.avsc", write_pause, read_pause);
wire!(Progress, "progress.avsc", write_progress, read_progress);
wire!(TableRecord, "table.avsc", write_table, read_table);
wire!(State, "state.avsc", write_state, read_state);
wire!(Crosswalk, "crosswalk.avsc", write_crosswalk, read_crosswalk);

fn write_mapped(record: &MappedRecord, out: &mut Out<'_>) {
    match record {
        MappedRecord::Said(said) => {
            out.branch(0);
            write_said(said, out);
        }
        MappedRecord::Loaded {
            link,
            partition,
            partitions,
        } => {
            out.branch(1);
            out.text(link);
            out.long(i64::from(*partition));
            out.long(i64::from(*partitions));
        }
        MappedRecord::Moved { cid, to, at } => {
            out.branch(2);
            out.text(cid);
            out.optional_text(to.as_deref());
            out.long(*at);
        }
        MappedRecord::Part {
            cid,
            of,
            at,
            format,
            state,
        } => {
            out.branch(3);
            out.text(cid);
            out.text(of);
            out.long(*at);
            out.long(i64::from(*format));
            out.optional_text(state.as_deref());
        }
        MappedRecord::Sighted { cid, row } => {
            out.branch(4);
            out.text(cid);
            out.text(row);
        }
        MappedRecord::Matched { cid, row, with } => {
            out.branch(5);
            out.text(cid);
            out.text(row);
            out.array(with, |out, (cid, at)| {
                out.text(cid);
                out.long(*at);
            });
        }
    }
}

fn write_said(said: &Mapped, out: &mut Out<'_>) {
    out.text(&said.cid);
    out.text(&said.source);
    out.shown(&said.row);
    out.optional_shown(said.was.as_ref());
    out.shown(said.position);
    out.long(said.commit_us);
    out.text(match said.op {
        RowOp::Present => "present",
        RowOp::Deleted => "deleted",
        RowOp::Seen => "seen",
    });
    out.fields(&said.fields);
    out.fields(&said.before);
    out.optional_shown(said.mark.as_ref().map(Mark::to_text));
    out.boolean(said.ahead);
}

fn read_mapped(fields: &Fields<'_>) -> Result<MappedRecord, CodecError> {
    let record = Fields::of(fields.get("record").ok_or_else(|| Fields::wrong("record"))?)?;
    match record.name() {
        "Said" => Ok(MappedRecord::Said(read_said(&record)?)),
        "Loaded" => Ok(MappedRecord::Loaded {
            link: record.text("link")?.to_owned(),
            partition: record.int("partition")?,
            partitions: record.int("partitions")?,
        }),
        "Moved" => Ok(MappedRecord::Moved {
            cid: record.text("cid")?.to_owned(),
            to: record.optional_text("to")?.map(str::to_owned),
            at: record.long("at")?,
        }),
        "Part" => Ok(MappedRecord::Part {
            cid: record.text("cid")?.to_owned(),
            of: record.text("of")?.to_owned(),
            at: record.long("at")?,
            format: record.int("format")?,
            state: record.optional_text("state")?.map(str::to_owned),
        }),
        "Sighted" => Ok(MappedRecord::Sighted {
            cid: record.text("cid")?.to_owned(),
            row: record.text("row")?.to_owned(),
        }),
        "Matched" => Ok(MappedRecord::Matched {
            cid: record.text("cid")?.to_owned(),
            row: record.text("row")?.to_owned(),
            with: record.list("with", |node| {
                let awaited = Fields::of(node)?;
                Ok((awaited.text("cid")?.to_owned(), awaited.long("at")?))
            })?,
        }),
        _ => Err(CodecError::field("record", "is of a kind this version does not know")),
    }
}

fn read_said(said: &Fields<'_>) -> Result<Mapped, CodecError> {
    let mark = said.optional_text("mark")?.map(Mark::from_text).transpose();
    Ok(Mapped {
        cid: said.text("cid")?.to_owned(),
        source: said.text("source")?.to_owned(),
        row: said.row("row")?,
        was: said.optional_text("was")?.map(|row| RowKey(row.to_owned())),
        position: said.parsed("position")?,
        commit_us: said.long("commit_us")?,
        op: match said.text("op")? {
            "present" => RowOp::Present,
            "deleted" => RowOp::Deleted,
            "seen" => RowOp::Seen,
            _ => return Err(CodecError::field("op", "is of a kind this version does not know")),
        },
        fields: said.list("fields", read_field_value)?,
        before: said.list("before", read_field_value)?,
        mark: mark.map_err(|_| CodecError::field("mark", "cannot be read"))?,
        ahead: said.flag("ahead")?,
    })
}

fn read_field_value(node: &Node<'_>) -> Result<FieldValue, CodecError> {
    let field = Fields::of(node)?;
    Ok(FieldValue {
        name: field.text("name")?.to_owned(),
        value: field.parsed("value")?,
    })
}

fn write_identity_word(word: &IdentityWord, out: &mut Out<'_>) {
    out.text(word.act.word());
    out.text(&word.loser);
    out.optional_text(word.winner.as_deref());
    out.text(&word.by);
    out.text(&word.why);
    out.long(word.at_us);
}

fn read_identity_word(word: &Fields<'_>) -> Result<IdentityWord, CodecError> {
    Ok(IdentityWord {
        act: match word.text("act")? {
            "merge" => IdentityAct::Merge,
            "split" => IdentityAct::Split,
            "reject" => IdentityAct::Reject,
            _ => return Err(CodecError::field("act", "is of a kind this version does not know")),
        },
        loser: word.text("loser")?.to_owned(),
        winner: word.optional_text("winner")?.map(str::to_owned),
        by: word.text("by")?.to_owned(),
        why: word.text("why")?.to_owned(),
        at_us: word.long("at_us")?,
    })
}

fn write_tick(tick: &Tick, out: &mut Out<'_>) {
    out.long(tick.at_us);
}

fn read_tick(tick: &Fields<'_>) -> Result<Tick, CodecError> {
    Ok(Tick {
        at_us: tick.long("at_us")?,
    })
}

fn write_conflict(conflict: &Conflict, out: &mut Out<'_>) {
    out.text(&conflict.id);
    out.text(&conflict.cid);
    out.text(&conflict.field);
    out.text(match conflict.status {
        Status::Open => "open",
        Status::Settled => "settled",
        Status::Closed => "closed",
    });
    out.optional_shown(conflict.base.as_ref());
    out.array(&conflict.candidates, |out, candidate| write_candidate(candidate, out));
    out.text(&conflict.strategy);
    out.text(&conflict.rule);
    out.shown(&conflict.outcome);
    out.optional_text(conflict.winner.as_deref());
    out.vector(&conflict.vector);
    out.text(&conflict.note);
    out.optional_long(conflict.expires_us);
}

fn write_candidate(candidate: &Candidate, out: &mut Out<'_>) {
    out.text(&candidate.source);
    out.shown(&candidate.row);
    out.optional_shown(candidate.value.as_ref());
    out.optional_shown(candidate.base.as_ref());
    out.shown(candidate.position);
    out.long(candidate.stamp_us);
    out.vector(&candidate.seen);
    out.boolean(candidate.initial);
}

fn read_conflict(conflict: &Fields<'_>) -> Result<Conflict, CodecError> {
    Ok(Conflict {
        id: conflict.text("id")?.to_owned(),
        cid: conflict.text("cid")?.to_owned(),
        field: conflict.text("field")?.to_owned(),
        status: match conflict.text("status")? {
            "open" => Status::Open,
            "settled" => Status::Settled,
            "closed" => Status::Closed,
            _ => return Err(CodecError::field("status", "is of a kind this version does not know")),
        },
        base: conflict.optional_parsed::<Value>("base")?,
        candidates: conflict.list("candidates", read_candidate)?,
        strategy: conflict.text("strategy")?.to_owned(),
        rule: conflict.text("rule")?.to_owned(),
        outcome: conflict.parsed("outcome")?,
        winner: conflict.optional_text("winner")?.map(str::to_owned),
        vector: conflict.vector("vector")?,
        note: conflict.text("note")?.to_owned(),
        expires_us: conflict.optional_long("expires_us")?,
    })
}

fn read_candidate(node: &Node<'_>) -> Result<Candidate, CodecError> {
    let candidate = Fields::of(node)?;
    Ok(Candidate {
        source: candidate.text("source")?.to_owned(),
        row: candidate.row("row")?,
        value: candidate.optional_parsed("value")?,
        base: candidate.optional_parsed("base")?,
        position: candidate.parsed("position")?,
        stamp_us: candidate.long("stamp_us")?,
        seen: candidate.vector("seen")?,
        initial: candidate.boolean("initial")?,
    })
}

fn write_decision(decision: &Decision, out: &mut Out<'_>) {
    out.text(&decision.cid);
    out.text(&decision.field);
    out.shown(&decision.value);
    out.vector(&decision.answers);
    out.text(&decision.by);
    out.text(&decision.why);
    out.long(decision.at_us);
    out.optional_long(decision.approves);
}

fn read_decision(decision: &Fields<'_>) -> Result<Decision, CodecError> {
    Ok(Decision {
        cid: decision.text("cid")?.to_owned(),
        field: decision.text("field")?.to_owned(),
        value: decision.parsed("value")?,
        answers: decision.vector("answers")?,
        by: decision.text("by")?.to_owned(),
        why: decision.text("why")?.to_owned(),
        at_us: decision.long("at_us")?,
        approves: decision.optional_long("approves")?,
    })
}

fn write_action(action: &Action, out: &mut Out<'_>) {
    out.text(action.kind.word());
    out.text(&action.subject);
    out.text(&action.concerns);
    out.text(&action.by);
    out.text(&action.why);
    out.long(action.at_us);
}

fn read_action(action: &Fields<'_>) -> Result<Action, CodecError> {
    Ok(Action {
        kind: match action.text("kind")? {
            "take" => ActionKind::Take,
            "release" => ActionKind::Release,
            "replay" => ActionKind::Replay,
            "drop" => ActionKind::Drop,
            _ => return Err(CodecError::field("kind", "is of a kind this version does not know")),
        },
        subject: action.text("subject")?.to_owned(),
        concerns: action.text("concerns")?.to_owned(),
        by: action.text("by")?.to_owned(),
        why: action.text("why")?.to_owned(),
        at_us: action.long("at_us")?,
    })
}

fn write_mark(record: &MarkRecord, out: &mut Out<'_>) {
    match record {
        MarkRecord::Placed(placed) => {
            out.branch(0);
            out.shown(placed.position);
            out.long(placed.commit_us);
            out.text(&placed.mark);
        }
        MarkRecord::Loaded { table, position } => {
            out.branch(1);
            out.text(table);
            out.shown(position);
        }
    }
}

fn read_mark(fields: &Fields<'_>) -> Result<MarkRecord, CodecError> {
    let record = Fields::of(fields.get("record").ok_or_else(|| Fields::wrong("record"))?)?;
    match record.name() {
        "Placed" => Ok(MarkRecord::Placed(PlacedMark {
            position: record.parsed("position")?,
            commit_us: record.long("commit_us")?,
            mark: record.text("mark")?.to_owned(),
        })),
        "Loaded" => Ok(MarkRecord::Loaded {
            table: record.text("table")?.to_owned(),
            position: record.parsed("position")?,
        }),
        _ => Err(CodecError::field("record", "is of a kind this version does not know")),
    }
}

fn write_pause(record: &PauseRecord, out: &mut Out<'_>) {
    match record {
        PauseRecord::Paused(paused) => {
            out.branch(0);
            out.text(&paused.source);
            out.text(&paused.guard);
            out.text(&paused.table);
            out.text(&paused.topic);
            out.long(i64::from(paused.partition));
            out.long(paused.offset);
            out.shown(paused.position);
            out.long(paused.commit_us);
            out.long(paused.changed);
            out.long(paused.rows);
            out.text(&paused.why);
        }
        PauseRecord::Resumed(resumed) => {
            out.branch(1);
            out.text(&resumed.source);
            out.array(&resumed.up_to, |out, end| {
                out.text(&end.topic);
                out.long(i64::from(end.partition));
                out.long(end.offset);
            });
            out.text(&resumed.by);
            out.text(&resumed.why);
            out.long(resumed.at_us);
        }
    }
}

fn read_pause(fields: &Fields<'_>) -> Result<PauseRecord, CodecError> {
    let record = Fields::of(fields.get("record").ok_or_else(|| Fields::wrong("record"))?)?;
    match record.name() {
        "Paused" => Ok(PauseRecord::Paused(Paused {
            source: record.text("source")?.to_owned(),
            guard: record.text("guard")?.to_owned(),
            table: record.text("table")?.to_owned(),
            topic: record.text("topic")?.to_owned(),
            partition: record.int("partition")?,
            offset: record.long("offset")?,
            position: record.parsed("position")?,
            commit_us: record.long("commit_us")?,
            changed: record.long("changed")?,
            rows: record.long("rows")?,
            why: record.text("why")?.to_owned(),
        })),
        "Resumed" => Ok(PauseRecord::Resumed(Resumed {
            source: record.text("source")?.to_owned(),
            up_to: record.list("up_to", read_end)?,
            by: record.text("by")?.to_owned(),
            why: record.text("why")?.to_owned(),
            at_us: record.long("at_us")?,
        })),
        _ => Err(CodecError::field("record", "is of a kind this version does not know")),
    }
}

fn read_end(node: &Node<'_>) -> Result<End, CodecError> {
    let end = Fields::of(node)?;
    Ok(End {
        topic: end.text("topic")?.to_owned(),
        partition: end.int("partition")?,
        offset: end.long("offset")?,
    })
}

fn write_progress(progress: &Progress, out: &mut Out<'_>) {
    out.shown(progress.position);
    out.text(&progress.system_identifier);
    out.long(i64::from(progress.timeline));
    out.text(&progress.slot);
    out.text(&progress.publication_hash);
    out.optional_shown(progress.consistent_point);
    out.array(&progress.tables, |out, table| {
        out.text(&table.table);
        let (state, done_to, rows) = match &table.state {
            SnapshotState::NotStarted => ("not_started", None, 0),
            SnapshotState::Started { done_to, rows } => ("started", done_to.as_deref(), *rows),
            SnapshotState::Done => ("done", None, 0),
        };
        out.text(state);
        out.optional_text(done_to);
        out.long(rows.cast_signed());
    });
    out.optional_text(progress.given_up.as_deref());
    out.optional_text(progress.agenda.as_deref());
    let ahead = progress
        .ahead
        .as_ref()
        .and_then(|ahead| serde_json::to_string(ahead).ok());
    out.optional_text(ahead.as_deref());
}

fn read_progress(progress: &Fields<'_>) -> Result<Progress, CodecError> {
    Ok(Progress {
        position: progress.parsed("position")?,
        system_identifier: progress.text("system_identifier")?.to_owned(),
        timeline: u32::try_from(progress.long("timeline")?).map_err(|_| Fields::wrong("timeline"))?,
        slot: progress.text("slot")?.to_owned(),
        publication_hash: progress.text("publication_hash")?.to_owned(),
        consistent_point: progress.optional_parsed("consistent_point")?,
        tables: progress.list("tables", read_table_progress)?,
        // Records from before these fields were there have none.
        given_up: later(progress, "given_up"),
        agenda: later(progress, "agenda"),
        ahead: later(progress, "ahead")
            .map(|text| serde_json::from_str(&text).map_err(|_| CodecError::field("ahead", "names no positions")))
            .transpose()?,
    })
}

/// A text that older records do not have.
fn later(progress: &Fields<'_>, name: &str) -> Option<String> {
    progress.optional_text(name).unwrap_or_default().map(str::to_owned)
}

fn read_table_progress(node: &Node<'_>) -> Result<TableProgress, CodecError> {
    let table = Fields::of(node)?;
    let state = match table.text("state")? {
        "not_started" => SnapshotState::NotStarted,
        "started" => SnapshotState::Started {
            done_to: table.optional_text("done_to")?.map(str::to_owned),
            rows: table.long("rows")?.cast_unsigned(),
        },
        "done" => SnapshotState::Done,
        _ => return Err(CodecError::field("state", "is of a kind this version does not know")),
    };
    Ok(TableProgress {
        table: table.text("table")?.to_owned(),
        state,
    })
}

fn write_table(table: &TableRecord, out: &mut Out<'_>) {
    out.text(&table.slot);
    out.text(&table.table);
    out.text(&table.facts);
    out.optional_text(table.needs_backfill.as_deref());
    out.optional_text(table.stopped.as_deref());
}

fn read_table(table: &Fields<'_>) -> Result<TableRecord, CodecError> {
    Ok(TableRecord {
        slot: table.text("slot")?.to_owned(),
        table: table.text("table")?.to_owned(),
        facts: table.text("facts")?.to_owned(),
        needs_backfill: table.optional_text("needs_backfill")?.map(str::to_owned),
        stopped: table.optional_text("stopped")?.map(str::to_owned),
    })
}

fn write_state(state: &State, out: &mut Out<'_>) {
    out.long(i64::from(state.format));
    out.text(&state.state);
    out.bytes(&state.packed);
}

fn read_state(state: &Fields<'_>) -> Result<State, CodecError> {
    Ok(State {
        format: state.int("format")?,
        state: state.text("state")?.to_owned(),
        packed: state.bytes("packed")?.to_owned(),
    })
}

fn write_crosswalk(crosswalk: &Crosswalk, out: &mut Out<'_>) {
    out.text(&crosswalk.cid);
    out.optional_shown(crosswalk.left_at);
    out.optional_shown(crosswalk.since);
    out.optional_long(crosswalk.known_ms);
}

fn read_crosswalk(crosswalk: &Fields<'_>) -> Result<Crosswalk, CodecError> {
    Ok(Crosswalk {
        cid: crosswalk.text("cid")?.to_owned(),
        left_at: crosswalk.optional_parsed("left_at")?,
        since: crosswalk.optional_parsed("since")?,
        known_ms: crosswalk.optional_long("known_ms")?,
    })
}
