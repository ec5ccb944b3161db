//! What signals ask for, carried out a step at a time between two transactions of the stream.
//!
//! A signal is taken once: what it asks for goes into the agenda, the agenda into the progress, and with it how far the signal's
//! channel has been taken; a row of the signalling table that comes again after a crash is told by its position.

use syncline_runtime::Outcome;
use syncline_schemas::position::Position;

use crate::config::SourceConfig;
use crate::incremental::agenda::Agenda;
use crate::incremental::{Hands, Incremental};
use crate::notify::Notification;
use crate::patterns::Patterns;
use crate::postgres::pgoutput::{Message, Relation};
use crate::signals::inbox::{Inbox, Mark};
use crate::signals::logged::Logged;
use crate::signals::{Asks, Signal, Wish};

/// A signal that is not understood.
const SIGNAL_REFUSED: &str = "SIGNAL_REFUSED";

/// The errands of one source.
pub struct Errands {
    logged: Logged,
    inbox: Inbox,
    agenda: Agenda,
    incremental: Incremental,
    unsaid: bool,
    /// Files whose signals are on the agenda, and may go when that is in Kafka.
    files: Vec<String>,
}

impl Errands {
    /// With what is left to do since the last time.
    pub fn open(config: &SourceConfig, agenda: Agenda) -> Outcome<Self> {
        Ok(Self {
            logged: Logged::new(config.snapshots.signals_in_log().cloned()),
            inbox: Inbox::open(config, agenda.taken())?,
            agenda,
            incremental: Incremental::default(),
            unsaid: false,
            files: Vec::new(),
        })
    }

    // ---- what is to be written with the progress ----

    /// What is not done, as progress has it.
    pub fn written(&self) -> Outcome<Option<String>> {
        self.agenda.written()
    }

    /// Whether that is not in Kafka yet.
    pub fn is_unsaid(&self) -> bool {
        self.unsaid
    }

    /// It is in Kafka now.
    pub fn said(&mut self) {
        self.unsaid = false;
        self.files.drain(..).for_each(|file| self.inbox.is_kept(&file));
    }

    // ---- whether there is something to do ----

    /// Whether nothing is left to do that goes on by itself.
    pub fn is_idle(&self) -> bool {
        self.agenda.is_idle() && self.inbox.has_looked() && !self.unsaid
    }

    /// Whether something may come at any moment.
    pub fn is_under_way(&self) -> bool {
        self.incremental.is_under_way()
    }

    // ---- the log ----

    /// A message of the log is about to be taken in.
    pub fn overhear(&mut self, message: &Message) {
        self.incremental.overhear(message);
    }

    /// The log announces a table.
    pub fn announced(&mut self, relation: &Relation) {
        self.logged.announced(relation);
    }

    /// The signal that a message of the log is.
    pub fn signal(&self, message: &Message) -> Option<Signal> {
        match message {
            Message::Insert(insert) => self.logged.signal(insert),
            _ => None,
        }
    }

    // ---- the work ----

    /// Takes a step, between two transactions.
    pub fn step(&mut self, hands: &mut Hands<'_, '_>) -> Outcome<()> {
        while let Some(letter) = self.inbox.take() {
            for signal in &letter.signals {
                match signal {
                    Ok(signal) => self.take(signal, hands)?,
                    Err(wrong) => tracing::warn!(code = SIGNAL_REFUSED, source = hands.config.name, "{wrong}"),
                }
            }
            self.agenda.take(&letter.mark);
            if let Mark::File(fingerprint) = letter.mark {
                self.files.push(fingerprint);
            }
            self.unsaid = true;
        }
        if self.agenda.blocking.is_empty() {
            self.unsaid |= self.incremental.step(&mut self.agenda, hands)?;
        }
        Ok(())
    }

    /// Does what a signal asks for, or says why not.
    pub fn take(&mut self, signal: &Signal, hands: &mut Hands<'_, '_>) -> Outcome<()> {
        let Signal { id, kind, .. } = signal;
        match signal.asks() {
            Err(wrong) => {
                tracing::warn!(
                    code = SIGNAL_REFUSED,
                    source = hands.config.name,
                    id,
                    kind,
                    "the signal is passed over: {wrong}"
                );
                return Ok(());
            }
            Ok(Asks::Watermark) => return Ok(()),
            Ok(Asks::Log(text)) => {
                log(hands.config, &text, hands.assembler.position());
                return Ok(());
            }
            Ok(asks) => {
                tracing::info!(source = hands.config.name, id, kind, "a signal");
                self.carry_out(id, asks, hands)?;
            }
        }
        self.unsaid = true;
        Ok(())
    }

    fn carry_out(&mut self, id: &str, asks: Asks, hands: &mut Hands<'_, '_>) -> Outcome<()> {
        match asks {
            Asks::Snapshot(wish) => self.snapshot(id, &wish, hands),
            Asks::Stop(tables) => self.stop(tables.as_ref(), hands),
            Asks::Pause => self.pause(true, hands),
            Asks::Resume => self.pause(false, hands),
            Asks::Log(_) | Asks::Watermark => Ok(()),
        }
    }

    fn snapshot(&mut self, id: &str, wish: &Wish, hands: &mut Hands<'_, '_>) -> Outcome<()> {
        let captured = hands.shapes.wanted().into_iter().map(|table| table.to_string());
        let captured: Vec<String> = captured
            .filter(|table| !hands.config.snapshots.is_signals(table))
            .collect();
        let granted = self.agenda.grant(id, wish, &captured);
        let refuse = |why: &str| tracing::warn!(code = SIGNAL_REFUSED, source = hands.config.name, id, "{why}");
        for name in &granted.unmatched {
            refuse(&format!("{name:?} matches no captured table"));
        }
        if granted.too_many {
            refuse("too many tables wait to be read already");
        }
        match wish.blocking || granted.tables.is_empty() {
            true => Ok(()),
            false => hands.tell(Notification::incremental(id, "STARTED").of(&granted.tables)),
        }
    }

    fn stop(&mut self, tables: Option<&Patterns>, hands: &mut Hands<'_, '_>) -> Outcome<()> {
        let Some(signal) = self.running() else {
            tracing::info!(
                source = hands.config.name,
                "nothing is being read that could be stopped"
            );
            return Ok(());
        };
        let struck = self.agenda.strike(tables);
        self.incremental.let_go();
        if self.agenda.tables.is_empty() {
            self.agenda.paused = false;
        }
        let told = Notification::incremental(&signal, "ABORTED");
        hands.tell(match tables {
            Some(_) => told.of(&struck),
            None => told,
        })
    }

    fn pause(&mut self, paused: bool, hands: &mut Hands<'_, '_>) -> Outcome<()> {
        let Some(signal) = self.running().filter(|_| self.agenda.paused != paused) else {
            tracing::info!(
                source = hands.config.name,
                "nothing is being read that could be paused or resumed"
            );
            return Ok(());
        };
        self.agenda.paused = paused;
        let kind = if paused { "PAUSED" } else { "RESUMED" };
        hands.tell(Notification::incremental(&signal, kind).of(&self.agenda.names()))
    }

    fn running(&self) -> Option<String> {
        self.agenda.tables.front().map(|reading| reading.signal.clone())
    }

    // ---- what the stream has to wait for ----

    /// Whether tables are to be read for which the stream has to wait.
    pub fn is_blocking(&self) -> bool {
        !self.agenda.blocking.is_empty()
    }

    /// The next of them, each with what to read instead of it.
    pub fn block(&mut self) -> Option<Vec<(String, Option<String>)>> {
        let next = self.agenda.blocking.front_mut()?;
        // What had been read of a chunk is read again later.
        self.incremental.let_go();
        next.begun = true;
        Some(next.tables.clone())
    }

    /// They are read.
    pub fn blocked(&mut self) {
        self.agenda.blocking.pop_front();
        self.unsaid = true;
    }
}

fn log(config: &SourceConfig, text: &str, position: Position) {
    tracing::info!(source = config.name, "{}", text.replace("{}", &position.to_string()));
}
