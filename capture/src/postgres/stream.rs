//! The log as it is written: a reader on its own thread, and the producing thread's end of it.
//!
//! The reader never waits for Kafka. It reads while the queue has room, and whether it has or not it tells the server
//! every `status_interval_ms` what is received and what is confirmed, so that the server never takes a busy capture
//! for a dead one. What it reports as flushed is only what [`Source::confirm`] was told, never more than was received,
//! and never goes back: the server throws away what we say we have.
//!
//! A server hears from us so often that it never feels a need to ask. So it is we who ask: each report on a quiet line
//! requests an answer, which shows that the other end is alive, and tells how far it has read its log. That is what
//! moves an idle slot forward ([`Incoming::Idle`]), between transactions only, and through Kafka like everything else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use syncline_runtime::failure::{Failure, Outcome};
use syncline_schemas::position::Lsn;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::postgres::client::{server_failure, server_warning};
use crate::postgres::error::ROW_UNSENDABLE;
use crate::postgres::handover::{Batch, Bounds, Handover};
use crate::postgres::moderation;
use crate::postgres::pgoutput::{Decoder, Message, OldTuple, TupleCell};
use crate::postgres::wire::{Frame, Wire};
use crate::source::{Incoming, Source};

/// The code of a row that the server cannot send.
pub const POISON_WAL: &str = "POISON_WAL";
/// What a message in the queue weighs besides its bytes: the enum, its cells, its share of a buffer.
const MESSAGE_OVERHEAD_BYTES: usize = 256;
/// How long a reader that is asked to stop may take to say goodbye.
const CLOSE_WAIT_MS: u64 = 2_000;
/// Microseconds between 1970 and 2000.
const POSTGRES_EPOCH_UNIX_US: i64 = 946_684_800_000_000;

/// Bounds of a stream.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// How often the server is told where we are. At once, besides, when the confirmed LSN moves or the server asks.
    pub status_interval_ms: u64,
    /// How often at most the producing thread is told how far an idle log has come.
    pub idle_interval_ms: u64,
    /// After how long without a byte, though we asked, the connection counts as dead.
    pub read_timeout_ms: u64,
    /// The most that waits for the producing thread, in bytes.
    pub queue_bytes_max: usize,
    /// The most that waits for the producing thread, in messages.
    pub queue_messages_max: usize,
    /// A change or message beyond this comes as [`Message::Oversized`]; none: all come whole.
    pub row_bytes_max: Option<usize>,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            status_interval_ms: 1_000,
            idle_interval_ms: 1_000,
            read_timeout_ms: 30_000,
            queue_bytes_max: 8 << 20,
            queue_messages_max: 1 << 14,
            row_bytes_max: None,
        }
    }
}

/// A running stream: the producing thread's end. Dropping it ends the reader.
pub struct Stream {
    handover: Arc<Handover<Incoming>>,
    confirmed: watch::Sender<Lsn>,
    stop: watch::Sender<bool>,
    taken: VecDeque<Incoming>,
}

impl Stream {
    /// Puts a connection that has just begun to stream onto a thread of its own.
    pub(super) fn spawn(
        runtime: Runtime,
        mut wire: Wire,
        slot: &str,
        from: Lsn,
        settings: StreamSettings,
    ) -> Outcome<Self> {
        if let Some(bytes_max) = settings.row_bytes_max {
            wire.keep_data_up_to(bytes_max);
        }
        let bounds = Bounds {
            bytes_max: settings.queue_bytes_max,
            items_max: settings.queue_messages_max,
        };
        let handover = Arc::new(Handover::new(bounds));
        let (confirmed, confirmed_seen) = watch::channel(from);
        let (stop, stop_seen) = watch::channel(false);
        let reader = Reader {
            wire,
            handover: Arc::clone(&handover),
            confirmed: confirmed_seen,
            stop: stop_seen,
            decoder: Decoder::new(),
            received: from,
            reported: from,
            in_transaction: false,
            commit: from,
            slot: slot.to_owned(),
            idle: Idle::new(from, Duration::from_millis(settings.idle_interval_ms)),
            last_heard: Instant::now(),
            warning: String::new(),
            settings,
        };
        thread::Builder::new()
            .name(format!("log-{slot}"))
            .spawn(move || {
                let handover = Arc::clone(&reader.handover);
                // A guard, so that the other side hears of a panic too.
                let guard = CloseOnDrop(Arc::clone(&handover));
                handover.close(runtime.block_on(reader.run()));
                drop(guard);
            })
            .map_err(|error| Failure::transient("NO_THREAD", "starting the reader's thread").source(error))?;
        Ok(Self {
            handover,
            confirmed,
            stop,
            taken: VecDeque::new(),
        })
    }
}

impl Source for Stream {
    fn next(&mut self, wait: Duration) -> Outcome<Option<Incoming>> {
        if self.taken.is_empty() {
            match self.handover.take(wait)? {
                Some(batch) => self.taken = VecDeque::from(batch.items),
                None => return Ok(None),
            }
        }
        Ok(self.taken.pop_front())
    }

    fn confirm(&self, lsn: Lsn) {
        self.confirmed.send_if_modified(|confirmed| {
            let moves = lsn > *confirmed;
            if moves {
                *confirmed = lsn;
            }
            moves
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.handover.wait_closed(Duration::from_millis(CLOSE_WAIT_MS));
    }
}

struct CloseOnDrop(Arc<Handover<Incoming>>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(Err(Failure::transient(
            "SOURCE_CONNECTION",
            "the reader's thread broke off",
        )));
    }
}

/// The reader's side.
struct Reader {
    wire: Wire,
    handover: Arc<Handover<Incoming>>,
    confirmed: watch::Receiver<Lsn>,
    stop: watch::Receiver<bool>,
    decoder: Decoder,
    /// The end of what has arrived.
    received: Lsn,
    /// What the server was last told is flushed.
    reported: Lsn,
    in_transaction: bool,
    /// Where the transaction commits that is being read, or was the last.
    commit: Lsn,
    slot: String,
    idle: Idle,
    last_heard: Instant,
    /// What the server warned of last.
    warning: String,
    settings: StreamSettings,
}

/// What to do next.
enum Turn {
    Stop,
    Confirmed,
    Tick,
    Room,
    Read { bytes: usize },
}

/// What one read has brought.
#[derive(Default)]
struct Taken {
    items: Vec<Incoming>,
    bytes: usize,
    /// The server wants an answer.
    asked: bool,
}

impl Reader {
    async fn run(mut self) -> Outcome<()> {
        let mut ticks = interval(Duration::from_millis(self.settings.status_interval_ms.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut blocked = false;
        loop {
            let waits_since = Instant::now();
            let turn = tokio::select! {
                biased;
                // 1. We are to stop.
                _ = self.stop.wait_for(|&stop| stop) => Turn::Stop,
                // 2. More is durable: the server may forget it.
                _ = self.confirmed.changed() => Turn::Confirmed,
                // 3. It is time to report, whatever else waits.
                _ = ticks.tick() => Turn::Tick,
                // 4. The producing thread has caught up.
                () = self.handover.room(), if blocked => Turn::Room,
                // 5. There is something to read.
                read = self.wire.fill(), if !blocked => Turn::Read { bytes: read? },
            };
            match turn {
                Turn::Stop => return self.say_goodbye().await,
                Turn::Confirmed => self.report(false).await?,
                Turn::Tick => self.tick(blocked).await?,
                Turn::Room => self.last_heard = Instant::now(),
                Turn::Read { bytes } => {
                    let waited = waits_since.elapsed();
                    self.take_in().await?;
                    // The thread is this reader's own, and the runtime's timer knows only milliseconds.
                    if let Some(nap) = moderation::nap(bytes, waited) {
                        thread::sleep(nap);
                    }
                }
            }
            blocked = !self.handover.has_room();
        }
    }

    /// Reports, asking for an answer on a quiet line, and gives the line up if there never is one.
    async fn tick(&mut self, blocked: bool) -> Outcome<()> {
        let quiet = self.last_heard.elapsed();
        if !blocked && quiet > Duration::from_millis(self.settings.read_timeout_ms) {
            let text = format!("the server has been silent for {} s", quiet.as_secs());
            return Err(Failure::transient("SOURCE_SILENT", text));
        }
        if let Some(lsn) = self.idle.due(true) {
            self.hand_over(vec![Incoming::Idle { lsn }], MESSAGE_OVERHEAD_BYTES);
        }
        let ask = quiet >= Duration::from_millis(self.settings.status_interval_ms / 2) || self.received == Lsn(0);
        self.report(ask && !blocked).await
    }

    /// Turns all that has been read into one batch.
    async fn take_in(&mut self) -> Outcome<()> {
        self.last_heard = Instant::now();
        let mut taken = Taken::default();
        let result = self.take_buffered(&mut taken);
        if let Some(lsn) = self.idle.due(taken.asked) {
            taken.items.push(Incoming::Idle { lsn });
        }
        // What came before a failure is handed over all the same.
        self.hand_over(taken.items, taken.bytes);
        result?;
        if taken.asked { self.report(false).await } else { Ok(()) }
    }

    fn take_buffered(&mut self, taken: &mut Taken) -> Outcome<()> {
        while let Some(frame) = self.wire.buffered()? {
            self.frame(frame, taken)?;
        }
        Ok(())
    }

    fn hand_over(&self, items: Vec<Incoming>, bytes: usize) {
        self.handover.push(Batch { items, bytes });
    }

    fn frame(&mut self, frame: Frame, taken: &mut Taken) -> Outcome<()> {
        match frame.tag {
            b'd' => self.copy_data(frame.body, frame.left_out_bytes, taken),
            b'E' => Err(self.log_failure(server_failure(&frame, "reading the log"))),
            b'N' => {
                self.hear(&frame);
                Ok(())
            }
            b'S' | b'A' => Ok(()),
            b'c' | b'C' | b'Z' => Err(Failure::transient("SOURCE_CONNECTION", "the server ended the stream")),
            _ => Err(broken("a message that does not belong in a stream")),
        }
    }

    /// A server that waits for something while it sends warns of it every second.
    fn hear(&mut self, frame: &Frame) {
        if let Some(warning) = server_warning(frame).filter(|warning| *warning != self.warning) {
            tracing::warn!(
                code = "SOURCE_WARNS",
                "the server warns while it sends the log: {warning}"
            );
            self.warning = warning;
        }
    }

    /// A row that the server cannot send stands in the way of everything behind it, at every attempt.
    fn log_failure(&self, failure: Failure) -> Failure {
        if failure.code != ROW_UNSENDABLE {
            return failure;
        }
        let (slot, commit) = (&self.slot, self.commit);
        let text = format!(
            "the transaction that commits at {commit} has a row that the server cannot send, and everything behind it \
             waits: {}",
            failure.message
        );
        let past = Lsn(commit.0 + 1);
        Failure::definite(POISON_WAL, text).hint(format!(
            "mend that row, then go past its transaction: SELECT pg_replication_slot_advance('{slot}', '{past}'); and \
             start once with --adopt-slot and --reread TABLE for each table that the transaction changed"
        ))
    }

    fn copy_data(&mut self, mut body: Bytes, left_out_bytes: usize, taken: &mut Taken) -> Outcome<()> {
        match body.try_get_u8() {
            Ok(b'w') => self.log_data(body, left_out_bytes, taken),
            Ok(b'k') => self.keepalive(body, taken),
            _ => Err(broken("a message of unknown kind in the stream")),
        }
    }

    /// XLogData: where it starts, where the log ends, when it was sent, and the message.
    fn log_data(&mut self, mut body: Bytes, left_out_bytes: usize, taken: &mut Taken) -> Outcome<()> {
        let (Ok(start), Ok(end), Ok(_sent)) = (body.try_get_u64(), body.try_get_u64(), body.try_get_i64()) else {
            return Err(broken("a message of the log that is cut short"));
        };
        let lsn = Lsn(start);
        let length = body.len();
        let decoded = match left_out_bytes {
            0 => self.decoder.decode(body),
            left_out => self.decoder.decode_head(body, (length + left_out) as u64),
        };
        let message = decoded.map_err(|error| {
            Failure::definite(
                "LOG_UNREADABLE",
                format!("the message at {lsn} of the log cannot be read: {error}"),
            )
        })?;
        self.received = self.received.max(lsn).max(Lsn(end));
        match &message {
            Message::Begin(begin) => (self.in_transaction, self.commit) = (true, begin.final_lsn),
            Message::StreamStart(_) => self.in_transaction = true,
            Message::Commit(commit) => {
                self.in_transaction = false;
                self.received = self.received.max(commit.end_lsn);
            }
            Message::StreamStop => self.in_transaction = false,
            _ => {}
        }
        // An idle position that still waits has been overtaken: the message moves the slot itself.
        self.idle.pending = None;
        taken.bytes += length + MESSAGE_OVERHEAD_BYTES + cells(&message) * size_of::<TupleCell>();
        taken.items.push(Incoming::Log { lsn, message });
        Ok(())
    }

    /// Keepalive: how far the server has read its log, and whether it wants an answer.
    fn keepalive(&mut self, mut body: Bytes, taken: &mut Taken) -> Outcome<()> {
        let (Ok(end), Ok(_sent), Ok(reply)) = (body.try_get_u64(), body.try_get_i64(), body.try_get_u8()) else {
            return Err(broken("a keepalive that is cut short"));
        };
        self.received = self.received.max(Lsn(end));
        // In the middle of a transaction the server's position says nothing of what has been sent.
        if !self.in_transaction {
            self.idle.reached(Lsn(end));
        }
        taken.asked |= reply != 0;
        Ok(())
    }

    /// Standby status update: written = received, flushed = applied = confirmed.
    async fn report(&mut self, ask: bool) -> Outcome<()> {
        let confirmed = *self.confirmed.borrow_and_update();
        self.reported = self.reported.max(confirmed.min(self.received));
        let status = status_update(self.received, self.reported, ask);
        self.wire.output.put_u8(b'd');
        self.wire
            .output
            .put_u32(u32::try_from(status.len() + 4).unwrap_or(u32::MAX));
        self.wire.output.extend_from_slice(&status);
        let limit = Duration::from_millis(self.settings.read_timeout_ms);
        match timeout(limit, self.wire.flush()).await {
            Ok(sent) => sent,
            Err(_) => Err(Failure::transient(
                "SOURCE_SILENT",
                "the server does not take what is sent to it",
            )),
        }
    }

    /// Last report, CopyDone, Terminate: the slot is free at once.
    async fn say_goodbye(mut self) -> Outcome<()> {
        let goodbye = async {
            self.report(false).await?;
            postgres_protocol::message::frontend::copy_done(&mut self.wire.output);
            postgres_protocol::message::frontend::terminate(&mut self.wire.output);
            self.wire.flush().await
        };
        // The server hears it or it does not: the connection ends either way.
        let _ = timeout(Duration::from_millis(CLOSE_WAIT_MS), goodbye).await;
        Ok(())
    }
}

/// The positions of an idle stream, thinned out to one an interval.
#[derive(Debug)]
struct Idle {
    pending: Option<Lsn>,
    handed: Lsn,
    last: Option<Instant>,
    interval: Duration,
}

impl Idle {
    fn new(from: Lsn, interval: Duration) -> Self {
        Self {
            pending: None,
            handed: from,
            last: None,
            interval,
        }
    }

    fn reached(&mut self, lsn: Lsn) {
        if lsn > self.handed {
            self.pending = Some(lsn);
        }
    }

    /// The position to hand over now, if one waits and the last is long enough ago (or `at_once`).
    fn due(&mut self, at_once: bool) -> Option<Lsn> {
        if !at_once && self.last.is_some_and(|last| last.elapsed() < self.interval) {
            return None;
        }
        let lsn = self.pending.take()?;
        self.handed = lsn;
        self.last = Some(Instant::now());
        Some(lsn)
    }
}

/// How many cells a message holds; a NULL takes as much memory as any other.
fn cells(message: &Message) -> usize {
    let old = |old: &OldTuple| match old {
        OldTuple::None => 0,
        OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple.len(),
    };
    match message {
        Message::Insert(insert) => insert.new.len(),
        Message::Update(update) => update.new.len() + old(&update.old),
        Message::Delete(delete) => old(&delete.old),
        _ => 0,
    }
}

fn status_update(written: Lsn, flushed: Lsn, ask: bool) -> BytesMut {
    let mut status = BytesMut::with_capacity(34);
    status.put_u8(b'r');
    status.put_u64(written.0);
    status.put_u64(flushed.0);
    status.put_u64(flushed.0);
    status.put_i64(now_us());
    status.put_u8(u8::from(ask));
    status
}

/// The server shows it in `pg_stat_replication.reply_time` and does nothing else with it.
fn now_us() -> i64 {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_UNIX_US
}

fn broken(what: &str) -> Failure {
    Failure::transient("SOURCE_PROTOCOL", format!("the server sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_update_is_as_the_protocol_says() {
        let status = status_update(Lsn(0x10), Lsn(0x0F), true);
        assert_eq!(status.len(), 34);
        assert_eq!(status[0], b'r');
        assert_eq!(status[1..9], 0x10_u64.to_be_bytes());
        assert_eq!(status[9..17], 0x0F_u64.to_be_bytes());
        assert_eq!(status[17..25], 0x0F_u64.to_be_bytes());
        assert_eq!(status[33], 1);
    }

    #[test]
    fn idle_positions_are_thinned_out_and_none_is_lost() {
        let mut idle = Idle::new(Lsn(5), Duration::from_secs(3600));
        idle.reached(Lsn(5));
        assert_eq!(idle.due(true), None, "known already");
        idle.reached(Lsn(6));
        assert_eq!(idle.due(false), Some(Lsn(6)), "the first comes at once");
        idle.reached(Lsn(7));
        idle.reached(Lsn(8));
        assert_eq!(idle.due(false), None, "too soon");
        assert_eq!(idle.due(true), Some(Lsn(8)), "the last of them, when asked");
    }
}
