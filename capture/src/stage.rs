//! READ FIRST. The loop of one source: read > assemble > produce > confirm, and the order of steps before it.
//!
//! **Start.** Wait for the lease (a slot that somebody streams is theirs) > check source and topics > fence the writer
//! before us > read progress back > compare with the slot > read the tables, if need be > stream from there. Whatever goes
//! wrong on the way, the next attempt begins at the top; there is no other recovery.
//!
//! **Loop.** Records and the progress that speaks of them become durable together ([`crate::outlet`]); only when that is
//! known may the server forget the log. An unknown outcome drops everything and begins at the top, where the progress
//! read back tells which it was. A quiet source moves its slot the same way: progress first, then the confirmation,
//! or else the slot would overtake Kafka and the comparison at the start would cry wolf.
//!
//! **Beside it.** Between two transactions a step is taken of what signals ask for ([`crate::errands`]): a chunk of a table, or
//! whole tables, for which the stream waits.
//!
//! A batch ends where a transaction of the source ends: as soon as nothing waits to be read, else at a bound. (At least
//! once it waits a little: what was sent is seen anyway, and whoever writes progress after each row makes the next row wait.) A
//! transaction beyond the larger bounds is cut, with the position of the cut as progress and nothing confirmed.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syncline_bus::{Fences, Registry};
use syncline_runtime::{Class, Failure, Health, Outcome, RetryPolicy, Shutdown, failpoint, supervise};
use syncline_schemas::position::Lsn;
use syncline_schemas::progress::{Progress, SnapshotState};

use crate::assemble::{AssembleError, Assembler, Rules, Step};
use crate::blocked::Blocked;
use crate::config::SourceConfig;
use crate::errands::Errands;
use crate::guard::{Guard, SLOT_GIVEN_UP};
use crate::incremental::Hands;
use crate::known::Known;
use crate::metrics;
use crate::open::{self, Opened};
use crate::outlet::Outlet;
use crate::poison::TABLE_STOPPED;
use crate::postgres::pgoutput::Message;
use crate::postgres::stream::POISON_WAL;
use crate::pulse::{self, Pulse};
use crate::shapes::Shapes;
use crate::source::{Incoming, Source};
use crate::tally::Tally;

mod unwritable;

/// A batch ends at the next end of a transaction beyond one of these.
const BATCH_ROWS_MAX: u64 = 20_000;
const BATCH_BYTES_MAX: u64 = 8 << 20;
const BATCH_MS_MAX: u64 = 250;
/// A batch ends even within a transaction beyond one of these.
const CUT_ROWS_MAX: u64 = 100_000;
const CUT_BYTES_MAX: u64 = 64 << 20;
const CUT_MS_MAX: u64 = 30_000;
/// How long to wait for the log when nothing is under way.
const IDLE_WAIT_MS: u64 = 200;
/// The same while a chunk is being read beside it.
const CHUNK_WAIT_MS: u64 = 5;
/// At least once, rows are in Kafka as soon as they are sent; how long their progress waits for more of them.
const PROGRESS_WAIT_MS: u64 = 100;
/// How often the progress of a quiet source is written.
const IDLE_PROGRESS_MS: u64 = 3_000;
const RETRY: RetryPolicy = RetryPolicy {
    initial_ms: 200,
    max_ms: 5_000,
    give_up_after_ms: None,
};

/// Captures one source until it is asked to stop or, with `until_current`, until what was there is in Kafka.
pub fn run(config: &SourceConfig, registry: &Arc<Registry>, shutdown: &Shutdown, health: &Health) -> Outcome<()> {
    let part = format!("capture {}", config.name);
    let state = RefCell::new((open::Carried::new(config), Fences::default()));
    health.set_ready(&part, false);
    let guard = Guard::watch(config, shutdown)?;
    supervise(&part, shutdown, &RETRY, || {
        let (carried, fences) = &mut *state.borrow_mut();
        let outcome = attempt(config, registry, &guard, health, &part, carried);
        // Whatever came of the attempt: what the guard found is the cause.
        let outcome = guard
            .verdict()
            .map_or(outcome, Err)
            .map_err(|failure| repairable(config, failure));
        health.set_ready(&part, false);
        outcome.map_err(|failure| {
            health.set_status(&part, failure.to_string());
            fences.judge(failure, &format!("the transactional id {}", config.transactional_id()))
        })
    })
}

/// A hint that names the flag gets the whole command.
fn repairable(config: &SourceConfig, failure: Failure) -> Failure {
    match failure.hint.as_deref() {
        Some(hint) if hint.contains("(--resnapshot)") => {
            let hint = hint.replace("(--resnapshot)", &format!(": {} --resnapshot", config.command));
            failure.hint(hint)
        }
        _ => failure,
    }
}

fn attempt(
    config: &SourceConfig,
    registry: &Arc<Registry>,
    guard: &Guard,
    health: &Health,
    part: &str,
    carried: &mut open::Carried,
) -> Outcome<()> {
    health.set_status(part, "starting");
    if let Some(verdict) = guard.verdict() {
        return Err(verdict);
    }
    let Some(opened) = open::open(config, registry, guard.halt(), carried)? else {
        return Ok(());
    };
    let Opened {
        stream,
        outlet,
        shapes,
        progress,
        known,
        errands,
    } = opened;
    carried.streamed = true;
    health.set_ready(part, true);
    health.set_status(part, known.status());
    tracing::info!(source = config.name, position = %progress.position, "streaming");
    let mut streaming = Streaming::new(config, stream, outlet, shapes, progress, carried.target, (health, part));
    streaming.known = Some(known);
    streaming.errands = Some(errands);
    let outcome = streaming.run(guard.halt());
    let outcome = match guard.verdict() {
        Some(verdict) => streaming.give_up(verdict),
        None => outcome.map_err(|failure| carried.refused.learn(failure, &streaming.outlet, config.care.on_poison)),
    };
    streaming.outlet.abandon();
    outcome
}

/// One source being streamed.
struct Streaming<'a, S> {
    config: &'a SourceConfig,
    source: S,
    outlet: Outlet,
    shapes: Shapes<'a>,
    assembler: Assembler,
    pulse: Pulse<'a>,
    progress: Progress,
    known: Option<Known>,
    errands: Option<Errands>,
    target: Option<Lsn>,
    health: &'a Health,
    part: &'a str,
    opened_at: Instant,
    written_at: Instant,
    last_commit_us: i64,
    heard_of: Lsn,
    tally: Tally,
}

impl<'a, S: Source> Streaming<'a, S> {
    fn new(
        config: &'a SourceConfig,
        source: S,
        outlet: Outlet,
        shapes: Shapes<'a>,
        progress: Progress,
        target: Option<Lsn>,
        (health, part): (&'a Health, &'a str),
    ) -> Self {
        let assembler = Assembler::going_on(&progress, rules(config, shapes.database()));
        let after_snapshot = progress.consistent_point == Some(progress.position.lsn);
        Self {
            assembler: if after_snapshot {
                assembler.after_snapshot()
            } else {
                assembler
            },
            pulse: Pulse::new(&config.form.heartbeat, Instant::now()),
            heard_of: progress.position.lsn,
            config,
            source,
            outlet,
            shapes,
            progress,
            known: None,
            errands: None,
            target,
            health,
            part,
            opened_at: Instant::now(),
            written_at: Instant::now(),
            last_commit_us: 0,
            tally: Tally::default(),
        }
    }

    fn run(&mut self, halt: &Shutdown) -> Outcome<()> {
        while !self.is_current() {
            if halt.requested() {
                return self.stop();
            }
            match self.next()? {
                Some(Incoming::Log { lsn, message }) => self.take(lsn, message)?,
                Some(Incoming::Idle { lsn }) => self.idle(lsn)?,
                None => self.quiet()?,
            }
            if self.must_wait() && !self.read_blocking(halt)? {
                return self.stop();
            }
        }
        self.stop()
    }

    /// The way past a row that the server cannot send begins behind it: all that came before has to be in Kafka, for nobody
    /// will read it again.
    fn next(&mut self) -> Outcome<Option<Incoming>> {
        match self.source.next(self.wait()) {
            Err(failure) if failure.code == POISON_WAL && self.outlet.is_open() => {
                self.commit()?;
                Err(failure)
            }
            next => next,
        }
    }

    /// Whether everything that was there at the start is in Kafka, if that is all that was asked for.
    fn is_current(&self) -> bool {
        let is_idle = self.errands.as_ref().is_none_or(Errands::is_idle);
        self.target
            .is_some_and(|target| is_idle && !self.outlet.is_open() && self.progress.position.lsn >= target)
    }

    /// Not at all, while a batch waits only for more of the log; else a little.
    fn wait(&self) -> Duration {
        let closable = self.outlet.is_open() && !self.assembler.in_transaction();
        let reads = self.errands.as_ref().is_some_and(Errands::is_under_way);
        let longest = Duration::from_millis(if reads { CHUNK_WAIT_MS } else { IDLE_WAIT_MS });
        match closable {
            true => self.patience().min(longest),
            false => longest,
        }
    }

    /// How long the open batch may still wait for more of the log. Not at all, where nobody sees its rows before it ends.
    fn patience(&self) -> Duration {
        if self.outlet.hides_rows() || self.target.is_some() {
            return Duration::ZERO;
        }
        Duration::from_millis(PROGRESS_WAIT_MS).saturating_sub(self.opened_at.elapsed())
    }

    fn take(&mut self, lsn: Lsn, message: Message) -> Outcome<()> {
        self.heard_of = self.heard_of.max(lsn);
        if let Message::Begin(begin) = &message {
            self.last_commit_us = begin.commit_us;
        }
        let signal = self.errands.as_mut().and_then(|errands| {
            errands.overhear(&message);
            errands.signal(&message)
        });
        let before = self.assembler.position();
        let was_open = self.outlet.is_open();
        let step = match self.assembler.push(lsn, &message, clock_ns()) {
            Ok(step) => step,
            Err(error) => self.unwritable(&error, lsn, &message)?,
        };
        if let Some(record) = self.outlet.too_large(self.assembler.records()) {
            self.too_large(&record, lsn, &message)?;
        }
        while let Some(companion) = self.outlet.unaddressed(self.assembler.records()) {
            self.outlet.address(companion, self.shapes.companion(companion)?);
        }
        self.outlet.send(self.assembler.records())?;
        self.tally.rows(self.assembler.records(), self.last_commit_us);
        if !was_open && self.outlet.is_open() {
            self.opened_at = Instant::now();
        }
        // A signal that comes again is where Kafka is already.
        if let Some(signal) = signal.filter(|_| self.assembler.position() > before) {
            self.with_errands(|errands, hands| errands.take(&signal, hands))?;
        }
        match step {
            Step::Shape(relation) => {
                if let Some(errands) = &mut self.errands {
                    errands.announced(&relation);
                }
                let registered = self.plan(&relation)?;
                self.assembler.define(relation.oid, registered);
                Ok(())
            }
            Step::AtRest => {
                self.with_errands(Errands::step)?;
                match self.is_full(BATCH_ROWS_MAX, BATCH_BYTES_MAX, BATCH_MS_MAX) {
                    true => self.commit(),
                    false => self.beat(),
                }
            }
            Step::On if self.is_full(CUT_ROWS_MAX, CUT_BYTES_MAX, CUT_MS_MAX) => self.commit(),
            Step::On => Ok(()),
        }
    }

    /// Between two transactions.
    fn with_errands(&mut self, work: impl FnOnce(&mut Errands, &mut Hands<'_, '_>) -> Outcome<()>) -> Outcome<()> {
        let Some(errands) = &mut self.errands else {
            return Ok(());
        };
        let was_open = self.outlet.is_open();
        let mut hands = Hands {
            config: self.config,
            assembler: &mut self.assembler,
            outlet: &mut self.outlet,
            shapes: &mut self.shapes,
            known: self.known.as_mut(),
        };
        work(errands, &mut hands)?;
        if !was_open && self.outlet.is_open() {
            self.opened_at = Instant::now();
        }
        Ok(())
    }

    /// Whether tables are to be read for which the stream has to wait. Not while one is behind: it may be one of them.
    fn must_wait(&self) -> bool {
        !self.assembler.in_transaction()
            && !self.assembler.has_behind()
            && self.errands.as_ref().is_some_and(Errands::is_blocking)
    }

    /// Reads them; false if a wish to stop came between. The log is still received, and the server told so.
    fn read_blocking(&mut self, halt: &Shutdown) -> Outcome<bool> {
        let Some(tables) = self.errands.as_mut().and_then(Errands::block) else {
            return Ok(true);
        };
        for (table, _) in &tables {
            self.progress.set_table(table, SnapshotState::NotStarted);
        }
        self.commit()?;
        let Some(known) = self.known.as_mut() else {
            return Ok(true);
        };
        let blocking = Blocked {
            config: self.config,
            outlet: &mut self.outlet,
            progress: &mut self.progress,
            known,
            shutdown: halt,
        };
        if !blocking.read(&tables, &mut self.shapes)? {
            return Ok(false);
        }
        self.errands.iter_mut().for_each(Errands::blocked);
        self.commit()?;
        let is_stopped = |name: &String| self.known.as_ref().is_some_and(|known| known.is_stopped(name));
        match tables.iter().find(|(name, _)| is_stopped(name)) {
            // The plans that are known of it would go on; the next attempt makes none.
            Some((name, _)) => Err(Failure::transient(
                TABLE_STOPPED,
                format!("{name} was stopped while it was read"),
            )),
            None => Ok(true),
        }
    }

    /// Sends a heartbeat if one is due.
    fn beat(&mut self) -> Outcome<()> {
        if !self.pulse.is_due(Instant::now) {
            return Ok(());
        }
        let records = pulse::records(&self.config.prefix, clock_ns().div_euclid(1_000_000));
        while let Some(companion) = self.outlet.unaddressed(&records) {
            self.outlet.address(companion, self.shapes.companion(companion)?);
        }
        self.outlet.send(&records)?;
        let Some(action) = self.pulse.action() else {
            return Ok(());
        };
        match self.shapes.control().execute(action, "running heartbeat.action.query") {
            Err(failure) if failure.class != Class::Transient => {
                tracing::warn!(source = self.config.name, "{failure}");
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn is_full(&self, rows_max: u64, bytes_max: u64, ms_max: u64) -> bool {
        let load = self.outlet.load();
        let late = || self.opened_at.elapsed() > Duration::from_millis(ms_max);
        self.outlet.is_open() && (load.rows >= rows_max || load.bytes >= bytes_max || late())
    }

    fn idle(&mut self, lsn: Lsn) -> Outcome<()> {
        self.heard_of = self.heard_of.max(lsn);
        self.assembler.idle(lsn);
        self.quiet()
    }

    /// Nothing waits to be read.
    fn quiet(&mut self) -> Outcome<()> {
        if self.assembler.in_transaction() {
            // What goes on in tables that nobody wants must not keep a Kafka transaction open past its time.
            let full = self.is_full(CUT_ROWS_MAX, CUT_BYTES_MAX, CUT_MS_MAX);
            return if full { self.commit() } else { Ok(()) };
        }
        self.with_errands(Errands::step)?;
        self.beat()?;
        if self.outlet.is_open() {
            return if self.patience().is_zero() {
                self.commit()
            } else {
                Ok(())
            };
        }
        self.look_at_registry()?;
        let moved = self.assembler.position() > self.progress.reached() || self.is_catching_up();
        let due = self.written_at.elapsed() > Duration::from_millis(IDLE_PROGRESS_MS);
        let awaited = self
            .target
            .is_some_and(|target| self.assembler.position().lsn >= target);
        self.look_at_tables()?;
        let unsaid =
            self.known.as_ref().is_some_and(Known::is_unsaid) || self.errands.as_ref().is_some_and(Errands::is_unsaid);
        if moved && (due || awaited) || unsaid {
            self.commit()
        } else {
            Ok(())
        }
    }

    /// Whether a table that was behind has come nearer, or up, since that was written.
    fn is_catching_up(&self) -> bool {
        let behind = self.progress.ahead.as_ref().map(|ahead| &ahead.behind);
        behind.is_some_and(|behind| *behind != self.assembler.behind())
    }

    /// The registry may have answered: the tables that wait for it go on, by another attempt.
    fn look_at_registry(&self) -> Outcome<()> {
        match self.shapes.asking().is_answered() {
            true => Err(Failure::transient(
                "TABLES_GO_ON",
                "the registry has answered: the tables that waited for it go on where they were",
            )),
            false => Ok(()),
        }
    }

    /// DDL may have changed rows without an event, or put another table under a name.
    fn look_at_tables(&mut self) -> Outcome<()> {
        // What would have to be read again would have to wait for the registry, and all others with it.
        let is_away = self.shapes.asking().is_asking();
        let Some(known) = self.known.as_mut().filter(|known| !is_away && known.is_due()) else {
            return Ok(());
        };
        let mut again = known.look(self.shapes.control(), &self.shapes.wanted())?;
        again.extend(known.to_be_read(self.config.care.auto_backfill, false));
        if again.is_empty() {
            return Ok(());
        }
        // What was noted is dropped with this attempt, and noted again by the next, which reads the tables.
        let names: Vec<&str> = again.keys().map(String::as_str).collect();
        let text = format!("the catalogue has changed: {} will be read again", names.join(", "));
        Err(Failure::transient("TABLE_REREAD", text))
    }

    /// Makes the batch durable, then lets the server forget.
    fn commit(&mut self) -> Outcome<()> {
        let (name, bytes) = (&self.config.name, self.outlet.load().bytes);
        self.progress.reach(self.assembler.position(), self.assembler.behind());
        if let Some(errands) = &self.errands {
            self.progress.agenda = errands.written()?;
        }
        if let Some(known) = &self.known {
            self.outlet.send_known(known)?;
        }
        self.outlet.commit(&self.progress)?;
        self.known.iter_mut().for_each(Known::said);
        self.errands.iter_mut().for_each(Errands::said);
        self.written_at = Instant::now();
        metrics::committed(name, bytes);
        self.tally.publish(name, clock_ns() / 1000, self.heard_of);
        metrics::ignored(name, self.assembler.ignored());
        let age_s = (clock_ns() / 1000 - self.last_commit_us) as f64 / 1e6;
        let position = self.progress.position;
        metrics::lag(
            name,
            self.heard_of.0.saturating_sub(position.lsn.0),
            if bytes > 0 { age_s } else { 0.0 },
        );
        if !self.assembler.in_transaction() {
            self.source.confirm(self.progress.confirmable());
            failpoint::check("capture.after_confirm")?;
            self.look_at_registry()?;
            self.look_at_tables()?;
        }
        Ok(())
    }

    /// The slot is gone on purpose. Progress says so, if Kafka can be told.
    fn give_up(&mut self, verdict: Failure) -> Outcome<()> {
        if verdict.code == SLOT_GIVEN_UP {
            self.progress.given_up = Some(verdict.message.clone());
            self.commit()?;
        }
        Err(verdict)
    }

    /// Ends in order: what is whole is committed, what is not will be read again.
    fn stop(&mut self) -> Outcome<()> {
        failpoint::check("capture.at_shutdown")?;
        if self.outlet.is_open() && !self.assembler.in_transaction() {
            self.commit()?;
        }
        tracing::info!(source = self.config.name, position = %self.progress.position, "stopped");
        Ok(())
    }
}

fn rules(config: &SourceConfig, database: &str) -> Rules {
    Rules::of(&config.form, &config.prefix, database).shared(config.share.clone(), config.leads)
}

/// Now, nanoseconds since 1970.
pub fn clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// What cannot be assembled, as a failure. A row that does not fit is never skipped: its table would be wrong for ever.
pub fn misfit(error: &AssembleError) -> Failure {
    match error {
        AssembleError::Misfit { .. } => Failure::poison("UNENCODABLE_ROW", error)
            .hint("mend the row or its column's type, or take the table out of the pipeline; nothing after it is read"),
        AssembleError::Oversized { .. } => Failure::poison("ROW_TOO_LARGE", error),
        AssembleError::Protocol(_) => Failure::transient("SOURCE_PROTOCOL", error),
    }
}
