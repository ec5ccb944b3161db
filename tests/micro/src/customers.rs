//! Customers whom three apps know. Each app has said all four fields once; then its users edit, and every record is the
//! whole row again, about 200 bytes with one new word in it.
//!
//! By default each app edits a field of its own, so that nobody contradicts anybody; contested, all edit the same one.

use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use syncline_bus::InRecord;
use syncline_schemas::codec::{CanonicalCodec, State, Wire};
use syncline_schemas::mapped::{FieldValue, Mapped, MappedRecord, RowKey, RowOp};
use syncline_schemas::mark::{Act, Mark, MarkedField};
use syncline_schemas::pipeline::{self, Pipeline};
use syncline_schemas::position::{Lsn, Position, Vector};
use syncline_schemas::value::Value;
use syncline_transform::entity_shard::EntityRoom;
use syncline_transform::schemas::Schemas;

/// The apps, in the order of their authority.
pub const APPS: [&str; 3] = ["shop", "crm", "erp"];
/// The field that the users of each edit.
const EDITED: [&str; 3] = ["email", "phone", "city"];
const CONTESTED: &str = "city";
/// Ids of the schemas, as a registry would have given them.
const MAPPED: u32 = 1;
const STATE: u32 = 2;
const CONFLICTS: u32 = 3;
const CANONICAL: u32 = 4;
/// Microseconds since 1970 of the first load.
const START_US: i64 = 1_700_000_000_000_000;

/// Three apps with customers.
pub fn pipeline() -> anyhow::Result<Pipeline> {
    load("acme.yaml")
}

/// One app with the table of [`crate::log`].
pub fn orders() -> anyhow::Result<Pipeline> {
    load("orders.yaml")
}

fn load(name: &str) -> anyhow::Result<Pipeline> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let loaded = pipeline::load(&file, &|_| None);
    loaded.map_err(|problems| anyhow!(problems.iter().map(ToString::to_string).collect::<String>()))
}

/// Its entity as merge sees it, without a registry.
pub fn room(pipeline: &Pipeline) -> anyhow::Result<Arc<EntityRoom>> {
    let id = |topic: &str, _: &str| {
        Ok(match topic {
            "acme.state.customer" => STATE,
            "acme.conflicts.customer" => CONFLICTS,
            _ => CANONICAL,
        })
    };
    let room = EntityRoom::open(pipeline, &pipeline.entities[0], id);
    Ok(Arc::new(room.map_err(|failure| anyhow!("{failure}"))?))
}

/// The schemas of what is read, without a registry.
pub fn schemas(pipeline: &Pipeline) -> anyhow::Result<Schemas> {
    let codec = CanonicalCodec::new(&pipeline.entities[0].schema_json)?;
    let known = [
        (MAPPED, MappedRecord::schema_json()),
        (STATE, State::schema_json()),
        (CANONICAL, codec.schema_json()),
    ];
    Ok(Schemas::of(&known))
}

/// The entity id of a customer: as scattered as a hash.
pub fn cid(customer: u64) -> String {
    format!("{:016x}{:016x}", scattered(customer), scattered(!customer))
}

/// A number far from those of its neighbours (splitmix64).
pub fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn field(name: &str, value: String) -> FieldValue {
    FieldValue {
        name: name.to_owned(),
        value: Value::Text(value),
    }
}

/// What every app holds of a customer at first, in the order of names.
fn row(customer: u64) -> Vec<FieldValue> {
    vec![
        field("city", format!("Middlesbrough, district {:03}", customer % 997)),
        field("email", format!("customer.{customer}@example.org")),
        field("name", format!("Ada Augusta Byron the {customer}th")),
        field("phone", format!("+44 1632 {:07}", customer % 9_999_991)),
    ]
}

/// What an app says of a customer: at round 0 what it holds at first, later with an edit of that round.
pub fn said(customer: u64, app: usize, round: u64, contested: bool) -> Mapped {
    let edited = if contested { CONTESTED } else { EDITED[app] };
    let mut fields = row(customer);
    if let Some(field) = fields.iter_mut().find(|field| field.name == edited && round > 0) {
        field.value = Value::Text(format!("{edited} {round:08} as {} has it", APPS[app]));
    }
    let lsn = 0x16_0000_0000 + round * 0x1_0000 + customer % 0x1_0000;
    Mapped {
        cid: cid(customer),
        source: APPS[app].to_owned(),
        row: RowKey(format!("{{\"id\":{customer}}}")),
        was: None,
        position: Position::new(1, Lsn(lsn), 3),
        commit_us: START_US + i64::try_from(round * 1_000_000 + customer % 1_000_000).unwrap_or_default(),
        op: RowOp::Present,
        fields,
        before: Vec::new(),
        mark: None,
        ahead: false,
    }
}

/// The row of another app with what `edit` said in it: our own write come back, with its mark.
pub fn echo(edit: &Mapped, app: usize, vector: Vector) -> Mapped {
    let marked = edit.fields.iter().map(|field| MarkedField {
        name: field.name.clone(),
        value: Some(field.value.clone()),
        delivered: None,
    });
    let mark = Mark {
        pipeline: "acme".to_owned(),
        entity: "customer".to_owned(),
        cid: edit.cid.clone(),
        table: "public.customers".to_owned(),
        row: Some(edit.row.0.clone()),
        act: Act::Update,
        vector,
        stamp_us: edit.commit_us,
        fields: marked.collect(),
    };
    Mapped {
        source: APPS[app].to_owned(),
        commit_us: edit.commit_us + 1,
        mark: Some(mark),
        ..edit.clone()
    }
}

/// The record as it comes from Kafka.
pub fn record(mapped: Mapped, offset: i64) -> InRecord {
    let key = mapped.cid.clone().into_bytes();
    message(Some(key), MappedRecord::Said(mapped), offset)
}

/// That a link is loaded, as it comes from Kafka.
pub fn loaded(link: &str, offset: i64) -> InRecord {
    let loaded = MappedRecord::Loaded {
        link: link.to_owned(),
        partition: 0,
        partitions: 1,
    };
    message(None, loaded, offset)
}

fn message(key: Option<Vec<u8>>, record: MappedRecord, offset: i64) -> InRecord {
    InRecord {
        topic: "acme.mapped.customer".to_owned(),
        partition: 0,
        offset,
        timestamp_ms: START_US / 1000,
        key,
        value: Some(record.encode(MAPPED)),
        headers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_about_200_bytes_and_reads_what_it_writes() {
        let record = record(said(123_456, 1, 77, false), 5);
        let bytes = record.value.unwrap();
        assert!((180..=260).contains(&bytes.len()), "{}", bytes.len());
        let mut schemas = schemas(&pipeline().unwrap()).unwrap();
        let read = schemas.read(&bytes, MappedRecord::decode).unwrap();
        assert_eq!(read, Ok(MappedRecord::Said(said(123_456, 1, 77, false))));
    }

    #[test]
    fn an_edit_changes_one_field() {
        let changed = |contested| {
            let (before, after) = (said(7, 0, 0, contested), said(7, 0, 3, contested));
            let pairs = before.fields.iter().zip(&after.fields);
            pairs.filter(|(before, after)| before != after).count()
        };
        assert_eq!((changed(false), changed(true)), (1, 1));
    }
}
