//! What the pipeline file is designed to say and this version cannot do. Accepting it silently would be worse than an
//! error: a guard that does not guard, a grant that grants everything.

/// Why such a key is refused.
pub(super) const WHY: &str = "ignoring it would promise something that does not happen";

const REMOVE: &str = "remove it";

/// What a key is for, and what to do without it.
pub(super) fn of(key: &str) -> (&'static str, &'static str) {
    match key {
        "purposes" | "for" => ("limiting fields to purposes", REMOVE),
        "grants" => (
            "granting purposes to apps",
            "remove it, and leave fields an app may not have out of its links",
        ),
        "pii" | "subject" => ("marking personal data", REMOVE),
        "kms" => ("a key per person", REMOVE),
        "keep" => (
            "retention by topic",
            "remove it, and set retention on the topics themselves",
        ),
        "guard" => ("stopping suspicious changes", REMOVE),
        "verify" => ("comparing apps regularly", REMOVE),
        "http" | "auth" | "pull" | "limits" => ("an app behind HTTP", "remove this system for now"),
        "mysql" => ("an app on MySQL", "capture it with Debezium: `capture: debezium`"),
        "mode" => ("copying tables in batches", "remove it; a replica is live"),
        "expires" | "then" => ("a deadline of its own for a group", "give it to the kind of its fields"),
        "approvers" => (
            "approvers of its own for a group",
            "give them to the kind of its fields",
        ),
        "group" => (
            "naming its group at the field",
            "name the field in `groups` of the entity",
        ),
        "initial" => ("this rule", REMOVE),
        "env" => ("settings by environment", "use ${env:NAME} where they differ"),
        _ => ("this", REMOVE),
    }
}
