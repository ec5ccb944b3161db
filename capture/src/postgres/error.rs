//! What an error of the server means for us: wait, stop, or pass on.
//!
//! DETAIL and CONTEXT are never taken over: they quote row values, and row values do not belong in a log.

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorResponseBody;
use syncline_runtime::failure::Failure;

/// An error as the server sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// Five characters, such as `55006`.
    pub sqlstate: String,
    /// What it says.
    pub message: String,
    /// What it advises.
    pub hint: Option<String>,
}

impl ServerError {
    /// From the fields of the protocol's message.
    pub fn read(body: &ErrorResponseBody) -> Self {
        let mut error = Self {
            sqlstate: String::new(),
            message: String::new(),
            hint: None,
        };
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.sqlstate = value,
                b'M' => error.message = value,
                b'H' => error.hint = Some(value),
                _ => {}
            }
        }
        error
    }

    /// What it means while `doing` something.
    pub fn failure(&self, doing: &str) -> Failure {
        classify(&self.sqlstate, &self.message, self.hint.as_deref(), doing)
    }
}

/// What an error of `tokio-postgres` means while `doing` something.
pub fn sql_failure(error: &tokio_postgres::Error, doing: &str) -> Failure {
    match error.as_db_error() {
        Some(db) => classify(db.code().code(), db.message(), db.hint(), doing),
        None => Failure::transient("SOURCE_CONNECTION", format!("{doing}: {}", with_causes(error))),
    }
}

/// An error with those it came from, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

fn classify(sqlstate: &str, message: &str, hint: Option<&str>, doing: &str) -> Failure {
    let text = format!("{doing}: {message} (SQLSTATE {sqlstate})");
    let failure = match sqlstate {
        "55006" => Failure::transient("SLOT_ACTIVE", text),
        _ if is_lost_slot(sqlstate, message) => Failure::definite("SLOT_LOST", text)
            .hint("the server has removed log that was not read yet: the source must be read anew (--resnapshot)"),
        "42704" if message.contains("publication") => Failure::definite("PUBLICATION_GONE", text).hint(
            "the log is read with the catalogue as it was when each change was written, so making the publication again \
             does not help for what was written before: make it, then read all tables again (--resnapshot)",
        ),
        "42501" if message.contains("walsender") || message.contains("replication") => {
            Failure::definite("SOURCE_PERMISSION", text).hint("as an administrator: ALTER ROLE .. REPLICATION;")
        }
        "42501" => Failure::definite("SOURCE_PERMISSION", text),
        // An exported snapshot lives as long as the connection that exported it; the next attempt makes another.
        _ if is_lost_snapshot(sqlstate, message) => Failure::transient("SNAPSHOT_GONE", text),
        _ if is_unsendable(sqlstate, message) => Failure::definite(ROW_UNSENDABLE, text)
            .hint("a row of the source is longer as text than a server can make a text (1 GB), or has bytes that are no text in \
                   the encoding of its database: mend it, or leave its table out"),
        "3D000" | "28000" | "28P01" => Failure::definite("SOURCE_LOGIN", text),
        _ if is_infrastructure(sqlstate) => Failure::transient("SOURCE_UNAVAILABLE", text),
        _ => Failure::definite("SOURCE_ERROR", text),
    };
    match hint {
        Some(hint) if failure.hint.is_none() => failure.hint(hint),
        _ => failure,
    }
}

/// Until PostgreSQL 17 "can no longer get changes", since 18 "can no longer access replication slot".
fn is_lost_slot(sqlstate: &str, message: &str) -> bool {
    sqlstate == "55000" && message.contains("can no longer") && message.contains("replication slot")
}

/// The code of a row that the server cannot put into a message.
pub const ROW_UNSENDABLE: &str = "ROW_UNSENDABLE";

/// No want of memory, which would pass: a message must not have more than a gigabyte. Nor can it have bytes that the
/// database's encoding gives no meaning (WIN1252 has five).
fn is_unsendable(sqlstate: &str, message: &str) -> bool {
    ["54000", "22021", "22P05"].contains(&sqlstate)
        || sqlstate == "XX000" && message.contains("invalid memory alloc request size")
}

/// Until PostgreSQL 16 "invalid snapshot identifier", since 17 "snapshot .. does not exist".
fn is_lost_snapshot(sqlstate: &str, message: &str) -> bool {
    sqlstate == "22023" && message.contains("invalid snapshot identifier")
        || sqlstate == "42704" && message.starts_with("snapshot ")
}

/// Connection, resources, operator, system, serialisation, lock not available: all pass.
fn is_infrastructure(sqlstate: &str) -> bool {
    ["08", "53", "57", "58", "40"]
        .iter()
        .any(|class| sqlstate.starts_with(class))
        || sqlstate == "55P03"
}

#[cfg(test)]
mod tests {
    use syncline_runtime::failure::Class;

    use super::*;

    #[test]
    fn classes() {
        let cases = [
            (
                "55006",
                "replication slot \"s\" is active for PID 7",
                Class::Transient,
                "SLOT_ACTIVE",
            ),
            (
                "55000",
                "can no longer get changes from replication slot \"s\"",
                Class::Definite,
                "SLOT_LOST",
            ),
            (
                "55000",
                "can no longer access replication slot \"s\"",
                Class::Definite,
                "SLOT_LOST",
            ),
            (
                "55000",
                "logical decoding requires wal_level >= logical",
                Class::Definite,
                "SOURCE_ERROR",
            ),
            (
                "57P01",
                "terminating connection",
                Class::Transient,
                "SOURCE_UNAVAILABLE",
            ),
            ("53300", "too many clients", Class::Transient, "SOURCE_UNAVAILABLE"),
            ("53200", "out of memory", Class::Transient, "SOURCE_UNAVAILABLE"),
            ("54000", "out of memory", Class::Definite, "ROW_UNSENDABLE"),
            (
                "22P05",
                "character with byte sequence 0x81 in encoding \"WIN1252\" has no equivalent in encoding \"UTF8\"",
                Class::Definite,
                "ROW_UNSENDABLE",
            ),
            (
                "XX000",
                "invalid memory alloc request size 1090519043",
                Class::Definite,
                "ROW_UNSENDABLE",
            ),
            ("42501", "permission denied", Class::Definite, "SOURCE_PERMISSION"),
            (
                "42501",
                "must be superuser or replication role to start walsender",
                Class::Definite,
                "SOURCE_PERMISSION",
            ),
            (
                "28P01",
                "password authentication failed",
                Class::Definite,
                "SOURCE_LOGIN",
            ),
            (
                "42704",
                "publication \"p\" does not exist",
                Class::Definite,
                "PUBLICATION_GONE",
            ),
            ("42704", "role \"p\" does not exist", Class::Definite, "SOURCE_ERROR"),
            (
                "22023",
                "invalid snapshot identifier: \"00000016-00000A5B-1\"",
                Class::Transient,
                "SNAPSHOT_GONE",
            ),
            (
                "42704",
                "snapshot \"00000016-00000A5B-1\" does not exist",
                Class::Transient,
                "SNAPSHOT_GONE",
            ),
        ];
        for (sqlstate, message, class, code) in cases {
            let failure = classify(sqlstate, message, None, "doing");
            assert_eq!((failure.class, failure.code), (class, code), "{sqlstate} {message}");
        }
    }
}
