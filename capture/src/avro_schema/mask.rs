//! Masks in a schema: which kinds bear one, what becomes of a value, and the parameter by which the schema tells of it.

use std::collections::BTreeSet;

use super::json_text;
use super::kind::written_type;
use crate::mask::Mask;
use crate::types::Kind;

/// Whether something else can stand in the place of the kind's values: they are text, or bytes of which a part will do.
pub fn bears_mask(kind: &Kind, mask: &Mask) -> bool {
    let written = written_type(kind, None, &mut BTreeSet::new());
    let text = written == r#""string""# || written.starts_with(r#"{"type":"string""#);
    text || matches!((kind, mask), (Kind::Bytes, Mask::Truncate(_)))
}

/// What the mask makes of a value that bears it, as it is written; `None` if that is NULL.
pub fn masked(kind: &Kind, mask: &Mask, value: Option<&[u8]>, length_max: Option<usize>) -> Option<Vec<u8>> {
    match mask {
        Mask::Truncate(count) if *kind == Kind::Bytes => value.map(|bytes| bytes[..bytes.len().min(*count)].to_vec()),
        _ => {
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            mask.text(text, length_max).map(String::into_bytes)
        }
    }
}

/// The type with one parameter more, where Connect's converter would write it.
pub(super) fn with_parameter(written: &str, name: &str, value: &str) -> String {
    const BEHIND: [&str; 4] = [
        r#","connect.default":"#,
        r#","connect.name":"#,
        r#","connect.type":"#,
        r#","logicalType":"#,
    ];
    let parameter = format!("{}:{}", json_text(name), json_text(value));
    let behind = || BEHIND.iter().filter_map(|property| written.find(property)).min();
    if let Some(start) = written.find(r#""connect.parameters":{"#) {
        // What parameters there are end before the next property; a brace within one of them is in front of that.
        let end = behind().unwrap_or(written.len() - 1).max(start) - 1;
        return format!("{},{parameter}{}", &written[..end], &written[end..]);
    }
    let parameters = format!(r#","connect.parameters":{{{parameter}}}"#);
    match written.strip_prefix('{') {
        None => format!(r#"{{"type":{written}{parameters}}}"#),
        Some(_) => {
            let end = behind().unwrap_or(written.len() - 1);
            format!("{}{parameters}{}", &written[..end], &written[end..])
        }
    }
}
