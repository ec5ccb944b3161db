//! A database that goes with the test, and ways to read a stream and a snapshot to their ends.

use std::thread;
use std::time::{Duration, Instant};

use syncline_capture::postgres::catalog::TableInfo;
use syncline_capture::postgres::client::{CreatedSlot, ReplicationClient};
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;
use syncline_capture::postgres::pgoutput::{Message, TupleCell};
use syncline_capture::postgres::quote::TableName;
use syncline_capture::postgres::session::SessionSettings;
use syncline_capture::postgres::setup::{self, Prepared, Wanted};
use syncline_capture::postgres::snapshot::{ChunkBound, ChunkEnd, Snapshot, SnapshotRow};
use syncline_capture::postgres::stream::{Stream, StreamSettings};
use syncline_capture::source::{Incoming, Source};
use syncline_schemas::position::Lsn;

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SLOT_WAIT: Duration = Duration::from_secs(30);

/// A database that goes with the test.
pub struct Database {
    pub name: String,
    server: String,
}

impl Database {
    pub fn new(test: &str) -> Self {
        let server = std::env::var("PG_DSN").expect(
            "PG_DSN must name a PostgreSQL with wal_level=logical: deploy/stack.sh up; eval \"$(deploy/stack.sh env)\"",
        );
        let database = Self {
            name: format!("capture_{test}_{}", std::process::id()),
            server,
        };
        database.admin(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", database.name));
        database.admin(&format!("CREATE DATABASE {}", database.name));
        database
    }

    pub fn dsn_of(&self, database: &str) -> Dsn {
        Dsn::parse(&format!("{}/{database}", self.server.trim_end_matches('/'))).unwrap()
    }

    pub fn dsn(&self) -> Dsn {
        self.dsn_of(&self.name)
    }

    pub fn control(&self) -> Control {
        Control::connect(&self.dsn()).unwrap()
    }

    pub fn admin(&self, sql: &str) {
        Control::connect(&self.dsn_of("postgres"))
            .unwrap()
            .execute(sql, "preparing a test")
            .unwrap();
    }

    /// The slot is named after the database, for slots belong to the whole server.
    pub fn slot(&self) -> &str {
        &self.name
    }

    pub fn client(&self) -> ReplicationClient {
        ReplicationClient::connect(&self.dsn(), &SessionSettings::default()).unwrap()
    }

    pub fn prepare(&self, tables: &[&str]) -> Prepared {
        let tables = tables.iter().map(|table| TableName::new("public", *table)).collect();
        let wanted = Wanted {
            mode: syncline_capture::postgres::setup::PublicationMode::Filtered,
            reach: syncline_capture::postgres::setup::Reach::Roots,
            publication: "pub".to_owned(),
            slot: self.slot().to_owned(),
            tables,
        };
        setup::prepare(&self.control(), &wanted).unwrap()
    }

    /// Publication, slot, and the client that holds the exported snapshot.
    pub fn slot_for(&self, tables: &[&str]) -> (Prepared, ReplicationClient, CreatedSlot) {
        let prepared = self.prepare(tables);
        let mut client = self.client();
        let created = client
            .create_slot(self.slot(), false, SLOT_WAIT, &syncline_runtime::Shutdown::new())
            .unwrap();
        (prepared, client, created)
    }

    pub fn stream(&self, tables: &[&str]) -> Stream {
        let (_, client, created) = self.slot_for(tables);
        client
            .start_stream(self.slot(), "pub", created.consistent_point, StreamSettings::default())
            .unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Ok(control) = Control::connect(&self.dsn_of("postgres")) else {
            return;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        // A slot is free when its walsender has noticed that we are gone.
        while setup::slot_state(&control, self.slot()).is_ok_and(|slot| slot.is_some()) && Instant::now() < deadline {
            if setup::drop_slot(&control, self.slot()).is_err() {
                thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = control.execute(
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            "cleaning up",
        );
    }
}

/// All messages up to `until`, without the shapes of tables, which come when they come.
pub fn drain(stream: &mut Stream, until: Lsn) -> Vec<Message> {
    let mut messages = Vec::new();
    read_until(stream, until, |message| messages.push(message));
    messages
}

pub fn read_until(stream: &mut Stream, until: Lsn, mut take: impl FnMut(Message)) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the stream did not reach {until}");
        match stream.next(Duration::from_millis(200)).unwrap() {
            None => {}
            Some(Incoming::Idle { lsn }) if lsn >= until => return,
            Some(Incoming::Idle { .. }) => {}
            Some(Incoming::Log { message, .. }) => {
                let end = match &message {
                    Message::Commit(commit) => commit.end_lsn,
                    _ => Lsn(0),
                };
                take(message);
                if end >= until {
                    return;
                }
            }
        }
    }
}

pub fn text(cell: &TupleCell) -> Option<String> {
    match cell {
        TupleCell::Text(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        TupleCell::Null => None,
        other => panic!("{other:?} is no text"),
    }
}

pub fn texts(row: &[TupleCell]) -> Vec<Option<String>> {
    row.iter().map(text).collect()
}

pub fn some(cells: &[&str]) -> Vec<Option<String>> {
    cells.iter().map(|&cell| Some(cell.to_owned())).collect()
}

pub fn rows_of(snapshot: &Snapshot, table: &TableInfo, columns: &[&str], rows_max: u64) -> Vec<SnapshotRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let (more, end) = chunk(snapshot, table, columns, after.as_ref(), rows_max);
        rows.extend(more);
        match end {
            ChunkEnd::More(bound) => after = Some(bound),
            ChunkEnd::Last => return rows,
        }
    }
}

pub fn chunk(
    snapshot: &Snapshot,
    table: &TableInfo,
    columns: &[&str],
    after: Option<&ChunkBound>,
    rows_max: u64,
) -> (Vec<SnapshotRow>, ChunkEnd) {
    let mut chunk = snapshot.chunk(table, columns, after, rows_max).unwrap();
    let mut rows = Vec::new();
    while let Some(more) = chunk.next_rows().unwrap() {
        rows.extend(more);
    }
    assert_eq!(chunk.rows(), rows.len() as u64);
    (rows, chunk.end().unwrap())
}
