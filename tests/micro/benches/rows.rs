//! Each step of a record's way by itself: nanoseconds and records a second (criterion), allocations for each record.
//!
//! `cargo bench --workspace --bench rows [-- STEP]`. One record is one change: a row of twelve columns and some 400 bytes
//! in capture and in a replica, a customer of three apps in transform.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use syncline_bus::InRecord;
use syncline_capture::postgres::pgoutput::Decoder;
use syncline_micro::allocations::{self, Counting};
use syncline_micro::{customers, log};
use syncline_schemas::codec::{CanonicalCodec, ParsedSchema, Wire, frame_id};
use syncline_schemas::envelope;
use syncline_schemas::mapped::{Mapped, MappedRecord};
use syncline_schemas::pipeline::Pipeline;
use syncline_transform::change::Change;
use syncline_transform::mapping::{self, Known, Mapping};
use syncline_transform::merge::{EntityState, resolve};
use syncline_transform::schemas::Schemas;

#[global_allocator]
static COUNTING: &Counting = allocations::COUNTING;

/// Records over which allocations are counted.
const COUNTED: usize = 2_000;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args();
    let pipeline = customers::pipeline().expect("the fixture is a pipeline");
    capture(&mut criterion);
    map(&mut criterion);
    merge(&mut criterion, &pipeline);
    sinks(&mut criterion, &pipeline);
    criterion.final_summary();
}

/// Counts what a step asks of the allocator, then times it. `make` is on nobody's account.
fn step<I, O>(
    criterion: &mut Criterion,
    name: &str,
    bytes: usize,
    mut make: impl FnMut() -> I,
    mut work: impl FnMut(I) -> O,
) {
    let warm: Vec<I> = (0..COUNTED).map(|_| make()).collect();
    warm.into_iter().for_each(|input| drop(work(input)));
    let inputs: Vec<I> = (0..COUNTED).map(|_| make()).collect();
    let asked = allocations::asked(COUNTED, || {
        inputs.into_iter().for_each(|input| drop(black_box(work(input))))
    });
    println!(
        "{name}: {bytes} bytes in, {:.2} allocations of {:.0} bytes for each record",
        asked.times, asked.bytes
    );
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.bench_function("record", |bencher| {
        bencher.iter_batched(&mut make, &mut work, BatchSize::SmallInput)
    });
    group.finish();
}

fn numbers() -> impl FnMut() -> u64 {
    let mut next = 0;
    move || {
        next += 1;
        next
    }
}

/// From pgoutput to the envelope.
fn capture(criterion: &mut Criterion) {
    let bytes = log::insert(1).len();
    let mut number = numbers();
    let mut decoder = Decoder::new();
    step(
        criterion,
        "decode",
        bytes,
        || log::insert(number()),
        |payload| decoder.decode(payload).expect("pgoutput"),
    );

    let mut assembler = log::assembler().expect("a transaction begins");
    let mut number = numbers();
    let mut decoder = Decoder::new();
    let make = || decoder.decode(log::insert(number())).expect("pgoutput");
    step(criterion, "encode", bytes, make, |message| {
        assembler.push(log::CHANGE, &message, log::NOW_NS).expect("a row");
        assembler.records().rows().len()
    });
}

/// Rows' records as capture writes them.
fn captured() -> impl FnMut() -> InRecord {
    let mut assembler = log::assembler().expect("a transaction begins");
    let (mut decoder, mut number) = (Decoder::new(), numbers());
    move || {
        let message = decoder.decode(log::insert(number())).expect("pgoutput");
        assembler.push(log::CHANGE, &message, log::NOW_NS).expect("a row");
        log::captured(&assembler).expect("a record of it")
    }
}

/// From the envelope to a mapped record.
fn map(criterion: &mut Criterion) {
    let pipeline = customers::orders().expect("the fixture is a pipeline");
    let plan = log::registered();
    let key_schema = plan.table.key_schema.clone().expect("it has a key");
    let mut schemas = Schemas::of(&[(log::IDS.0, &key_schema), (log::IDS.1, &plan.table.value_schema)]);
    let (link, entity) = (&pipeline.links[0], &pipeline.entities[0]);
    let mut make = captured();
    let bytes = make().value.map_or(0, |value| value.len());
    step(criterion, "map", bytes, make, |record| {
        let value = record.value.as_deref().unwrap_or_default();
        let read = Change::read(&record, value, &pipeline, &mut schemas).expect("no registry is asked");
        let change = read.expect("an envelope").expect("a change");
        let input = change.input(link);
        let address = mapping::address(link, &input).expect("a row").expect("a change of it");
        match mapping::apply(link, entity, &input, address, &Known::default()).expect("it can be mapped") {
            Mapping::Said { mapped, .. } => MappedRecord::Said(*mapped).encode(1),
            other => panic!("{other:?}"),
        }
    });
}

/// A customer of whom all apps have said all there is.
fn known(pipeline: &Pipeline, contested: bool) -> EntityState {
    let mut state = EntityState::default();
    for round in 0..2 {
        for app in 0..customers::APPS.len() {
            state.join(&customers::said(7, app, round, contested), &pipeline.entities[0]);
        }
    }
    state
}

fn merge(criterion: &mut Criterion, pipeline: &Pipeline) {
    let entity = &pipeline.entities[0];
    let authority: Vec<String> = pipeline.authority().map(str::to_owned).collect();
    let cid = customers::cid(7);
    let edits = |contested| {
        let mut round = numbers();
        move || {
            let round = round();
            customers::said(7, usize::try_from(round % 3).unwrap_or(0), round + 2, contested)
        }
    };
    let datum = customers::record(customers::said(7, 0, 9, false), 0)
        .value
        .unwrap_or_default();
    let writer = ParsedSchema::parse(MappedRecord::schema_json()).expect("our own schema");
    step(
        criterion,
        "mapped_decode",
        datum.len(),
        || (),
        |()| {
            let (_, datum) = frame_id(&datum).expect("framed");
            MappedRecord::decode(&writer, datum).expect("our own record")
        },
    );
    for (name, contested) in [("join_resolve", false), ("join_resolve_contested", true)] {
        let mut state = known(pipeline, contested);
        step(criterion, name, datum.len(), edits(contested), |said| {
            state.join(&said, entity);
            resolve(&cid, &state, entity, &authority)
        });
    }
    let mut state = known(pipeline, false);
    let mut edit = edits(false);
    let echo = || {
        let edit: Mapped = edit();
        let app = customers::APPS.iter().position(|app| *app != edit.source).unwrap_or(0);
        let vector = [(edit.source.as_str(), edit.position)].into_iter().collect();
        customers::echo(&edit, app, vector)
    };
    step(criterion, "join_resolve_echo", datum.len(), echo, |said| {
        state.join(&said, entity);
        resolve(&cid, &state, entity, &authority)
    });
    state_codec(criterion, &known(pipeline, false));
    canonical(criterion, pipeline);
}

fn state_codec(criterion: &mut Criterion, state: &EntityState) {
    let written = state.to_bytes();
    step(criterion, "state_write", written.len(), || (), |()| state.to_bytes());
    step(
        criterion,
        "state_read",
        written.len(),
        || (),
        |()| EntityState::from_bytes(&written).expect("our own state"),
    );
}

fn canonical(criterion: &mut Criterion, pipeline: &Pipeline) {
    let entity = &pipeline.entities[0];
    let authority: Vec<String> = pipeline.authority().map(str::to_owned).collect();
    let resolved = resolve(&customers::cid(7), &known(pipeline, false), entity, &authority);
    let canonical = resolved.canonical.expect("everybody has spoken");
    let codec = CanonicalCodec::new(&entity.schema_json).expect("the fixture is a schema");
    let bytes = codec.encode(&canonical, 4).expect("it fits");
    step(
        criterion,
        "canonical_encode",
        bytes.len(),
        || (),
        |()| codec.encode(&canonical, 4),
    );
}

/// What sinks read.
fn sinks(criterion: &mut Criterion, pipeline: &Pipeline) {
    let entity = &pipeline.entities[0];
    let authority: Vec<String> = pipeline.authority().map(str::to_owned).collect();
    let resolved = resolve(&customers::cid(7), &known(pipeline, false), entity, &authority);
    let canonical = resolved.canonical.expect("everybody has spoken");
    let codec = CanonicalCodec::new(&entity.schema_json).expect("the fixture is a schema");
    let writer = ParsedSchema::parse(codec.schema_json()).expect("our own schema");
    let bytes = codec.encode(&canonical, 4).expect("it fits");
    step(
        criterion,
        "canonical_decode",
        bytes.len(),
        || (),
        |()| {
            let (_, datum) = frame_id(&bytes).expect("framed");
            codec.decode(&writer, datum).expect("our own record")
        },
    );

    let plan = log::registered();
    let key_schema = plan.table.key_schema.as_deref().map(ParsedSchema::parse);
    let key_schema = key_schema.expect("it has a key").expect("our own schema");
    let value_schema = ParsedSchema::parse(&plan.table.value_schema).expect("our own schema");
    let record = captured()();
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    step(
        criterion,
        "replica_decode",
        value.len(),
        || (),
        |()| {
            let (_, key) = frame_id(&key).expect("framed");
            let (_, value) = frame_id(&value).expect("framed");
            let key = envelope::decode_key(&key_schema, key).expect("our own record");
            (key, envelope::decode(&value_schema, value).expect("our own record"))
        },
    );
}
