//! The PostgreSQL side of capture against a real server: `eval "$(deploy/stack.sh env)"` names it in `PG_DSN`.
//! Every test has a database, a slot and a publication of its own, and waits on positions of the log.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]

mod database;

mod line;

mod snapshot;

mod source;

mod stream;
