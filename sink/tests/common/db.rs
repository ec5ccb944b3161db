//! A database of its own for each test, on the server that PG_DSN names, and a target that writes into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use syncline_schemas::canonical::Canonical;
use syncline_schemas::pipeline::{Link, Secret};
use syncline_sink::postgres::{PostgresTarget, Settings};
use syncline_sink::target::{DeadLetter, Delivery, Partition, Report, Target};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const TOPIC: &str = "acme.canonical.customer.v1";
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A connection that runs SQL and gives texts.
pub struct Db {
    runtime: Runtime,
    client: Client,
}

impl Db {
    /// Connects.
    pub fn connect(dsn: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(dsn, NoTls)).unwrap();
        runtime.spawn(connection);
        Self { runtime, client }
    }

    /// Runs SQL; panics with the server's words if it fails.
    pub fn exec(&self, sql: &str) {
        self.query(sql);
    }

    /// The rows of a query, columns joined by `|`, NULL as `-`.
    pub fn query(&self, sql: &str) -> Vec<String> {
        let messages = self.runtime.block_on(self.client.simple_query(sql));
        let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("-")).collect();
                Some(cells.join("|"))
            }
            _ => None,
        });
        rows.collect()
    }

    /// The only cell of a query.
    pub fn text(&self, sql: &str) -> String {
        self.query(sql).into_iter().next().unwrap_or_default()
    }
}

/// A database that is dropped with the test.
pub struct World {
    server: String,
    name: String,
    /// The app's own connection.
    pub db: Db,
}

impl World {
    /// A database with this in it.
    pub fn new(sql: &str) -> Self {
        let server = std::env::var("PG_DSN").expect("PG_DSN is not set; run: eval \"$(deploy/stack.sh env)\"");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sink_test_{}_{number}", std::process::id());
        Db::connect(&format!("{server}/postgres")).exec(&format!("CREATE DATABASE {name}"));
        let db = Db::connect(&format!("{server}/{name}"));
        db.exec(sql);
        Self { server, name, db }
    }

    /// With the table of `common::link`.
    pub fn contacts() -> Self {
        Self::new(
            "CREATE TABLE contacts (id serial PRIMARY KEY, name text, email text, stock numeric, own text DEFAULT 'x')",
        )
    }

    /// Where every contact is: changes with every write, even of equal values.
    pub fn places(&self) -> Vec<String> {
        self.db.query("SELECT xmin, ctid, * FROM contacts ORDER BY id")
    }

    /// Its connection string.
    pub fn dsn(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// Another connection of the app.
    pub fn connect(&self) -> Db {
        Db::connect(&format!("{}/{}", self.server, self.name))
    }

    /// A target that has claimed the one partition there is.
    pub fn target(&self, link: &Link) -> Sink {
        self.target_by(link, self.dsn())
    }

    /// The same under a role of its own.
    pub fn target_as(&self, link: &Link, role: &str) -> Sink {
        let (user, rest) = self
            .dsn()
            .split_once('@')
            .map(|(user, rest)| (user.to_owned(), rest.to_owned()))
            .unwrap();
        let scheme = user.split_once("://").unwrap().0;
        self.target_by(link, format!("{scheme}://{role}@{rest}"))
    }

    fn target_by(&self, link: &Link, dsn: String) -> Sink {
        let settings = Settings {
            pipeline: "acme".to_owned(),
            target: link.system.clone(),
            dsn: Secret::new(dsn),
            links: vec![link.clone()],
        };
        let mut target = PostgresTarget::new(settings).unwrap();
        let next = target.claim(&[partition()]).unwrap()[&partition()];
        Sink { target, next }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let server = Db::connect(&format!("{}/postgres", self.server));
        server.exec(&format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = '{0}' AND active; \
             SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{0}'",
            self.name
        ));
        server.exec(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// The partition that all test records are in.
pub fn partition() -> Partition {
    Partition {
        topic: Arc::from(TOPIC),
        number: 0,
    }
}

/// A record at an offset.
pub fn delivery(offset: i64, record: &Canonical) -> Delivery {
    Delivery {
        from: partition(),
        offset,
        timestamp_ms: 0,
        entity: Arc::from("customer"),
        key: record.cid.clone().into_bytes(),
        value: format!("value {offset}").into_bytes(),
        content: Ok(Some(record.clone())),
    }
}

/// A target, and the offset of the next record.
pub struct Sink {
    /// The target.
    pub target: PostgresTarget,
    /// The next offset.
    pub next: i64,
}

impl Sink {
    /// Delivers records as one batch.
    pub fn deliver(&mut self, records: &[Canonical]) -> Report {
        let batch = self.batch(records);
        self.target.apply(&batch).unwrap()
    }

    /// Records at the next offsets.
    pub fn batch(&mut self, records: &[Canonical]) -> Vec<Delivery> {
        let first = self.next;
        self.next += records.len() as i64;
        (first..)
            .zip(records)
            .map(|(offset, record)| delivery(offset, record))
            .collect()
    }

    /// The refused records that nobody has taken yet.
    pub fn letters(&mut self) -> Vec<DeadLetter> {
        let mut taken = Vec::new();
        let send = &mut |letters: &[DeadLetter]| {
            taken.extend_from_slice(letters);
            Ok(())
        };
        self.target.dead_letters(send).unwrap();
        taken
    }
}
