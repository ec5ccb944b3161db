//! `wal_budget`, `failover_slot`, `on_poison`, `max_row_bytes`, `auto_backfill` and `slots` of a system.

use super::super::care::{self, AtLimit, Care, OnPoison, SlotGroup, WalBudget};
use super::super::yaml::{Content, Node};
use super::{Check, Keys, Map, settings};

const BUDGET: Keys = Keys {
    known: &["bytes", "at_limit"],
    later: &[],
};

/// What stands in `slots` for every table that no other group names.
const REST: &str = "*";

/// Name of the group's part of a slot: PostgreSQL cuts at 63.
const GROUP_CHARS_MAX: usize = 16;

const YES_NO: [(&str, bool); 2] = [("true", true), ("false", false)];

pub(super) fn read(check: &mut Check<'_>, map: &Map<'_>, context: &str) -> Care {
    let poison = [
        ("stop", OnPoison::Stop),
        ("stop_table", OnPoison::StopTable),
        ("dead_letter", OnPoison::DeadLetter),
    ];
    Care {
        wal_budget: map.get("wal_budget").and_then(|node| budget(check, node, context)),
        failover_slot: map
            .get("failover_slot")
            .and_then(|node| check.word(node, context, &YES_NO)),
        on_poison: map
            .get("on_poison")
            .and_then(|node| check.word(node, context, &poison))
            .unwrap_or_default(),
        row_bytes_max: map
            .get("max_row_bytes")
            .and_then(|node| size(check, node, context, care::row_bytes)),
        auto_backfill: map
            .get("auto_backfill")
            .and_then(|node| check.word(node, context, &YES_NO))
            .unwrap_or_default(),
        reread: Vec::new(),
        slots: map
            .get("slots")
            .map(|node| slots(check, node, &format!("{context}.slots")))
            .unwrap_or_default(),
    }
}

fn budget(check: &mut Check<'_>, node: &Node, context: &str) -> Option<WalBudget> {
    let context = format!("{context}.wal_budget");
    let map = check.map(node, &context, &BUDGET);
    let words = [("keep", AtLimit::Keep), ("drop", AtLimit::Drop)];
    let at_limit = map
        .get("at_limit")
        .and_then(|node| check.word(node, &context, &words))
        .unwrap_or_default();
    let Some(bytes) = map.get("bytes") else {
        check.missing(&map, &context, "bytes", "say how much: `wal_budget: { bytes: 20GiB }`");
        return None;
    };
    let bytes = size(check, bytes, &context, care::bytes)?;
    Some(WalBudget { bytes, at_limit })
}

fn size(check: &mut Check<'_>, node: &Node, context: &str, read: impl Fn(&str) -> Result<u64, String>) -> Option<u64> {
    let text = check.text(node, context)?;
    match read(&text) {
        Ok(bytes) => Some(bytes),
        Err(problem) => {
            check
                .report("H113", node.span, context, problem)
                .help("units are KiB, MiB, GiB and TiB");
            None
        }
    }
}

fn slots(check: &mut Check<'_>, node: &Node, context: &str) -> Vec<SlotGroup> {
    let mut groups: Vec<SlotGroup> = Vec::new();
    for (key, node) in check.entries(node, context).unwrap_or_default() {
        let fits = key.name.len() <= GROUP_CHARS_MAX
            && key
                .name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !fits {
            check
                .report(
                    "H114",
                    key.span,
                    context,
                    format!("`{}` cannot be the name of a group", key.name),
                )
                .why("it becomes a part of the name of its slot")
                .help(format!("use a-z, 0-9 and _, at most {GROUP_CHARS_MAX}"));
        }
        let group = group(check, &key.name, node, context);
        doubly_named(check, &groups, &group, node, context);
        groups.push(group);
    }
    groups
}

fn group(check: &mut Check<'_>, name: &str, node: &Node, context: &str) -> SlotGroup {
    let rest = matches!(&node.content, Content::Scalar(scalar) if scalar.text == REST);
    SlotGroup {
        name: name.to_owned(),
        tables: (!rest).then(|| settings::tables(check, node, context)),
    }
}

/// A table in two slots would have each of its changes twice in its topic.
fn doubly_named(check: &mut Check<'_>, groups: &[SlotGroup], group: &SlotGroup, node: &Node, context: &str) {
    let twice = groups.iter().find_map(|other| match (&other.tables, &group.tables) {
        (None, None) => Some("the rest".to_owned()),
        (Some(theirs), Some(ours)) => ours.iter().find(|table| theirs.contains(table)).cloned(),
        _ => None,
    });
    if let Some(table) = twice {
        check
            .report("H114", node.span, context, format!("{table} is in two groups"))
            .why("each of its changes would be written twice")
            .help("name it once");
    }
}
