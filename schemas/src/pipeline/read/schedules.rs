//! `mode` of a link and `maintenance` of a system: when something is written.

use std::collections::BTreeSet;

use super::super::mode::Mode;
use super::super::model::Link;
use super::super::yaml::{Content, Node};
use super::settings::{duration_ms, millis};
use super::{Check, Keys, Map, nearest, suggestion};
use crate::schedule::{self, Cron, LocalTimes, Schedule, Window};

/// The zone of whoever names none.
pub(super) const ZONE_DEFAULT: &str = "UTC";

const MODE: Keys = Keys {
    known: &["batch", "every", "live", "rest", "timezone"],
    later: &[],
};

const WINDOW: Keys = Keys {
    known: &["cron", "for", "timezone"],
    later: &[],
};

/// What stands before the period in `rest`.
const EVERY: &str = "every ";

/// A shorter period is no batch.
const PERIOD_MS_MIN: i64 = 1_000;

const FORMS: &str =
    "write `live`, `{ batch: \"30 1 * * *\" }`, `{ every: 30m }`, or `{ live: [FIELD], rest: every 30m }`";

/// The IANA name of a zone; reported if there is none of that name.
pub(super) fn zone_name(check: &mut Check<'_>, node: &Node, context: &str) -> Option<String> {
    let name = check.text(node, context)?;
    if schedule::zone(&name).is_some() {
        return Some(name);
    }
    let names = schedule::zone_names();
    let help = match nearest(&name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write an IANA name: Europe/London, America/New_York, UTC".to_owned(),
    };
    let title = format!("there is no time zone `{}`", node.shown());
    check.report("H341", node.span, context, title).help(help);
    None
}

/// `mode` of `link`, all of whose fields have been read. `default_zone` is that of the file.
pub(super) fn mode(check: &mut Check<'_>, node: &Node, context: &str, link: &Link, default_zone: &str) -> Mode {
    if !link.writes() {
        let title = "the link writes nothing, so there is nothing to be written at a time";
        check
            .report("H344", node.span, context, title)
            .help("remove `mode`, or make the link `<-` or `<->`");
        return Mode::Live;
    }
    match &node.content {
        Content::Map(_) => read_mode(check, node, context, link, default_zone).unwrap_or_default(),
        _ => check.word(node, context, &[("live", Mode::Live)]).unwrap_or_default(),
    }
}

fn read_mode(check: &mut Check<'_>, node: &Node, context: &str, link: &Link, default_zone: &str) -> Option<Mode> {
    let map = check.map(node, context, &MODE);
    let zone = zone_of(check, &map, context, default_zone);
    match (map.get("batch"), map.get("every"), map.get("live"), map.get("rest")) {
        (Some(cron), None, None, None) => Some(Mode::Batch(local_times(check, cron, context, &zone)?)),
        (None, Some(period), None, None) => {
            let period_ms = duration_ms(check, period, context)?;
            every(check, period, context, period_ms).map(Mode::Batch)
        }
        (None, None, Some(live), Some(rest)) => {
            let live = live_fields(check, live, context, link);
            let rest = rest_of(check, rest, context, &zone);
            Some(Mode::Hybrid {
                live: live?,
                rest: rest?,
            })
        }
        _ => {
            let title = "it does not say when the link is written";
            check.report("H111", node.span, context, title).help(FORMS);
            None
        }
    }
}

fn zone_of(check: &mut Check<'_>, map: &Map<'_>, context: &str, default_zone: &str) -> String {
    let named = map.get("timezone").and_then(|node| zone_name(check, node, context));
    named.unwrap_or_else(|| default_zone.to_owned())
}

fn local_times(check: &mut Check<'_>, node: &Node, context: &str, zone: &str) -> Option<Schedule> {
    times(check, node, context, zone).map(Schedule::At)
}

fn times(check: &mut Check<'_>, node: &Node, context: &str, zone: &str) -> Option<LocalTimes> {
    let text = check.text(node, context)?;
    match Cron::parse(&text) {
        Ok(cron) => Some(LocalTimes {
            cron,
            // A zone of the file that is none has been reported.
            zone: schedule::zone(zone).or_else(|| schedule::zone(ZONE_DEFAULT))?,
        }),
        Err(wrong) => {
            let title = format!("`{}` names no times", node.shown());
            check
                .report("H340", node.span, context, title)
                .found(wrong)
                .help("write `minute hour day month weekday`: \"30 1 * * *\" is half past one every night");
            None
        }
    }
}

fn every(check: &mut Check<'_>, node: &Node, context: &str, period_ms: i64) -> Option<Schedule> {
    if period_ms < PERIOD_MS_MIN {
        let title = format!("`{}` is too short a period", node.shown());
        check
            .report("H340", node.span, context, title)
            .help("a second is the shortest; what is to be written at once is `live`");
        return None;
    }
    Some(Schedule::Every { period_ms })
}

/// `every 30m`, or the five fields of cron.
fn rest_of(check: &mut Check<'_>, node: &Node, context: &str, zone: &str) -> Option<Schedule> {
    let text = check.text(node, context)?;
    let Some(period) = text.trim().strip_prefix(EVERY) else {
        return local_times(check, node, context, zone);
    };
    match millis(period.trim()) {
        Some(period_ms) => every(check, node, context, period_ms),
        None => {
            let title = format!("`{}` names no period", node.shown());
            check
                .report("H340", node.span, context, title)
                .help("write `every 30m`, with s, m or h");
            None
        }
    }
}

/// Fields that the link writes, and not all of them; of a group all or none.
fn live_fields(check: &mut Check<'_>, node: &Node, context: &str, link: &Link) -> Option<BTreeSet<String>> {
    let written = || link.fields.iter().filter(|field| field.writes());
    let mut live = BTreeSet::new();
    let mut sound = true;
    for (name, node) in check.texts(node, context) {
        if !written().any(|field| field.field == name) {
            let title = format!("the link does not write `{name}`, so it is not live");
            let help = suggestion(&name, written().map(|field| field.field.as_str()));
            check.report("H342", node.span, context, title).help(help);
            sound = false;
        }
        live.insert(name);
    }
    sound &= !live.is_empty();
    let is_live = |field: &str| live.contains(field);
    if sound && written().all(|field| is_live(&field.field)) {
        check
            .report(
                "H342",
                node.span,
                context,
                "all fields are live: nothing is left for `rest`",
            )
            .help("write `mode: live`");
        return None;
    }
    let divided = written().find(|field| {
        let others = written().filter(|other| other.group.is_some() && other.group == field.group);
        is_live(&field.field) && others.into_iter().any(|other| !is_live(&other.field))
    });
    if let Some((field, group)) = divided.and_then(|field| Some((&field.field, field.group.as_ref()?))) {
        check
            .report(
                "H343",
                node.span,
                context,
                format!("`live` has only a part of the group `{group}`"),
            )
            .found(format!("`{field}` is live, not all of its group is"))
            .why("the fields of a group are written together")
            .help(format!("name all fields of `{group}`, or none"));
        return None;
    }
    sound.then_some(live)
}

/// `maintenance` of a system.
pub(super) fn window(check: &mut Check<'_>, node: &Node, context: &str, default_zone: &str) -> Option<Window> {
    let context = format!("{context}.maintenance");
    let map = check.map(node, &context, &WINDOW);
    let zone = zone_of(check, &map, &context, default_zone);
    let opens = match map.get("cron") {
        Some(node) => times(check, node, &context, &zone),
        None => {
            let help = "say when it begins: `{ cron: \"0 2 * * SUN\", for: 3h }`";
            check.missing(&map, &context, "cron", help);
            None
        }
    };
    let length = match map.get("for") {
        Some(node) => length(check, node, &context),
        None => {
            check.missing(&map, &context, "for", "say how long it lasts: `for: 3h`");
            None
        }
    };
    opens.zip(length).map(|(opens, for_ms)| Window { opens, for_ms })
}

fn length(check: &mut Check<'_>, node: &Node, context: &str) -> Option<i64> {
    let length = duration_ms(check, node, context)?;
    if length < PERIOD_MS_MIN {
        let title = format!("`{}` is too short", node.shown());
        check
            .report("H340", node.span, context, title)
            .help("a second is the shortest");
        return None;
    }
    Some(length)
}
