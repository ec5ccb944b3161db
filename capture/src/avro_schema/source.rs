//! The parts of the envelope that are the same for every table, as each release of Debezium writes them.

use crate::form::Emulated;

/// What releases differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Version 2 of the envelope, with microseconds and nanoseconds, and the transaction before the operation (2.6).
    pub fine_times: bool,
    /// Source has a version (3.1).
    pub source_version: bool,
    /// Source names where a transaction was replicated from (3.5).
    pub origin: bool,
}

impl Release {
    /// What that release writes.
    pub fn of(emulated: &Emulated) -> Self {
        Self {
            fine_times: emulated.is_since(2, 6),
            source_version: emulated.is_since(3, 1),
            origin: emulated.is_since(3, 5),
        }
    }
}

const ALLOWED: &str = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental";
const OLD_ALLOWED: &str = "true,last,false,incremental";

/// The field `source`.
pub(super) fn source(release: Release) -> String {
    let allowed = if release.fine_times { ALLOWED } else { OLD_ALLOWED };
    let fine = if release.fine_times {
        concat!(
            r#"{"name":"ts_us","type":["null","long"],"default":null},"#,
            r#"{"name":"ts_ns","type":["null","long"],"default":null},"#
        )
    } else {
        ""
    };
    let origin = if release.origin {
        concat!(
            r#",{"name":"origin","type":["null","string"],"default":null},"#,
            r#"{"name":"origin_lsn","type":["null","long"],"default":null}"#
        )
    } else {
        ""
    };
    let version = if release.source_version {
        r#""connect.version":1,"#
    } else {
        ""
    };
    [
        r#"{"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":["#,
        r#"{"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},"#,
        r#"{"name":"ts_ms","type":"long"},{"name":"snapshot","type":[{"type":"string","connect.version":1,"#,
        r#""connect.parameters":{"allowed":""#,
        allowed,
        r#""},"connect.default":"false","connect.name":"io.debezium.data.Enum"},"null"],"default":"false"},"#,
        r#"{"name":"db","type":"string"},{"name":"sequence","type":["null","string"],"default":null},"#,
        fine,
        r#"{"name":"schema","type":"string"},{"name":"table","type":"string"},"#,
        r#"{"name":"txId","type":["null","long"],"default":null},{"name":"lsn","type":["null","long"],"default":null},"#,
        r#"{"name":"xmin","type":["null","long"],"default":null}"#,
        origin,
        "],",
        version,
        r#""connect.name":"io.debezium.connector.postgresql.Source"}},"#,
    ]
    .concat()
}

const TRANSACTION: &str = concat!(
    r#"{"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":["#,
    r#"{"name":"id","type":"string"},{"name":"total_order","type":"long"},{"name":"data_collection_order","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"event.block"}],"default":null}"#
);
const OPERATION: &str = r#"{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":null}"#;
const FINE_TIMES: &str = concat!(
    r#"{"name":"ts_us","type":["null","long"],"default":null},"#,
    r#"{"name":"ts_ns","type":["null","long"],"default":null}"#
);

/// `source` and `transaction`, as a logical message has them too.
pub fn shared_fields(release: Release) -> (String, String) {
    (source(release), TRANSACTION.to_owned())
}

/// The fields after `source`, and the version.
pub(super) fn tail(release: Release) -> String {
    if release.fine_times {
        format!(r#"{TRANSACTION},{OPERATION},{FINE_TIMES}],"connect.version":2,"#)
    } else {
        format!(r#"{OPERATION},{TRANSACTION}],"connect.version":1,"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(version: &str) -> Release {
        Release::of(&Emulated {
            version: version.to_owned(),
        })
    }

    #[test]
    fn each_release_has_its_schema() {
        let (old, middle, newer, newest) = (
            release("2.5.4.Final"),
            release("3.0.8.Final"),
            release("3.4.0"),
            release("3.6.3.Final"),
        );
        assert!(tail(old).ends_with(r#""event.block"}],"default":null}],"connect.version":1,"#));
        assert!(source(old).contains(r#""allowed":"true,last,false,incremental""#) && !source(old).contains("ts_us"));
        assert!(tail(middle).ends_with(r#""connect.version":2,"#));
        assert!(source(middle).contains(r#""xmin","type":["null","long"],"default":null}],"connect.name""#));
        assert!(source(newer).contains(r#""xmin","type":["null","long"],"default":null}],"connect.version":1,"#));
        assert!(source(newest).contains("origin_lsn"));
    }
}
