//! The local store: a cache of changelog topics on disk, which may be deleted at any time.
//!
//! It never holds what Kafka has not committed: a batch works in an overlay, and only after a commit that is known good
//! the overlay is put here. So a crash needs no undo. Whether the disk still holds what was put is checked with every
//! read, by a checksum over key and value; a store that fails it, that cannot be opened, or that has another format is
//! wiped and rebuilt from Kafka, never served.

use std::fs;
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use syncline_runtime::{Failure, Outcome};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Written beside the data; a store with another number is rebuilt.
const FORMAT: &str = "2";
const WRITE_BUFFER_BYTES_MAX: u64 = 64 * 1024 * 1024;
const CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const WIPE_ROWS_MAX: usize = 10_000;

/// One partition of a changelog topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// What changes under one key; none removes it.
pub type Change = (String, Option<Vec<u8>>);

/// Keys and values of several shards, and up to which offset of its changelog each shard has been read.
pub trait EntityStore {
    /// The value of a key.
    fn get(&self, shard: &Shard, key: &str) -> Outcome<Option<Vec<u8>>>;
    /// Up to `rows_max` entries with keys after `after`, in the order of the keys.
    fn scan(&self, shard: &Shard, after: &str, rows_max: usize) -> Outcome<Vec<(String, Vec<u8>)>>;
    /// The offset in the changelog from which on it has not been read.
    fn offset(&self, shard: &Shard) -> Outcome<Option<i64>>;
    /// Puts changes, and with them the offset if the changelog was read up to there; all or nothing.
    fn put(&mut self, shard: &Shard, changes: &[Change], offset: Option<i64>) -> Outcome<()>;
    /// Forgets everything of the shard.
    fn clear(&mut self, shard: &Shard) -> Outcome<()>;
}

/// The store on disk.
pub struct DiskStore {
    database: Database,
    entries: Keyspace,
    directory: PathBuf,
}

impl DiskStore {
    /// Opens the store in `directory`, empty if what is there cannot be trusted.
    pub fn open(directory: &Path) -> Outcome<Self> {
        fs::create_dir_all(directory).map_err(|error| unavailable(directory, error))?;
        let format = directory.join("format");
        if fs::read_to_string(&format).ok().as_deref() != Some(FORMAT) {
            wipe(directory)?;
        }
        let store = match Self::try_open(directory) {
            Err(Refused::Distrusted(why)) => {
                tracing::warn!(directory = %directory.display(), why, "the local store is rebuilt from Kafka");
                wipe(directory)?;
                Self::try_open(directory)
            }
            other => other,
        };
        let store = store.map_err(|refused| refused.failure(directory))?;
        fs::write(&format, FORMAT).map_err(|error| unavailable(directory, error))?;
        Ok(store)
    }

    fn try_open(directory: &Path) -> Result<Self, Refused> {
        // A damaged file has been seen to make a storage engine panic; for us that is one more way to be damaged.
        let opened = std::panic::catch_unwind(|| {
            let database = Database::builder(directory.join("data"))
                .cache_size(CACHE_BYTES_MAX)
                .max_journaling_size(4 * WRITE_BUFFER_BYTES_MAX)
                .open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(WRITE_BUFFER_BYTES_MAX);
            let entries = database.keyspace("entries", options)?;
            Ok::<_, fjall::Error>((database, entries))
        });
        let (database, entries) = match opened {
            Ok(opened) => opened.map_err(Refused::of)?,
            Err(_) => return Err(Refused::Distrusted("opening it panicked".to_owned())),
        };
        Ok(Self {
            database,
            entries,
            directory: directory.to_owned(),
        })
    }

    /// A failure of the engine; what cannot be trusted any more is marked for the next start.
    fn failed(&self, error: fjall::Error) -> Failure {
        let refused = Refused::of(error);
        if matches!(refused, Refused::Distrusted(_)) {
            self.distrust();
        }
        refused.failure(&self.directory)
    }

    /// Takes the mark of validity away, so that the next start wipes the store.
    fn distrust(&self) {
        if let Err(error) = fs::remove_file(self.directory.join("format")) {
            tracing::warn!(%error, "the damaged store could not be marked");
        }
    }

    fn checked(&self, key: &str, stored: &[u8]) -> Outcome<Vec<u8>> {
        unseal(key, stored).map(<[u8]>::to_vec).ok_or_else(|| {
            self.distrust();
            Refused::Distrusted("a checksum is wrong".to_owned()).failure(&self.directory)
        })
    }
}

impl EntityStore for DiskStore {
    fn get(&self, shard: &Shard, key: &str) -> Outcome<Option<Vec<u8>>> {
        let path = path(shard, key);
        let stored = self.entries.get(&path).map_err(|error| self.failed(error))?;
        stored.map(|stored| self.checked(&path, &stored)).transpose()
    }

    fn scan(&self, shard: &Shard, after: &str, rows_max: usize) -> Outcome<Vec<(String, Vec<u8>)>> {
        let prefix = path(shard, "");
        let start = std::ops::Bound::Excluded(path(shard, after).into_bytes());
        let end = std::ops::Bound::Excluded(prefix_end(&prefix));
        let mut entries = Vec::new();
        for guard in self.entries.range::<Vec<u8>, _>((start, end)).take(rows_max) {
            let (path, stored) = guard.into_inner().map_err(|error| self.failed(error))?;
            let path = String::from_utf8_lossy(&path).into_owned();
            let value = self.checked(&path, &stored)?;
            entries.push((path[prefix.len()..].to_owned(), value));
        }
        Ok(entries)
    }

    fn offset(&self, shard: &Shard) -> Outcome<Option<i64>> {
        let path = offset_path(shard);
        let Some(stored) = self.entries.get(&path).map_err(|error| self.failed(error))? else {
            return Ok(None);
        };
        let bytes = self.checked(&path, &stored)?;
        Ok(<[u8; 8]>::try_from(bytes.as_slice()).ok().map(i64::from_be_bytes))
    }

    fn put(&mut self, shard: &Shard, changes: &[Change], offset: Option<i64>) -> Outcome<()> {
        let mut batch = self.database.batch();
        for (key, value) in changes {
            let path = path(shard, key);
            match value {
                Some(value) => batch.insert(&self.entries, path.as_bytes(), seal(&path, value)),
                None => batch.remove(&self.entries, path.as_bytes()),
            }
        }
        if let Some(offset) = offset {
            let path = offset_path(shard);
            batch.insert(&self.entries, path.as_bytes(), seal(&path, &offset.to_be_bytes()));
        }
        batch.commit().map_err(|error| self.failed(error))
    }

    fn clear(&mut self, shard: &Shard) -> Outcome<()> {
        // The offset goes first: half a shard with an offset would be taken for a whole one.
        self.entries
            .remove(offset_path(shard).as_bytes())
            .map_err(|error| self.failed(error))?;
        loop {
            let keys: Vec<Change> = self
                .scan(shard, "", WIPE_ROWS_MAX)?
                .into_iter()
                .map(|(key, _)| (key, None))
                .collect();
            if keys.is_empty() {
                return Ok(());
            }
            self.put(shard, &keys, None)?;
        }
    }
}

/// Why the engine refused.
enum Refused {
    /// The data is damaged, or of another version.
    Distrusted(String),
    /// Another process has it.
    Locked,
    /// The disk does not do what it is told; that may pass.
    Disk(String),
}

impl Refused {
    fn of(error: fjall::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
        let io = match &error {
            fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io.kind()),
            _ => None,
        };
        match (&error, io) {
            (fjall::Error::Locked, _) => Refused::Locked,
            // After a failed write the engine takes no more; a restart begins from what reached the disk.
            (fjall::Error::Poisoned, _) => Refused::Disk(error.to_string()),
            (_, Some(kind)) if !matches!(kind, InvalidData | NotFound | UnexpectedEof) => {
                Refused::Disk(error.to_string())
            }
            _ => Refused::Distrusted(error.to_string()),
        }
    }

    fn failure(self, directory: &Path) -> Failure {
        let shown = directory.display();
        match self {
            Refused::Distrusted(why) => Failure::transient(
                "STORE_DAMAGED",
                format!("the local store {shown} is damaged ({why}); it is rebuilt"),
            ),
            Refused::Locked => Failure::definite("STATE_DIR_IN_USE", format!("another process uses {shown}"))
                .hint("give every instance a --state-dir of its own"),
            Refused::Disk(why) => Failure::transient("STATE_DISK", format!("cannot use {shown}: {why}")),
        }
    }
}

fn unavailable(directory: &Path, error: std::io::Error) -> Failure {
    Failure::transient("STATE_DISK", format!("cannot use {}: {error}", directory.display()))
}

/// Removes the data, and the mark of validity before it.
fn wipe(directory: &Path) -> Outcome<()> {
    let gone = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unavailable(directory, error)),
        _ => Ok(()),
    };
    gone(fs::remove_file(directory.join("format")))?;
    gone(fs::remove_dir_all(directory.join("data")))
}

/// Names of topics have no slash.
fn path(shard: &Shard, key: &str) -> String {
    format!("{}/{}/{key}", shard.topic, shard.partition)
}

/// Among the entries, because what is in one place is flushed at one time: an offset can never outlive what it counts.
fn offset_path(shard: &Shard) -> String {
    format!("\0{}/{}", shard.topic, shard.partition)
}

/// The first path after all with this prefix, which ends in a slash.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn seal(path: &str, value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(size_of::<u64>() + value.len());
    sealed.extend_from_slice(&checksum(path, value).to_be_bytes());
    sealed.extend_from_slice(value);
    sealed
}

fn unseal<'a>(path: &str, stored: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = stored.split_first_chunk::<8>()?;
    (u64::from_be_bytes(*sum) == checksum(path, value)).then_some(value)
}

/// XXH3: against accidents of disks, not against enemies.
fn checksum(path: &str, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(partition: i32) -> Shard {
        Shard {
            topic: "p.state.e".to_owned(),
            partition,
        }
    }

    fn put(store: &mut DiskStore, partition: i32, key: &str, value: &str, offset: i64) {
        store
            .put(
                &shard(partition),
                &[(key.to_owned(), Some(value.as_bytes().to_vec()))],
                Some(offset),
            )
            .unwrap();
    }

    #[test]
    fn shards_are_apart_and_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        {
            let mut store = DiskStore::open(directory.path()).unwrap();
            put(&mut store, 1, "b", "1", 7);
            put(&mut store, 1, "a", "2", 8);
            put(&mut store, 10, "a", "other", 3);
        }
        let mut store = DiskStore::open(directory.path()).unwrap();
        let found = store.scan(&shard(1), "", 10).unwrap();
        assert_eq!(
            found,
            [("a".to_owned(), b"2".to_vec()), ("b".to_owned(), b"1".to_vec())]
        );
        assert_eq!(store.scan(&shard(1), "a", 10).unwrap().len(), 1);
        assert_eq!(store.offset(&shard(1)).unwrap(), Some(8));
        store.clear(&shard(1)).unwrap();
        assert_eq!(
            (store.get(&shard(1), "a").unwrap(), store.offset(&shard(1)).unwrap()),
            (None, None)
        );
        assert_eq!(store.get(&shard(10), "a").unwrap().as_deref(), Some(&b"other"[..]));
    }

    #[test]
    fn a_second_process_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = DiskStore::open(directory.path()).unwrap();
        assert_eq!(
            DiskStore::open(directory.path()).err().map(|failure| failure.code),
            Some("STATE_DIR_IN_USE")
        );
    }

    #[test]
    fn another_format_is_rebuilt() {
        let directory = tempfile::tempdir().unwrap();
        put(&mut DiskStore::open(directory.path()).unwrap(), 0, "a", "1", 5);
        fs::write(directory.path().join("format"), "1").unwrap();
        assert_eq!(
            DiskStore::open(directory.path()).unwrap().offset(&shard(0)).unwrap(),
            None
        );
    }

    #[test]
    fn a_damaged_store_is_rebuilt_and_never_served() {
        for damage in [damage_by_cutting as fn(&Path), damage_by_flipping, damage_by_deleting] {
            let directory = tempfile::tempdir().unwrap();
            {
                let mut store = DiskStore::open(directory.path()).unwrap();
                for number in 0..200 {
                    put(&mut store, 0, &format!("key{number:03}"), &"value".repeat(50), number);
                }
            }
            files(&directory.path().join("data"))
                .iter()
                .for_each(|file| damage(file));
            let served = DiskStore::open(directory.path())
                .and_then(|store| Ok((store.scan(&shard(0), "", 1000)?, store.offset(&shard(0))?)));
            match served {
                Ok((entries, offset)) => {
                    assert!(entries.iter().all(|(_, value)| *value == "value".repeat(50).as_bytes()));
                    assert_eq!(
                        offset.map_or(0, |offset| usize::try_from(offset).unwrap() + 1),
                        entries.len()
                    );
                }
                Err(failure) => assert_eq!(failure.code, "STORE_DAMAGED"),
            }
            DiskStore::open(directory.path())
                .unwrap()
                .scan(&shard(0), "", 1000)
                .unwrap();
        }
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
            .collect()
    }

    fn damage_by_cutting(file: &Path) {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    }

    fn damage_by_flipping(file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        for at in (0..bytes.len()).step_by(97) {
            bytes[at] ^= 0x10;
        }
        fs::write(file, bytes).unwrap();
    }

    fn damage_by_deleting(file: &Path) {
        fs::remove_file(file).unwrap();
    }
}
