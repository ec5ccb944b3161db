//! Chunks are read on a thread of their own: the stream never waits for a query, a lock, or a commit under way.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use syncline_runtime::{Failure, Outcome};

use crate::postgres::watermark::{Answer, ChunkReader, Wanted};

/// One is being read, and one may wait that nobody wants any more.
const WAITING_MAX: usize = 2;

/// The asking end. Dropping it ends the thread after the query that it is at.
pub struct Reader {
    wishes: SyncSender<(u64, Wanted)>,
    answers: Receiver<(u64, Outcome<Answer>)>,
    asked: u64,
}

impl Reader {
    /// Starts the thread; it connects when it is first asked.
    pub fn start(slot: &str, mut chunks: ChunkReader) -> Outcome<Self> {
        let (wishes, wished) = sync_channel::<(u64, Wanted)>(WAITING_MAX);
        let (answering, answers) = sync_channel(WAITING_MAX);
        thread::Builder::new()
            .name(format!("chunks-{slot}"))
            .spawn(move || {
                for (number, wanted) in wished {
                    if answering.send((number, chunks.read(&wanted))).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| Failure::transient("NO_THREAD", "starting the thread of chunks").source(error))?;
        Ok(Self {
            wishes,
            answers,
            asked: 0,
        })
    }

    /// Asks for a chunk; false if the thread is still at earlier ones. Answers to those are forgotten.
    pub fn ask(&mut self, wanted: Wanted) -> bool {
        self.asked += 1;
        self.wishes.try_send((self.asked, wanted)).is_ok()
    }

    /// The answer, if it is there.
    pub fn answer(&mut self) -> Option<Outcome<Answer>> {
        loop {
            match self.answers.try_recv() {
                Ok((number, answer)) if number == self.asked => return Some(answer),
                Ok(_) => {}
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    return Some(Err(Failure::transient(
                        "SOURCE_CONNECTION",
                        "the thread of chunks broke off",
                    )));
                }
            }
        }
    }
}
