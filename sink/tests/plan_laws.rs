//! What holds for the plan whatever happens: on random histories of one row of an app, with records delivered late, twice
//! and in the wrong order while the app's users go on working.

mod common;

use common::{app, knowing, link, number, record, word};
use proptest::prelude::*;
use syncline_schemas::canonical::Canonical;
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::value::{Number, Value};
use syncline_sink::lane::Lane;
use syncline_sink::plan::{Applied, Found, Given, Limits, Plan, Verdict, Write, plan};

/// The app: its row, its log of own edits, and what the sink keeps beside it.
#[derive(Clone, Default)]
struct App {
    email: String,
    stock: i64,
    /// Own edits of the address: position and value.
    said: Vec<(u64, String)>,
    /// Own changes of the stock: position and sum so far.
    sold: Vec<(u64, i64)>,
    clock: u64,
    applied: Option<Applied>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A user writes one of a few addresses.
    Edit(u8),
    /// A user sells or takes in.
    Sell(i8),
    /// The agreed record changes: address, and what the others sold.
    Agree(u8, i8),
    /// One of the records so far is delivered.
    Deliver(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8).prop_map(Step::Edit),
        (-5..5_i8).prop_map(Step::Sell),
        (0..4_u8, -5..5_i8).prop_map(|(email, sold)| Step::Agree(email, sold)),
        any::<prop::sample::Index>().prop_map(Step::Deliver),
    ]
}

impl App {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn found(&self) -> Found {
        let id = Value::from(7);
        let columns = [
            ("id", id.clone()),
            ("name", "Ada".into()),
            ("email", self.email.as_str().into()),
            ("stock", self.stock.into()),
        ];
        let row: Row = columns
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Cell::Set(value)))
            .collect();
        Found::Row(RowKey::new([("id", &id)]), row)
    }

    fn plan(&self, record: &Canonical) -> Plan {
        let (link, limits, found) = (link(), Limits::default(), self.found());
        let applied = self.applied.as_ref();
        plan(&Given {
            pipeline: "p",
            lane: &Lane::default(),
            link: &link,
            limits: &limits,
            record,
            applied,
            found: &found,
        })
        .unwrap()
    }

    fn write(&mut self, plan: &Plan) {
        if let Write::Update { values, .. } = &plan.write {
            self.tick();
            if let Some(Value::Text(email)) = values.get("email") {
                self.email.clone_from(email);
            }
            if let Some(Value::Number(stock)) = values.get("stock") {
                self.stock = stock.to_string().parse().unwrap();
            }
        }
        self.applied = plan.applied.clone().or(self.applied.take());
    }

    fn own_stock(&self) -> i64 {
        self.sold.last().map_or(100, |(_, sum)| *sum)
    }

    /// The record made of everything the app said so far, of that address, and of the others' sum.
    fn agree(&self, email: &str, others: i64, version: u64) -> Canonical {
        let sum = self.own_stock() + others;
        let mut made = record("c", &[("email", email.into()), ("stock", sum.into())]);
        let (said, mut words) = (self.said.last(), Vec::new());
        words.extend(said.map(|(lsn, value)| word("email", value.as_str(), *lsn)));
        words.push(word(
            "stock",
            self.own_stock(),
            self.sold.last().map_or(1, |(lsn, _)| *lsn),
        ));
        made.apps = vec![app("crm", 7, words)];
        knowing(knowing(made, "crm", self.clock), "shop", version)
    }
}

/// Runs a history; `check` sees each delivery before and after.
fn run(steps: &[Step], mut check: impl FnMut(&App, &Canonical, &Plan, &App)) -> (App, Vec<Canonical>) {
    let mut app = App {
        email: "a0".to_owned(),
        stock: 100,
        ..App::default()
    };
    let first = app.tick();
    app.said.push((first, "a0".to_owned()));
    let mut others = 0;
    let mut records = vec![app.agree("a0", 0, 1)];
    for step in steps {
        match step {
            Step::Edit(value) => {
                app.email = format!("a{value}");
                let (lsn, email) = (app.tick(), app.email.clone());
                app.said.push((lsn, email));
            }
            Step::Sell(change) => {
                app.stock += i64::from(*change);
                let (lsn, sum) = (app.tick(), app.own_stock() + i64::from(*change));
                app.sold.push((lsn, sum));
            }
            Step::Agree(value, sold) => {
                others += i64::from(*sold);
                records.push(app.agree(&format!("a{value}"), others, records.len() as u64 + 1));
            }
            Step::Deliver(index) => {
                let record = index.get(&records).clone();
                let before = app.clone();
                let plan = app.plan(&record);
                app.write(&plan);
                check(&before, &record, &plan, &app);
            }
        }
    }
    (app, records)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn twice_is_once(steps in prop::collection::vec(step(), 1..40)) {
        run(&steps, |_, record, _, after| {
            let again = after.plan(record);
            assert_eq!((&again.write, &again.mark, &again.applied), (&Write::Nothing, &None, &None));
        });
    }

    #[test]
    fn older_never_overwrites_newer(steps in prop::collection::vec(step(), 1..40)) {
        let mut newest = 0;
        run(&steps, |before, record, plan, after| {
            let version = record.vector.get("shop").unwrap().lsn.0;
            if version < newest {
                assert_eq!(plan.verdict, Verdict::Older);
                assert_eq!((&before.email, before.stock), (&after.email, after.stock));
            }
            newest = newest.max(version);
        });
    }

    /// Only a value that the record knew, or that we wrote ourselves, is ever replaced.
    #[test]
    fn an_unseen_edit_is_never_overwritten(steps in prop::collection::vec(step(), 1..40)) {
        let mut ours = Vec::new();
        run(&steps, |before, record, _, after| {
            if before.email != after.email {
                let known = record.apps[0].word("email").map(|word| word.value.clone());
                let known = known == Some(before.email.as_str().into());
                assert!(known || ours.contains(&before.email), "{} was not known", before.email);
                ours.push(after.email.clone());
            }
        });
    }

    /// Whatever was lost, repeated or overtaken: with the last record in, the app holds its own sum and the others'.
    #[test]
    fn counters_end_at_the_sum(steps in prop::collection::vec(step(), 1..40)) {
        let (mut app, records) = run(&steps, |_, _, _, _| {});
        let last = records.last().unwrap();
        let plan = app.plan(last);
        app.write(&plan);
        let agreed: Number = last.fields["stock"].to_string().parse().unwrap();
        let known: Number = last.apps[0].word("stock").unwrap().own.clone().unwrap();
        let others = &agreed - &known;
        prop_assert_eq!(number(&app.stock.to_string()), &number(&app.own_stock().to_string()) + &others);
    }

    /// When the app is quiet and all it said is known, the last record makes it hold what was agreed.
    #[test]
    fn a_quiet_app_ends_as_agreed(steps in prop::collection::vec(step(), 1..40), email in 0..4_u8) {
        let (mut app, records) = run(&steps, |_, _, _, _| {});
        let last = app.agree(&format!("a{email}"), 0, records.len() as u64 + 1);
        let plan = app.plan(&last);
        app.write(&plan);
        prop_assert_eq!(&app.email, &format!("a{email}"));
        prop_assert!(plan.stale.is_empty());
    }
}
