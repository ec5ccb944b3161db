//! The frame of a process: settings, telemetry, shutdown, classes of failure. No word of the domain.

#![warn(clippy::unwrap_used)]

/// Three classes of failure, because there are three things one can do about one.
pub mod failure;

/// Waiting longer and longer, with a bound.
pub mod retry;

/// One wish to stop, seen by threads and by tasks.
pub mod shutdown;

/// From command line to exit code.
pub mod process;

/// What `/healthz`, `/readyz` and `/metrics` answer.
mod server;

/// Which parts of the process work, and what the others wait for.
pub mod health;

/// One registry of metrics for the process.
pub mod metrics;

/// Logs and traces.
pub mod telemetry;

/// How far a long piece of work has come.
pub mod progress;

/// Places where a test may kill the process.
pub mod failpoint;

pub use failure::{Class, Failure, Outcome};
pub use health::Health;
pub use process::{CommonArgs, Process, ProcessArgs};
pub use progress::Progress;
pub use retry::{Backoff, RetryPolicy, supervise};
pub use shutdown::Shutdown;
