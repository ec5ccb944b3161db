//! What apps really send: blanks, nulls, marks that combine, keys that change, clocks that jump. `oddities.jsonl` has a line
//! for each, `[name, steps, expected]`, and each goes the whole way of map and merge, without Kafka.
//!
//! A step is `[app, row]` or `[app, row, how]`; columns that are left out are null. `how` may say the operation (`op`), the
//! commit time in seconds (`at`), the key it had before (`was`), columns that the log left out (`unknown`), how often it is
//! read (`repeat`), or that a step of that number is read once more (`again`). Expected are the agreed records without their
//! nulls (`agreed`) or how many there are (`entities`), why something was refused, and which fields are open conflicts.
//! `{"long": [TEXT, N]}` is a text N times over, `{"many": [TEXT, N]}` a list of N texts, TEXT and a number each.
//!
//! Whatever a line expects, it must come out whichever app is read first, if every step is read twice, and if all are read
//! again from the first.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value as Json;
use syncline_schemas::codec::Crosswalk;
use syncline_schemas::conflict::Status;
use syncline_schemas::envelope::{ChangeEvent, Op, SourceInfo};
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{self, Link, Pipeline};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::value::Value;
use syncline_transform::mapping::{self, Input, Known, Mapping};
use syncline_transform::merge::{EntityState, resolve};

/// As many as were promised, at the least.
const ODDITIES_MIN: usize = 200;
/// Some values are longer than anybody reads.
const TOLD_CHARS_MAX: usize = 2_000;

const PIPELINE: &str = r#"
pipeline: odd
defaults: { kafka: "k:9092", registry: "http://r" }
systems:
  shop: { postgres: "postgres://localhost/shop" }
  crm: { postgres: "postgres://localhost/crm" }
entities:
  customer:
    schema: customer.avsc@1
    fields:
      email: { on_conflict: latest }
      name: { on_conflict: latest }
      phone: { on_conflict: hold }
      limit: { on_conflict: max }
      tags: { on_conflict: union }
      state: { on_conflict: latest }
      points: { on_conflict: add }
      born: { on_conflict: latest }
      seen: { on_conflict: latest }
      vip: { on_conflict: latest }
      note: { on_conflict: longest }
    match:
      - same: [email]
    on_delete: { shop: delete_wins, crm: delete_wins }
links:
  shop.customers -> customer:
    key: id
    email: email
    name: trim(full_name)
    phone: null_if(phone, '')
    limit: scale(limit_pence, 2)
    tags: labels
    points: points
    born: born
    seen: seen
    vip: vip
    note: note
  crm.contacts -> customer:
    key: ref
    email: lower(trim(mail))
    name: "join(' ', first, last)"
    phone: tel
    limit: limit_gbp
    tags: split(tags, ';')
    state: "enum(status, 'A=active', 'I=inactive')"
    note: remark
"#;

const COLUMNS: [(&str, &[&str]); 2] = [
    (
        "shop",
        &[
            "id",
            "email",
            "full_name",
            "phone",
            "limit_pence",
            "labels",
            "points",
            "born",
            "seen",
            "vip",
            "note",
        ],
    ),
    (
        "crm",
        &[
            "ref",
            "mail",
            "first",
            "last",
            "tel",
            "limit_gbp",
            "tags",
            "status",
            "remark",
        ],
    ),
];

const CUSTOMER: &str = r#"{"type":"record","name":"Customer","fields":[
    {"name":"email","type":["null","string"],"default":null},
    {"name":"name","type":["null","string"],"default":null},
    {"name":"phone","type":["null","string"],"default":null},
    {"name":"limit","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}],"default":null},
    {"name":"tags","type":{"type":"array","items":"string"},"default":[]},
    {"name":"state","type":["null","string"],"default":null},
    {"name":"points","type":["null","long"],"default":null},
    {"name":"born","type":["null",{"type":"int","logicalType":"date"}],"default":null},
    {"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null},
    {"name":"vip","type":["null","boolean"],"default":null},
    {"name":"note","type":["null","string"],"default":null}]}"#;

fn pipeline() -> Pipeline {
    let schema = |_: &str| Ok(CUSTOMER.to_owned());
    pipeline::parse("odd.yaml", PIPELINE, &|_| None, &schema)
        .unwrap_or_else(|problems| panic!("{}", problems.iter().map(ToString::to_string).collect::<String>()))
}

/// A step of a line, and where it stands in its app's log.
#[derive(Clone)]
struct Step {
    app: String,
    row: Json,
    how: Json,
    place: u64,
}

impl Step {
    fn new(step: &Json, place: u64) -> Self {
        Self {
            app: step[0].as_str().unwrap().to_owned(),
            row: step[1].clone(),
            how: step[2].clone(),
            place,
        }
    }

    fn repeats(&self) -> u64 {
        self.how["repeat"].as_u64().unwrap_or(1)
    }

    /// All columns of the table: what is left out is null.
    fn row(&self) -> Row {
        let (_, columns) = COLUMNS.iter().find(|(app, _)| *app == self.app).unwrap();
        let unknown = self.how["unknown"].as_array().cloned().unwrap_or_default();
        let cell = |column: &&str| {
            let cell = match unknown.iter().any(|name| name == column) {
                true => Cell::Unchanged,
                false => Cell::Set(value(&self.row[*column])),
            };
            ((*column).to_owned(), cell)
        };
        columns.iter().map(cell).collect()
    }
}

fn value(json: &Json) -> Value {
    json.to_string().parse().unwrap()
}

fn key(json: &Json) -> Row {
    let columns = json.as_object().into_iter().flatten();
    columns
        .map(|(name, json)| (name.clone(), Cell::Set(value(json))))
        .collect()
}

/// Map and merge with their state in memory.
struct Hub {
    pipeline: Pipeline,
    crosswalk: HashMap<String, Crosswalk>,
    entities: BTreeMap<String, EntityState>,
    known_rows: BTreeSet<String>,
    refused: BTreeSet<String>,
}

impl Hub {
    fn new() -> Self {
        Self {
            pipeline: pipeline(),
            crosswalk: HashMap::new(),
            entities: BTreeMap::new(),
            known_rows: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    fn read(&mut self, step: &Step) {
        let link = self.pipeline.links.iter().find(|link| link.system == step.app);
        let link = link.unwrap().clone();
        let op = self.op(step, &link);
        let row = step.row();
        let was = step.how.get("was").map(key);
        if let Some(was) = &was {
            self.change(&link, step, Op::Delete, was, None, true);
        }
        self.change(&link, step, op, &row, was.as_ref(), false);
    }

    /// What it is said to be; else a row is there when it is first seen, and changes later.
    fn op(&mut self, step: &Step, link: &Link) -> Op {
        let key = format!("{}{}", step.app, step.row[link.key[0].as_str()]);
        let is_new = self.known_rows.insert(key);
        match step.how["op"].as_str() {
            Some(op) => op.parse().unwrap(),
            None if is_new => Op::Read,
            None => Op::Update,
        }
    }

    fn change(&mut self, link: &Link, step: &Step, op: Op, row: &Row, was: Option<&Row>, moves_away: bool) {
        let ends = op == Op::Delete;
        let event = ChangeEvent {
            op,
            before: ends.then(|| row.clone()),
            after: (!ends && op != Op::Truncate).then(|| row.clone()),
            source: SourceInfo::default(),
            ts_ms: 0,
        };
        let at_s = step.how["at"]
            .as_i64()
            .unwrap_or_else(|| i64::try_from(step.place).unwrap());
        let input = Input {
            event: &event,
            key: Some(row),
            position: Position::new(1, Lsn(step.place), u64::from(!moves_away)),
            commit_us: at_s * 1_000_000,
            ahead: false,
            old_key: was,
            moves_away,
            new_key: None,
            mark: None,
        };
        if let Err(refusal) = self.map(link, &input) {
            self.refused.insert(refusal.to_string());
        }
    }

    fn map(&mut self, link: &Link, input: &Input<'_>) -> Result<(), mapping::Refusal> {
        let Ok(address) = mapping::address(link, input)? else {
            return Ok(());
        };
        let find = |row: &RowKey| self.crosswalk.get(&mapping::crosswalk_key(link, row)).cloned();
        let known = Known {
            row: find(&address.row),
            was: address.was.as_ref().and_then(find),
        };
        let entity = self.pipeline.entity(&link.entity).unwrap();
        match mapping::apply(link, entity, input, address, &known)? {
            Mapping::Said { mapped, crosswalk, .. } => {
                self.crosswalk.extend(crosswalk);
                let state = self.entities.entry(mapped.cid.clone()).or_default();
                state.join(&mapped, entity);
            }
            Mapping::Left { key, entry, .. } => _ = self.crosswalk.insert(key, entry),
            Mapping::Nothing(_) => {}
        }
        Ok(())
    }

    /// In the words of the corpus.
    fn outcome(&self) -> Outcome {
        let authority: Vec<String> = self.pipeline.authority().map(str::to_owned).collect();
        let entity = self.pipeline.entity("customer").unwrap();
        let mut outcome = Outcome {
            refused: self.refused.iter().cloned().collect(),
            ..Outcome::default()
        };
        for (cid, state) in &self.entities {
            let resolved = resolve(cid, state, entity, &authority);
            let open = resolved
                .conflicts
                .iter()
                .filter(|conflict| conflict.status == Status::Open);
            outcome.open.extend(open.map(|conflict| conflict.field.clone()));
            let Some(record) = resolved.canonical.filter(|record| !record.deleted) else {
                continue;
            };
            let said = |value: &Value| *value != Value::Null && *value != Value::List(Vec::new());
            let fields = record.fields.into_iter().filter(|(_, value)| said(value));
            outcome.agreed.push(fields.collect());
        }
        outcome.open.sort();
        outcome.agreed.sort();
        outcome
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    agreed: Vec<BTreeMap<String, Value>>,
    refused: Vec<String>,
    open: Vec<String>,
}

/// Whether this is what the line expects.
fn is_expected(outcome: &Outcome, expected: &Json) -> bool {
    let texts = |name: &str| -> Vec<String> {
        let texts = expected[name].as_array().into_iter().flatten();
        texts.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let record = |json: &Json| -> BTreeMap<String, Value> {
        let fields = json.as_object().unwrap().iter();
        fields.map(|(name, json)| (name.clone(), value(json))).collect()
    };
    let agreed = match (&expected["agreed"], expected["entities"].as_u64()) {
        (_, Some(count)) => outcome.agreed.len() as u64 == count,
        (agreed, None) => {
            let mut agreed: Vec<_> = agreed.as_array().into_iter().flatten().map(record).collect();
            agreed.sort();
            outcome.agreed == agreed
        }
    };
    agreed && outcome.refused == texts("refused") && outcome.open == texts("open")
}

/// What comes of the steps in this order, each read so many times.
fn run(steps: &[&Step], times: u64) -> Outcome {
    let mut hub = Hub::new();
    for step in steps {
        (0..step.repeats() * times).for_each(|_| hub.read(step));
    }
    hub.outcome()
}

fn steps(line: &Json) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for step in line[1].as_array().unwrap() {
        let place = steps.len() as u64 + 1;
        match step[2]["again"].as_u64() {
            Some(number) => steps.push(steps[usize::try_from(number).unwrap() - 1].clone()),
            None => steps.push(Step::new(step, place)),
        }
    }
    steps
}

/// A line as it is meant: values that nobody wants to read are written short.
fn at_length(json: Json) -> Json {
    let short = |name: &str| Some((json[name][0].as_str()?.to_owned(), json[name][1].as_u64()?));
    if let Some((text, count)) = short("long") {
        return text.repeat(usize::try_from(count).unwrap()).into();
    }
    if let Some((text, count)) = short("many") {
        return (0..count).map(|number| format!("{text}{number:05}")).collect();
    }
    match json {
        Json::Array(parts) => parts.into_iter().map(at_length).collect(),
        Json::Object(fields) => fields.into_iter().map(|(name, json)| (name, at_length(json))).collect(),
        other => other,
    }
}

#[test]
fn each_oddity_comes_out_as_its_line_says() {
    let lines = include_str!("oddities.jsonl")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let lines: Vec<Json> = lines
        .map(|line| at_length(serde_json::from_str(line).unwrap()))
        .collect();
    let names: BTreeSet<&str> = lines.iter().filter_map(|line| line[0].as_str()).collect();
    assert_eq!(names.len(), lines.len(), "a name for each");
    assert!(lines.len() >= ODDITIES_MIN, "{} oddities", lines.len());
    let mut wrong: Vec<String> = Vec::new();
    for line in &lines {
        let steps = steps(line);
        let as_written: Vec<&Step> = steps.iter().collect();
        let of = |app: &'static str| steps.iter().filter(move |step| step.app == app);
        let shop_first: Vec<&Step> = of("shop").chain(of("crm")).collect();
        let crm_first: Vec<&Step> = of("crm").chain(of("shop")).collect();
        let orders = [
            ("as written", as_written, 1),
            ("shop first", shop_first, 1),
            ("crm first", crm_first, 1),
            ("each twice", steps.iter().collect(), 2),
            ("all twice", steps.iter().chain(&steps).collect(), 1),
        ];
        for (order, steps, times) in orders {
            let outcome = run(&steps, times);
            if !is_expected(&outcome, &line[2]) {
                let told = format!("{}, {order}: {outcome:?}, not {}", line[0], line[2]);
                wrong.push(told.chars().take(TOLD_CHARS_MAX).collect());
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
