//! PostgreSQL as a source: its log by a replication connection of our own, its catalogue and snapshot by ordinary SQL.
//!
//! From the outside in: `dsn` says where, `session` logs in (`tls`, `auth`, `wire`), `client` is a replication
//! connection and `stream` what it becomes; `control` is a connection for SQL, with `catalog`, `setup` and `snapshot`
//! on top of it; `pgoutput` and `copy_text` are pure.

/// Names and texts in statements.
pub mod quote;

/// Connection strings.
pub mod dsn;

/// What an error of the server means.
pub mod error;

/// TLS by `sslmode`.
pub mod tls;

/// Frames on a socket.
pub mod wire;

/// Passwords and SCRAM.
pub mod auth;

/// Connect, log in, ask.
pub mod session;

/// Replication connection.
pub mod client;

/// Pure: bytes of the log to messages.
pub mod pgoutput;

/// The queue between reader and producing thread.
pub mod handover;

/// When a reader lets the log gather.
mod moderation;

/// The log as it is written.
pub mod stream;

/// A connection for SQL.
pub mod control;

/// What the catalogue says of a table.
pub mod catalog;

/// What of the catalogue has no event of its own.
pub mod facts;

/// The slot's state.
pub mod slot;

/// What must be true before capture begins.
pub mod setup;

/// Pure: the text format of COPY to rows.
pub mod copy_text;

/// Pure: what to read of a table, chunk by chunk, as SQL.
pub mod extract;

/// The rows that are there when capture begins.
pub mod snapshot;

/// One chunk of a table between two places in the log.
pub mod watermark;
