//! Facts to findings, pure: what would stop a run, what would hurt, what is worth knowing.
//!
//! One function for each subject, each rule a line or a few in it. A rule says what is so, what comes of it and what
//! mends it; the mending command is meant to be copied, so names in it are quoted as PostgreSQL wants them.

use syncline_capture::postgres::quote::Ident;

use super::finding::{Finding, Severity};
pub(super) use tables::name as table_name;

/// Kafka and the registry.
pub mod bus;

/// The publication.
pub mod publication;

/// What a role may do, and what it need not.
pub mod role;

/// Settings, connection and clock of a server.
pub mod server;

/// Slots, and the log they hold back.
pub mod slots;

/// The tables to capture.
pub mod tables;

/// A database that is written.
pub mod target;

const GB: i64 = 1 << 30;

/// The findings of one subject.
pub(super) struct Findings {
    place: String,
    found: Vec<Finding>,
}

impl Findings {
    pub(super) fn at(place: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            found: Vec::new(),
        }
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        mend: impl Into<String>,
    ) {
        self.found.push(Finding {
            severity,
            code,
            place: self.place.clone(),
            what: what.into(),
            why: why.to_owned(),
            mend: mend.into(),
        });
    }

    pub(super) fn stops(&mut self, code: &'static str, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(Severity::Stops, code, what, why, mend);
    }

    pub(super) fn risk(&mut self, code: &'static str, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(Severity::Risk, code, what, why, mend);
    }

    pub(super) fn note(&mut self, code: &'static str, what: impl Into<String>, why: &str, mend: impl Into<String>) {
        self.add(Severity::Note, code, what, why, mend);
    }

    pub(super) fn done(self) -> Vec<Finding> {
        self.found
    }
}

/// A name as SQL wants it. One that cannot be quoted cannot be the name of anything; it is shown as it is.
pub(super) fn quoted(name: &str) -> String {
    Ident::new(name).map_or_else(|_| name.to_owned(), |ident| ident.to_string())
}

/// A number of bytes as people say it.
fn size(bytes: i64) -> String {
    const MB: i64 = 1 << 20;
    match bytes {
        bytes if bytes >= GB => format!("{}.{} GB", bytes / GB, bytes % GB * 10 / GB),
        bytes => format!("{} MB", bytes / MB),
    }
}

#[cfg(test)]
mod tests;
