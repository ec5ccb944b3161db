//! What is wrong, why it matters, and what mends it.

use serde::Serialize;

/// How bad it is. The order is that of a report: the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A run would not begin, or would end here.
    Stops,
    /// A run works, and loses, leaks or endangers something.
    Risk,
    /// Worth knowing.
    Note,
}

/// Something that a person should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The same for every finding of its kind: `WAL_LEVEL`.
    pub code: &'static str,
    /// Where: `shop`, `shop public.orders`, `kafka`.
    pub place: String,
    /// What is so.
    pub what: String,
    /// What comes of it.
    pub why: String,
    /// What to run, and where; empty if nothing needs to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}
