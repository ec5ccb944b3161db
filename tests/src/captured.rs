//! One app that is captured and nothing else, and its changes as a test wants to compare them.

use anyhow::Context as _;
use serde_json::Value as Json;

use crate::agreed::show;
use crate::own_server::OwnServer;
use crate::process::Stage;
use crate::world::{World, in_world, in_world_with};

/// The app.
pub const APP: &str = "shop";

/// A pipeline file that captures the app with these settings of its system.
pub fn pipeline(settings: &str) -> String {
    format!(
        r#"
pipeline: "${{env:PIPELINE}}"
defaults: {{ kafka: "${{env:BOOTSTRAP}}", registry: "${{env:REGISTRY}}" }}
systems:
  shop: {{ postgres: "${{env:SHOP_DSN}}", topic_prefix: "${{env:SHOP_PREFIX}}", {settings} }}
"#
    )
}

/// Runs a test on an app whose database is made by `sql`, with these settings of its system.
///
/// # Panics
/// When the test fails.
pub fn in_app(name: &str, sql: &str, settings: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let file = pipeline(settings);
    in_world(name, &[(APP, sql)], &[("pipeline.yaml", &file)], test);
}

/// The same on a server of the test's own: a transaction that stays open keeps all slots of its server
/// waiting, those of other tests too.
///
/// # Panics
/// When the test fails.
pub fn in_app_alone(name: &str, sql: &str, settings: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let started = OwnServer::start(&[]).and_then(|server| Ok((server.stack_with_it()?, server)));
    let (stack, _server) = started.unwrap_or_else(|error| panic!("{error:?}"));
    let file = pipeline(settings);
    in_world_with(stack, name, &[(APP, sql)], &[("pipeline.yaml", &file)], test);
}

/// Changes the app.
pub fn sql(world: &World, sql: &str) -> anyhow::Result<()> {
    world.db(APP).exec(sql)
}

/// Captures what is there.
pub fn capture(world: &World) -> anyhow::Result<()> {
    world.until_current(&Stage::Capture).map(|_| ())
}

/// A record of a table.
#[derive(Clone, Debug)]
pub struct Change {
    /// `r`, `c`, `u`, `d`, `t`; `-` for a tombstone.
    pub op: String,
    /// The key's fields; null if there is no key.
    pub key: Json,
    /// The envelope; null for a tombstone.
    pub event: Json,
    /// The LSN and the transaction that it names, if it is of the log.
    pub headers: Vec<(String, String)>,
}

impl Change {
    /// The row: what it is now, or what was deleted.
    pub fn row(&self) -> &Json {
        match self.event["after"].is_null() {
            true => &self.event["before"],
            false => &self.event["after"],
        }
    }

    /// Operation and values of the key: `u7`.
    pub fn brief(&self) -> String {
        let values = self.key.as_object().into_iter().flatten().map(|(_, value)| show(value));
        format!("{}{}", self.op, values.collect::<Vec<_>>().join(","))
    }
}

/// The changes of a table in schema `public`, in the order of their topic.
pub fn changes(world: &World, table: &str) -> anyhow::Result<Vec<Change>> {
    changes_in(world, &world.capture_topic(APP, table))
}

/// The changes in a topic, in its order.
pub fn changes_in(world: &World, topic: &str) -> anyhow::Result<Vec<Change>> {
    let change = |record: crate::Record| {
        let json = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|bytes| world.topics.json(bytes)).transpose();
        let event = json(&record.value)?.unwrap_or_default();
        let op = event["op"].as_str().unwrap_or("-").to_owned();
        let key = json(&record.key).with_context(|| format!("the key at {}", record.offset))?;
        Ok(Change {
            op,
            key: key.unwrap_or_default(),
            event,
            headers: record.headers,
        })
    };
    world.topics.read(topic)?.into_iter().map(change).collect()
}

/// Operation and key of each change of a table.
pub fn ops(world: &World, table: &str) -> anyhow::Result<Vec<String>> {
    Ok(changes(world, table)?.iter().map(Change::brief).collect())
}

/// One column of each row of a table, as it was captured; tombstones left out.
pub fn column(world: &World, table: &str, column: &str) -> anyhow::Result<Vec<String>> {
    let changes = changes(world, table)?;
    let rows = changes.iter().filter(|change| change.op != "-");
    Ok(rows.map(|change| show(&change.row()[column])).collect())
}
