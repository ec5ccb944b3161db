use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::assemble::Rules;
use crate::envelope::Registered;
use crate::form::Form;
use crate::postgres::pgoutput::{Begin, Commit, Delete, Insert, OldTuple, ReplicaIdentity, Tuple, TupleCell, Update};
use crate::table::fixture;

const OID: u32 = 1000;
const REST: Position = Position::new(1, Lsn(0x100), 0);
const FINAL: u64 = 0x1000;

/// A log that is at its end after these.
struct Log(VecDeque<Incoming>);

impl Source for Log {
    fn next(&mut self, _: Duration) -> Outcome<Option<Incoming>> {
        let end = Incoming::Idle { lsn: Lsn(0x2000) };
        Ok(Some(self.0.pop_front().unwrap_or(end)))
    }

    fn confirm(&self, _: Lsn) {}
}

fn row(id: &str) -> Tuple {
    vec![TupleCell::Text(Bytes::copy_from_slice(id.as_bytes()))]
}

fn insert() -> Message {
    Message::Insert(Insert {
        relation: OID,
        new: row("1"),
    })
}

fn delete() -> Message {
    Message::Delete(Delete {
        relation: OID,
        old: OldTuple::Key(row("1")),
    })
}

fn moved() -> Message {
    Message::Update(Update {
        relation: OID,
        old: OldTuple::Key(row("1")),
        new: row("2"),
    })
}

/// Where to begin after an offset of this LSN, the transaction having these changes.
fn begins(event: u64, changes: &[(u64, Message)]) -> Position {
    let begin = Message::Begin(Begin {
        final_lsn: Lsn(FINAL),
        commit_us: 5,
        xid: 7,
    });
    let commit = Message::Commit(Commit {
        commit_lsn: Lsn(FINAL),
        end_lsn: Lsn(FINAL + 0x40),
        commit_us: 5,
    });
    let changes = changes.iter().map(|(lsn, message)| (*lsn, message.clone()));
    let all = [(0x110, begin)].into_iter().chain(changes).chain([(FINAL, commit)]);
    let all = all.map(|(lsn, message)| Incoming::Log { lsn: Lsn(lsn), message });
    let info = fixture::info(
        "t",
        &[("id", "int4", -1, true, None)],
        &["id"],
        ReplicaIdentity::Default,
    );
    let table = fixture::table_in(&info, "shop", &Form::default());
    let registered = Registered::new(table, (Some(1), 2), &Form::default(), "shop", "db");
    let mut assembler = Assembler::new(REST, Rules::default());
    assembler.define(OID, Some(Arc::new(registered)));
    locate(&mut Log(all.collect()), assembler, REST, Lsn(event), &mut |_, _| Ok(())).unwrap()
}

fn after(number: u64) -> Position {
    Position::new(1, Lsn(FINAL + 1), number)
}

#[test]
fn a_change_that_is_one_record_is_in_kafka() {
    let changes = [(0x120, insert()), (0x130, insert()), (0x140, insert())];
    assert_eq!(begins(0x120, &changes), after(0));
    assert_eq!(begins(0x130, &changes), after(1));
    assert_eq!(begins(0x140, &changes), after(2));
}

#[test]
fn of_several_records_at_the_lsn_none_is_known_to_be_there() {
    for several in [delete(), moved()] {
        let changes = [(0x120, insert()), (0x130, several.clone()), (0x140, insert())];
        assert_eq!(begins(0x130, &changes), after(0), "{several:?}");
        assert_eq!(begins(0x120, &[(0x120, several)]), REST);
    }
    // The rows of one COPY.
    let changes = [
        (0x120, insert()),
        (0x130, insert()),
        (0x130, insert()),
        (0x140, insert()),
    ];
    assert_eq!(begins(0x130, &changes), after(0));
}

#[test]
fn an_lsn_that_is_not_found_means_the_whole_transaction() {
    assert_eq!(begins(0x128, &[(0x120, insert()), (0x130, insert())]), REST);
    assert_eq!(begins(0x110, &[]), REST);
}

#[test]
fn a_log_without_a_next_transaction_is_at_rest() {
    let assembler = Assembler::new(REST, Rules::default());
    let place = locate(&mut Log(VecDeque::new()), assembler, REST, Lsn(0x120), &mut |_, _| {
        Ok(())
    });
    assert_eq!(place.unwrap(), REST);
}
