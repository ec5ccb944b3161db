//! Bytes that nobody meant: whatever stands on a topic, reading it ends in a value or in an error.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use proptest::prelude::*;
use syncline_schemas::codec::{CanonicalCodec, Crosswalk, ParsedSchema, Wire, frame_id};
use syncline_schemas::conflict::Conflict;
use syncline_schemas::envelope;
use syncline_schemas::mapped::MappedRecord;
use syncline_schemas::progress::Progress;

const ENVELOPE: &str = include_str!("fixtures/debezium/toasted.value.avsc");

fn read_all(bytes: &[u8]) {
    let _ = frame_id(bytes);
    let schema = |json: &str| ParsedSchema::parse(json).unwrap();
    let _ = envelope::decode(&schema(ENVELOPE), bytes);
    let _ = envelope::decode_key(&schema(ENVELOPE), bytes);
    let _ = MappedRecord::decode(&schema(MappedRecord::schema_json()), bytes);
    let _ = Conflict::decode(&schema(Conflict::schema_json()), bytes);
    let _ = Progress::decode(&schema(Progress::schema_json()), bytes);
    let _ = Crosswalk::decode(&schema(Crosswalk::schema_json()), bytes);
    // A record that was written by another of our schemas.
    let _ = Conflict::decode(&schema(Progress::schema_json()), bytes);
    let codec = CanonicalCodec::new(ENTITY).unwrap();
    let _ = codec.decode(&schema(codec.schema_json()), bytes);
}

const ENTITY: &str = r#"{"type":"record","name":"E","fields":[
    {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
    {"name":"day","type":["null",{"type":"int","logicalType":"date"}]},
    {"name":"limit","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},
    {"name":"ratio","type":["null","double"]},
    {"name":"tags","type":{"type":"array","items":["null","string"]}}]}"#;

proptest! {
    #[test]
    fn noise_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    /// Small bytes are small numbers: branches of unions, lengths, counts. They get further than noise does.
    #[test]
    fn nearly_valid_datums_are_refused_or_read(bytes in proptest::collection::vec(0u8..6, 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn schemas_that_nobody_meant_are_refused(text in "[\\[\\]{}:,a-z\" ]{0,60}") {
        let _ = ParsedSchema::parse(&text);
    }
}
