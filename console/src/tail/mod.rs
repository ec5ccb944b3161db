//! `syncline tail`: the records of any topic, readable. It shows values of rows; that is what it is for.

use std::process::ExitCode;
use std::time::Duration;

use syncline_bus::{InRecord, PartitionReader, admin};
use syncline_runtime::Outcome;

use crate::answer::Verdict;
use crate::desk::{Asked, Desk, wrong};
use crate::{paper, topics};

/// A record as a line of text or of JSON.
mod line;

pub(crate) use line::{Shown, time_of_ms, time_of_us};

const FOLLOW_POLL_MS: u64 = 100;
/// Offsets that transactions take away, at the first look back.
const LOOK_BACK_SLACK: i64 = 16;

/// What `tail` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The topic
    pub topic: String,
    /// The first records of the topic, or the last
    #[arg(long, value_enum, default_value = "end")]
    pub from: From,
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub max: usize,
    /// Go on with what comes, until you stop it
    #[arg(long)]
    pub follow: bool,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// The first record that there is.
    Begin,
    /// The last record that there is.
    End,
}

/// Shows the records.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let Some(partitions) = admin::partitions(&desk.bus, &args.topic)? else {
        return Err(unknown(&desk, &args.topic)?);
    };
    let (mut records, mut readers) = (Vec::new(), Vec::new());
    for partition in 0..partitions {
        let (read, reader) = match args.from {
            From::Begin => first(&desk, args, partition)?,
            From::End => last(&desk, args, partition)?,
        };
        records.extend(in_time(read));
        readers.push(reader);
    }
    records.sort_by_key(|(at, record)| (*at, record.partition, record.offset));
    let surplus = records.len().saturating_sub(args.max);
    let shown = match args.from {
        From::Begin => &records[..records.len() - surplus],
        From::End => &records[surplus..],
    };
    for (_, record) in shown {
        show(&mut desk, record, args.asked.json)?;
    }
    if args.follow {
        follow(&mut desk, &mut readers, args.asked.json)?;
    }
    Ok(Verdict::Well.into())
}

fn show(desk: &mut Desk, record: &InRecord, json: bool) -> Outcome<()> {
    let shown = Shown::of(record, &mut desk.schemas)?;
    paper::answer(&if json { shown.json() } else { shown.line() })
}

/// Never returns but by a failure or by being stopped.
fn follow(desk: &mut Desk, readers: &mut [PartitionReader], json: bool) -> Outcome<()> {
    loop {
        for reader in &mut *readers {
            while let Some(record) = reader.next(Duration::from_millis(FOLLOW_POLL_MS))? {
                show(desk, &record, json)?;
            }
        }
    }
}

fn unknown(desk: &Desk, topic: &str) -> Outcome<syncline_runtime::Failure> {
    let names = admin::topics(&desk.bus)?;
    let like: Vec<&str> = names
        .iter()
        .filter(|name| name.contains(topic))
        .map(String::as_str)
        .collect();
    let ours: Vec<&str> = names
        .iter()
        .filter(|name| name.starts_with(&format!("{}.", desk.pipeline.name)))
        .map(String::as_str)
        .collect();
    let others = if like.is_empty() { ours } else { like };
    Ok(wrong(format!("there is no topic {topic}")).hint(format!("there is {}", others.join(", "))))
}

/// The first records of a partition; a reader that goes on behind them.
fn first(desk: &Desk, args: &Args, partition: i32) -> Outcome<(Vec<InRecord>, PartitionReader)> {
    let mut reader = PartitionReader::open(&desk.bus, &args.topic, partition, 0)?;
    let mut records = Vec::new();
    while records.len() < args.max
        && let Some(record) = topics::next(&mut reader, &args.topic)?
    {
        records.push(record);
    }
    Ok((records, reader))
}

/// The last records of a partition; a reader that stands at its end.
fn last(desk: &Desk, args: &Args, partition: i32) -> Outcome<(Vec<InRecord>, PartitionReader)> {
    let mut back = i64::try_from(args.max)
        .unwrap_or(i64::MAX)
        .saturating_add(LOOK_BACK_SLACK);
    loop {
        let mut reader = PartitionReader::open_back(&desk.bus, &args.topic, partition, back)?;
        let whole = reader.position() <= reader.first();
        let mut records = std::collections::VecDeque::new();
        while let Some(record) = topics::next(&mut reader, &args.topic)? {
            records.push_back(record);
            if records.len() > args.max {
                records.pop_front();
            }
        }
        if whole || records.len() >= args.max {
            return Ok((records.into(), reader));
        }
        back = back.saturating_mul(4);
    }
}

/// Each with a time that does not go back within its partition, so that sorting by it keeps the order there.
fn in_time(records: Vec<InRecord>) -> Vec<(i64, InRecord)> {
    let mut latest = i64::MIN;
    let timed = records.into_iter().map(|record| {
        latest = latest.max(record.timestamp_ms);
        (latest, record)
    });
    timed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_back_does_not_turn_the_order_round() {
        let record = |offset, timestamp_ms| InRecord {
            topic: "t".to_owned(),
            partition: 0,
            offset,
            timestamp_ms,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let times: Vec<i64> = in_time(vec![record(0, 5), record(1, 3), record(2, 9)])
            .into_iter()
            .map(|(at, _)| at)
            .collect();
        assert_eq!(times, [5, 5, 9]);
    }
}
