//! `guards: { mass_change: { over: 5% in 10m, at_least: 100, then: pause }, stale_restore: pause }`

use super::super::guards::{Burst, Guards, Over};
use super::super::yaml::{Content, Node};
use super::settings::millis;
use super::{Check, Keys, Map};

const GUARDS: Keys = Keys {
    known: &["mass_change", "stale_restore"],
    later: &[],
};

const BURST: Keys = Keys {
    known: &["over", "at_least", "then"],
    later: &[],
};

const PAUSE: [(&str, ()); 1] = [("pause", ())];

/// Digits behind the point of a percentage.
const DIGITS_MAX: usize = 4;

/// Reads `guards`.
pub(in super::super) fn read(check: &mut Check<'_>, root: &Map<'_>) -> Guards {
    let Some(node) = root.get("guards") else {
        return Guards::default();
    };
    let map = check.map(node, "guards", &GUARDS);
    let mut burst = |key: &str, default: Burst| {
        let node = map.get(key)?;
        burst(check, node, &format!("guards.{key}"), default)
    };
    Guards {
        mass_change: burst("mass_change", Burst::MASS_CHANGE),
        stale_restore: burst("stale_restore", Burst::STALE_RESTORE),
    }
}

/// `pause`, or when to.
fn burst(check: &mut Check<'_>, node: &Node, context: &str, default: Burst) -> Option<Burst> {
    if !matches!(node.content, Content::Map(_)) {
        return check.word(node, context, &PAUSE).map(|()| default);
    }
    let map = check.map(node, context, &BURST);
    if let Some(node) = map.get("then") {
        check.word(node, context, &PAUSE)?;
    }
    let mut burst = default;
    if let Some(node) = map.get("over") {
        let scalar = check.scalar(node, context)?;
        match over(&scalar.text) {
            Some((over, within_us)) => (burst.over, burst.within_us) = (over, within_us),
            None => {
                let title = format!("`{}` is no number of rows in some time", scalar.raw);
                check.report("H113", node.span, context, title).help(
                    "write a share of the table or a number of rows, and how long: `5% in 10m`, `20000 rows in 10m`",
                );
            }
        }
    }
    if let Some(node) = map.get("at_least") {
        let scalar = check.scalar(node, context)?;
        match scalar.text.parse() {
            Ok(rows) => burst.at_least = rows,
            Err(_) => {
                let title = format!("`{}` is no number of rows", scalar.raw);
                check
                    .report("H113", node.span, context, title)
                    .help("write a whole number: the rows of a small table that may change at any time");
            }
        }
    }
    Some(burst)
}

/// `5% in 10m`, `20000 rows in 10m`: how much, and within how many microseconds.
fn over(text: &str) -> Option<(Over, i64)> {
    let (amount, within) = text.split_once(" in ")?;
    let within_us = millis(within.trim())?.checked_mul(1_000).filter(|us| *us > 0)?;
    let amount = amount.trim();
    let over = match amount.strip_suffix('%') {
        Some(percent) => Over::Share(millionths(percent.trim())?),
        None => Over::Rows(amount.strip_suffix("rows")?.trim().parse().ok()?),
    };
    Some((over, within_us))
}

/// A percentage in millionths: 0.2 is 2,000.
fn millionths(percent: &str) -> Option<u64> {
    let (whole, rest) = percent.split_once('.').unwrap_or((percent, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || rest.len() > DIGITS_MAX || !digits(whole) || !digits(rest) {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= 100)?;
    let rest: u64 = format!("{rest:0<DIGITS_MAX$}").parse().ok()?;
    Some(whole * 10_000 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_numbers_in_some_time() {
        assert_eq!(over("5% in 10m"), Some((Over::Share(50_000), 600_000_000)));
        assert_eq!(over("0.25 % in 1h"), Some((Over::Share(2_500), 3_600_000_000)));
        assert_eq!(over("20000 rows in 500ms"), Some((Over::Rows(20_000), 500_000)));
        for wrong in [
            "5%",
            "5 in 10m",
            "x% in 10m",
            "5% in 10",
            "101% in 1m",
            "0.00001% in 1m",
            "5% in 0s",
        ] {
            assert_eq!(over(wrong), None, "{wrong}");
        }
    }
}
