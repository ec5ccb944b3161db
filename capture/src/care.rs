//! The command line's part of [`Care`]: for one source without a pipeline file, and to say otherwise for one run.

use syncline_schemas::pipeline::care::{self, AtLimit, Care, OnPoison, WalBudget};

/// What to do when something goes wrong.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CareArgs {
    /// How much log the source may keep for the slot; an alarm comes at half
    #[arg(long, value_name = "BYTES", value_parser = care::bytes)]
    pub wal_budget: Option<u64>,
    /// What to do at the limit of the budget
    #[arg(long, value_enum, default_value_t, requires = "wal_budget")]
    pub at_wal_limit: Limit,
    /// What to do with a row that cannot be written
    #[arg(long, value_enum)]
    pub on_poison: Option<Poison>,
    /// A row beyond this cannot be written; no memory is taken for it
    #[arg(long, value_name = "BYTES", value_parser = care::row_bytes)]
    pub max_row_bytes: Option<u64>,
    /// Read this table again at the start, whole; may be given several times
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub reread: Vec<String>,
    /// Read tables again whose values changed without an event
    #[arg(long)]
    pub auto_backfill: bool,
}

/// What to do when the slot holds back all that it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Limit {
    /// Go on, and keep raising the alarm
    #[default]
    Keep,
    /// Drop the slot, so that the source's disk stays free
    Drop,
}

/// What to do with a row that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Poison {
    /// Stop in front of it
    Stop,
    /// Stop its table; all others go on
    StopTable,
    /// Write it to the dead letters and go on
    DeadLetter,
}

impl CareArgs {
    /// What the file says, with what the command line says otherwise.
    pub fn over(&self, file: &Care) -> Care {
        let budget = self.wal_budget.map(|bytes| WalBudget {
            bytes,
            at_limit: match self.at_wal_limit {
                Limit::Keep => AtLimit::Keep,
                Limit::Drop => AtLimit::Drop,
            },
        });
        let poison = self.on_poison.map(|poison| match poison {
            Poison::Stop => OnPoison::Stop,
            Poison::StopTable => OnPoison::StopTable,
            Poison::DeadLetter => OnPoison::DeadLetter,
        });
        Care {
            wal_budget: budget.or(file.wal_budget),
            on_poison: poison.unwrap_or(file.on_poison),
            row_bytes_max: self.max_row_bytes.or(file.row_bytes_max),
            reread: self.reread.clone(),
            auto_backfill: self.auto_backfill || file.auto_backfill,
            ..file.clone()
        }
    }
}
