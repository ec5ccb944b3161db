//! Frames on a socket: one byte of kind, four of length, and the rest.
//!
//! A frame's body is a slice of the buffer it was read into; nothing is copied. The length is checked against
//! `message_bytes_max` before a byte is allocated for it, because a length is only what the other side claims.
//!
//! Of a row that is longer than rows may be, the beginning is kept and the rest read and forgotten, piece by piece: the
//! stream has to come past it without the memory that it would take.

use bytes::{Buf as _, Bytes, BytesMut};
use syncline_runtime::failure::{Failure, Outcome};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Room for one read. Large, because a busy walsender fills it and each read costs a system call.
const READ_BYTES: usize = 256 * 1024;
/// Below this much room a new buffer is taken.
const READ_BYTES_MIN: usize = 64 * 1024;
const HEADER_BYTES: usize = 5;
/// What is kept of a frame of data that is too long.
const HEAD_BYTES: usize = 64 * 1024;
const DATA_TAG: u8 = b'd';

/// A connected socket of any kind.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which kind.
    pub tag: u8,
    /// Its content.
    pub body: Bytes,
    /// How much of its end has been left out; nothing, unless it is data that is too long.
    pub left_out_bytes: usize,
}

/// A socket with what has been read ahead and not yet been written.
pub struct Wire {
    socket: Box<dyn Socket>,
    input: BytesMut,
    message_bytes_max: usize,
    /// Data beyond this is not kept whole.
    data_bytes_max: usize,
    /// What is still to come of a frame that is not kept whole.
    passing_over_bytes: usize,
    /// What [`Wire::flush`] will send.
    pub output: BytesMut,
}

impl Wire {
    /// Over a connected socket.
    pub fn new(socket: Box<dyn Socket>, message_bytes_max: usize) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            message_bytes_max,
            data_bytes_max: usize::MAX,
            passing_over_bytes: 0,
            output: BytesMut::new(),
        }
    }

    /// From here on only the beginning of data longer than this is kept.
    pub fn keep_data_up_to(&mut self, bytes_max: usize) {
        self.data_bytes_max = bytes_max.max(HEAD_BYTES);
    }

    /// A frame that has been read completely, if there is one. Does not read.
    pub fn buffered(&mut self) -> Outcome<Option<Frame>> {
        self.pass_over();
        let Some(length) = self.frame_bytes()? else {
            return Ok(None);
        };
        let kept = self.kept_bytes(length);
        if self.input.len() < kept {
            return Ok(None);
        }
        let mut frame = self.input.split_to(kept).freeze();
        let tag = frame[0];
        frame.advance(HEADER_BYTES);
        self.passing_over_bytes = length - kept;
        Ok(Some(Frame {
            tag,
            body: frame,
            left_out_bytes: length - kept,
        }))
    }

    /// Forgets what has come of the rest of a frame that is not kept.
    fn pass_over(&mut self) {
        let come = self.passing_over_bytes.min(self.input.len());
        self.input.advance(come);
        self.passing_over_bytes -= come;
    }

    /// How much is kept of the first frame, which is so long.
    fn kept_bytes(&self, length: usize) -> usize {
        let is_data = self.input.first() == Some(&DATA_TAG);
        if is_data && length > self.data_bytes_max {
            HEAD_BYTES
        } else {
            length
        }
    }

    /// Reads once. Safe to cancel: what was read is kept.
    pub async fn fill(&mut self) -> Outcome<usize> {
        self.reserve()?;
        match self.socket.read_buf(&mut self.input).await {
            Ok(0) => Err(Failure::transient(
                "SOURCE_CONNECTION",
                "the server closed the connection",
            )),
            Ok(count) => Ok(count),
            Err(error) => Err(Failure::transient("SOURCE_CONNECTION", "reading from the server").source(error)),
        }
    }

    /// The next frame, reading as often as it takes. Safe to cancel.
    pub async fn read(&mut self) -> Outcome<Frame> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Sends all of `output`. Not safe to cancel in the middle of it, except to give the connection up.
    pub async fn flush(&mut self) -> Outcome<()> {
        let sent = async {
            self.socket.write_all_buf(&mut self.output).await?;
            self.socket.flush().await
        };
        sent.await
            .map_err(|error| Failure::transient("SOURCE_CONNECTION", "writing to the server").source(error))
    }

    /// Length of the first frame, header included, once the header is there.
    fn frame_bytes(&self) -> Outcome<Option<usize>> {
        let header = self.input.get(1..HEADER_BYTES);
        let Some(header) = header.filter(|_| self.passing_over_bytes == 0) else {
            return Ok(None);
        };
        let claimed = header.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        if claimed < HEADER_BYTES - 1 {
            return Err(Failure::transient(
                "SOURCE_PROTOCOL",
                "the server sent a message of impossible length",
            ));
        }
        let is_cut = self.kept_bytes(claimed + 1) <= claimed;
        if claimed > self.message_bytes_max && !is_cut {
            let message = format!(
                "the server sent a message of {claimed} bytes; the limit is {}",
                self.message_bytes_max
            );
            return Err(Failure::definite("MESSAGE_TOO_LARGE", message)
                .hint("a row of the source is larger than message_bytes_max: raise it, and the memory with it"));
        }
        Ok(Some(claimed + 1))
    }

    /// Makes room: for the rest of a frame begun, and at least for a good read.
    fn reserve(&mut self) -> Outcome<()> {
        self.pass_over();
        let wanted = self.frame_bytes()?.map_or(0, |length| self.kept_bytes(length));
        let missing = wanted.saturating_sub(self.input.len());
        let room = self.input.capacity() - self.input.len();
        if room < missing.max(READ_BYTES_MIN) {
            self.input.reserve(missing.max(READ_BYTES));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn frames_arrive_whole_however_they_are_cut() {
        let bytes = [&[b'd', 0, 0, 0, 7][..], b"abc", &[b'c', 0, 0, 0, 4]].concat();
        run(async {
            let (near, mut far) = tokio::io::duplex(64);
            let mut wire = Wire::new(Box::new(near), 100);
            let writer = async {
                for byte in bytes {
                    far.write_all(&[byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
                far
            };
            let reader = async { [wire.read().await.unwrap(), wire.read().await.unwrap()] };
            let (_far, frames) = tokio::join!(writer, reader);
            assert_eq!(
                frames[0],
                Frame {
                    tag: b'd',
                    body: Bytes::from_static(b"abc"),
                    left_out_bytes: 0,
                }
            );
            assert_eq!(
                frames[1],
                Frame {
                    tag: b'c',
                    body: Bytes::new(),
                    left_out_bytes: 0,
                }
            );
        });
    }

    #[test]
    fn a_length_is_checked_before_it_is_believed() {
        for (length, code) in [
            (101_u32, "MESSAGE_TOO_LARGE"),
            (u32::MAX, "MESSAGE_TOO_LARGE"),
            (3, "SOURCE_PROTOCOL"),
        ] {
            run(async {
                let (near, mut far) = tokio::io::duplex(64);
                let mut wire = Wire::new(Box::new(near), 100);
                far.write_all(&[&[b'd'][..], &length.to_be_bytes()].concat())
                    .await
                    .unwrap();
                assert_eq!(wire.read().await.unwrap_err().code, code);
                assert!(wire.input.capacity() < 2 * READ_BYTES);
            });
        }
    }

    #[test]
    fn of_data_that_is_too_long_the_beginning_is_kept_and_what_follows_is_read() {
        let long = 3 * READ_BYTES;
        let claimed = u32::try_from(long + 4).unwrap().to_be_bytes();
        let bytes = [&[b'd'][..], &claimed, &vec![7; long], &[b'd', 0, 0, 0, 7], b"abc"].concat();
        run(async {
            let (near, mut far) = tokio::io::duplex(10_000);
            let mut wire = Wire::new(Box::new(near), usize::MAX);
            wire.keep_data_up_to(READ_BYTES);
            let writer = async { far.write_all(&bytes).await.unwrap() };
            let reader = async { [wire.read().await.unwrap(), wire.read().await.unwrap()] };
            let ((), [first, second]) = tokio::join!(writer, reader);
            assert_eq!(first.body.len() + first.left_out_bytes, long);
            assert_eq!(first.body.len(), HEAD_BYTES - HEADER_BYTES);
            assert_eq!((&second.body[..], second.left_out_bytes), (&b"abc"[..], 0));
            assert!(wire.input.capacity() < 2 * READ_BYTES);
        });
    }

    #[test]
    fn a_closed_connection_is_transient() {
        run(async {
            let (near, far) = tokio::io::duplex(64);
            drop(far);
            let failure = Wire::new(Box::new(near), 100).read().await.unwrap_err();
            assert_eq!(failure.class, syncline_runtime::failure::Class::Transient);
        });
    }
}
