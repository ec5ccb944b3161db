//! What an error of PostgreSQL means for a batch, and what may be said of it.
//!
//! Three answers. The data is refused: poison, and only the record is set aside. The table is not as the pipeline file
//! says: nothing can be written to it until a person changes one of the two, so the target waits; a thousand dead letters
//! would help nobody. Everything else is the state of the server and passes: the target waits and says why.
//!
//! A message may quote values, `DETAIL` always does. Only messages of classes known to name nothing but tables, columns and
//! constraints are repeated.

use syncline_runtime::{Class, Failure};
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::target::TOO_SLOW;

/// Code of a failure that ends when table, link and grants agree.
pub const SCHEMA: &str = "TARGET_SCHEMA";

/// Messages of refusals that quote no value. (That of a number out of range does.)
const SAFE_REFUSALS: [&str; 2] = ["22001", "22012"];

/// Nearly always by `statement_timeout`.
const STATEMENT_CANCELLED: &str = "57014";

/// Where the server's source reports what PL/pgSQL's RAISE says.
const RAISED: &str = "exec_stmt_raise";

/// What an error means, and what may be logged of it.
pub fn classify(error: &Error) -> Failure {
    match error.as_db_error() {
        Some(error) => of_server(error),
        None if error.is_closed() => Failure::transient("TARGET_AWAY", "the connection to the target is closed"),
        None => Failure::transient("TARGET_AWAY", chain(error)),
    }
}

fn of_server(error: &DbError) -> Failure {
    let state = error.code().code();
    let said = describe(error);
    match class(state) {
        Class::Poison => Failure::poison("REFUSED_BY_TARGET", said),
        _ if state.starts_with("42") || state.starts_with("3F") => Failure::transient(SCHEMA, said)
            .hint("make the table and the pipeline file agree, or grant what is missing (where policies hide rows, BYPASSRLS); nothing is lost meanwhile"),
        _ if state == STATEMENT_CANCELLED => Failure::transient(TOO_SLOW, said),
        _ => Failure::transient("TARGET_WAITS", said),
    }
}

/// Whether the record is refused, or the state of the server passes. What passes is listed: a trigger of the app may raise
/// any code of its own, and a record that it refuses must not hold up its neighbours for ever.
pub fn class(state: &str) -> Class {
    let passes = [
        "08", "0L", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "72", "F0", "HV", "XX",
    ];
    if passes.iter().any(|class| state.starts_with(class)) {
        Class::Transient
    } else {
        Class::Poison
    }
}

fn describe(error: &DbError) -> String {
    let state = error.code().code();
    let is_refusal = class(state) == Class::Poison;
    // What a function of the app raises may say anything under any code.
    let quotes_none = match is_refusal {
        true => error.where_().is_none() && (state.starts_with("23") || SAFE_REFUSALS.contains(&state)),
        false => error.routine() != Some(RAISED),
    };
    let what = match (quotes_none, is_refusal) {
        (true, _) => error.message(),
        (false, true) => "the target refuses a value",
        (false, false) => "a function of the target failed",
    };
    let mut said = format!("{what} (SQLSTATE {state}");
    let named = [
        ("table", error.table()),
        ("column", error.column()),
        ("constraint", error.constraint()),
    ];
    for (kind, name) in named.into_iter().filter_map(|(kind, name)| Some((kind, name?))) {
        said.push_str(&format!(", {kind} {name}"));
    }
    said.push(')');
    said
}

/// An error of the connection and its causes; none of them knows a row.
fn chain(error: &Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_refused_and_everything_else_passes() {
        for state in [
            "23505", "23514", "22001", "22P02", "P0001", "44000", "21000", "54000", "45000", "AP001", "38000",
        ] {
            assert_eq!(class(state), Class::Poison, "{state}");
        }
        let passing = [
            "53100", "53300", "57P01", "57014", "25006", "40001", "40P01", "55P03", "58030", "08006", "42703", "42P01",
            "42501", "28P01", "3D000", "XX000",
        ];
        for state in passing {
            assert_eq!(class(state), Class::Transient, "{state}");
        }
    }
}
