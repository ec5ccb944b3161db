//! What was found, as plain data: adapters fill it, judges read it. Nothing here is good or bad yet.

use syncline_bus::survey::Survey;
use syncline_capture::postgres::catalog::TableInfo;
use syncline_capture::postgres::quote::TableName;
use syncline_capture::postgres::setup::Publication;
use syncline_runtime::Failure;

/// A database that is read.
#[derive(Debug)]
pub struct Source {
    /// Name of the system in the pipeline file.
    pub name: String,
    /// The slot that capture wants.
    pub slot: String,
    /// The publication that capture wants.
    pub publication_name: String,
    /// The server.
    pub server: Server,
    /// The role that capture logs in as.
    pub role: Role,
    /// The connection.
    pub connection: Connection,
    /// All slots of the server.
    pub slots: Vec<Slot>,
    /// The publication, if it is there.
    pub publication: Option<Publication>,
    /// The tables to capture, in the order of the file.
    pub tables: Vec<Table>,
    /// Tables that the file does not name and capture leaves out because they have no key.
    pub keyless: Vec<TableName>,
    /// Transactions that are open.
    pub transactions: Vec<OpenTransaction>,
    /// What capture would say to progress and slot; nothing if it would begin, or Kafka could not be asked.
    pub refused: Option<Failure>,
}

/// A database that is written.
#[derive(Debug)]
pub struct Target {
    /// Name of the system in the pipeline file.
    pub name: String,
    /// The role that the sink logs in as.
    pub role: Role,
    /// The connection.
    pub connection: Connection,
    /// A standby, or set to refuse writes.
    pub read_only: bool,
    /// The role may make schemas.
    pub may_make_schemas: bool,
    /// What is there of the schema `syncline`.
    pub books: Books,
    /// The tables that links write.
    pub tables: Vec<WrittenTable>,
}

/// The schema `syncline` of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Books {
    /// Not there.
    Absent,
    /// There, and this role may write all of its tables.
    Usable,
    /// There, and this role may not.
    Denied,
}

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    /// As `server_version_num`: 150020.
    pub version: u32,
    /// `wal_level`.
    pub wal_level: String,
    /// It is a standby.
    pub standby: bool,
    /// `max_replication_slots`.
    pub slots_max: i64,
    /// `max_wal_senders`.
    pub senders_max: i64,
    /// Senders at work.
    pub senders: i64,
    /// `max_slot_wal_keep_size` in MB; negative if there is no limit.
    pub slot_keep_mb: i64,
    /// `wal_sender_timeout`; 0 if there is none.
    pub sender_timeout_ms: i64,
    /// How far the server's clock is before ours.
    pub clock_ahead_ms: i64,
    /// How much of that may be the way of the question.
    pub clock_doubt_ms: i64,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The database.
    pub database: String,
    /// The version of TLS, if it is in use.
    pub tls: Option<String>,
    /// The connection string asks for the server's certificate to be checked.
    pub verified: bool,
    /// It does not leave this machine.
    pub local: bool,
}

/// A role.
#[derive(Clone, Debug, Default)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// SUPERUSER.
    pub superuser: bool,
    /// REPLICATION, or what a cloud provider grants in its place.
    pub replication: bool,
    /// BYPASSRLS.
    pub bypass_rls: bool,
    /// CREATEDB.
    pub create_db: bool,
    /// CREATEROLE.
    pub create_role: bool,
    /// May make schemas and publications in the database.
    pub create: bool,
    /// Powerful roles that it is a member of.
    pub member_of: Vec<String>,
    /// The role that a cloud provider grants in place of REPLICATION, if the server knows one.
    pub provider: Option<String>,
}

/// A slot.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Its plug-in; none for a physical slot.
    pub plugin: Option<String>,
    /// Its database; none for a physical slot.
    pub database: Option<String>,
    /// Somebody streams it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// Log that it holds back.
    pub retained_bytes: i64,
    /// Log that may still be written before it is in danger.
    pub safe_bytes: Option<i64>,
    /// Why the server gave it up.
    pub invalidation: Option<String>,
}

/// A table to capture.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// What sort of relation it is.
    pub kind: Kind,
    /// What this role may do.
    pub rights: Rights,
    /// Its columns and keys; none of what is no table.
    pub info: Option<TableInfo>,
    /// Tables inherit from it.
    pub inherited: bool,
    /// Row security hides rows from this role.
    pub hidden_rows: bool,
    /// Existing subjects in the registry with their compatibility level.
    pub subjects: Vec<(String, String)>,
}

/// Sorts of relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is none of that name.
    Absent,
    /// An ordinary table.
    Plain,
    /// A table whose rows live in partitions.
    Partitioned,
    /// A table whose changes are not in the log.
    Unlogged,
    /// A table of another server.
    Foreign,
    /// A view, a sequence and the like.
    Other,
}

/// What a role may do to a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// USAGE on its schema.
    pub schema: bool,
    /// SELECT.
    pub select: bool,
    /// Any of INSERT, UPDATE, DELETE, TRUNCATE.
    pub write: bool,
    /// It owns the table, or is a member of the role that does.
    pub own: bool,
}

/// A table that a link writes.
#[derive(Clone, Debug)]
pub struct WrittenTable {
    /// Its name.
    pub name: TableName,
    /// There is such a table.
    pub exists: bool,
    /// USAGE on its schema.
    pub schema: bool,
    /// Those of SELECT, INSERT, UPDATE, DELETE that the role has not.
    pub missing: Vec<&'static str>,
    /// Columns that the link names and the table lacks.
    pub absent_columns: Vec<String>,
    /// Sequences of its columns that the role may not use, quoted.
    pub sequences: Vec<String>,
    /// Row security applies to this role.
    pub row_security: bool,
    /// Triggers of its own.
    pub triggers: Vec<String>,
}

/// A transaction that is open.
#[derive(Clone, Debug)]
pub struct OpenTransaction {
    /// The server process; none if it is a prepared one.
    pub pid: Option<i32>,
    /// Its role, or the name it was prepared under.
    pub who: String,
    /// How long it has been open; none if this role may not see that.
    pub age_s: Option<i64>,
    /// How many transactions have begun since.
    pub age_transactions: i64,
    /// It does nothing but be open.
    pub idle: bool,
}

/// Kafka and the registry.
#[derive(Debug)]
pub struct Bus {
    /// The brokers named in the file.
    pub bootstrap: String,
    /// The cluster; why it could not be looked at.
    pub cluster: Result<Survey, Failure>,
    /// The topics that ought to be there.
    pub wanted: Vec<WantedTopic>,
    /// Whether transactions can be begun under a name of ours; why not.
    pub transactions: Result<(), Failure>,
    /// The first part of the transactional ids.
    pub transactional_prefix: String,
    /// Whether the registry answers, and its general compatibility level; why not.
    pub registry: Result<String, Failure>,
}

/// A topic that ought to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedTopic {
    /// Its name.
    pub name: String,
    /// Its number of partitions.
    pub partitions: usize,
    /// Another number of partitions is as good.
    pub any_partitions: bool,
    /// It keeps the last record of each key.
    pub compacted: bool,
}
