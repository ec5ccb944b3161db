//! `Position`: a total order over the changes of one source, and `Vector`: what has been seen of several sources.
//!
//! Rows of one COPY share an LSN, and a COMMIT shares its end LSN with the next BEGIN. So the order is
//! (epoch, end LSN of the commit, ordinal in the transaction). The epoch rises when the log itself is replaced:
//! a new slot, another timeline, a restored backup.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A byte position in a PostgreSQL write-ahead log, written as `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no LSN, position or vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no {1}")]
pub struct ParseError(String, &'static str);

impl FromStr for Lsn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError(text.to_owned(), "LSN (such as 16/B374D848)");
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| wrong())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| wrong())?;
        Ok(Lsn(u64::from(high) << 32 | u64::from(low)))
    }
}

/// Where a change stands in the log of its source. Written as `epoch:lsn:ordinal`, for example `1:0/16B3748:3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Position {
    /// Which log: rises when a slot is made anew or the source changes its timeline.
    pub epoch: u64,
    /// Of a row of the log: the byte after the start of its commit record, which is all that pgoutput's BEGIN tells; of
    /// progress at rest: the end of that record. No other commit lies between the two. Of a row of the snapshot: the
    /// consistent point.
    pub lsn: Lsn,
    /// Index of the change within its transaction, from 0 (of the row within the snapshot).
    pub ordinal: u64,
}

impl Position {
    /// The position of the `ordinal`-th change of the transaction whose commit ends at `lsn`.
    pub const fn new(epoch: u64, lsn: Lsn, ordinal: u64) -> Self {
        Self { epoch, lsn, ordinal }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = FromBehind::default();
        text.decimal(self.ordinal);
        text.push(b':');
        text.hex(self.lsn.0 & 0xFFFF_FFFF);
        text.push(b'/');
        text.hex(self.lsn.0 >> 32);
        text.push(b':');
        text.decimal(self.epoch);
        f.write_str(text.text())
    }
}

/// A short text, written from its end: an agreed record has a dozen positions.
struct FromBehind {
    bytes: [u8; POSITION_BYTES_MAX],
    start: usize,
}

/// Two numbers of 20 digits, two of eight, three signs between them.
const POSITION_BYTES_MAX: usize = 59;

impl Default for FromBehind {
    fn default() -> Self {
        Self {
            bytes: [0; POSITION_BYTES_MAX],
            start: POSITION_BYTES_MAX,
        }
    }
}

impl FromBehind {
    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    fn digits<const BASE: u64>(&mut self, mut number: u64) {
        loop {
            let digit = (number % BASE).to_le_bytes()[0];
            self.push(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 });
            number /= BASE;
            if number == 0 {
                return;
            }
        }
    }

    fn decimal(&mut self, number: u64) {
        self.digits::<10>(number);
    }

    fn hex(&mut self, number: u64) {
        self.digits::<16>(number);
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_else(|_| unreachable!("digits are ASCII"))
    }
}

impl From<Position> for String {
    fn from(position: Position) -> String {
        position.to_string()
    }
}

impl FromStr for Position {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError(text.to_owned(), "position (such as 1:0/16B3748:3)");
        let mut parts = text.split(':');
        let (Some(epoch), Some(lsn), Some(ordinal), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        Ok(Self {
            epoch: epoch.parse().map_err(|_| wrong())?,
            lsn: lsn.parse()?,
            ordinal: ordinal.parse().map_err(|_| wrong())?,
        })
    }
}

impl TryFrom<String> for Position {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

/// For each source, up to where its log has been seen: a version vector. A source that is missing has not been seen.
///
/// On the wire it is an array of `{source, position}` in the order of the names, so that equal vectors are equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "Vec<VectorEntry>", from = "Vec<VectorEntry>")]
pub struct Vector(BTreeMap<String, Position>);

/// One entry of a [`Vector`] on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VectorEntry {
    /// Name of the source.
    pub source: String,
    /// The last position of it that was seen.
    pub position: Position,
}

impl Vector {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Up to where `source` has been seen.
    pub fn get(&self, source: &str) -> Option<Position> {
        self.0.get(source).copied()
    }

    /// Whether the change of `source` at `position` has been seen.
    pub fn covers(&self, source: &str, position: Position) -> bool {
        self.get(source).is_some_and(|seen| seen >= position)
    }

    /// Takes notice of `source` up to `position`; never goes back.
    pub fn advance(&mut self, source: &str, position: Position) {
        match self.0.get_mut(source) {
            Some(seen) => *seen = position.max(*seen),
            None => {
                self.0.insert(source.to_owned(), position);
            }
        }
    }

    /// The least upper bound: what either side has seen.
    pub fn join(&mut self, other: &Vector) {
        for (source, position) in &other.0 {
            self.advance(source, *position);
        }
    }

    /// Whether everything `other` has seen has been seen here too.
    pub fn dominates(&self, other: &Vector) -> bool {
        other.0.iter().all(|(source, position)| self.covers(source, *position))
    }

    /// The entries, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Position)> {
        self.0.iter().map(|(source, position)| (source.as_str(), *position))
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Into<String>> FromIterator<(S, Position)> for Vector {
    fn from_iter<I: IntoIterator<Item = (S, Position)>>(entries: I) -> Self {
        let mut vector = Vector::new();
        for (source, position) in entries {
            vector.advance(&source.into(), position);
        }
        vector
    }
}

impl From<Vector> for Vec<VectorEntry> {
    fn from(vector: Vector) -> Self {
        vector
            .0
            .into_iter()
            .map(|(source, position)| VectorEntry { source, position })
            .collect()
    }
}

impl From<Vec<VectorEntry>> for Vector {
    fn from(entries: Vec<VectorEntry>) -> Self {
        entries
            .into_iter()
            .map(|entry| (entry.source, entry.position))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_reads_what_it_writes() {
        for lsn in [Lsn(0), Lsn(0x16_B374_D848), Lsn(u64::MAX)] {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
        assert!("16".parse::<Lsn>().is_err());
        assert!("1/zz".parse::<Lsn>().is_err());
    }

    #[test]
    fn positions_order_by_epoch_then_commit_then_ordinal() {
        let at = |epoch, lsn, ordinal| Position::new(epoch, Lsn(lsn), ordinal);
        assert!(at(1, 900, 5) < at(2, 100, 0));
        assert!(at(1, 100, 5) < at(1, 200, 0));
        assert!(at(1, 100, 5) < at(1, 100, 6));
        assert_eq!(at(1, 0x16B3748, 3).to_string(), "1:0/16B3748:3");
        assert_eq!("1:0/16B3748:3".parse(), Ok(at(1, 0x16B3748, 3)));
        for (epoch, lsn, ordinal) in [(0, 0, 0), (u64::MAX, u64::MAX, u64::MAX), (10, 0xA_0000_000F, 9)] {
            let text = format!("{epoch}:{}:{ordinal}", Lsn(lsn));
            assert_eq!(at(epoch, lsn, ordinal).to_string(), text);
        }
    }

    #[test]
    fn a_vector_never_goes_back() {
        let at = |lsn| Position::new(1, Lsn(lsn), 0);
        let mut vector = Vector::from_iter([("shop", at(10))]);
        vector.join(&Vector::from_iter([("shop", at(5)), ("crm", at(3))]));
        assert!(vector.covers("shop", at(10)) && !vector.covers("shop", at(11)));
        assert!(vector.covers("crm", at(3)) && !vector.covers("wms", at(0)));
        assert!(vector.dominates(&Vector::from_iter([("crm", at(2))])));
    }
}
