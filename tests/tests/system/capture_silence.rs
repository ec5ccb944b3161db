//! F29, lines that die without a word: half-open connections at each step of capture, and a link that is broken for a
//! while. Nothing tells of them but time, so each wait for an answer must have an end.
//!
//! Half of the steps are tried side by side, each in a world of its own, because all that happens is waiting: about 2 min.

use syncline_tests::proxy::{Fault, Kind, Side, When};
use syncline_tests::rig::{Rig, in_rig};

/// Thirty seconds without an answer, the pauses between attempts, and the backlog.
const NOTICE_MAX_S: u64 = 75;
/// Worlds, each with its load: more of them and the broker is too busy to answer anybody.
const AT_ONCE: usize = 7;

#[derive(Clone, Copy)]
enum Line {
    Source,
    Kafka,
}

const STEPS: [(&str, Line, When); 13] = [
    ("s_connect", Line::Source, When::Connects),
    (
        "s_login",
        Line::Source,
        When::Message(Side::Server, Kind::Postgres(b'R')),
    ),
    (
        "s_catalogue",
        Line::Source,
        When::Message(Side::Server, Kind::Postgres(b'T')),
    ),
    (
        "s_stream",
        Line::Source,
        When::Message(Side::Server, Kind::Postgres(b'W')),
    ),
    ("s_change", Line::Source, When::Message(Side::Server, Kind::Log(b'U'))),
    ("s_confirm", Line::Source, When::Message(Side::Client, Kind::Copy(b'r'))),
    ("k_connect", Line::Kafka, When::Connects),
    ("k_init", Line::Kafka, When::Message(Side::Server, Kind::Kafka(22))),
    ("k_fetch", Line::Kafka, When::Message(Side::Server, Kind::Kafka(1))),
    ("k_addpart", Line::Kafka, When::Message(Side::Server, Kind::Kafka(24))),
    ("k_produce", Line::Kafka, When::Message(Side::Server, Kind::Kafka(0))),
    ("k_endtxn", Line::Kafka, When::Message(Side::Client, Kind::Kafka(26))),
    ("k_ended", Line::Kafka, When::Message(Side::Server, Kind::Kafka(26))),
];

fn half_open(rig: &mut Rig<'_>, step: &str, line: Line, when: When) -> anyhow::Result<()> {
    let (service, load) = (rig.capture()?, rig.load()?);
    let proxy = match line {
        Line::Source => &rig.postgres,
        Line::Kafka => &rig.kafka,
    };
    let trap = proxy.trap(when, Fault::Silence);
    rig.postgres.cut_all();
    let started = std::time::Instant::now();
    rig.recover(&trap, NOTICE_MAX_S)?;
    println!(
        "half-open at {step}: progress after {} ms",
        started.elapsed().as_millis()
    );
    rig.judge(load, service)
}

#[test]
fn f29_half_open_at_each_step() {
    for steps in STEPS.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            for &(step, line, when) in steps {
                scope.spawn(move || in_rig(&format!("f29_{step}"), |rig| half_open(rig, step, line, when)));
            }
        });
    }
}
