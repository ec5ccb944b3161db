//! `syncline verify`: whether each app's rows hold what was agreed.
//!
//! What is under way looks like a difference, so a difference counts only if it is still the same after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::CanonicalCodec;
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{Entity, Link};
use syncline_schemas::topic;
use syncline_sink::postgres::Look;

use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk, Target, wrong};
use crate::paper::Table;
use crate::topics;

/// Pure: rows against agreed records.
pub mod compare;

use compare::{Agreed, Comparison, Difference, Referred};

/// More agreed records of one entity than this are not held in memory at once.
const RECORDS_MAX: usize = 1_000_000;
/// How often differences are looked at again, and how long that waits each time.
const SECOND_LOOKS: usize = 2;
const PAUSE_MS: u64 = 1_500;
/// For so many records without a known row the target's books are asked.
const BOOKS_ASKED_MAX: usize = 10_000;

/// What `verify` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only this app
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Only this entity
    #[arg(long, value_name = "NAME")]
    pub entity: Option<String>,
    /// Name at most so many rows
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max: usize,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Default, Serialize)]
struct Verified {
    /// Rows compared.
    rows: usize,
    /// Fields that are held, and therefore not compared.
    held: usize,
    /// Rows that are not as agreed.
    differing: usize,
    /// The first of them.
    differences: Vec<Difference>,
    /// Apps that could not be asked.
    unreached: BTreeMap<String, String>,
}

/// Compares.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let links = chosen(&desk, args)?;
    let mut verified = look(&mut desk, &links)?;
    for _ in 0..SECOND_LOOKS {
        if verified.differences.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(PAUSE_MS));
        let before: BTreeSet<Difference> = verified.differences.into_iter().collect();
        verified = look(&mut desk, &links)?;
        verified.differences.retain(|one| before.contains(one));
    }
    verified.differing = verified.differences.len();
    verified.differences.truncate(args.max);
    answer::give(args.asked.json, &verified, || verified.text())?;
    let verdict = match verified.unreached.is_empty() {
        true => Verdict::act_if(verified.differing > 0),
        false => Verdict::Unreached,
    };
    Ok(verdict.into())
}

fn chosen(desk: &Desk, args: &Args) -> Outcome<Vec<Link>> {
    if let Some(entity) = &args.entity {
        desk.entity(entity)?;
    }
    let links = desk.pipeline.links.iter().filter(|link| {
        let app = args.app.as_ref().is_none_or(|app| *app == link.system);
        link.writes() && app && args.entity.as_ref().is_none_or(|entity| *entity == link.entity)
    });
    let links: Vec<Link> = links.cloned().collect();
    if links.is_empty() {
        return Err(wrong("no link of the pipeline file writes there"));
    }
    Ok(links)
}

fn look(desk: &mut Desk, links: &[Link]) -> Outcome<Verified> {
    let mut verified = Verified::default();
    let entities: BTreeSet<&str> = links.iter().map(|link| link.entity.as_str()).collect();
    for name in entities {
        let entity = desk.entity(name)?.clone();
        let agreed = agreed(desk, &entity)?;
        for link in links.iter().filter(|link| link.entity == name) {
            let target = desk.targets().into_iter().find(|target| target.name == link.system);
            let Some(target) = target else { continue };
            let pipeline = desk.pipeline.clone();
            let mut references = Vec::new();
            for parent in pipeline.parents(link) {
                let entity = desk.entity(&parent.reference.entity)?.clone();
                references.push(Referred::new(parent, &self::agreed(desk, &entity)?));
            }
            match compared(desk, &target, link, &agreed, references) {
                Ok(compared) => {
                    verified.rows += compared.rows;
                    verified.held += compared.held;
                    verified.differences.extend(compared.differences);
                }
                Err(failure) => {
                    verified.unreached.insert(target.name, failure.to_string());
                }
            }
        }
    }
    Ok(verified)
}

/// The last agreed record of each id.
pub(crate) fn agreed(desk: &mut Desk, entity: &Entity) -> Outcome<Agreed> {
    let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| wrong(error.to_string()))?;
    let name = topic::canonical(&desk.pipeline.name, &entity.name, entity.version);
    let mut agreed = Agreed::new();
    let bus = desk.bus.clone();
    topics::each(&bus, &name, |record| {
        let Some(value) = record.value else {
            agreed.remove(&String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned());
            return Ok(());
        };
        if agreed.len() >= RECORDS_MAX {
            return Err(Failure::definite(
                "RECORDS_MANY",
                format!("{name} has more than {RECORDS_MAX} records"),
            ));
        }
        let canonical = desk.read(&name, &value, |writer, datum| codec.decode(writer, datum))?;
        agreed.insert(canonical.cid.clone(), canonical);
        Ok(())
    })?;
    Ok(agreed)
}

fn compared(
    desk: &Desk,
    target: &Target,
    link: &Link,
    agreed: &Agreed,
    references: Vec<Referred<'_>>,
) -> Outcome<compare::Compared> {
    let look = Look::open(&desk.pipeline.name, &target.name, &target.dsn)?;
    let done = written(&look, link, agreed).and_then(|written| {
        let mut comparison = Comparison::new(link, agreed, &written).referring(references);
        let limits = look.rows(link, |key, row| comparison.row(key, row))?;
        Ok(comparison.done(&limits))
    });
    look.close();
    done
}

/// The rows that the sink made for records through which the app has not spoken yet.
fn written(look: &Look, link: &Link, agreed: &Agreed) -> Outcome<Vec<(String, RowKey)>> {
    let spoken_for = agreed.values().filter(|record| record.identity.merged_into.is_none());
    let each = spoken_for.flat_map(|record| {
        let own = std::iter::once((record, record.cid.as_str(), None));
        own.chain(record.joined().map(move |cid| (record, cid, Some(cid))))
    });
    let unknown = each.filter(|(record, _, via)| record.app_via(&link.system, *via).is_none());
    let mut written = Vec::new();
    for (record, book, _) in unknown.take(BOOKS_ASKED_MAX) {
        let applied = look.applied(&link.entity, book)?.filter(|applied| !applied.removed);
        if let Some(row) = applied.and_then(|applied| applied.row) {
            written.push((record.cid.clone(), row));
        }
    }
    Ok(written)
}

impl Verified {
    fn text(&self) -> String {
        let mut table = Table::new(["APP", "ENTITY", "RECORD", "ROW", "WHAT"]);
        for one in &self.differences {
            table.row([
                &one.app,
                &one.entity,
                one.cid.as_deref().unwrap_or("-"),
                one.row.as_deref().unwrap_or("-"),
                &one.what.words(),
            ]);
        }
        let mut text = table.render();
        for (app, why) in &self.unreached {
            text += &format!("{app} cannot be asked: {why}\n");
        }
        let differing = match self.differing {
            0 => "all as agreed".to_owned(),
            count => format!("{count} not as agreed"),
        };
        text + &format!(
            "{} rows compared, {differing}; {} held fields apart\n",
            self.rows, self.held
        )
    }
}
