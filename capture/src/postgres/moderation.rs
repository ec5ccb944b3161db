//! When a reader lets the log gather before it reads on.
//!
//! A walsender hands each message to the kernel by a call of its own. A reader that wakes for every one makes it pay for as
//! many wake-ups, which over TCP costs it more than decoding the log does. A reader that naps a little when the log flows
//! finds many messages at its next read, and both have less to do. (Network cards call it interrupt moderation.)
//!
//! Who waits for one commit must not wait for a nap: it is taken only when the read before was answered at once, that is,
//! when more comes than is read. A line that carries a thousand commits a second is no such line.

use std::time::Duration;

/// Long against a wake-up, short against a commit in Kafka.
const NAP_US: u64 = 200;
/// A read that brings more finds enough gathered.
const SMALL_READ_BYTES: usize = 64 * 1024;

/// How long to nap after a read of so many bytes, which came after so long a wait.
pub fn nap(bytes: usize, waited: Duration) -> Option<Duration> {
    let nap = Duration::from_micros(NAP_US);
    (bytes < SMALL_READ_BYTES && waited < nap).then_some(nap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_reads_of_a_log_that_flows_are_followed_by_a_nap() {
        let (at_once, late) = (Duration::from_micros(3), Duration::from_millis(1));
        assert_eq!(nap(500, at_once), Some(Duration::from_micros(NAP_US)));
        assert_eq!(nap(500, late), None, "the server is the slower one");
        assert_eq!(nap(SMALL_READ_BYTES, at_once), None, "enough has gathered");
    }
}
