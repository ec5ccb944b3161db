//! The setters of the table: one property each. What a value may be is what Debezium takes, letter case aside.

use std::fmt::Display;
use std::str::FromStr;

use crate::config::{PublicationMode, Reach};
use crate::form::{Binaries, Decimals, Hstores, Intervals, Names, Operation, Times};

use super::draft::Draft;
use super::table::Given;

mod snapshots;

pub(super) use snapshots::*;

type Set = Result<(), String>;

/// One of a closed list of words.
pub(super) fn word<T: Clone>(given: &Given<'_>, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(given.value));
    found.map(|(_, meaning)| meaning.clone()).ok_or_else(|| {
        let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("{:?} is not possible; one of {}", given.value, list.join(", "))
    })
}

/// `true` or `false`.
pub(super) fn flag(given: &Given<'_>) -> Result<bool, String> {
    word(given, &[("true", true), ("false", false)])
}

/// A number from `min` to `max`.
pub(super) fn number<T: FromStr + PartialOrd + Display>(given: &Given<'_>, min: T, max: T) -> Result<T, String> {
    let number = given
        .value
        .parse()
        .ok()
        .filter(|number| *number >= min && *number <= max);
    number.ok_or_else(|| format!("{:?} is no number from {min} to {max}", given.value))
}

/// A text that is not empty.
pub(super) fn text(given: &Given<'_>) -> Result<String, String> {
    match given.value {
        "" => Err("a value is missing".to_owned()),
        value => Ok(value.to_owned()),
    }
}

/// The entries of a list with commas; blanks around them do not count.
pub(super) fn list(given: &Given<'_>) -> Vec<String> {
    let entries = given.value.split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

/// For a property that was carried out before the table is asked.
pub(super) fn nothing(_: &mut Draft, _: &Given<'_>) -> Set {
    Ok(())
}

// ---- what records look like ----

pub(super) fn decimals(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [
        ("precise", Decimals::Precise),
        ("double", Decimals::Double),
        ("string", Decimals::String),
    ];
    word(given, &words).map(|meant| draft.source.form.decimals = meant)
}

pub(super) fn times(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [
        ("adaptive", Times::Adaptive),
        ("adaptive_time_microseconds", Times::AdaptiveTimeMicroseconds),
        ("connect", Times::Connect),
        ("isostring", Times::IsoString),
        ("microseconds", Times::Microseconds),
        ("nanoseconds", Times::Nanoseconds),
    ];
    word(given, &words).map(|meant| draft.source.form.times = meant)
}

pub(super) fn intervals(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [("numeric", Intervals::Numeric), ("string", Intervals::String)];
    word(given, &words).map(|meant| draft.source.form.intervals = meant)
}

pub(super) fn hstores(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [("json", Hstores::Json), ("map", Hstores::Map)];
    word(given, &words).map(|meant| draft.source.form.hstores = meant)
}

pub(super) fn binaries(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [
        ("bytes", Binaries::Bytes),
        ("base64", Binaries::Base64),
        ("base64-url-safe", Binaries::Base64UrlSafe),
        ("hex", Binaries::Hex),
    ];
    word(given, &words).map(|meant| draft.source.form.binaries = meant)
}

pub(super) fn money_fraction_digits(draft: &mut Draft, given: &Given<'_>) -> Set {
    number(given, 0, 19).map(|digits| draft.source.form.money_fraction_digits = digits)
}

pub(super) fn unavailable(draft: &mut Draft, given: &Given<'_>) -> Set {
    let bytes = match given.value.strip_prefix("hex:") {
        Some(digits) => hex(digits).ok_or("after hex: pairs of hexadecimal digits are expected")?,
        None => text(given)?.into_bytes(),
    };
    draft.source.form.unavailable = bytes;
    Ok(())
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = digits
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    (digits.len().is_multiple_of(2) && !digits.is_empty())
        .then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

pub(super) fn unknown_types(draft: &mut Draft, given: &Given<'_>) -> Set {
    flag(given).map(|on| draft.source.form.unknown_types = on)
}

const NAMES: [(&str, Names); 3] = [
    ("none", Names::None),
    ("avro", Names::Avro),
    ("avro_unicode", Names::AvroUnicode),
];

pub(super) fn schema_names(draft: &mut Draft, given: &Given<'_>) -> Set {
    word(given, &NAMES).map(|meant| draft.source.form.schema_names = meant)
}

pub(super) fn field_names(draft: &mut Draft, given: &Given<'_>) -> Set {
    word(given, &NAMES).map(|meant| draft.source.form.field_names = meant)
}

pub(super) fn tombstones(draft: &mut Draft, given: &Given<'_>) -> Set {
    flag(given).map(|on| draft.source.form.tombstones = on)
}

pub(super) fn failover(draft: &mut Draft, given: &Given<'_>) -> Set {
    flag(given).map(|on| draft.source.care.failover_slot = Some(on))
}

pub(super) fn extended_headers(draft: &mut Draft, given: &Given<'_>) -> Set {
    flag(given).map(|on| draft.source.form.extended_headers = on)
}

pub(super) fn topic_delimiter(draft: &mut Draft, given: &Given<'_>) -> Set {
    topic_name(given).map(|delimiter| draft.source.form.topics.delimiter = delimiter)
}

/// A name of characters that Kafka allows in topics.
fn topic_name(given: &Given<'_>) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text(given)?;
    match given.value.chars().all(fits) {
        true => Ok(given.value.to_owned()),
        false => Err("letters, digits, `.`, `_` and `-` are expected".to_owned()),
    }
}

pub(super) fn topic_transaction(draft: &mut Draft, given: &Given<'_>) -> Set {
    topic_name(given).map(|name| draft.source.form.topics.transaction = name)
}

pub(super) fn heartbeat_prefix(draft: &mut Draft, given: &Given<'_>) -> Set {
    topic_name(given).map(|prefix| draft.source.form.topics.heartbeat_prefix = prefix)
}

pub(super) fn heartbeat_name(draft: &mut Draft, given: &Given<'_>) -> Set {
    topic_name(given).map(|name| draft.source.form.topics.heartbeat_name = Some(name))
}

/// 0 is none at all.
pub(super) fn heartbeat_interval(draft: &mut Draft, given: &Given<'_>) -> Set {
    let interval_ms = number(given, 0, u64::from(u32::MAX))?;
    draft.source.form.heartbeat.interval_ms = interval_ms;
    Ok(())
}

/// Runs with each heartbeat; without an interval it never does, as in Debezium.
pub(super) fn heartbeat_action(draft: &mut Draft, given: &Given<'_>) -> Set {
    text(given).map(|action| draft.source.form.heartbeat.action = Some(action))
}

pub(super) fn transactions(draft: &mut Draft, given: &Given<'_>) -> Set {
    flag(given).map(|on| draft.source.form.transactions = on)
}

/// The lists of tables, columns and messages, and what is done to columns.
pub(super) fn selection(draft: &mut Draft, given: &Given<'_>) -> Set {
    let taken = draft.source.form.selection.set(given.name, given.value);
    taken
        .map(drop)
        .map_err(|error| format!("{}; {}", error.cause, error.remedy))
}

pub(super) fn unchanged(draft: &mut Draft, given: &Given<'_>) -> Set {
    flag(given).map(|on| draft.source.form.unchanged_skipped = on)
}

pub(super) fn skipped_operations(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [
        ("c", Some(Operation::Create)),
        ("u", Some(Operation::Update)),
        ("d", Some(Operation::Delete)),
        ("t", Some(Operation::Truncate)),
        ("none", None),
    ];
    let each = list(given);
    let meant = each.iter().map(|entry| word(&Given { value: entry, ..*given }, &words));
    draft.source.form.skipped = meant.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    Ok(())
}

// ---- the database ----

fn connect(draft: &mut Draft, word: &str, given: &Given<'_>) -> Set {
    text(given).map(|value| {
        draft.connection.insert(word.to_owned(), value);
    })
}

pub(super) fn hostname(draft: &mut Draft, given: &Given<'_>) -> Set {
    connect(draft, "host", given)
}

pub(super) fn port(draft: &mut Draft, given: &Given<'_>) -> Set {
    number(given, 1, u16::MAX)?;
    connect(draft, "port", given)
}

pub(super) fn user(draft: &mut Draft, given: &Given<'_>) -> Set {
    connect(draft, "user", given)
}

/// May be empty: with `trust` or a certificate none is needed.
pub(super) fn password(draft: &mut Draft, given: &Given<'_>) -> Set {
    if !given.value.is_empty() {
        draft.connection.insert("password".to_owned(), given.value.to_owned());
    }
    Ok(())
}

pub(super) fn dbname(draft: &mut Draft, given: &Given<'_>) -> Set {
    connect(draft, "dbname", given)
}

pub(super) fn sslmode(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"].map(|word| (word, word));
    let mode = word(given, &words)?;
    draft.connection.insert("sslmode".to_owned(), mode.to_owned());
    Ok(())
}

pub(super) fn sslcert(draft: &mut Draft, given: &Given<'_>) -> Set {
    connect(draft, "sslcert", given)
}

/// The Java driver reads PKCS-8 DER (`.pk8`) and PKCS-12; we read PEM.
pub(super) fn sslkey(draft: &mut Draft, given: &Given<'_>) -> Set {
    let lower = given.value.to_ascii_lowercase();
    if [".pk8", ".p12", ".pfx", ".der"].iter().any(|end| lower.ends_with(end)) {
        return Err(format!(
            "{} is in a form that only Java's driver reads; write it as PEM (openssl pkcs8 -inform DER -nocrypt -in KEY.pk8 -out KEY.pem) and name that",
            given.value
        ));
    }
    connect(draft, "sslkey", given)
}

pub(super) fn sslrootcert(draft: &mut Draft, given: &Given<'_>) -> Set {
    connect(draft, "sslrootcert", given)
}

// ---- the log ----

pub(super) fn prefix(draft: &mut Draft, given: &Given<'_>) -> Set {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if given.value.is_empty() || !given.value.chars().all(fits) {
        return Err("letters, digits, `.`, `_` and `-` are expected".to_owned());
    }
    given.value.clone_into(&mut draft.source.prefix);
    Ok(())
}

pub(super) fn plugin(_: &mut Draft, given: &Given<'_>) -> Set {
    match given.value {
        "pgoutput" => Ok(()),
        other => Err(format!(
            "{other:?} is not read here, only pgoutput; set plugin.name=pgoutput in Debezium first, with a new slot, and let it catch up"
        )),
    }
}

pub(super) fn slot(draft: &mut Draft, given: &Given<'_>) -> Set {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if given.value.is_empty() || given.value.len() > 63 || !given.value.chars().all(fits) {
        return Err("PostgreSQL allows up to 63 of a-z, 0-9 and _ in the name of a slot".to_owned());
    }
    given.value.clone_into(&mut draft.source.slot);
    Ok(())
}

pub(super) fn publication(draft: &mut Draft, given: &Given<'_>) -> Set {
    text(given).map(|name| draft.source.publication = name)
}

pub(super) fn publication_mode(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [
        ("all_tables", PublicationMode::AllTables),
        ("filtered", PublicationMode::Filtered),
        ("disabled", PublicationMode::Disabled),
        ("no_tables", PublicationMode::Disabled),
    ];
    let meant = word(given, &words)?;
    if given.value.eq_ignore_ascii_case("no_tables") {
        return Err(
            "a publication without tables is made by hand: CREATE PUBLICATION NAME; then set publication.autocreate.mode=disabled"
                .to_owned(),
        );
    }
    draft.source.publication_mode = meant;
    Ok(())
}

pub(super) fn via_partition_root(draft: &mut Draft, given: &Given<'_>) -> Set {
    flag(given).map(|via_root| draft.source.reach = Reach::Published { via_root })
}

/// Both of Debezium's automatic ways are one here: the slot follows Kafka, also while nothing changes.
pub(super) fn flush_mode(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [
        ("connector", Some(false)),
        ("connector_and_driver", Some(true)),
        ("manual", None),
    ];
    match word(given, &words)? {
        Some(driver) => {
            draft.source.driver_flushes = driver;
            Ok(())
        }
        None => Err("the slot is always told what is in Kafka, or else the source's disk fills; remove it".to_owned()),
    }
}

// ---- Connect ----

pub(super) fn name(draft: &mut Draft, given: &Given<'_>) -> Set {
    text(given).map(|name| draft.source.connector = Some(name))
}

pub(super) fn class(_: &mut Draft, given: &Given<'_>) -> Set {
    match given
        .value
        .starts_with("io.debezium.connector.postgresql.PostgresConnector")
    {
        true => Ok(()),
        false => Err(format!(
            "{} is not Debezium's PostgreSQL connector (io.debezium.connector.postgresql.PostgresConnector); only that one is replaced here",
            given.value
        )),
    }
}
