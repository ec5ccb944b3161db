//! Signals from a topic and from a file, looked for on a thread of their own: the stream never waits for them.
//!
//! **Once.** What a signal asks for is written with the progress, and with it how far its channel has been taken: the offset
//! in the topic, a fingerprint of the file. A file is renamed before it is read (`NAME.taken`), so that whoever writes the next
//! signal writes into a new one, and removed when what it asks for is in Kafka. A crash in between leaves the renamed
//! file; its fingerprint says whether it has been taken.
//!
//! What cannot be read (no broker, no such file, no right to it) is a warning, once for each text, and tried again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::{BusConfig, PartitionReader};
use syncline_runtime::{Class, Failure, Outcome};

use crate::config::SourceConfig;
use crate::snapshots::Channel;

use super::Signal;

/// Letters that wait to be taken; the thread waits beyond.
const WAITING_MAX: usize = 64;
/// How long one record of the topic is waited for.
const RECORD_MS_MAX: u64 = 500;
/// A larger file is no file of signals.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the channels brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The signals, each as read or with what is wrong.
    pub signals: Vec<Result<Signal, String>>,
    /// How far the channel is taken with them.
    pub mark: Mark,
}

/// How far a channel has been taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The topic, up to this offset: the next to be read.
    Topic(i64),
    /// The file with this fingerprint. It may go when that is in Kafka.
    File(String),
}

/// How far the channels had been taken when this began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The next offset of the topic; none if it was never read.
    pub offset: Option<i64>,
    /// The fingerprint of the file taken last.
    pub file: Option<String>,
}

/// The taking end. Dropping it ends the thread.
pub struct Inbox {
    letters: Receiver<Letter>,
    removable: Option<Sender<String>>,
    looked: bool,
}

impl Inbox {
    /// Begins to look, if there is a channel to look at.
    pub fn open(config: &SourceConfig, taken: Taken) -> Outcome<Self> {
        let snapshots = &config.snapshots;
        let (sender, letters) = sync_channel(WAITING_MAX);
        let (removable, removed) = channel();
        let looker = Looker {
            topic: snapshots
                .channels
                .contains(&Channel::Kafka)
                .then(|| Topic::new(config, &taken)),
            file: snapshots
                .channels
                .contains(&Channel::File)
                .then(|| File::new(&snapshots.signal_file, taken.file)),
            letters: sender,
            removed,
            warned: None,
        };
        let is_wanted = looker.topic.is_some() || looker.file.is_some();
        if is_wanted {
            let pause = Duration::from_millis(snapshots.signal_poll_ms);
            thread::Builder::new()
                .name(format!("signals-{}", config.slot))
                .spawn(move || looker.run(pause))
                .map_err(|error| Failure::transient("NO_THREAD", "starting the thread of signals").source(error))?;
        }
        Ok(Self {
            letters,
            removable: Some(removable),
            looked: !is_wanted,
        })
    }

    /// The next letter, if one is there.
    pub fn take(&mut self) -> Option<Letter> {
        match self.letters.try_recv() {
            // An empty letter only tells that everything has been looked at.
            Ok(letter) if letter.signals.is_empty() => {
                self.looked = true;
                None
            }
            Ok(letter) => Some(letter),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Whether each channel has been looked at to its end, once at least.
    pub fn has_looked(&self) -> bool {
        self.looked
    }

    /// What the file with this fingerprint asks for is in Kafka.
    pub fn is_kept(&self, fingerprint: &str) {
        if let Some(removable) = &self.removable {
            // The thread is there or the process ends.
            let _ = removable.send(fingerprint.to_owned());
        }
    }
}

struct Looker {
    topic: Option<Topic>,
    file: Option<File>,
    letters: SyncSender<Letter>,
    removed: Receiver<String>,
    warned: Option<String>,
}

impl Looker {
    /// Looks until nobody takes letters any more.
    fn run(mut self, pause: Duration) {
        while self.look() {
            match self.removed.recv_timeout(pause) {
                Ok(fingerprint) => self.remove(&fingerprint),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) -> bool {
        let topic = self.topic.as_mut().map_or(Ok(None), Topic::look);
        let file = self.file.as_mut().map_or(Ok(None), File::look);
        let (mut letters, mut failed) = (Vec::new(), false);
        for found in [topic, file] {
            match found {
                Ok(letter) => letters.extend(letter),
                Err(failure) => {
                    failed = true;
                    self.warn(&failure);
                }
            }
        }
        if !failed {
            self.warned = None;
            letters.push(Letter {
                signals: Vec::new(),
                mark: Mark::Topic(0),
            });
        }
        letters.into_iter().all(|letter| self.letters.send(letter).is_ok())
    }

    fn warn(&mut self, failure: &Failure) {
        let text = failure.to_string();
        if self.warned.as_ref() != Some(&text) {
            tracing::warn!("signals cannot be looked for: {text}");
            self.warned = Some(text);
        }
    }

    fn remove(&mut self, fingerprint: &str) {
        if let Some(Err(failure)) = self.file.as_mut().map(|file| file.remove(fingerprint)) {
            self.warn(&failure);
        }
    }
}

/// The signal topic: one partition, keyed by the topic prefix.
struct Topic {
    bus: BusConfig,
    name: String,
    prefix: String,
    next: Option<i64>,
    /// Where to begin what was never read: at its end in the place of a connector, which has taken what is there.
    from_end: bool,
    ensured: bool,
}

impl Topic {
    fn new(config: &SourceConfig, taken: &Taken) -> Self {
        let snapshots = &config.snapshots;
        let mut bus = config.bus.clone();
        bus.client_id.push_str("-signals");
        bus.properties.extend(snapshots.signal_properties.clone());
        if let Some(bootstrap) = &snapshots.signal_bootstrap {
            bus.bootstrap.clone_from(bootstrap);
        }
        let name = snapshots.signal_topic.clone();
        Self {
            bus,
            name: name.unwrap_or_else(|| format!("{}-signal", config.prefix)),
            prefix: config.prefix.clone(),
            next: taken.offset,
            from_end: config.connector.is_some(),
            ensured: false,
        }
    }

    fn look(&mut self) -> Outcome<Option<Letter>> {
        if !self.ensured {
            admin::ensure(&self.bus, &[TopicSpec::new(&self.name, 1)])?;
            self.ensured = true;
        }
        let end = *admin::end_offsets(&self.bus, &self.name)?.get(&0).unwrap_or(&0);
        let next = self.next.unwrap_or(if self.from_end { end } else { 0 });
        self.next = Some(next);
        if next == end {
            return Ok(None);
        }
        let mut reader = self.reader(next)?;
        let mut signals = Vec::new();
        while !reader.at_end() && signals.len() < WAITING_MAX {
            let Some(record) = reader.next(Duration::from_millis(RECORD_MS_MAX))? else {
                break;
            };
            let place = format!("{}[0] at offset {}", self.name, record.offset);
            if record.key.as_deref() == Some(self.prefix.as_bytes()) {
                let value = record.value.as_deref().unwrap_or_default();
                signals.push(document(value, &place).map_err(|wrong| format!("{place}: {wrong}")));
            }
        }
        self.next = Some(reader.position());
        let letter = Letter {
            signals,
            mark: Mark::Topic(reader.position()),
        };
        Ok(Some(letter).filter(|letter| !letter.signals.is_empty()))
    }

    /// From where it was taken to; from the beginning of a topic that was made anew or has forgotten that place.
    fn reader(&self, next: i64) -> Outcome<PartitionReader> {
        match PartitionReader::open(&self.bus, &self.name, 0, next) {
            Err(failure) if failure.class == Class::Definite && next > 0 => {
                tracing::warn!(topic = self.name, "read from its beginning: {failure}");
                PartitionReader::open(&self.bus, &self.name, 0, 0)
            }
            opened => opened,
        }
    }
}

/// The signal file: a JSON object in each line.
struct File {
    path: PathBuf,
    /// What is known to be in Kafka.
    kept: Option<String>,
    /// What has been handed over.
    handed: Option<String>,
}

impl File {
    fn new(path: &Path, kept: Option<String>) -> Self {
        Self {
            path: path.to_owned(),
            kept,
            handed: None,
        }
    }

    fn renamed(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".taken");
        PathBuf::from(name)
    }

    fn look(&mut self) -> Outcome<Option<Letter>> {
        let renamed = self.renamed();
        if !renamed.exists() && !self.rename(&renamed)? {
            return Ok(None);
        }
        let content = fs::read(&renamed).map_err(|error| trouble(&renamed, error))?;
        let fingerprint = fingerprint(&renamed, &content)?;
        if self.kept.as_ref() == Some(&fingerprint) || content.trim_ascii().is_empty() {
            return remove_if_there(&renamed).map(|()| None);
        }
        if self.handed.replace(fingerprint.clone()).as_ref() == Some(&fingerprint) {
            return Ok(None);
        }
        Ok(Some(Letter {
            signals: self.signals(&content),
            mark: Mark::File(fingerprint),
        }))
    }

    /// Takes the file away from those who write; whether there is one.
    fn rename(&self, to: &Path) -> Outcome<bool> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() == 0 => Ok(false),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                Err(trouble(&self.path, "is too large for a file of signals"))
            }
            Ok(_) => {
                fs::rename(&self.path, to).map_err(|error| trouble(&self.path, error))?;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(trouble(&self.path, error)),
        }
    }

    fn signals(&self, content: &[u8]) -> Vec<Result<Signal, String>> {
        let text = String::from_utf8_lossy(content);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let signal = |(index, line): (usize, &str)| {
            let place = format!("{}:{}", self.path.display(), index + 1);
            document(line.as_bytes(), &place).map_err(|wrong| format!("{place}: {wrong}"))
        };
        lines.map(signal).collect()
    }

    fn remove(&mut self, fingerprint: &str) -> Outcome<()> {
        self.kept = Some(fingerprint.to_owned());
        match self.handed.as_deref() == Some(fingerprint) {
            true => remove_if_there(&self.renamed()),
            false => Ok(()),
        }
    }
}

fn remove_if_there(path: &Path) -> Outcome<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(trouble(path, error)),
        _ => Ok(()),
    }
}

fn trouble(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::transient("SIGNAL_FILE", format!("{}: {error}", path.display()))
}

/// Of the content and of when it was written: the same text written again is another signal.
fn fingerprint(path: &Path, content: &[u8]) -> Outcome<String> {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    let written = written.map_err(|error| trouble(path, error))?;
    let age_ns = written.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let digest = Sha256::new()
        .chain_update(age_ns.to_be_bytes())
        .chain_update(content)
        .finalize();
    Ok(digest[..12].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `{"id", "type", "data"}`; without an id the place is one. Data is an object, or its text.
fn document(value: &[u8], place: &str) -> Result<Signal, String> {
    let value: serde_json::Value = serde_json::from_slice(value).map_err(|error| format!("no JSON: {error}"))?;
    let text = |name: &str| value.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let data = value.get("data").filter(|data| !data.is_null());
    Ok(Signal {
        id: text("id").unwrap_or_else(|| place.to_owned()),
        kind: text("type").ok_or("it has no type")?,
        data: data.map(|data| data.as_str().map_or_else(|| data.to_string(), str::to_owned)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(file: &mut File) -> Option<Letter> {
        file.look().unwrap()
    }

    #[test]
    fn a_file_is_taken_once_even_if_the_process_dies_before_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signals.txt");
        fs::write(
            &path,
            "{\"id\":\"a\",\"type\":\"log\",\"data\":{\"message\":\"x\"}}\n\nnonsense\n",
        )
        .unwrap();
        let mut file = File::new(&path, None);
        let letter = taken(&mut file).unwrap();
        assert_eq!(
            letter.signals[0].as_ref().unwrap().data.as_deref(),
            Some("{\"message\":\"x\"}")
        );
        assert!(letter.signals[1].as_ref().unwrap_err().contains("signals.txt:3"));
        // Handed over and not yet in Kafka: it stays, and whoever starts anew gets it again.
        assert_eq!(taken(&mut file), None);
        assert_eq!(taken(&mut File::new(&path, None)), Some(letter.clone()));
        let Mark::File(fingerprint) = letter.mark else { panic!() };
        assert_eq!(taken(&mut File::new(&path, Some(fingerprint.clone()))), None);
        assert!(!file.renamed().exists());
        // The same text again is another signal.
        fs::write(&path, "{\"type\":\"log\"}").unwrap();
        let again = taken(&mut File::new(&path, Some(fingerprint))).unwrap();
        assert_eq!(again.signals.len(), 1);
    }

    #[test]
    fn a_file_that_is_kept_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signals.txt");
        let mut file = File::new(&path, None);
        assert_eq!(taken(&mut file), None);
        fs::write(&path, "{\"type\":\"log\"}").unwrap();
        let Some(Letter {
            mark: Mark::File(fingerprint),
            ..
        }) = taken(&mut file)
        else {
            panic!()
        };
        file.remove(&fingerprint).unwrap();
        assert!(!path.exists() && !file.renamed().exists());
    }

    #[test]
    fn a_document_has_its_data_as_an_object_or_as_text() {
        let of = |text: &str| document(text.as_bytes(), "here");
        assert_eq!(
            of("{\"type\":\"log\",\"data\":\"{}\"}").unwrap().data.as_deref(),
            Some("{}")
        );
        assert_eq!(of("{\"type\":\"log\",\"data\":{}}").unwrap().id, "here");
        assert!(of("{}").unwrap_err().contains("no type") && of("{").unwrap_err().contains("no JSON"));
    }
}
