//! What holds for the two lanes of a hybrid link, whichever is ahead of the other, dies, begins again or gets other fields:
//! each field goes forward only, is written by its own lane, and ends as agreed; and of records that were coalesced nothing
//! is missing.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{knowing, link, record};
use proptest::prelude::*;
use syncline_schemas::canonical::Canonical;
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{Link, Mode};
use syncline_schemas::schedule::Schedule;
use syncline_schemas::value::Value;
use syncline_sink::lane::Lane;
use syncline_sink::plan::{Applied, Found, Given, Limits, Plan, Verdict, Write, address, plan};

const FIELDS: [&str; 2] = ["name", "email"];

/// Which fields are live; none: all of them.
const DIVISIONS: [Option<&str>; 3] = [None, Some("name"), Some("email")];

#[derive(Clone, Debug)]
enum Step {
    /// The agreed record changes: its name, its address, or both.
    Agree(bool, bool),
    /// The entity goes, or comes back.
    Delete,
    /// A lane takes so many records, of each of which it applies every one, or only the last.
    Take {
        rest: bool,
        records: usize,
        coalesced: bool,
    },
    /// A lane is killed and its offset row is from before: it reads so many records again.
    Again { rest: bool, records: usize },
    /// The file divides the fields otherwise.
    Divide(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), any::<bool>()).prop_map(|(name, email)| Step::Agree(name, email)),
        1 => Just(Step::Delete),
        4 => (any::<bool>(), 1..5_usize, any::<bool>())
            .prop_map(|(rest, records, coalesced)| Step::Take { rest, records, coalesced }),
        1 => (any::<bool>(), 1..5_usize).prop_map(|(rest, records)| Step::Again { rest, records }),
        1 => (0..DIVISIONS.len()).prop_map(Step::Divide),
    ]
}

/// A version of each field, and of the whole.
#[derive(Clone, Debug, Default)]
struct Versions {
    fields: BTreeMap<&'static str, u64>,
    deleted: bool,
}

/// The topic, the app's row, and what the sink keeps.
struct World {
    link: Link,
    topic: Vec<(Canonical, Versions)>,
    row: Option<BTreeMap<String, String>>,
    applied: Option<Applied>,
    /// Where the main lane is, and the rest.
    offsets: [usize; 2],
    /// The greatest version that was ever written into each field.
    written: BTreeMap<&'static str, u64>,
    writes: usize,
}

fn key() -> RowKey {
    RowKey::new([("id", &Value::from(7))])
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            link: link(),
            topic: Vec::new(),
            row: None,
            applied: None,
            offsets: [0, 0],
            written: BTreeMap::new(),
            writes: 0,
        };
        world.agree(&FIELDS, false);
        world
    }

    fn agree(&mut self, changed: &[&'static str], flips: bool) {
        let mut versions = self.topic.last().map(|(_, last)| last.clone()).unwrap_or_default();
        versions.deleted ^= flips;
        for field in changed {
            *versions.fields.entry(*field).or_default() += 1;
        }
        let fields: Vec<(&str, Value)> = versions
            .fields
            .iter()
            .map(|(field, version)| (*field, Value::from(format!("{field} {version}").as_str())))
            .collect();
        let fields = if versions.deleted { Vec::new() } else { fields };
        let mut made = record("c", &fields);
        made.deleted = versions.deleted;
        let made = knowing(made, "shop", self.topic.len() as u64 + 1);
        self.topic.push((made, versions));
    }

    fn lane(&self, rest: bool) -> Option<Lane> {
        if rest {
            Lane::rest(&self.link)
        } else {
            Some(Lane::main(&self.link))
        }
    }

    /// All lanes begin where the last of them stood.
    fn divide(&mut self, live: Option<&str>) {
        let last = match self.link.mode {
            Mode::Hybrid { .. } => self.offsets[0].min(self.offsets[1]),
            _ => self.offsets[0],
        };
        self.link.mode = live.map_or(Mode::Live, |live| Mode::Hybrid {
            live: BTreeSet::from([live.to_owned()]),
            rest: Schedule::Every { period_ms: 1_000 },
        });
        self.offsets = [last, last];
    }

    fn take(&mut self, rest: bool, records: usize, coalesced: bool) {
        let Some(lane) = self.lane(rest) else { return };
        let from = self.offsets[usize::from(rest)];
        let to = self.topic.len().min(from + records);
        let first = if coalesced {
            to.saturating_sub(1).max(from)
        } else {
            from
        };
        for at in first..to {
            self.deliver(&lane, at);
        }
        self.offsets[usize::from(rest)] = to;
    }

    fn found(&self, record: &Canonical) -> Found {
        match (address(record, "crm", self.applied.as_ref()), &self.row) {
            (None, _) => Found::Unknown,
            (Some(key), None) => Found::Missing(key),
            (Some(key), Some(columns)) => {
                let mut row: Row = columns
                    .iter()
                    .map(|(name, text)| (name.clone(), Cell::Set(text.as_str().into())))
                    .collect();
                row.insert("id".to_owned(), Cell::Set(7.into()));
                row.insert("stock".to_owned(), Cell::Set(Value::Null));
                Found::Row(key, row)
            }
        }
    }

    fn plan(&self, lane: &Lane, record: &Canonical) -> Plan {
        plan(&Given {
            pipeline: "p",
            lane,
            link: &self.link,
            limits: &Limits::default(),
            record,
            applied: self.applied.as_ref(),
            found: &self.found(record),
        })
        .unwrap()
    }

    fn deliver(&mut self, lane: &Lane, at: usize) {
        let (record, versions) = self.topic[at].clone();
        let mut plan = self.plan(lane, &record);
        match &plan.write {
            Write::Nothing => {}
            Write::Delete { .. } => self.row = None,
            Write::Insert { values, .. } => {
                assert!(self.row.is_none(), "a second row");
                self.row = Some(BTreeMap::new());
                self.write(values, &versions, true);
            }
            Write::Update { values, .. } => {
                for column in values.keys() {
                    assert!(lane.has(column), "{column} is not a field of lane {:?}", lane.name);
                }
                self.write(values, &versions, false);
            }
        }
        if let (Verdict::Inserted, Some(applied)) = (plan.verdict, &mut plan.applied) {
            applied.row = Some(key());
        }
        self.applied = plan.applied.or(self.applied.take());
        let again = self.plan(lane, &record);
        assert_eq!((again.write, again.mark), (Write::Nothing, None), "twice is once");
    }

    fn write(&mut self, values: &BTreeMap<String, Value>, versions: &Versions, is_new: bool) {
        for field in FIELDS {
            let Some(value) = values.get(field) else { continue };
            let version = versions.fields[field];
            let before = self.written.insert(field, version).unwrap_or_default();
            assert!(
                version > before || (is_new && version == before),
                "{field}: {version} after {before}"
            );
            if let Some(row) = &mut self.row {
                row.insert(field.to_owned(), value.to_string().trim_matches('"').to_owned());
            }
            self.writes += usize::from(!is_new);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Agree(name, email) => {
                let changed = FIELDS.into_iter().zip([*name, *email]).filter(|(_, changed)| *changed);
                let changed: Vec<&'static str> = changed.map(|(field, _)| field).collect();
                self.agree(&changed, false);
            }
            Step::Delete => self.agree(&[], true),
            Step::Take {
                rest,
                records,
                coalesced,
            } => self.take(*rest, *records, *coalesced),
            Step::Again { rest, records } => {
                let offset = &mut self.offsets[usize::from(*rest)];
                *offset = offset.saturating_sub(*records);
            }
            Step::Divide(to) => self.divide(DIVISIONS[*to]),
        }
    }

    /// Every lane takes what is left of its topic; the later lane first, if `rest_first`.
    fn finish(&mut self, rest_first: bool) {
        for rest in [rest_first, !rest_first] {
            self.take(rest, self.topic.len(), false);
        }
    }
}

fn shown(versions: &Versions) -> Option<BTreeMap<String, String>> {
    let field = |(field, version): (&&'static str, &u64)| ((*field).to_owned(), format!("{field} {version}"));
    (!versions.deleted).then(|| versions.fields.iter().map(field).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn each_field_goes_forward_and_ends_as_agreed(
        steps in prop::collection::vec(step(), 1..50),
        rest_first in any::<bool>(),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.finish(rest_first);
        let (_, last) = world.topic.last().cloned().unwrap();
        prop_assert_eq!(world.row, shown(&last));
    }

    /// What is edited all day is delivered by night: the rest takes what was agreed when its time came, though the other lane
    /// is past it.
    #[test]
    fn a_lane_that_is_behind_delivers_what_it_has(edits in 1..20_usize, due in 0..20_usize) {
        let mut world = World::new();
        world.divide(Some("email"));
        world.take(false, 1, false);
        for _ in 0..edits {
            world.agree(&FIELDS, false);
        }
        world.take(false, edits, false);
        let due = due.min(edits);
        world.take(true, due + 1, true);
        let row = world.row.clone().unwrap();
        prop_assert_eq!(&row["email"], &format!("email {}", edits + 1));
        prop_assert_eq!(&row["name"], &format!("name {}", due + 1));
        prop_assert_eq!(world.writes, edits + usize::from(due > 0), "one write of what was coalesced");
    }

    /// Another mode, whenever: nothing is written again, and nothing is left out.
    #[test]
    fn a_new_division_writes_what_was_left_and_nothing_else(
        before in 0..DIVISIONS.len(),
        after in 0..DIVISIONS.len(),
        edits in 0..8_usize,
        taken in (0..9_usize, 0..9_usize),
    ) {
        let mut world = World::new();
        world.divide(DIVISIONS[before]);
        for _ in 0..edits {
            world.agree(&FIELDS, false);
        }
        world.take(false, taken.0, false);
        world.take(true, taken.1, false);
        let due = FIELDS.into_iter().filter(|field| {
            let holds = world.row.as_ref().and_then(|row| row.get(*field)).cloned();
            holds.is_some_and(|holds| holds != format!("{field} {}", edits + 1))
        });
        let due = due.count();
        let is_new = world.row.is_none();
        let writes = world.writes;
        world.divide(DIVISIONS[after]);
        let all = world.topic.len();
        world.take(true, all, true);
        world.take(false, all, true);
        let (_, last) = world.topic.last().cloned().unwrap();
        prop_assert_eq!(&world.row, &shown(&last));
        prop_assert_eq!(world.writes - writes, if is_new { 0 } else { due });
    }
}
