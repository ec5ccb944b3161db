//! What the topics know of the records that an app wrote to in some time.
//!
//! The topic of what apps said is read twice: once for whose records they are, once for all that was said of those. Held
//! in memory is what belongs to them alone.

use std::collections::{BTreeMap, BTreeSet};

use syncline_bus::murmur2_partition;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::Wire;
use syncline_schemas::decision::Decision;
use syncline_schemas::mapped::{Mapped, RowOp};
use syncline_schemas::pipeline::Entity;
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::topic;

use super::past::Known;
use super::plan::Window;
use crate::desk::Desk;
use crate::topics;
use crate::verify::agreed;
use crate::why::gather::each_said;

/// More of what was said than this is not held in memory at once.
const SAID_MAX: usize = 1_000_000;

/// Entity id to what belongs to it.
pub type ById<T> = BTreeMap<String, Vec<T>>;

/// Gathers it for one entity, in the order of ids.
pub fn gather(desk: &mut Desk, entity: &Entity, window: &Window) -> Outcome<Vec<Known>> {
    let mut agreed = agreed(desk, entity)?;
    let mut wanted = written(desk, entity, window)?;
    let remembered = agreed.values().filter(|record| remembers(record, window));
    wanted.extend(remembered.map(|record| record.cid.clone()));
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut said = said(desk, entity, &wanted)?;
    let mut decisions = decisions(desk, entity, &wanted)?;
    let begins = topics::begins(&desk.bus, &topic::mapped(&desk.pipeline.name, &entity.name))?;
    let known = wanted.into_iter().map(|cid| Known {
        said: said.remove(&cid).unwrap_or_default(),
        decisions: decisions.remove(&cid).unwrap_or_default(),
        agreed: agreed.remove(&cid),
        whole: is_whole(&begins, &cid),
        cid,
    });
    Ok(known.collect())
}

/// Whether the partition of a record has lost nothing.
fn is_whole(begins: &[i64], cid: &str) -> bool {
    let partitions = i32::try_from(begins.len()).unwrap_or(i32::MAX);
    if partitions == 0 {
        return false;
    }
    let partition = usize::try_from(murmur2_partition(cid.as_bytes(), partitions));
    let first = partition.ok().and_then(|partition| begins.get(partition));
    first.is_some_and(|first| *first == 0)
}

/// Whether a word of that time is in the agreed record: the topic may have lost it.
fn remembers(record: &Canonical, window: &Window) -> bool {
    let words = record.app(&window.source).into_iter().flat_map(|app| &app.words);
    words.map(|word| word.stamp_us).any(|stamp_us| window.has(stamp_us))
}

/// The records that the app wrote to in that time.
fn written(desk: &mut Desk, entity: &Entity, window: &Window) -> Outcome<BTreeSet<String>> {
    let mut written = BTreeSet::new();
    each_said(desk, entity, |said| {
        if said.source == window.source && said.op != RowOp::Seen && window.has(said.commit_us) {
            written.insert(said.cid);
        }
        Ok(())
    })?;
    Ok(written)
}

fn said(desk: &mut Desk, entity: &Entity, wanted: &BTreeSet<String>) -> Outcome<ById<Mapped>> {
    let mut all = ById::new();
    let mut count = 0;
    each_said(desk, entity, |said| {
        if !wanted.contains(&said.cid) {
            return Ok(());
        }
        count += 1;
        if count > SAID_MAX {
            let message = format!("more than {SAID_MAX} things were said of the records that were written to");
            return Err(Failure::definite("UNDO_MANY", message).hint("undo a shorter time first: --from, --to"));
        }
        all.entry(said.cid.clone()).or_default().push(said);
        Ok(())
    })?;
    Ok(all)
}

/// What people have decided about these records until now.
pub fn decisions(desk: &mut Desk, entity: &Entity, wanted: &BTreeSet<String>) -> Outcome<ById<(Position, Decision)>> {
    let name = topic::decisions(&desk.pipeline.name, &entity.name);
    let mut all = ById::new();
    let bus = desk.bus.clone();
    topics::each(&bus, &name, |record| {
        let Some(value) = record.value else { return Ok(()) };
        let decision = desk.read(&name, &value, Decision::decode)?;
        if wanted.contains(&decision.cid) {
            let position = Position::new(0, Lsn(record.offset.cast_unsigned()), 0);
            all.entry(decision.cid.clone()).or_default().push((position, decision));
        }
        Ok(())
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_whole_if_its_own_partition_is() {
        let cid = "515208d8757b50b260aa22e1e0dc44d5";
        let partition = usize::try_from(murmur2_partition(cid.as_bytes(), 4)).unwrap();
        let mut begins = vec![7; 4];
        assert!(!is_whole(&begins, cid));
        begins[partition] = 0;
        assert!(is_whole(&begins, cid));
        assert!(!is_whole(&[], cid), "without a topic nothing is known");
    }
}
