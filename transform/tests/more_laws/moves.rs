//! Rows that go on under other keys, whose partitions are read in any order.

use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::pipeline::{DeletePolicy, Strategy};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::value::Value;
use syncline_transform::merge::{EntityState, resolve};

use crate::model::{CID, Dice, entity};
use crate::scaled;

/// One row's life: edits, and changes of its key. Each key's records stand in the partition of that key, and are read
/// in order there; partitions in any order, and again from where a process that was killed had begun.
#[test]
fn a_row_that_moves_speaks_through_its_last_key_alone() {
    let entity = entity(&[("name", Strategy::Latest)], DeletePolicy::UpdateWins);
    for seed in 0..scaled(2_000) {
        let dice = &mut Dice::new(seed);
        let partitions = life(dice);
        let (last, name) = partitions
            .iter()
            .flatten()
            .max_by_key(|said| said.position)
            .map(last)
            .unwrap();
        let mut state = EntityState::default();
        let mut next = vec![0; partitions.len()];
        while (0..next.len()).any(|partition| next[partition] < partitions[partition].len()) {
            let partition = dice.below(next.len());
            if let Some(said) = partitions[partition].get(next[partition]) {
                state.join(said, &entity);
                next[partition] += 1;
            }
            if next[partition] > 0 && dice.below(4) == 0 {
                next[partition] -= dice.below(next[partition].min(3) + 1);
            }
            let kept = EntityState::from_bytes(&state.to_bytes());
            assert_eq!(kept.as_ref(), Ok(&state));
        }
        let resolved = resolve(CID, &state, &entity, &["shop".to_owned()]);
        assert!(resolved.conflicts.is_empty(), "seed {seed}: {:?}", resolved.conflicts);
        let record = resolved.canonical.unwrap();
        assert_eq!(record.app("shop").unwrap().row, last, "seed {seed}");
        assert_eq!(record.fields["name"], name, "seed {seed}");
    }
}

fn last(said: &Mapped) -> (RowKey, Value) {
    (said.row.clone(), said.fields[0].value.clone())
}

/// The records of a row by partition, as map says them. A key that was left may be the row's once more.
fn life(dice: &mut Dice) -> Vec<Vec<Mapped>> {
    let mut partitions = vec![Vec::new(); 2 + dice.below(2)];
    let mut key = 0;
    let count = partitions.len();
    let row = |key: usize| RowKey(format!("{{\"id\":{key}}}"));
    let mut say = |key: usize, at: (u64, u64), op: RowOp, to: RowKey, was: Option<RowKey>| {
        let name = FieldValue {
            name: "name".to_owned(),
            value: Value::text(format!("v{}", at.0)),
        };
        partitions[key % count].push(Mapped {
            cid: CID.to_owned(),
            source: "shop".to_owned(),
            row: to,
            was,
            position: Position::new(1, Lsn(at.0), at.1),
            commit_us: i64::try_from(at.0).unwrap(),
            op,
            fields: if op == RowOp::Present { vec![name] } else { Vec::new() },
            before: Vec::new(),
            mark: None,
            ahead: false,
        });
    };
    say(key, (10, 0), RowOp::Present, row(key), None);
    for lsn in 11..12 + u64::try_from(dice.below(6)).unwrap() {
        if dice.below(2) == 0 {
            say(key, (lsn, 0), RowOp::Present, row(key), None);
            continue;
        }
        let to = (key + 1 + dice.below(4)) % 5;
        say(key, (lsn, 0), RowOp::Seen, row(to), Some(row(key)));
        say(to, (lsn, 1), RowOp::Present, row(to), Some(row(key)));
        key = to;
    }
    partitions
}
