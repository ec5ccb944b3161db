//! Every record of ours against `apache-avro`: the schema is valid, the bytes are what the oracle reads and writes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use syncline_schemas::action::{Action, ActionKind};
use syncline_schemas::canonical::{AppWords, Canonical, Identity, Member, SaidWord};
use syncline_schemas::codec::{CanonicalCodec, CodecError, Crosswalk, ParsedSchema, State, Wire, frame_id};
use syncline_schemas::conflict::{Candidate, Conflict, Status};
use syncline_schemas::decision::Decision;
use syncline_schemas::identity::{IdentityAct, IdentityWord};
use syncline_schemas::mapped::{FieldValue, Mapped, MappedRecord, RowKey, RowOp, sighted_row};
use syncline_schemas::mark::{Act, Mark, MarkedField, PlacedMark};
use syncline_schemas::pause::{End, PauseRecord, Paused, Resumed};
use syncline_schemas::position::{Lsn, Position, Vector};
use syncline_schemas::progress::{Ahead, MarkRecord, Progress, SnapshotState, TableProgress};
use syncline_schemas::review::{self, Review, ReviewKind, Side};
use syncline_schemas::sighting::{Claim, Sighting, SightingRecord, Trait};
use syncline_schemas::table_record::TableRecord;
use syncline_schemas::tick::Tick;
use syncline_schemas::value::Value;
use syncline_schemas::waiting::Waiting;

fn at(lsn: u64) -> Position {
    Position::new(1, Lsn(lsn), 3)
}

fn vector() -> Vector {
    [("crm", at(7)), ("shop", at(u64::MAX))].into_iter().collect()
}

/// The oracle reads the datum and, writing what it read, gives the same bytes.
fn assert_oracle_agrees(schema_json: &str, datum: &[u8]) {
    let schema = Schema::parse_str(schema_json).unwrap();
    let mut rest = datum;
    let value = GenericDatumReader::builder(&schema)
        .build()
        .unwrap()
        .read_value(&mut rest)
        .unwrap();
    assert!(rest.is_empty(), "bytes left over");
    let rewritten = GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value_to_vec(value)
        .unwrap();
    assert_eq!(rewritten, datum);
}

fn check<R: Wire + PartialEq + Debug>(records: impl IntoIterator<Item = R>) {
    let writer = ParsedSchema::parse(R::schema_json()).unwrap();
    for record in records {
        let bytes = record.encode(77);
        let (id, datum) = frame_id(&bytes).unwrap();
        assert_eq!(id, 77);
        assert_oracle_agrees(R::schema_json(), datum);
        assert_eq!(R::decode(&writer, datum), Ok(record));
        for length in 0..datum.len() {
            assert!(R::decode(&writer, &datum[..length]).is_err(), "cut at {length}");
        }
    }
}

fn mark() -> Mark {
    Mark {
        pipeline: "acme".to_owned(),
        entity: "customer".to_owned(),
        cid: "c1".to_owned(),
        table: "public.customers".to_owned(),
        row: Some(r#"{"id":7}"#.to_owned()),
        act: Act::Update,
        vector: vector(),
        stamp_us: 5,
        fields: vec![MarkedField {
            name: "stock".to_owned(),
            value: None,
            delivered: Some("10".parse().unwrap()),
        }],
    }
}

fn said() -> Mapped {
    let field = |name: &str, value: Value| FieldValue {
        name: name.to_owned(),
        value,
    };
    Mapped {
        cid: "c1".to_owned(),
        source: "shop".to_owned(),
        row: RowKey(r#"{"id":7}"#.to_owned()),
        was: None,
        position: at(9),
        commit_us: -1,
        op: RowOp::Present,
        fields: vec![
            field("email", "ada\u{1F980}".into()),
            field("tags", "[\"a\",1.5,null]".parse().unwrap()),
        ],
        before: vec![field("email", Value::Null)],
        mark: None,
        ahead: false,
    }
}

#[test]
fn mapped_records() {
    let moved = Mapped {
        was: Some(RowKey("{}".to_owned())),
        op: RowOp::Seen,
        mark: Some(mark()),
        ahead: true,
        ..said()
    };
    let bare = Mapped {
        op: RowOp::Deleted,
        fields: Vec::new(),
        before: Vec::new(),
        ..said()
    };
    let loaded = MappedRecord::Loaded {
        link: "shop.public.t".to_owned(),
        partition: 3,
        partitions: 4,
    };
    check([
        MappedRecord::Said(said()),
        MappedRecord::Said(moved),
        MappedRecord::Said(bare),
        loaded,
    ]);
    check([None, Some("c2".to_owned())].map(|to| MappedRecord::Moved {
        cid: "c1".to_owned(),
        to,
        at: 7,
    }));
    check([None, Some("{}".to_owned())].map(|state| MappedRecord::Part {
        cid: "c2".to_owned(),
        of: "c1".to_owned(),
        at: 7,
        format: 1,
        state,
    }));
    let row = sighted_row("shop", &RowKey("{\"id\":7}".to_owned()));
    check([
        MappedRecord::Sighted {
            cid: "c1".to_owned(),
            row: row.clone(),
        },
        MappedRecord::Matched {
            cid: "c1".to_owned(),
            row,
            with: vec![("c0".to_owned(), 7)],
        },
    ]);
}

#[test]
fn what_rows_say_of_who_they_are_and_what_a_person_is_asked() {
    let seen = Sighting {
        cid: "c1".to_owned(),
        source: "shop".to_owned(),
        row: RowKey("{}".to_owned()),
        first: true,
        traits: vec![Trait {
            part: "email".to_owned(),
            hash: "91ab".to_owned(),
        }],
        claims: vec![Claim {
            source: "crm".to_owned(),
            key: "17".to_owned(),
        }],
    };
    let loaded = SightingRecord::Loaded {
        link: "shop.public.t".to_owned(),
        partition: 3,
        partitions: 4,
    };
    check([SightingRecord::Seen(seen), loaded]);
    let side = |cid: &str| Side {
        cid: cid.to_owned(),
        source: "shop".to_owned(),
        row: RowKey("{}".to_owned()),
    };
    let kinds = [ReviewKind::Unsure, ReviewKind::Ambiguous, ReviewKind::Duplicate];
    check(kinds.map(|kind| Review {
        id: review::id("customer", "c2", "c1"),
        kind,
        one: side("c1"),
        other: side("c2"),
        score: "7.5".parse().unwrap(),
        agrees: vec!["email".to_owned()],
        why: "…".to_owned(),
    }));
    assert_eq!(review::id("customer", "c2", "c1"), review::id("customer", "c1", "c2"));
}

#[test]
fn words_on_identity() {
    let acts = [IdentityAct::Merge, IdentityAct::Split, IdentityAct::Reject];
    check(acts.map(|act| IdentityWord {
        act,
        loser: "c1".to_owned(),
        winner: (act != IdentityAct::Split).then(|| "c2".to_owned()),
        by: "ada".to_owned(),
        why: "the same person".to_owned(),
        at_us: 1,
    }));
}

#[test]
fn conflicts_and_decisions() {
    let candidate = Candidate {
        source: "crm".to_owned(),
        row: RowKey("{}".to_owned()),
        value: None,
        base: Some(1000.into()),
        position: at(2),
        stamp_us: 3,
        seen: vector(),
        initial: true,
    };
    let conflict = |status| Conflict {
        id: "0123456789abcdef".to_owned(),
        cid: "c1".to_owned(),
        field: "limit".to_owned(),
        status,
        base: None,
        candidates: vec![candidate.clone()],
        strategy: "hold".to_owned(),
        rule: "acme.yaml:34".to_owned(),
        outcome: "1500.50".parse().unwrap(),
        winner: Some("crm".to_owned()),
        vector: vector(),
        note: "…".to_owned(),
        expires_us: (status == Status::Open).then_some(7),
    };
    check([Status::Open, Status::Settled, Status::Closed].map(conflict));
    check([Tick { at_us: i64::MAX }]);
    check([None, Some(7)].map(|approves| Decision {
        cid: "c1".to_owned(),
        field: "limit".to_owned(),
        value: 1200.into(),
        answers: vector(),
        by: "finance".to_owned(),
        why: "agreed by phone".to_owned(),
        at_us: 1,
        approves,
    }));
    let kinds = [
        ActionKind::Take,
        ActionKind::Release,
        ActionKind::Replay,
        ActionKind::Drop,
    ];
    check(kinds.map(|kind| Action {
        kind,
        subject: "customer/c1/limit".to_owned(),
        concerns: "91ab".to_owned(),
        by: "finance".to_owned(),
        why: "…".to_owned(),
        at_us: 1,
    }));
}

#[test]
fn what_capture_writes_beside_the_rows() {
    let placed = PlacedMark {
        position: at(1),
        commit_us: 2,
        mark: mark().to_text(),
    };
    check([
        MarkRecord::Placed(placed),
        MarkRecord::Loaded {
            table: "public.t".to_owned(),
            position: at(4),
        },
    ]);
    let states = [
        SnapshotState::NotStarted,
        SnapshotState::Started { done_to: None, rows: 0 },
        SnapshotState::Started {
            done_to: Some("[7]".to_owned()),
            rows: 1 << 40,
        },
        SnapshotState::Done,
    ];
    let tables = states.map(|state| TableProgress {
        table: "public.t".to_owned(),
        state,
    });
    check([None, Some(Lsn(5))].map(|consistent_point| Progress {
        position: at(1),
        system_identifier: "7412345678901234567".to_owned(),
        timeline: u32::MAX,
        slot: "s".to_owned(),
        publication_hash: "h".to_owned(),
        consistent_point,
        tables: tables.to_vec(),
        given_up: consistent_point.map(|_| "dropped at its limit".to_owned()),
        agenda: consistent_point.map(|_| "{\"paused\":true}".to_owned()),
        ahead: consistent_point.map(|_| Ahead {
            position: at(9),
            behind: [("public.t".to_owned(), at(1))].into(),
        }),
    }));
}

#[test]
fn tables() {
    check([None, Some("why".to_owned())].map(|why| TableRecord {
        slot: "s".to_owned(),
        table: "public.t".to_owned(),
        facts: "{}".to_owned(),
        needs_backfill: why.clone(),
        stopped: why,
    }));
}

#[test]
fn pauses() {
    let paused = PauseRecord::Paused(Paused {
        source: "shop".to_owned(),
        guard: "stale_restore".to_owned(),
        table: "public.t".to_owned(),
        topic: "shop.public.t".to_owned(),
        partition: 3,
        offset: 1 << 40,
        position: at(9),
        commit_us: -1,
        changed: 11,
        rows: 5_000,
        why: "ü".to_owned(),
    });
    let end = End {
        topic: "shop.public.t".to_owned(),
        partition: 3,
        offset: 7,
    };
    let resumed = PauseRecord::Resumed(Resumed {
        source: "shop".to_owned(),
        up_to: vec![end],
        by: "ada".to_owned(),
        why: "it is right".to_owned(),
        at_us: 8,
    });
    check([paused, resumed]);
}

#[test]
fn states_and_crosswalk() {
    let text = State {
        format: 1,
        state: "{}".to_owned(),
        packed: Vec::new(),
    };
    let bytes = State {
        format: 2,
        state: String::new(),
        packed: vec![0, 255],
    };
    check([text.clone(), bytes]);
    // As it was written before there were states in bytes.
    let older = r#"{"type":"record","name":"State","namespace":"syncline","fields":[
        {"name":"format","type":"int"},{"name":"state","type":"string"}]}"#;
    let read = State::decode(&ParsedSchema::parse(older).unwrap(), &[2, 4, b'{', b'}']);
    assert_eq!(read, Ok(text));
    check(
        [(None, None), (Some(at(1)), None), (None, Some(at(2)))].map(|(left_at, since)| Crosswalk {
            cid: "c1".to_owned(),
            left_at,
            since,
            known_ms: since.map(|_| 1_700_000_000_000),
        }),
    );
}

#[test]
fn what_waits() {
    check([None, Some(Vec::new()), Some(vec![0, 0xFF])].map(|key| Waiting {
        topic: "shop.public.orders".to_owned(),
        partition: 3,
        offset: 7,
        timestamp_ms: -1,
        value: vec![0, 1],
        headers: key.iter().map(|key| ("h".to_owned(), key.clone())).collect(),
        key,
    }));
}

#[test]
fn a_record_of_another_version_is_read_by_its_own_schema() {
    let older =
        r#"{"type":"record","name":"Crosswalk","namespace":"syncline","fields":[{"name":"cid","type":"string"}]}"#;
    let newer = r#"{"type":"record","name":"Crosswalk","namespace":"syncline","fields":[
        {"name":"score","type":"long"},{"name":"cid","type":"string"},{"name":"left_at","type":["null","string"]}]}"#;
    let expected = Ok(Crosswalk {
        cid: "c".to_owned(),
        left_at: None,
        since: None,
        known_ms: None,
    });
    assert_eq!(
        Crosswalk::decode(&ParsedSchema::parse(older).unwrap(), &[2, b'c']),
        expected
    );
    assert_eq!(
        Crosswalk::decode(&ParsedSchema::parse(newer).unwrap(), &[4, 2, b'c', 0]),
        expected
    );
}

const CUSTOMER: &str = r#"{"type":"record","name":"Customer","namespace":"acme","fields":[
    {"name":"name","type":"string"},
    {"name":"email","type":["null","string"],"default":null},
    {"name":"limit","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}],"default":null},
    {"name":"born","type":["null",{"type":"int","logicalType":"date"}],"default":null},
    {"name":"tags","type":{"type":"array","items":"string"}},
    {"name":"stock","type":"long"},
    {"name":"kind","type":["null",{"type":"enum","name":"Kind","symbols":["A","B"]}],"default":null},
    {"name":"other_kind","type":["null","Kind"],"default":null}]}"#;

fn customer(fields: &[(&str, &str)]) -> Canonical {
    let word = SaidWord {
        field: "email".to_owned(),
        value: "ada@crm.uk".into(),
        position: at(7),
        stamp_us: 1,
        unseen: vector(),
        own: Some("-5".parse().unwrap()),
    };
    let app = AppWords {
        app: "crm".to_owned(),
        via: Some("c0".to_owned()),
        row: RowKey(r#"{"id":1}"#.to_owned()),
        made: Some(at(3)),
        gone: false,
        remake: true,
        restore: false,
        words: vec![word],
    };
    Canonical {
        cid: "c1".to_owned(),
        deleted: false,
        deleted_us: Some(4),
        fields: fields
            .iter()
            .map(|(name, json)| ((*name).to_owned(), json.parse().unwrap()))
            .collect(),
        held: vec!["limit".to_owned()],
        counters: vec!["stock".to_owned()],
        vector: vector(),
        stamp_us: 9,
        apps: vec![app],
        rules: "0123456789abcdef".to_owned(),
        identity: Identity {
            at: Some(3),
            merged_into: Some("c2".to_owned()),
            members: vec![Member {
                cid: "c0".to_owned(),
                at: 5,
                joined: true,
            }],
        },
    }
}

#[test]
fn an_agreed_record_of_an_older_version_is_nobody_elses() {
    let codec = CanonicalCodec::new(CUSTOMER).unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(codec.schema_json()).unwrap();
    let later = ["moved_at", "merged_into", "members"];
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.retain(|field| !later.contains(&field["name"].as_str().unwrap()));
    let apps = fields.iter_mut().find(|field| field["name"] == "apps").unwrap();
    let words = apps["type"]["items"]["fields"].as_array_mut().unwrap();
    words.retain(|field| field["name"] != "via");
    let mut written = customer(&WHOLE);
    written.identity = Identity::default();
    written.apps.clear();
    let bytes = codec.encode(&written, 5).unwrap();
    let (_, datum) = frame_id(&bytes).unwrap();
    // What these three have when they are empty: null, null, and no members.
    let datum = &datum[..datum.len() - 3];
    let writer = ParsedSchema::parse(&schema.to_string()).unwrap();
    assert_eq!(codec.decode(&writer, datum), Ok(written));
}

#[test]
fn a_merged_record_is_to_each_of_its_rows_as_their_own() {
    let mut record = customer(&WHOLE);
    record.identity.merged_into = None;
    record.vector = Vector::from_iter([("shop", at(1)), ("crm@c0", at(2))]);
    let theirs = record.through("c0").unwrap();
    assert_eq!((theirs.cid.as_str(), theirs.identity.at), ("c0", Some(5)));
    assert_eq!(theirs.vector, Vector::from_iter([("shop@c1", at(1)), ("crm", at(2))]));
    assert_eq!(theirs.app("crm").map(|app| app.words.len()), Some(1));
    assert!(record.app("crm").is_none(), "it is another record's row");
    assert!(record.through("c3").is_none());
}

const WHOLE: [(&str, &str); 5] = [
    ("name", "\"Ada\""),
    ("limit", "1500.5"),
    ("born", "\"1815-12-10\""),
    ("tags", "[\"vip\"]"),
    ("stock", "105"),
];

#[test]
fn agreed_records_are_typed_by_the_entitys_schema() {
    let codec = CanonicalCodec::new(CUSTOMER).unwrap();
    let writer = ParsedSchema::parse(codec.schema_json()).unwrap();
    let with_null = [
        &WHOLE[..],
        &[("email", "null"), ("kind", "\"B\""), ("other_kind", "\"A\"")],
    ]
    .concat();
    for canonical in [customer(&WHOLE), customer(&with_null), customer(&[])] {
        let bytes = codec.encode(&canonical, 5).unwrap();
        let (_, datum) = frame_id(&bytes).unwrap();
        assert_oracle_agrees(codec.schema_json(), datum);
        assert_eq!(codec.decode(&writer, datum), Ok(canonical));
    }
    assert!(codec.schema_json().contains(r#""name":"acme.CustomerCanonical""#));
}

#[test]
fn what_does_not_fit_names_the_field() {
    let codec = CanonicalCodec::new(CUSTOMER).unwrap();
    let refused = |change: (&'static str, &'static str)| {
        let mut fields: BTreeMap<&str, &str> = WHOLE.into_iter().collect();
        fields.insert(change.0, change.1);
        let fields: Vec<_> = fields.into_iter().collect();
        match codec.encode(&customer(&fields), 5) {
            Err(CodecError::Field { field, reason }) => (field, reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(("limit", "0.001")).0, "limit");
    assert_eq!(refused(("stock", "1.5")).0, "stock");
    assert_eq!(refused(("name", "null")).0, "name");
    assert_eq!(refused(("unknown", "1")).0, "unknown");
    let (field, reason) = match codec.encode(&customer(&[("stock", "1")]), 5) {
        Err(CodecError::Field { field, reason }) => (field, reason),
        other => panic!("{other:?}"),
    };
    assert_eq!((field.as_str(), reason.contains("no value yet")), ("name", true));
}

#[test]
fn an_entity_of_records_or_maps_is_refused() {
    for kind in [
        r#"{"type":"map","values":"string"}"#,
        r#"{"type":"record","name":"R","fields":[]}"#,
    ] {
        let schema = format!(r#"{{"type":"record","name":"E","fields":[{{"name":"f","type":{kind}}}]}}"#);
        assert!(
            matches!(CanonicalCodec::new(&schema), Err(CodecError::Field { .. })),
            "{kind}"
        );
    }
    assert!(CanonicalCodec::new(r#""string""#).is_err());
}
