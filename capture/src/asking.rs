//! The registry asked for ids beside the stream, so that it is waited for by the one table whose schema is new.
//!
//! An answer that comes soon is awaited, and all is as if there were no thread. After that a thread goes on asking, and when it has
//! an answer, whatever it is, the tables that wait go on ([`crate::behind`]). While one asks nobody awaits another answer: one that
//! is away would hold up the stream once for each table.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use syncline_bus::Registry;
use syncline_runtime::{Class, Failure, Outcome};

/// How long an answer is awaited before the table waits alone.
const PATIENCE_MS: u64 = 3_000;
/// Between two questions of one thread (each of which goes on for a while by itself).
const AGAIN_MS: u64 = 1_000;
/// Threads that ask at the same time; the tables beyond wait for those to be answered.
const ASKING_MAX: usize = 8;

/// A schema: its subject and its text.
pub type Schema = (String, String);

/// Questions that are not answered yet. Dropping it ends the threads, each after the question that it is at.
#[derive(Default)]
pub struct Asking {
    answers: Vec<Receiver<Outcome<()>>>,
    alive: Arc<()>,
}

impl Asking {
    /// Has the schemas registered. None if there is no answer yet.
    pub fn ask(&mut self, registry: &Arc<Registry>, schemas: Vec<Schema>) -> Outcome<Option<Outcome<()>>> {
        if self.answers.len() >= ASKING_MAX {
            return Ok(None);
        }
        let patience = Duration::from_millis(if self.is_asking() { 0 } else { PATIENCE_MS });
        let (tell, answer) = sync_channel(1);
        let (registry, alive) = (Arc::clone(registry), Arc::downgrade(&self.alive));
        thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || ask(&registry, &schemas, &tell, &alive))
            .map_err(|error| {
                Failure::transient("NO_THREAD", "starting a thread that asks the registry").source(error)
            })?;
        match answer.recv_timeout(patience) {
            Ok(answered) => Ok(Some(answered)),
            Err(RecvTimeoutError::Timeout) => {
                self.answers.push(answer);
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => Err(Failure::transient(
                "REGISTRY_THREAD",
                "a thread that asks the registry broke off",
            )),
        }
    }

    /// Whether there are questions without an answer.
    pub fn is_asking(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Whether one of them has been answered meanwhile.
    pub fn is_answered(&self) -> bool {
        self.answers
            .iter()
            .any(|answer| !matches!(answer.try_recv(), Err(TryRecvError::Empty)))
    }
}

/// Whether the registry could not be asked, or gave no answer to go by. What it refuses it has answered.
fn is_away(failure: &Failure) -> bool {
    failure.class == Class::Transient || ["REGISTRY_DENIED", "REGISTRY_ANSWER"].contains(&failure.code)
}

fn ask(registry: &Registry, schemas: &[Schema], tell: &SyncSender<Outcome<()>>, alive: &Weak<()>) {
    let register = |(subject, text): &Schema| registry.register(subject, text).map(|_| ());
    while alive.strong_count() > 0 {
        match schemas.iter().try_for_each(register) {
            Err(failure) if is_away(&failure) => {
                tracing::warn!(code = failure.code, "a table waits for the registry: {failure}");
                thread::sleep(Duration::from_millis(AGAIN_MS));
            }
            answered => {
                // Nobody listens any more: nobody is to be told.
                let _ = tell.send(answered);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_registry_refuses_is_an_answer() {
        assert!(!is_away(&Failure::definite("SCHEMA_INCOMPATIBLE", "")));
        assert!(is_away(&Failure::definite("REGISTRY_DENIED", "")));
        assert!(is_away(&Failure::transient("REGISTRY_UNAVAILABLE", "")));
    }

    #[test]
    fn a_registry_that_is_not_there_is_awaited_once() {
        let registry = Arc::new(Registry::new("http://127.0.0.1:1"));
        let mut asking = Asking::default();
        let schema = || vec![("s-value".to_owned(), "\"string\"".to_owned())];
        assert!(matches!(asking.ask(&registry, schema()), Ok(None)));
        for _ in 0..ASKING_MAX {
            assert!(matches!(asking.ask(&registry, schema()), Ok(None)));
        }
        assert_eq!(asking.answers.len(), ASKING_MAX);
        assert!(asking.is_asking() && !asking.is_answered());
    }

    /// Answers every request with that status and body, one connection at a time, until it answers well.
    fn stub(wrong: usize) -> String {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut request = [0; 8 << 10];
                let _ = stream.read(&mut request);
                let (status, body) = match number < wrong {
                    true => ("500 Internal Server Error", r#"{"error_code":50001,"message":"store"}"#),
                    false => ("200 OK", r#"{"id":7}"#),
                };
                let head = "Content-Type: application/json\r\nConnection: close";
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"
                );
            }
        });
        format!("http://{address}")
    }

    #[test]
    fn a_registry_that_cannot_answer_yet_is_asked_until_it_does() {
        let schema = || vec![("s-value".to_owned(), "\"string\"".to_owned())];
        let well = Arc::new(Registry::new(stub(0)));
        let mut asking = Asking::default();
        assert!(matches!(asking.ask(&well, schema()), Ok(Some(Ok(())))));
        assert!(!asking.is_asking());

        // Eight answers of 500 take longer than the patience.
        let ill = Arc::new(Registry::new(stub(8)));
        assert!(matches!(asking.ask(&ill, schema()), Ok(None)));
        let answer = asking.answers.pop().unwrap();
        assert!(matches!(answer.recv_timeout(Duration::from_secs(60)), Ok(Ok(()))));
        assert_eq!(ill.known("s-value", "\"string\""), Some(7));
    }
}
