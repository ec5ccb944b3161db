//! Pure: a Debezium offset, and what it says is in Kafka.
//!
//! **What it says.** Debezium keeps, with each record, the end of the last commit it has read (`lsn_commit`) and where the
//! record's own change stands (`lsn`, `lsn_proc`); Connect stores the offset of the last record that the broker has
//! acknowledged. So all transactions that end at or before `lsn_commit` are in Kafka, and of the next one the changes up to
//! `lsn`. The two are equal when nothing of a next one is. Changes of a transaction come in the order of their LSN, but
//! LSNs of different transactions interleave: `lsn` may be less than `lsn_commit`, and is only meaningful within that
//! next transaction. Offsets of releases before `lsn_commit` (1.4) say only `lsn`: no transaction that ends after it is
//! whole in Kafka, and the others are. Later releases too have no `lsn_commit` as long as no commit has been read since the
//! snapshot: the change at `lsn` is then one of the first transaction that ends after it.

use serde_json::Value;
use syncline_schemas::position::Lsn;

/// What a connector's offset says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything that ends at or before this is in Kafka, and nothing later.
    AtRest(Lsn),
    /// That, and of the next transaction the changes up to `event`.
    Within {
        /// The end of the last transaction that is whole in Kafka.
        commit: Lsn,
        /// The last change of the next one that is in Kafka.
        event: Lsn,
    },
    /// The first snapshot has not come to its end.
    Reading,
}

impl Standing {
    /// Up to where whole transactions are in Kafka; none during the snapshot.
    pub fn whole(&self) -> Option<Lsn> {
        match self {
            Self::AtRest(lsn) | Self::Within { commit: lsn, .. } => Some(*lsn),
            Self::Reading => None,
        }
    }
}

/// A connector's offset as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    /// What it says.
    pub standing: Standing,
    /// Tables of an incremental snapshot that was under way, as Debezium notes them.
    pub incremental: Option<String>,
}

/// Reads the value of an offset.
pub fn parse(value: &Value) -> Result<Offset, String> {
    let number = |name: &str| match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(found) => {
            let number = found.as_u64().or_else(|| found.as_str()?.parse().ok());
            number
                .map(|lsn| Some(Lsn(lsn)))
                .ok_or_else(|| format!("{name} is no LSN"))
        }
    };
    let event = number("lsn_proc")?.or(number("lsn")?);
    let commit = number("lsn_commit")?;
    let kind = value.get("messageType").and_then(Value::as_str).unwrap_or_default();
    let standing = match (commit, event) {
        _ if is_reading(value) => Standing::Reading,
        (Some(commit), Some(event)) if event != commit && !["BEGIN", "COMMIT"].contains(&kind) => {
            Standing::Within { commit, event }
        }
        (None, Some(event)) if !["", "BEGIN", "COMMIT"].contains(&kind) => Standing::Within { commit: event, event },
        (Some(lsn), _) | (None, Some(lsn)) => Standing::AtRest(lsn),
        (None, None) => return Err("it names no lsn".to_owned()),
    };
    let incremental = value.get("incremental_snapshot_collections").and_then(Value::as_str);
    Ok(Offset {
        standing,
        incremental: incremental.map(str::to_owned),
    })
}

/// `snapshot` is there while one is under way and on its last record, which says so. Before 3.0 it was a flag.
fn is_reading(value: &Value) -> bool {
    let on = |name: &str| match value.get(name) {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    let snapshot = match value.get("snapshot") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(on)) => *on,
        Some(Value::String(text)) => !text.eq_ignore_ascii_case("false") && !text.eq_ignore_ascii_case("incremental"),
        Some(_) => true,
    };
    snapshot && !on("last_snapshot_record") && !on("snapshot_completed")
}

/// The value among several, by `server`; what `GET /connectors/NAME/offsets` answers.
pub fn exported<'v>(body: &'v Value, server: &str) -> Result<&'v Value, String> {
    let list = body.get("offsets").unwrap_or(body).as_array();
    let list = list.ok_or("{\"offsets\": [{\"partition\": .., \"offset\": ..}]} is expected")?;
    let of_server = |entry: &&Value| entry.pointer("/partition/server").and_then(Value::as_str) == Some(server);
    let found = list.iter().find(of_server).and_then(|entry| entry.get("offset"));
    found
        .filter(|offset| !offset.is_null())
        .ok_or_else(|| format!("it has no offset of the server {server:?} (topic.prefix)"))
}

/// Whether a record's key is that of this connector: `["NAME",{"server":"PREFIX"}]`. Without a name any connector's.
pub fn is_key(key: &[u8], connector: Option<&str>, server: &str) -> bool {
    let Ok(Value::Array(parts)) = serde_json::from_slice::<Value>(key) else {
        return false;
    };
    let name = parts.first().and_then(Value::as_str);
    let of_server = parts.get(1).and_then(|part| part.get("server")).and_then(Value::as_str) == Some(server);
    of_server && (connector.is_none() || name == connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(text: &str) -> Standing {
        parse(&serde_json::from_str(text).unwrap()).unwrap().standing
    }

    /// The first is as a running 3.6.3 wrote it.
    #[test]
    fn offsets_say_what_is_in_kafka() {
        let streaming = r#"{"lsn_proc":26725632,"messageType":"INSERT","lsn_commit":26725200,"lsn":26725632,"txId":780,"ts_usec":1763900000000000}"#;
        for (text, expected) in [
            (
                streaming,
                Standing::Within {
                    commit: Lsn(26_725_200),
                    event: Lsn(26_725_632),
                },
            ),
            (
                r#"{"lsn_proc":9,"messageType":"COMMIT","lsn_commit":9,"lsn":9}"#,
                Standing::AtRest(Lsn(9)),
            ),
            (
                r#"{"lsn_proc":12,"messageType":"BEGIN","lsn_commit":9,"lsn":12}"#,
                Standing::AtRest(Lsn(9)),
            ),
            (
                r#"{"lsn_proc":7,"messageType":"UPDATE","lsn_commit":9,"lsn":7}"#,
                Standing::Within {
                    commit: Lsn(9),
                    event: Lsn(7),
                },
            ),
            (
                r#"{"lsn_proc":7,"messageType":"UPDATE","lsn":7,"txId":1}"#,
                Standing::Within {
                    commit: Lsn(7),
                    event: Lsn(7),
                },
            ),
            (r#"{"lsn":5,"txId":1,"ts_usec":2}"#, Standing::AtRest(Lsn(5))),
            (
                r#"{"last_snapshot_record":true,"lsn":5,"txId":1,"snapshot":"INITIAL","snapshot_completed":true}"#,
                Standing::AtRest(Lsn(5)),
            ),
            (
                r#"{"last_snapshot_record":false,"lsn":5,"snapshot":"INITIAL","snapshot_completed":false}"#,
                Standing::Reading,
            ),
            (
                r#"{"last_snapshot_record":false,"lsn":5,"snapshot":true}"#,
                Standing::Reading,
            ),
        ] {
            assert_eq!(standing(text), expected, "{text}");
        }
        assert!(parse(&serde_json::json!({"txId": 1})).is_err());
        assert!(parse(&serde_json::json!({"lsn": "x"})).is_err());
    }

    #[test]
    fn the_right_one_of_several_is_taken() {
        let body = serde_json::json!({"offsets": [
            {"partition": {"server": "a"}, "offset": {"lsn": 1}}, {"partition": {"server": "b"}, "offset": {"lsn": 2}}]});
        assert_eq!(exported(&body, "b").unwrap()["lsn"], 2);
        assert!(exported(&body, "c").unwrap_err().contains("\"c\""));
        assert!(exported(&serde_json::json!({}), "b").is_err());
        let key = br#"["inventory",{"server":"fulfil"}]"#;
        assert!(is_key(key, Some("inventory"), "fulfil") && is_key(key, None, "fulfil"));
        assert!(!is_key(key, Some("other"), "fulfil") && !is_key(key, None, "other") && !is_key(b"x", None, "fulfil"));
    }
}
