//! The reading side of a snapshot: connections that share it, each with a table at a time, and bounded queues to the one who
//! writes.
//!
//! A reader announces a chunk when its first rows are there, and goes on to the next as soon as the last are handed over. The
//! writer takes one chunk at a time to its end, so that a batch holds whole chunks only; the others wait with full queues.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use syncline_runtime::{Failure, Outcome, Shutdown};

use crate::postgres::catalog::TableInfo;
use crate::postgres::dsn::Dsn;
use crate::postgres::snapshot::{ChunkBound, ChunkEnd, Extract, Snapshot, SnapshotRow};

/// Rows of a chunk: what is read again after a crash, and the size of a transaction.
const CHUNK_ROWS_MAX: u64 = 20_000;
/// Pieces (of some megabytes) that wait for the writer, for each reader.
const PIECES_MAX: usize = 2;
/// How often a waiting writer looks whether it is to stop.
const STOP_POLL_MS: u64 = 100;

/// A table to be read.
pub struct Job {
    /// Its place among the tables of the run.
    pub index: usize,
    /// What the catalogue says of it.
    pub info: TableInfo,
    /// The columns wanted.
    pub columns: Vec<String>,
    /// What to read instead of it.
    pub select: Option<String>,
    /// The key after which to begin.
    pub after: Option<ChunkBound>,
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

/// A chunk on its way.
pub struct Chunk {
    /// The place of its table among those of the run.
    pub index: usize,
    pieces: Receiver<Outcome<Piece>>,
}

/// All readers of a run. Dropping it ends them, each with the query that it is at.
pub struct Readers {
    chunks: Receiver<Chunk>,
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
        let (announce, chunks) = sync_channel(threads);
        for snapshot in snapshots {
            let reader = Reader {
                snapshot,
                jobs: Arc::clone(&jobs),
                announce: announce.clone(),
            };
            thread::Builder::new()
                .name("snapshot".to_owned())
                .spawn(move || reader.run())
                .map_err(|error| Failure::transient("NO_THREAD", "starting a thread of the snapshot").source(error))?;
        }
        Ok(Self { chunks })
    }

    /// The next chunk of which there are rows; none if there is a wish to stop.
    pub fn next(&self, shutdown: &Shutdown) -> Outcome<Option<Chunk>> {
        taken(&self.chunks, shutdown)
    }
}

impl Chunk {
    /// More of it; none if there is a wish to stop.
    pub fn next(&self, shutdown: &Shutdown) -> Outcome<Option<Piece>> {
        taken(&self.pieces, shutdown)?.transpose()
    }

    /// Passes over what is left of it, so that its reader goes on; false if there is a wish to stop.
    pub fn drain(&self, shutdown: &Shutdown) -> bool {
        while let Ok(Some(Ok(Piece::Rows(_)))) = taken(&self.pieces, shutdown) {}
        !shutdown.requested()
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
    snapshot: Snapshot,
    jobs: Jobs,
    announce: SyncSender<Chunk>,
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
        loop {
            match self.chunk(&job)? {
                Some(ChunkEnd::More(_)) if job.unwanted.load(Ordering::Relaxed) => return Ok(()),
                Some(ChunkEnd::More(bound)) => job.after = Some(bound),
                Some(ChunkEnd::Last) => return Ok(()),
                None => return Err(Gone),
            }
        }
    }

    /// Hands a chunk over; none after a failure, which has been handed over too.
    fn chunk(&self, job: &Job) -> Result<Option<ChunkEnd>, Gone> {
        let (pieces, received) = sync_channel(PIECES_MAX);
        let mut announced = Some(received);
        let mut hand_over = |piece: Outcome<Piece>| -> Result<(), Gone> {
            pieces.send(piece).map_err(|_| Gone)?;
            match announced.take() {
                Some(received) => {
                    let chunk = Chunk {
                        index: job.index,
                        pieces: received,
                    };
                    self.announce.send(chunk).map_err(|_| Gone)
                }
                None => Ok(()),
            }
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
            ..Extract::all(&job.info, &columns)
        };
        let mut chunk = match self.snapshot.extract(&extract, job.after.as_ref(), CHUNK_ROWS_MAX) {
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
