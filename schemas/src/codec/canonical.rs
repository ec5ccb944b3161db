//! The agreed record on the wire: its values typed by the entity's own Avro record, so that any consumer can read them.
//!
//! The schema is generated around the user's. Ours is named after theirs (`CustomerCanonical` beside `Customer`, in the
//! same namespace), so that the names inside their schema mean what they meant. A field nobody has said anything of is
//! listed in `unsaid`: as a null it would be an agreed null, and be written into every app.

use serde_json::{Value as Json, json};

use super::datum::Node;
use super::records::Fields;
use super::schema::{Kind, Named, RecordType, Type};
use super::{CodecError, Datum, Out, ParsedSchema, frame, to_value, typed};
use crate::canonical::{AppWords, Canonical, Identity, Member, SaidWord};
use crate::value::Value;

/// Writes and reads the agreed records of one entity.
#[derive(Debug, Clone)]
pub struct CanonicalCodec {
    schema_json: String,
    entity: ParsedSchema,
}

impl CanonicalCodec {
    /// For the entity with this Avro schema: a record whose fields are values and lists of values.
    pub fn new(entity_schema_json: &str) -> Result<Self, CodecError> {
        let wrong = |why: String| CodecError::Schema(why);
        apache_avro::Schema::parse_str(entity_schema_json).map_err(|error| wrong(error.to_string()))?;
        let entity = ParsedSchema::parse(entity_schema_json)?;
        let record = entity
            .record()
            .ok_or_else(|| wrong("an entity is a record".to_owned()))?;
        for (name, kind) in &record.fields {
            check_writable(&entity, kind).map_err(|why| CodecError::field(name, why))?;
        }
        let json: Json = serde_json::from_str(entity_schema_json).map_err(|error| wrong(error.to_string()))?;
        let schema_json = around(&record.name, json).to_string();
        ParsedSchema::parse(&schema_json)?;
        Ok(Self { schema_json, entity })
    }

    /// The schema to register.
    pub fn schema_json(&self) -> &str {
        &self.schema_json
    }

    /// The framed value. It fails when a value does not fit the entity's schema.
    pub fn encode(&self, canonical: &Canonical, id: u32) -> Result<Vec<u8>, CodecError> {
        let mut bytes = frame(id);
        let out = &mut Out(&mut bytes);
        out.text(&canonical.cid);
        out.boolean(canonical.deleted);
        out.branch(usize::from(canonical.deleted_us.is_some()));
        canonical.deleted_us.iter().for_each(|at| out.long(*at));
        let unsaid = self.write_fields(canonical, out)?;
        out.array(&unsaid, |out, name| out.text(name));
        out.array(&canonical.held, |out, name| out.text(name));
        out.array(&canonical.counters, |out, name| out.text(name));
        out.vector(&canonical.vector);
        out.long(canonical.stamp_us);
        out.array(&canonical.apps, |out, app| write_app(app, out));
        out.text(&canonical.rules);
        write_identity(&canonical.identity, out);
        Ok(bytes)
    }

    /// Reads a datum that was written with `writer`.
    pub fn decode(&self, writer: &ParsedSchema, datum: &[u8]) -> Result<Canonical, CodecError> {
        let node = writer.read(datum)?;
        let record = Fields::of(&node)?;
        let mut canonical = Canonical {
            cid: record.text("cid")?.to_owned(),
            deleted: record.boolean("deleted")?,
            deleted_us: record.optional_long("deleted_us")?,
            fields: Default::default(),
            held: record.list("held", read_name)?,
            counters: record.list("counters", read_name)?,
            vector: record.vector("vector")?,
            stamp_us: record.long("stamp_us")?,
            apps: record.list("apps", read_app)?,
            rules: record.text("rules")?.to_owned(),
            identity: read_identity(&record)?,
        };
        if let Some(Node {
            datum: Datum::Record(kind, nodes),
            ..
        }) = record.get("value")
        {
            let unsaid = record.list("unsaid", read_name)?;
            for ((name, _), node) in kind
                .fields
                .iter()
                .zip(nodes)
                .filter(|((name, _), _)| !unsaid.contains(name))
            {
                let value = to_value(node).map_err(|why| CodecError::field(name, why))?;
                canonical.fields.insert(name.clone(), value);
            }
        }
        Ok(canonical)
    }

    fn record(&self) -> &RecordType {
        self.entity
            .record()
            .unwrap_or_else(|| unreachable!("checked when it was made"))
    }

    /// Writes the values, or null if there are none, and gives the fields that have none.
    fn write_fields(&self, canonical: &Canonical, out: &mut Out<'_>) -> Result<Vec<String>, CodecError> {
        let record = self.record();
        if let Some(unknown) = canonical.fields.keys().find(|name| record.index(name).is_none()) {
            return Err(CodecError::field(unknown, "is not in the entity's schema"));
        }
        out.branch(usize::from(!canonical.fields.is_empty()));
        if canonical.fields.is_empty() {
            return Ok(Vec::new());
        }
        let mut unsaid = Vec::new();
        for (name, kind) in &record.fields {
            let value = canonical.fields.get(name);
            if value.is_none() {
                unsaid.push(name.clone());
            }
            typed::write(&self.entity, kind, value.unwrap_or(&Value::Null), out).map_err(|why| match value {
                Some(_) => CodecError::field(name, why),
                None => CodecError::field(name, "has no value yet, and its schema has no null"),
            })?;
        }
        Ok(unsaid)
    }
}

/// A value of ours can be any type but records and maps.
fn check_writable(schema: &ParsedSchema, kind: &Type) -> Result<(), &'static str> {
    match &kind.kind {
        Kind::Map(_) => Err("is a map, which has no order"),
        Kind::Array(items) => check_writable(schema, items),
        Kind::Union(branches) => branches.iter().try_for_each(|branch| check_writable(schema, branch)),
        Kind::Named(index) => match schema.named(*index) {
            Named::Record(_) => Err("is a record; fields are values and lists of values"),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn around(entity_name: &str, entity: Json) -> Json {
    let texts = || json!({"type": "array", "items": "string"});
    json!({
        "type": "record", "name": format!("{entity_name}Canonical"),
        "doc": "The agreed record of one entity. value: what all apps should hold; unsaid: fields nobody spoke of.",
        "fields": [
            {"name": "cid", "type": "string"},
            {"name": "deleted", "type": "boolean"},
            {"name": "deleted_us", "type": ["null", "long"], "default": null},
            {"name": "value", "type": ["null", entity], "default": null},
            {"name": "unsaid", "type": texts(), "default": []},
            {"name": "held", "type": texts(), "default": []},
            {"name": "counters", "type": texts(), "default": []},
            {"name": "vector", "type": {"type": "array", "items": {
                "type": "record", "name": "VectorEntry", "namespace": "syncline", "fields": [
                    {"name": "source", "type": "string"},
                    {"name": "position", "type": "string"}]}}},
            {"name": "stamp_us", "type": "long"},
            {"name": "apps", "type": {"type": "array", "items": {
                "type": "record", "name": "AppWords", "namespace": "syncline", "fields": [
                    {"name": "app", "type": "string"},
                    {"name": "row", "type": "string"},
                    {"name": "made", "type": ["null", "string"], "default": null},
                    {"name": "gone", "type": "boolean"},
                    {"name": "remake", "type": "boolean", "default": false},
                    {"name": "restore", "type": "boolean", "default": false},
                    {"name": "words", "type": {"type": "array", "items": said_word()}},
                    {"name": "via", "type": ["null", "string"], "default": null}]}}},
            {"name": "rules", "type": "string"},
            {"name": "moved_at", "type": ["null", "long"], "default": null},
            {"name": "merged_into", "type": ["null", "string"], "default": null},
            {"name": "members", "type": {"type": "array", "items": {
                "type": "record", "name": "Member", "namespace": "syncline", "fields": [
                    {"name": "cid", "type": "string"},
                    {"name": "at", "type": "long"},
                    {"name": "joined", "type": "boolean"}]}}, "default": []}]
    })
}

fn said_word() -> Json {
    json!({
        "type": "record", "name": "SaidWord", "fields": [
            {"name": "field", "type": "string"},
            {"name": "value", "type": "string"},
            {"name": "position", "type": "string"},
            {"name": "stamp_us", "type": "long"},
            {"name": "unseen", "type": {"type": "array", "items": "VectorEntry"}},
            {"name": "own", "type": ["null", "string"], "default": null}]
    })
}

fn write_app(app: &AppWords, out: &mut Out<'_>) {
    out.text(&app.app);
    out.shown(&app.row);
    out.optional_shown(app.made);
    out.boolean(app.gone);
    out.boolean(app.remake);
    out.boolean(app.restore);
    out.array(&app.words, |out, word| {
        out.text(&word.field);
        out.shown(&word.value);
        out.shown(word.position);
        out.long(word.stamp_us);
        out.vector(&word.unseen);
        out.optional_shown(word.own.as_ref());
    });
    out.optional_text(app.via.as_deref());
}

fn write_identity(identity: &Identity, out: &mut Out<'_>) {
    out.optional_long(identity.at);
    out.optional_text(identity.merged_into.as_deref());
    out.array(&identity.members, |out, member| {
        out.text(&member.cid);
        out.long(member.at);
        out.boolean(member.joined);
    });
}

/// Records of older versions have none of it.
fn read_identity(record: &Fields<'_>) -> Result<Identity, CodecError> {
    Ok(Identity {
        at: record.optional_long("moved_at")?,
        merged_into: record.optional_text("merged_into")?.map(str::to_owned),
        members: record.list("members", |node| {
            let member = Fields::of(node)?;
            Ok(Member {
                cid: member.text("cid")?.to_owned(),
                at: member.long("at")?,
                joined: member.boolean("joined")?,
            })
        })?,
    })
}

fn read_app(node: &Node<'_>) -> Result<AppWords, CodecError> {
    let app = Fields::of(node)?;
    Ok(AppWords {
        app: app.text("app")?.to_owned(),
        via: app.optional_text("via")?.map(str::to_owned),
        row: app.row("row")?,
        made: app.optional_parsed("made")?,
        gone: app.boolean("gone")?,
        remake: app.boolean("remake")?,
        restore: app.boolean("restore")?,
        words: app.list("words", read_word)?,
    })
}

fn read_word(node: &Node<'_>) -> Result<SaidWord, CodecError> {
    let word = Fields::of(node)?;
    Ok(SaidWord {
        field: word.text("field")?.to_owned(),
        value: word.parsed("value")?,
        position: word.parsed("position")?,
        stamp_us: word.long("stamp_us")?,
        unseen: word.vector("unseen")?,
        own: word.optional_parsed("own")?,
    })
}

fn read_name(node: &Node<'_>) -> Result<String, CodecError> {
    match &node.datum {
        Datum::Text(text) => Ok((*text).to_owned()),
        _ => Err(CodecError::Datum("a list of names was expected".to_owned())),
    }
}
