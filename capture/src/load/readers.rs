//! The reading side of a snapshot: connections that share it, each with a table, or a part of one, at a time, and bounded queues to
//! the one who writes.
//!
//! A reader goes on to the next chunk as soon as the last is handed over, and waits where the writer has not taken what it has read.
//! The writer takes of whom it wants ([`super::writing`] says of whom that is); what others have read waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use syncline_runtime::{Failure, Outcome, Shutdown};

use super::division::Part;
use crate::postgres::catalog::TableInfo;
use crate::postgres::dsn::Dsn;
use crate::postgres::snapshot::{ChunkEnd, Extract, Snapshot, SnapshotRow};

/// Rows of a chunk: what is read again after a crash, and the size of a transaction.
const CHUNK_ROWS_MAX: u64 = 20_000;
/// Pieces (of some megabytes) that wait for the writer, for each reader.
const PIECES_MAX: usize = 2;
/// How often a waiting writer looks whether it is to stop.
const STOP_POLL_MS: u64 = 100;

/// A table to be read, or a part of one.
pub struct Job {
    /// Its place among the tables of the run.
    pub index: usize,
    /// What the catalogue says of it.
    pub info: TableInfo,
    /// The columns wanted.
    pub columns: Vec<String>,
    /// What to read instead of it.
    pub select: Option<String>,
    /// The number of the part.
    pub part: usize,
    /// Where it begins and ends.
    pub bounds: Part,
    /// The writer wants no more of it.
    pub unwanted: Arc<AtomicBool>,
}

/// Part of a chunk.
pub enum Piece {
    /// Some rows.
    Rows(Vec<SnapshotRow>),
    /// It has no more.
    End(ChunkEnd),
}

/// A piece on its way.
pub struct Arrival {
    /// Who has read it.
    pub reader: usize,
    /// The place of its table among those of the run.
    pub index: usize,
    /// The number of its part of the table.
    pub part: usize,
    /// The piece.
    pub piece: Outcome<Piece>,
}

/// All readers of a run. Dropping it ends them, each with the query that it is at.
pub struct Readers {
    arrivals: Receiver<Arrival>,
    /// Of each reader, where it hears that a piece of it has been taken.
    rooms: Vec<Sender<()>>,
    /// Has arrived and was not wanted yet; of each reader as many as there is room for.
    early: VecDeque<Arrival>,
}

type Jobs = Arc<Mutex<VecDeque<Job>>>;

impl Readers {
    /// Starts as many as there may be. They read what `snapshot` sees.
    pub fn start(snapshot: Snapshot, dsn: &Dsn, threads_max: usize, jobs: Vec<Job>) -> Outcome<Self> {
        let threads = threads_max.min(jobs.len()).max(1);
        let mut snapshots = Vec::with_capacity(threads);
        for _ in 1..threads {
            match snapshot.shared(dsn) {
                Ok(shared) => snapshots.push(shared),
                Err(failure) => {
                    let count = snapshots.len() + 1;
                    tracing::warn!("the snapshot is read on {count} connections instead of {threads}: {failure}");
                    break;
                }
            }
        }
        // Last, because a snapshot can be shared only while it is there.
        snapshots.push(snapshot);
        let jobs: Jobs = Arc::new(Mutex::new(jobs.into()));
        let (send, arrivals) = channel();
        let mut rooms = Vec::with_capacity(threads);
        for (number, snapshot) in snapshots.into_iter().enumerate() {
            let (room, taken) = channel();
            // It holds one piece while it waits for room.
            (0..PIECES_MAX).for_each(|_| _ = room.send(()));
            rooms.push(room);
            let reader = Reader {
                number,
                snapshot,
                jobs: Arc::clone(&jobs),
                room: taken,
                send: send.clone(),
            };
            thread::Builder::new()
                .name("snapshot".to_owned())
                .spawn(move || reader.run())
                .map_err(|error| Failure::transient("NO_THREAD", "starting a thread of the snapshot").source(error))?;
        }
        Ok(Self {
            arrivals,
            rooms,
            early: VecDeque::new(),
        })
    }

    /// The next piece of a reader that is wanted, in the order in which it has read; none if there is a wish to stop.
    pub fn next(&mut self, is_wanted: impl Fn(usize) -> bool, shutdown: &Shutdown) -> Outcome<Option<Arrival>> {
        let place = self.early.iter().position(|early| is_wanted(early.reader));
        let mut arrived = place.and_then(|place| self.early.remove(place));
        while arrived.is_none() {
            match taken(&self.arrivals, shutdown)? {
                None => return Ok(None),
                Some(arrival) if is_wanted(arrival.reader) => arrived = Some(arrival),
                Some(arrival) => self.early.push_back(arrival),
            }
        }
        if let Some(room) = arrived.as_ref().and_then(|arrival| self.rooms.get(arrival.reader)) {
            // One that is at its end needs none.
            let _ = room.send(());
        }
        Ok(arrived)
    }
}

fn taken<T>(from: &Receiver<T>, shutdown: &Shutdown) -> Outcome<Option<T>> {
    loop {
        if shutdown.requested() {
            return Ok(None);
        }
        match from.recv_timeout(Duration::from_millis(STOP_POLL_MS)) {
            Ok(item) => return Ok(Some(item)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::transient(
                    "SOURCE_CONNECTION",
                    "a thread of the snapshot broke off",
                ));
            }
        }
    }
}

/// One connection.
struct Reader {
    number: usize,
    snapshot: Snapshot,
    jobs: Jobs,
    room: Receiver<()>,
    send: Sender<Arrival>,
}

/// The writer is gone: nobody wants more.
struct Gone;

impl Reader {
    fn run(self) {
        while let Some(job) = self.next_job() {
            if self.table(job).is_err() {
                return;
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn table(&self, mut job: Job) -> Result<(), Gone> {
        while !job.unwanted.load(Ordering::Relaxed) {
            match self.chunk(&job)? {
                Some(ChunkEnd::More(bound)) => job.bounds.after = Some(bound),
                Some(ChunkEnd::Last) => return Ok(()),
                None => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Hands a chunk over; none after a failure, which has been handed over too.
    fn chunk(&self, job: &Job) -> Result<Option<ChunkEnd>, Gone> {
        let mut hand_over = |piece: Outcome<Piece>| -> Result<(), Gone> {
            self.room.recv().map_err(|_| Gone)?;
            let arrival = Arrival {
                reader: self.number,
                index: job.index,
                part: job.part,
                piece,
            };
            self.send.send(arrival).map_err(|_| Gone)
        };
        match self.read(job, &mut hand_over)? {
            Ok(end) => {
                hand_over(Ok(Piece::End(end.clone())))?;
                Ok(Some(end))
            }
            Err(failure) => {
                hand_over(Err(failure))?;
                Ok(None)
            }
        }
    }

    fn read(
        &self,
        job: &Job,
        hand_over: &mut impl FnMut(Outcome<Piece>) -> Result<(), Gone>,
    ) -> Result<Outcome<ChunkEnd>, Gone> {
        let columns: Vec<&str> = job.columns.iter().map(String::as_str).collect();
        let extract = Extract {
            select: job.select.as_deref(),
            up_to: job.bounds.up_to.as_ref(),
            ..Extract::all(&job.info, &columns)
        };
        let mut chunk = match self
            .snapshot
            .extract(&extract, job.bounds.after.as_ref(), CHUNK_ROWS_MAX)
        {
            Ok(chunk) => chunk,
            Err(failure) => return Ok(Err(failure)),
        };
        loop {
            match chunk.next_rows() {
                Ok(Some(rows)) => hand_over(Ok(Piece::Rows(rows)))?,
                Ok(None) => return Ok(chunk.end()),
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }
}
