//! Pure: what a signal asks for, in Debezium's words: type and data, whatever channel they came by.
//!
//! A signal comes from a person in a hurry, and a mistake in it must never hold up what flows: what cannot be understood
//! is refused with a text that says what is wrong, and nothing else happens.

use serde_json::Value;

use crate::patterns::Patterns;

/// Channels that are not the log: a topic and a file.
pub mod inbox;

/// The signalling table, seen in the log.
pub mod logged;

/// A signal as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its id: what notifications name it by.
    pub id: String,
    /// Debezium's `type`.
    pub kind: String,
    /// Debezium's `data`: JSON, if there is any.
    pub data: Option<String>,
}

/// What a signal asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// `execute-snapshot`.
    Snapshot(Wish),
    /// `stop-snapshot`: of the tables that match; of all if none is named.
    Stop(Option<Patterns>),
    /// `pause-snapshot`.
    Pause,
    /// `resume-snapshot`.
    Resume,
    /// `log`: this text; `{}` stands for the position.
    Log(String),
    /// `snapshot-window-open`, `snapshot-window-close`: a watermark, of whoever reads. Not for us.
    Watermark,
}

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// While the stream waits.
    pub blocking: bool,
    /// `data-collections`: each expression with its text.
    pub tables: Vec<(String, Patterns)>,
    /// `additional-conditions`: a condition on the rows; of a blocking one a whole SELECT.
    pub conditions: Vec<(Patterns, String)>,
    /// `surrogate-key`: the column by which to cut, instead of the key.
    pub surrogate: Option<String>,
}

impl Wish {
    /// The condition on the rows of a table: the first that is meant for it.
    pub fn condition(&self, table: &str) -> Option<&str> {
        let mut conditions = self.conditions.iter();
        conditions
            .find(|(tables, _)| tables.matches(table))
            .map(|(_, condition)| condition.as_str())
    }
}

impl Signal {
    /// What it asks for, or what is wrong with it.
    pub fn asks(&self) -> Result<Asks, String> {
        match self.kind.to_ascii_lowercase().as_str() {
            "execute-snapshot" => wish(&self.object()?).map(Asks::Snapshot),
            "stop-snapshot" => stop(&self.optional_object()?),
            "pause-snapshot" => Ok(Asks::Pause),
            "resume-snapshot" => Ok(Asks::Resume),
            "log" => text(&self.object()?, "message")?
                .map(Asks::Log)
                .ok_or_else(|| "data has no message".to_owned()),
            "snapshot-window-open" | "snapshot-window-close" => Ok(Asks::Watermark),
            "schema-changes" => {
                Err("there are no schema changes to be told of PostgreSQL: its log carries them".to_owned())
            }
            _ => Err(
                "its type is none of execute-snapshot, stop-snapshot, pause-snapshot, resume-snapshot and log"
                    .to_owned(),
            ),
        }
    }

    fn object(&self) -> Result<Value, String> {
        let data = self.data.as_deref().ok_or("it has no data")?;
        let value: Value = serde_json::from_str(data).map_err(|error| format!("its data is no JSON: {error}"))?;
        match value.is_object() {
            true => Ok(value),
            false => Err("its data is no JSON object".to_owned()),
        }
    }

    fn optional_object(&self) -> Result<Value, String> {
        match self.data.as_deref().map(str::trim) {
            None | Some("" | "null") => Ok(Value::Object(serde_json::Map::new())),
            Some(_) => self.object(),
        }
    }
}

fn wish(data: &Value) -> Result<Wish, String> {
    let blocking = is_blocking(data)?;
    let tables = strings(data, "data-collections")?.ok_or("data has no data-collections")?;
    if tables.is_empty() {
        return Err("data-collections is empty".to_owned());
    }
    let pattern = |name: String| Ok((name.clone(), Patterns::of([name])?));
    Ok(Wish {
        blocking,
        tables: tables.into_iter().map(pattern).collect::<Result<_, String>>()?,
        conditions: conditions(data)?,
        surrogate: text(data, "surrogate-key")?,
    })
}

fn is_blocking(data: &Value) -> Result<bool, String> {
    let kind = text(data, "type")?.unwrap_or_else(|| "incremental".to_owned());
    match kind.to_ascii_lowercase().as_str() {
        "incremental" => Ok(false),
        "blocking" => Ok(true),
        other => Err(format!("a snapshot's type is incremental or blocking, not {other:?}")),
    }
}

fn stop(data: &Value) -> Result<Asks, String> {
    if is_blocking(data)? {
        return Err(
            "a blocking snapshot cannot be stopped by a signal: none is read before it is at its end".to_owned(),
        );
    }
    let tables = strings(data, "data-collections")?.filter(|tables| !tables.is_empty());
    tables.map(Patterns::of).transpose().map(Asks::Stop)
}

fn conditions(data: &Value) -> Result<Vec<(Patterns, String)>, String> {
    let Some(given) = present(data, "additional-conditions") else {
        return Ok(Vec::new());
    };
    let given = given.as_array().ok_or("additional-conditions is no list")?;
    let condition = |entry: &Value| {
        let part = |name: &str| text(entry, name)?.ok_or_else(|| format!("one of additional-conditions has no {name}"));
        Ok((Patterns::of([part("data-collection")?])?, part("filter")?))
    };
    given.iter().map(condition).collect()
}

fn present<'a>(data: &'a Value, name: &str) -> Option<&'a Value> {
    data.get(name).filter(|value| !value.is_null())
}

fn text(data: &Value, name: &str) -> Result<Option<String>, String> {
    let Some(value) = present(data, name) else {
        return Ok(None);
    };
    let text = value.as_str().ok_or_else(|| format!("{name} is no text"))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn strings(data: &Value, name: &str) -> Result<Option<Vec<String>>, String> {
    let wrong = || format!("{name} is no list of texts");
    let Some(value) = present(data, name) else {
        return Ok(None);
    };
    let values = value.as_array().ok_or_else(wrong)?.iter();
    let texts = values.map(|value| value.as_str().map(|text| text.trim().to_owned()).ok_or_else(wrong));
    texts.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(kind: &str, data: &str) -> Signal {
        Signal {
            id: "s".to_owned(),
            kind: kind.to_owned(),
            data: Some(data.to_owned()).filter(|data| !data.is_empty()),
        }
    }

    fn wished(data: &str) -> Wish {
        match signal("execute-snapshot", data).asks() {
            Ok(Asks::Snapshot(wish)) => wish,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_snapshot_is_asked_for_as_debezium_documents_it() {
        let wish = wished(
            r#"{"type": "INCREMENTAL", "data-collections": ["public\\.a.*", "public.b"], "surrogate-key": "made_at",
                "additional-conditions": [{"data-collection": "public.b", "filter": "color = 'blue'"}]}"#,
        );
        assert!(!wish.blocking && wish.tables[0].1.matches("public.accounts"));
        assert_eq!(wish.surrogate.as_deref(), Some("made_at"));
        assert_eq!(wish.condition("public.b"), Some("color = 'blue'"));
        assert_eq!(wish.condition("public.a"), None);
        assert!(wished(r#"{"type": "blocking", "data-collections": ["public.a"]}"#).blocking);
        assert!(!wished(r#"{"data-collections": ["public.a"]}"#).blocking);
    }

    #[test]
    fn the_others_too() {
        assert_eq!(signal("stop-snapshot", "").asks(), Ok(Asks::Stop(None)));
        let stop = signal(
            "stop-snapshot",
            r#"{"type": "incremental", "data-collections": ["public.a"]}"#,
        );
        assert!(matches!(stop.asks(), Ok(Asks::Stop(Some(tables))) if tables.matches("public.a")));
        assert_eq!(signal("Pause-Snapshot", "{}").asks(), Ok(Asks::Pause));
        assert_eq!(signal("resume-snapshot", "").asks(), Ok(Asks::Resume));
        let log = signal("log", r#"{"message": "at {}"}"#);
        assert_eq!(log.asks(), Ok(Asks::Log("at {}".to_owned())));
        assert_eq!(signal("snapshot-window-open", "{}").asks(), Ok(Asks::Watermark));
    }

    #[test]
    fn a_bad_signal_says_what_is_wrong_with_it() {
        for (kind, data, wrong) in [
            ("execute-snapshot", "", "no data"),
            ("execute-snapshot", "{", "no JSON"),
            ("execute-snapshot", "[]", "no JSON object"),
            ("execute-snapshot", "{}", "no data-collections"),
            ("execute-snapshot", r#"{"data-collections": []}"#, "is empty"),
            ("execute-snapshot", r#"{"data-collections": "public.a"}"#, "no list"),
            (
                "execute-snapshot",
                r#"{"data-collections": ["("]}"#,
                "no regular expression",
            ),
            (
                "execute-snapshot",
                r#"{"data-collections": ["a"], "type": "full"}"#,
                "incremental or blocking",
            ),
            (
                "execute-snapshot",
                r#"{"data-collections": ["a"], "additional-conditions": [{"filter": "x"}]}"#,
                "no data-collection",
            ),
            ("stop-snapshot", r#"{"type": "blocking"}"#, "cannot be stopped"),
            ("log", "{}", "no message"),
            ("schema-changes", "{}", "its log carries them"),
            ("explode", "{}", "none of"),
        ] {
            let refused = signal(kind, data).asks().unwrap_err();
            assert!(refused.contains(wrong), "{kind} {data}: {refused}");
        }
    }
}
