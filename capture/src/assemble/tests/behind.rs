//! A table that waits, whenever it does and however often capture breaks off: in the end Kafka has what it would have had.

use proptest::prelude::*;
use syncline_schemas::progress::Progress;

use super::*;

const OTHER: u32 = 1001;

/// What becomes of capture after a message.
#[derive(Clone, Copy, Debug)]
struct Chance {
    commits: bool,
    waits: bool,
    breaks_off: bool,
}

/// What happens to one table or the other: an insert, an update of the key, a delete, or an update with a mark.
#[derive(Clone, Copy, Debug)]
struct Happening {
    other: bool,
    kind: u8,
}

fn messages(act: Happening, number: usize) -> Vec<Message> {
    let (id, new_id) = (format!("{number}"), format!("{}", number + 1000));
    let key = |id: &str| vec![text(id), TupleCell::Null, TupleCell::Null];
    let mut all = match act.kind {
        0 => vec![insert(row(&id, "1", text("a")))],
        1 => vec![update(OldTuple::Key(key(&id)), row(&new_id, "1", text("a")))],
        2 => vec![delete(OldTuple::Key(key(&id)))],
        _ => {
            let mark = mark(Some(&format!(r#"{{"id":{id}}}"#)), Act::Update);
            vec![mark, update(OldTuple::None, row(&id, "1", text("a")))]
        }
    };
    for message in &mut all {
        let relation = match message {
            Message::Insert(insert) => &mut insert.relation,
            Message::Update(update) => &mut update.relation,
            Message::Delete(delete) => &mut delete.relation,
            _ => continue,
        };
        *relation = if act.other { OTHER } else { OID };
    }
    all
}

/// The log: each transaction with the start of its commit record.
fn log(acts: &[Vec<Happening>]) -> Vec<(u64, Vec<Message>)> {
    let mut number = 0;
    let transaction = |(place, acts): (usize, &Vec<Happening>)| {
        let start = 0x1000 + 0x100 * place as u64;
        let mut all = vec![begin(start)];
        for act in acts {
            number += 1;
            all.extend(messages(*act, number));
        }
        all.push(commit(start, start + 0x40));
        (start, all)
    };
    acts.iter().enumerate().map(transaction).collect()
}

fn opened(progress: &Progress) -> Assembler {
    let mut assembler = Assembler::going_on(progress, Rules::default());
    let identity = ReplicaIdentity::Default;
    assembler.define(OID, Some(registered(&COLUMNS, &["id"], identity)));
    let info = fixture::info("u", &COLUMNS, &["id"], identity);
    assembler.define(OTHER, Some(registered_in(&Form::default(), &info)));
    assembler
}

/// A record: table, position, whether it is a tombstone, and its headers.
type Written = (String, Position, bool, String);

fn written(assembler: &Assembler) -> Vec<Written> {
    let records = assembler.records();
    let row = |entry: &Entry| {
        let said = format!("{:?} {:?} {:?}", entry.moved, entry.mark, records.slice(&entry.key));
        (
            entry.registered.table.full_name(),
            entry.position,
            entry.value.is_none(),
            said,
        )
    };
    let marks = records.marks.iter().map(|mark| {
        let MarkRecord::Placed(placed) = &mark.record else {
            panic!("a mark that the assembler does not make")
        };
        ("(marks)".to_owned(), placed.position, false, placed.mark.clone())
    });
    records.rows().iter().map(row).chain(marks).collect()
}

/// Reads the log to its end, by as many attempts as it takes; gives what is in Kafka. The slot is never confirmed beyond what is needed.
fn capture(log: &[(u64, Vec<Message>)], chances: &[Chance]) -> Vec<Written> {
    let mut progress = crate::start::tests::stored(0x100);
    let (mut kafka, mut confirmed, mut turn) = (Vec::new(), 0, 0);
    loop {
        let mut assembler = opened(&progress);
        let mut batch = Vec::new();
        // Chances come to their end; then the registry answers, and nothing breaks off.
        let mut broke_off = false;
        let from = progress.position.lsn.0.saturating_sub(1).max(confirmed);
        'read: for (_, transaction) in log.iter().filter(|(start, _)| *start >= from) {
            for message in transaction {
                let chance = chances.get(turn).copied();
                turn += 1;
                if chance.is_some_and(|chance| chance.waits) {
                    assembler.wait("public.t");
                }
                assembler.push(Lsn(0x900), message, 0).unwrap();
                batch.extend(written(&assembler));
                if chance.is_none_or(|chance| chance.commits) {
                    kafka.append(&mut batch);
                    progress.reach(assembler.position(), assembler.behind());
                    if !assembler.in_transaction() {
                        confirmed = confirmed.max(progress.confirmable().0);
                    }
                }
                if chance.is_some_and(|chance| chance.breaks_off) {
                    broke_off = true;
                    break 'read;
                }
            }
        }
        if broke_off {
            continue;
        }
        kafka.append(&mut batch);
        progress.reach(assembler.position(), assembler.behind());
        if !assembler.has_behind() {
            assert_eq!(progress.ahead, None);
            return kafka;
        }
    }
}

fn of_table(all: &[Written], table: &str) -> Vec<Written> {
    all.iter().filter(|(name, ..)| name == table).cloned().collect()
}

proptest! {
    #[test]
    fn each_change_is_written_once_and_in_its_order_whenever_its_table_waits(
        acts in prop::collection::vec(
            prop::collection::vec(
                (any::<bool>(), 0_u8..4).prop_map(|(other, kind)| Happening { other, kind }),
                0..6,
            ),
            1..6,
        ),
        chances in prop::collection::vec(
            (any::<bool>(), prop::bool::weighted(0.15), prop::bool::weighted(0.1))
                .prop_map(|(commits, waits, breaks_off)| Chance { commits, waits, breaks_off }),
            0..120,
        ),
    ) {
        let log = log(&acts);
        let wanted = capture(&log, &[]);
        let found = capture(&log, &chances);
        for table in ["public.t", "public.u", "(marks)"] {
            prop_assert_eq!(of_table(&found, table), of_table(&wanted, table));
        }
        prop_assert_eq!(found.len(), wanted.len());
    }
}
