//! The limit of reading a log: a client that does nothing but receive, and naps 200 us after each read that did not fill its
//! buffer, so that the server sends much at once and is woken seldom.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use syncline_tests::Db;

use crate::bed::{Bed, server_pid};
use crate::capture::RUN_MAX;
use crate::contender::SLOT;
use crate::machine::Parties;
use crate::result::Run;
use crate::work::Written;

const NAP: Duration = Duration::from_micros(200);
/// A read of less is followed by a nap.
const NAP_BELOW_BYTES: usize = 64 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;
/// A server that says nothing for so long, not even that it lives, has gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A message that is longer is none.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Reads all of the log behind the slot and throws it away.
pub fn drain(bed: &Bed, db: &Db, written: &Written) -> anyhow::Result<Run> {
    let parties = Parties {
        contender: vec![std::process::id()],
        postgres: server_pid(db)?,
        broker: None,
    };
    let before = parties.read()?;
    let mut line = Line::open(&bed.source.address())?;
    line.start(&written.publication)?;
    line.read_until(lsn(&written.end)?)?;
    let spent = parties.since(&before)?;
    let per_s = written.rows as f64 / spent.wall;
    let run = Run {
        rows: written.rows,
        rows_per_s: per_s,
        rows_per_s_warm: per_s,
        ..Run::default()
    };
    Ok(run.spent(&spent))
}

/// `16/B374D848` as a number.
fn lsn(text: &str) -> anyhow::Result<u64> {
    let (high, low) = text.split_once('/').with_context(|| format!("{text} is no LSN"))?;
    Ok(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?)
}

/// A replication connection.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer has been received and not been looked at.
    unread: std::ops::Range<usize>,
}

impl Line {
    fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let mut line = Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
            unread: 0..0,
        };
        let mut hello = 196_608_u32.to_be_bytes().to_vec();
        for word in [
            "user",
            "postgres",
            "database",
            "postgres",
            "replication",
            "database",
            "",
        ] {
            hello.extend(word.as_bytes());
            hello.push(0);
        }
        line.stream.write_all(&u32::try_from(hello.len() + 4)?.to_be_bytes())?;
        line.stream.write_all(&hello)?;
        line.await_kind(b'Z')?;
        Ok(line)
    }

    fn start(&mut self, publication: &str) -> anyhow::Result<()> {
        let statement = format!(
            "START_REPLICATION SLOT \"{SLOT}\" LOGICAL 0/0 (proto_version '1', publication_names '{publication}')\0"
        );
        self.send(b'Q', statement.as_bytes())?;
        self.await_kind(b'W')
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> anyhow::Result<()> {
        let mut message = vec![kind];
        message.extend(u32::try_from(body.len() + 4)?.to_be_bytes());
        message.extend(body);
        Ok(self.stream.write_all(&message)?)
    }

    fn await_kind(&mut self, wanted: u8) -> anyhow::Result<()> {
        loop {
            let (kind, _) = self.message(Duration::ZERO)?;
            if kind == wanted {
                return Ok(());
            }
        }
    }

    /// Reads up to this place in the log.
    fn read_until(&mut self, end: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + RUN_MAX;
        loop {
            ensure!(
                Instant::now() < deadline,
                "the end was not reached within {} s",
                RUN_MAX.as_secs()
            );
            let (kind, body) = self.message(NAP)?;
            ensure!(kind == b'd', "a message of kind {} in the stream", char::from(kind));
            let body = self.buffer.get(body).unwrap_or_default();
            let at = |from: usize| {
                let bytes = body.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u64::from_be_bytes)
            };
            let (reached, wants_answer) = match body.first() {
                Some(b'w') => (at(1), false),
                Some(b'k') => (at(1), body.get(17) == Some(&1)),
                other => bail!("a message {other:?} in the stream"),
            };
            if reached >= end {
                return Ok(());
            }
            if wants_answer {
                // Nothing is confirmed: the slot is a copy and is dropped.
                let mut answer = [0; 34];
                answer[0] = b'r';
                self.send(b'd', &answer)?;
            }
        }
    }

    /// The next message: its kind, and where in the buffer its body is.
    fn message(&mut self, nap: Duration) -> anyhow::Result<(u8, std::ops::Range<usize>)> {
        loop {
            let unread = self.buffer.get(self.unread.clone()).unwrap_or_default();
            let mut wanted = 5;
            if let [kind, a, b, c, d, ..] = *unread {
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
                ensure!((4..MESSAGE_BYTES_MAX).contains(&length), "a message of {length} bytes");
                wanted = length + 1;
                if unread.len() >= wanted {
                    let body = self.unread.start + 5..self.unread.start + wanted;
                    if kind == b'E' {
                        let text = self.buffer.get(body).unwrap_or_default();
                        bail!("the server refuses: {}", String::from_utf8_lossy(text));
                    }
                    self.unread.start += wanted;
                    return Ok((kind, body));
                }
            }
            self.receive(wanted, nap)?;
        }
    }

    fn receive(&mut self, wanted: usize, nap: Duration) -> anyhow::Result<()> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let free = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
        let count = self.stream.read(free).context("waiting for the server")?;
        ensure!(count > 0, "the server has ended the connection");
        self.unread.end += count;
        if count < NAP_BELOW_BYTES && !nap.is_zero() {
            std::thread::sleep(nap);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_log_is_a_number() {
        assert_eq!(lsn("16/B374D848").unwrap(), 0x16_B374_D848);
        assert!(lsn("16").is_err());
    }

    #[test]
    fn a_stream_is_read_to_its_end_however_it_is_cut() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        let message = |kind: u8, body: &[u8]| {
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            [[kind].as_slice(), &length, body].concat()
        };
        let row = |lsn: u64| {
            let filling = vec![7; 300_000];
            message(
                b'd',
                &[[b'w'].as_slice(), &lsn.to_be_bytes(), &[0; 16], &filling].concat(),
            )
        };
        let sent = [
            message(b'R', &[0; 4]),
            message(b'Z', b"I"),
            message(b'W', &[0; 3]),
            row(1),
            message(b'd', &[[b'k'].as_slice(), &2_u64.to_be_bytes(), &[0; 8], &[1]].concat()),
            row(3),
        ];
        let sent = sent.concat();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            for piece in sent.chunks(99_991) {
                stream.write_all(piece).unwrap();
            }
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            asked
        });
        let mut line = Line::open(&address).unwrap();
        line.start("p").unwrap();
        line.read_until(3).unwrap();
        drop(line);
        let asked = served.join().unwrap();
        assert!(asked.windows(17).any(|part| part == b"START_REPLICATION"));
        assert_eq!(asked.get(asked.len() - 34), Some(&b'r'));
    }
}
