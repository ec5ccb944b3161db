//! The customer in nine steps: what every app showed before and after, and what was decided.

use anyhow::Context as _;
use syncline_tests::{Agreed, Stage, World, process, until};

use crate::cast::Cast;
use crate::show::{Look, Show};

const WAIT_S: u64 = 40;
const APPS: [&str; 3] = ["shop", "crm", "billing"];
const FIELDS: [&str; 4] = ["email", "phone", "credit_limit", "tags"];

/// What one app shows of Ada: a cell for each field, `·` for what it does not know.
type Shown = [Vec<String>; 3];

fn shown(world: &World) -> anyhow::Result<Shown> {
    let cells = |app: &str, sql: &str| -> anyhow::Result<Vec<String>> {
        Ok(world.db(app).text(sql)?.split('|').map(str::to_owned).collect())
    };
    let labels = "(SELECT string_agg(l, ',' ORDER BY l COLLATE \"C\") FROM unnest(labels) l)";
    let tags = "(SELECT string_agg(t, ',' ORDER BY t COLLATE \"C\") FROM unnest(string_to_array(tags, ';')) t)";
    Ok([
        cells(
            "shop",
            &format!(
                "SELECT email, phone, '·', {labels} FROM customers WHERE full_name = 'Ada Lovelace' AND email LIKE 'ada@%'"
            ),
        )?,
        cells(
            "crm",
            &format!(
                "SELECT mail, tel, trim_scale(limit_gbp), {tags} FROM contacts WHERE first = 'Ada' AND mail LIKE 'ada@%'"
            ),
        )?,
        cells(
            "billing",
            "SELECT invoice_to, '·', trim_scale(credit_limit), '·' FROM accounts WHERE holder = 'Ada Lovelace' AND invoice_to LIKE 'ada@%'",
        )?,
    ])
}

struct Step {
    title: &'static str,
    app: &'static str,
    sql: &'static str,
    /// Agreed email, phone, limit, tags.
    agreed: [&'static str; 4],
    held: bool,
    /// The conflict it makes: field, status, candidates.
    conflict: Option<[&'static str; 3]>,
    verdict: &'static str,
    /// What the apps must show in the end: app, column, value.
    arrives: &'static [(usize, usize, &'static str)],
}

const SHOP: usize = 0;
const CRM: usize = 1;
const BILLING: usize = 2;

const STEPS: [Step; 7] = [
    Step {
        title: "1  the shop changes the email",
        app: "shop",
        sql: "UPDATE customers SET email = 'ada@new.uk' WHERE email = 'ada@old.uk'",
        agreed: ["ada@new.uk", "0001", "1000", "vip"],
        held: false,
        conflict: None,
        verdict: "the shop knew the old value: no conflict",
        arrives: &[(BILLING, 0, "ada@new.uk")],
    },
    Step {
        title: "2  the CRM, which has not received that, changes email and phone",
        app: "crm",
        sql: "UPDATE contacts SET mail = 'ada@crm.uk', tel = '0002' WHERE mail = 'ada@old.uk'",
        agreed: ["ada@crm.uk", "0002", "1000", "vip"],
        held: false,
        conflict: Some(["email", "settled", "crm=ada@crm.uk shop=ada@new.uk"]),
        verdict: "email: conflict, the latest wins, the shop's value stays in the record; phone: no conflict",
        arrives: &[(SHOP, 0, "ada@crm.uk"), (SHOP, 1, "0002"), (BILLING, 0, "ada@crm.uk")],
    },
    Step {
        title: "3  billing raises the credit limit",
        app: "billing",
        sql: "UPDATE accounts SET credit_limit = 1500 WHERE invoice_to = 'ada@crm.uk'",
        agreed: ["ada@crm.uk", "0002", "1500", "vip"],
        held: false,
        conflict: None,
        verdict: "no conflict",
        arrives: &[],
    },
    Step {
        title: "4  the CRM, still offline, lowers it",
        app: "crm",
        sql: "UPDATE contacts SET limit_gbp = 800 WHERE mail = 'ada@crm.uk'",
        agreed: ["ada@crm.uk", "0002", "1500", "vip"],
        held: true,
        conflict: Some(["credit_limit", "open", "billing=1500 crm=800"]),
        verdict: "money: held for a person; billing keeps 1500, the CRM keeps 800, neither is overwritten",
        arrives: &[(BILLING, 2, "1500"), (CRM, 2, "800")],
    },
    Step {
        title: "5  the shop adds a tag",
        app: "shop",
        sql: "UPDATE customers SET labels = '{vip,newsletter}' WHERE email = 'ada@crm.uk'",
        agreed: ["ada@crm.uk", "0002", "1500", "newsletter,vip"],
        held: true,
        conflict: None,
        verdict: "no conflict",
        arrives: &[],
    },
    Step {
        title: "6  the CRM, which has not seen it, adds another",
        app: "crm",
        sql: "UPDATE contacts SET tags = 'vip;churn-risk' WHERE mail = 'ada@crm.uk'",
        agreed: ["ada@crm.uk", "0002", "1500", "churn-risk,newsletter,vip"],
        held: true,
        conflict: None,
        verdict: "a set: both additions stay",
        arrives: &[(SHOP, 3, "churn-risk,newsletter,vip")],
    },
    Step {
        title: "7  the CRM removes vip",
        app: "crm",
        sql: "UPDATE contacts SET tags = 'churn-risk' WHERE mail = 'ada@crm.uk'",
        agreed: ["ada@crm.uk", "0002", "1500", "churn-risk,newsletter"],
        held: true,
        conflict: None,
        verdict: "vip was seen and removed; newsletter was not seen and stays",
        arrives: &[(SHOP, 3, "churn-risk,newsletter")],
    },
];

/// All nine.
pub fn nine_steps(world: &World, cast: &mut Cast<'_>, show: &mut Show) -> anyhow::Result<()> {
    show.act("A customer in nine steps");
    let cid = world.canonical_where("customer", "email", "ada@old.uk")?.cid;
    cast.lower(&Stage::sink("crm"))?;
    show.line("  From here on the CRM is offline: its sink was stopped (SIGTERM), so it receives nothing.");
    for step in &STEPS {
        take(world, cast, show, &cid, step)?;
    }
    step_8(world, show, &cid)?;
    step_9(world, cast, show, &cid)
}

fn take(world: &World, cast: &mut Cast<'_>, show: &mut Show, cid: &str, step: &Step) -> anyhow::Result<()> {
    cast.look()?;
    let (before, lsn) = (shown(world)?, world.db(step.app).lsn()?);
    world.db(step.app).exec(step.sql)?;
    let agreed = wait_for(world, cid, step.app, lsn)?;
    until(&format!("step {}: the other apps", step.title), WAIT_S, || {
        let now = shown(world)?;
        Ok(step
            .arrives
            .iter()
            .all(|(app, column, value)| now[*app][*column] == *value))
    })?;
    present(
        show,
        step.title,
        &format!("{}: {}", step.app, step.sql),
        &before,
        &shown(world)?,
        Some(&agreed),
    );
    let verdict = show.look(Look::Bold, format!("→ {}", step.verdict));
    show.line(&format!("  {verdict}"));
    show.check(
        &format!("step {}", step.title),
        agreed.shows(&FIELDS),
        step.agreed.join("|"),
    );
    show.check(
        &format!("step {}: held", step.title),
        agreed.held().join(","),
        if step.held { "credit_limit" } else { "" },
    );
    if let Some([field, status, candidates]) = step.conflict {
        let conflicts = world.conflicts("customer")?;
        let decided = conflicts.get(&format!("{cid}/{field}")).context("a conflict record")?;
        show.check(&format!("step {}: conflict", step.title), decided.status(), status);
        show.check(
            &format!("step {}: candidates", step.title),
            decided.candidates(),
            candidates,
        );
        show.line(&format!(
            "    {} {}: {} (rule {}, {})",
            field,
            decided.status(),
            decided.candidates(),
            decided.strategy(),
            decided.rule()
        ));
    }
    Ok(())
}

/// The canonical record that knows what `app` committed after `lsn`.
pub fn wait_for(world: &World, cid: &str, app: &str, lsn: u64) -> anyhow::Result<Agreed> {
    syncline_tests::until_some(&format!("the agreed record after the change in {app}"), WAIT_S, || {
        Ok(world
            .canonical_of("customer", cid)?
            .filter(|agreed| agreed.knows(app, lsn)))
    })
}

fn present(show: &mut Show, title: &str, sql: &str, before: &Shown, after: &Shown, agreed: Option<&Agreed>) {
    let heading = show.look(Look::Bold, title);
    show.line(&format!("\n  {heading}"));
    let statement = show.look(Look::Dim, sql);
    show.line(&format!("    {statement}"));
    let mut table = vec![["", "email", "phone", "limit", "tags"].map(str::to_owned).to_vec()];
    for ((app, before), after) in APPS.iter().zip(before).zip(after) {
        let cells = before.iter().zip(after).map(|(before, after)| {
            if before == after {
                after.clone()
            } else {
                format!("*{before} → {after}")
            }
        });
        table.push(std::iter::once((*app).to_owned()).chain(cells).collect());
    }
    if let Some(agreed) = agreed {
        let held = agreed.held();
        let cell = |field: &&str| {
            let waits = if held.iter().any(|held| held == field) {
                " (held)"
            } else {
                ""
            };
            format!("{}{waits}", agreed.show(field))
        };
        table.push(
            std::iter::once("agreed".to_owned())
                .chain(FIELDS.iter().map(cell))
                .collect(),
        );
    }
    show.table(&table);
}

/// The shop's log shows our own write: a receipt, and nothing more.
fn step_8(world: &World, show: &mut Show, cid: &str) -> anyhow::Result<()> {
    let heading = show.look(Look::Bold, "8  the shop's log shows our own write");
    show.line(&format!("\n  {heading}"));
    let topic = world.capture_topic("shop", "customers");
    let echo = syncline_tests::until_some("the echo of our write in the shop's log", WAIT_S, || {
        let records = world.topics.read(&topic)?;
        let ours = records
            .into_iter()
            .rev()
            .find(|record| record.header("syncline.mark").is_some_and(|mark| mark.contains(cid)));
        Ok(ours)
    })?;
    let fields: serde_json::Value = serde_json::from_str(echo.header("syncline.mark").unwrap_or("{}"))?;
    let names: Vec<String> = fields["fields"]
        .as_array()
        .map(|all| {
            all.iter()
                .map(|field| syncline_tests::agreed::show(&field["name"]))
                .collect()
        })
        .unwrap_or_default();
    show.line(&format!(
        "    {topic}, partition {}, offset {}: header syncline.mark names {}",
        echo.partition,
        echo.offset,
        names.join(", ")
    ));
    let verdict = show.look(
        Look::Bold,
        "→ recognised by the mark in the same transaction: a receipt, nothing is delivered",
    );
    show.line(&format!("  {verdict}"));
    // One record when all apps had been read, one for each of the seven edits: none for any echo.
    show.check(
        "step 8: canonical records of Ada",
        records_of(world, cid)?,
        1 + STEPS.len(),
    );
    Ok(())
}

fn records_of(world: &World, cid: &str) -> anyhow::Result<usize> {
    let log = world.canonical_log("customer")?;
    Ok(log
        .iter()
        .filter(|record| record.key.as_deref() == Some(cid.as_bytes()))
        .count())
}

/// A person decides, and the CRM comes back.
fn step_9(world: &World, cast: &mut Cast<'_>, show: &mut Show, cid: &str) -> anyhow::Result<()> {
    let before = shown(world)?;
    let arguments = [
        "decide",
        "--entity",
        "customer",
        "--cid",
        cid,
        "--field",
        "credit_limit",
    ];
    let mut decide = world.command("syncline-transform", &arguments)?;
    decide.args([
        "--value",
        "1200",
        "--by",
        "finance",
        "--why",
        "agreed with the customer on the phone",
    ]);
    process::run(decide, &world.path("decide.log"), 60)?.expect_code(0)?;
    let agreed = syncline_tests::until_some("the decision in the agreed record", WAIT_S, || {
        Ok(world
            .canonical_of("customer", cid)?
            .filter(|agreed| agreed.show("credit_limit") == "1200"))
    })?;
    cast.raise(&Stage::sink("crm"))?;
    until("step 9: crm and billing", WAIT_S, || {
        let now = shown(world)?;
        Ok(now[CRM][2] == "1200" && now[BILLING][2] == "1200" && now[CRM][3] == "churn-risk,newsletter")
    })?;
    let command = "syncline-transform decide --entity customer --field credit_limit --value 1200 --by finance --why …";
    present(
        show,
        "9  a person decides, and the CRM is back online",
        command,
        &before,
        &shown(world)?,
        Some(&agreed),
    );
    let verdict = show.look(
        Look::Bold,
        "→ a decision is a word too: delivered to the CRM (800 → 1200) and to billing (1500 → 1200)",
    );
    show.line(&format!("  {verdict}"));
    show.check(
        "step 9",
        agreed.shows(&FIELDS),
        "ada@crm.uk|0002|1200|churn-risk,newsletter",
    );
    show.check("step 9: held", agreed.held().len(), 0);
    let [shop, crm, billing] = shown(world)?;
    show.check(
        "step 9: shop",
        shop.join("|"),
        "ada@crm.uk|0002|·|churn-risk,newsletter",
    );
    show.check(
        "step 9: crm",
        crm.join("|"),
        "ada@crm.uk|0002|1200|churn-risk,newsletter",
    );
    show.check("step 9: billing", billing.join("|"), "ada@crm.uk|·|1200|·");
    Ok(())
}

/// Some of the records that keep every decision.
pub fn conflicts(world: &World, show: &mut Show) -> anyhow::Result<()> {
    show.act("Every decision is kept");
    let mut table = vec![
        ["entity", "field", "status", "rule", "line", "candidates", "outcome"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for entity in ["customer", "product"] {
        let all = world.conflicts(entity)?;
        let mut by_field = std::collections::BTreeMap::new();
        for (key, decided) in &all {
            let field = key.rsplit('/').next().unwrap_or_default();
            by_field
                .entry((field.to_owned(), decided.status().to_owned()))
                .or_insert_with(Vec::new)
                .push(decided);
        }
        for ((field, status), decided) in by_field {
            let first = decided[0];
            let more = if decided.len() > 1 {
                format!("  (+{} like it)", decided.len() - 1)
            } else {
                String::new()
            };
            let cells = [
                entity,
                &field,
                &status,
                first.strategy(),
                first.rule(),
                &first.candidates(),
            ]
            .map(str::to_owned);
            table.push(
                cells
                    .into_iter()
                    .chain([format!("{}{more}", first.outcome())])
                    .collect(),
            );
        }
    }
    show.fact_if_not("there are conflict records", table.len() > 5);
    show.table(&table);
    Ok(())
}
