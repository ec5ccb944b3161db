//! F29, the network (R84): each line of capture is cut, reset and slowed at each step, under load. Half-open lines are in
//! `capture_silence.rs`. Every test ends with the oracle: each committed change once, each key in order, no slot ahead of
//! Kafka.
//!
//! About 70 s, nearly all of it pauses between attempts, which grow with the number of failures.

use syncline_tests::proxy::{Fault, Kind, Line, Proxy, Side, When};
use syncline_tests::rig::{HEAL_MAX_S, Rig, in_rig};

/// The steps on the way to PostgreSQL, in their order: made again, all of them, whenever the connection has gone.
const SOURCE_STEPS: [(&str, When); 8] = [
    ("connect", When::Connects),
    ("log in", When::Message(Side::Server, Kind::Postgres(b'R'))),
    ("ask the catalogue", When::Message(Side::Server, Kind::Postgres(b'T'))),
    ("begin to stream", When::Message(Side::Server, Kind::Postgres(b'W'))),
    ("a change", When::Message(Side::Server, Kind::Log(b'U'))),
    ("the middle of a message", When::Bytes(Side::Server, 3001)),
    ("a commit", When::Message(Side::Server, Kind::Log(b'C'))),
    ("the confirmation", When::Message(Side::Client, Kind::Copy(b'r'))),
];

/// The steps on the way to Kafka: as API keys, the request or its answer.
const KAFKA_STEPS: [(&str, When); 11] = [
    ("connect", When::Connects),
    ("ApiVersions", When::Message(Side::Server, Kind::Kafka(18))),
    ("Metadata", When::Message(Side::Server, Kind::Kafka(3))),
    ("FindCoordinator", When::Message(Side::Client, Kind::Kafka(10))),
    ("InitProducerId", When::Message(Side::Server, Kind::Kafka(22))),
    ("Fetch of the progress", When::Message(Side::Server, Kind::Kafka(1))),
    ("AddPartitionsToTxn", When::Message(Side::Client, Kind::Kafka(24))),
    (
        "Produce, before it arrives",
        When::Message(Side::Client, Kind::Kafka(0)),
    ),
    ("Produce, its answer", When::Message(Side::Server, Kind::Kafka(0))),
    (
        "EndTxn, before it arrives",
        When::Message(Side::Client, Kind::Kafka(26)),
    ),
    ("EndTxn, its answer", When::Message(Side::Server, Kind::Kafka(26))),
];

/// Strikes at each step, by cut and reset in turn; `SYNCLINE_FAULTS=all`: by both. All connections are ended first, so
/// that capture goes through all steps again.
fn at_each_step(rig: &Rig<'_>, proxy: &Proxy, steps: &[(&str, When)]) -> anyhow::Result<()> {
    let both = std::env::var("SYNCLINE_FAULTS").is_ok_and(|which| which == "all");
    let turns = [Fault::Cut, Fault::Reset];
    for (number, (step, when)) in steps.iter().enumerate() {
        let faults = if both {
            &turns[..]
        } else {
            &turns[number % 2..=number % 2]
        };
        for fault in faults {
            let started = std::time::Instant::now();
            let trap = proxy.trap(*when, *fault);
            rig.postgres.cut_all();
            rig.recover(&trap, HEAL_MAX_S)
                .map_err(|error| error.context(format!("{fault:?} at: {step}")))?;
            println!(
                "{fault:?} at {step}: progress after {} ms",
                started.elapsed().as_millis()
            );
        }
    }
    Ok(())
}

#[test]
fn f29_the_line_to_the_source_is_cut_and_reset_at_each_step() {
    in_rig("f29s", |rig| {
        let (service, load) = (rig.capture()?, rig.load()?);
        at_each_step(rig, &rig.postgres, &SOURCE_STEPS)?;
        rig.judge(load, service)
    });
}

#[test]
fn f29_the_line_to_kafka_is_cut_and_reset_at_each_step() {
    in_rig("f29k", |rig| {
        let (service, load) = (rig.capture()?, rig.load()?);
        at_each_step(rig, &rig.kafka, &KAFKA_STEPS)?;
        rig.judge(load, service)
    });
}

/// Slow, uneven, narrow, in small pieces: slower, and nothing else.
#[test]
fn f29_bad_lines_only_slow_it_down() {
    in_rig("f29l", |rig| {
        let (service, load) = (rig.capture()?, rig.load()?);
        let single_bytes = Line {
            slice_bytes: Some(1),
            ..Line::default()
        };
        let far = Line {
            latency_ms: 20,
            jitter_ms: 60,
            ..Line::default()
        };
        let narrow = Line {
            bytes_per_s: Some(60_000),
            ..Line::default()
        };
        for line in [single_bytes, far, narrow] {
            rig.postgres.line(line);
            rig.kafka.line(line);
            load.goes_on(150)?;
            rig.caught_up(HEAL_MAX_S)?;
            // Beginning anew takes more round trips than going on.
            rig.postgres.reset_all();
            load.goes_on(50)?;
            rig.caught_up(HEAL_MAX_S)?;
        }
        rig.postgres.heal();
        rig.kafka.heal();
        rig.judge(load, service)
    });
}
