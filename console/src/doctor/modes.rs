//! What a table allows: honest before anybody links it.
//!
//! A link is as good as what the app can show of an edit: the row before it, that a row went, and that a write was our
//! own. What is missing here cannot be made up for later by a cleverer merge.

use serde::Serialize;
use syncline_capture::postgres::pgoutput::ReplicaIdentity;
use syncline_capture::postgres::setup::identity_problem;

use super::facts::{Kind, Source, Table};

/// What a table shows of its changes, and what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Modes {
    /// `shop public.orders`.
    pub table: String,
    /// What of the old row the log holds: `all`, `key`, `none`.
    pub before_image: &'static str,
    /// A deleted row is seen.
    pub deletes: bool,
    /// Writes of our own can be told from edits.
    pub marks: bool,
    /// What a link or a replica can be: `->`, `<->`, `replica`.
    pub allowed: Vec<&'static str>,
}

/// What each table of a source allows.
pub fn of(source: &Source) -> Vec<Modes> {
    source
        .tables
        .iter()
        .filter_map(|table| of_table(source, table))
        .collect()
}

fn of_table(source: &Source, table: &Table) -> Option<Modes> {
    let info = table
        .info
        .as_ref()
        .filter(|_| matches!(table.kind, Kind::Plain | Kind::Partitioned))?;
    let identified = matches!(identity_problem(info), Ok(None));
    let publishes = |operation| {
        let publication = source.publication.as_ref();
        publication.is_none_or(|publication| publication.operations.contains(&operation))
    };
    let before_image = match info.identity {
        ReplicaIdentity::Full => "all",
        _ if identified => "key",
        _ => "none",
    };
    let updates = identified && publishes("update");
    let deletes = identified && publishes("delete");
    // A logical message goes through every slot of pgoutput that asks for them, whatever the publication says.
    let marks = source.server.version >= 140_000;
    let keyed = !info.primary_key.is_empty();
    let allowed = [
        ("->", updates && keyed),
        ("<->", updates && deletes && marks && keyed),
        ("replica", updates && deletes && keyed),
    ];
    Some(Modes {
        table: format!("{} {}", source.name, table.name),
        before_image,
        deletes,
        marks,
        allowed: allowed
            .into_iter()
            .filter(|(_, holds)| *holds)
            .map(|(mode, _)| mode)
            .collect(),
    })
}
