//! What a date or time is made of, as its spelling shows.

/// The parts of a date or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `2026-01-02`.
    Date,
    /// `03:04:05`.
    Time,
    /// `03:04:05Z`.
    ZonedTime,
    /// `2026-01-02T03:04:05`.
    Timestamp,
    /// `2026-01-02T03:04:05Z`.
    ZonedTimestamp,
}

impl Spelling {
    /// That of a text which is a date or time; infinity is both.
    pub fn of(text: &str) -> Option<Self> {
        if !text.contains(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let (day, clock) = match text.split_once('T') {
            Some((_, clock)) => (true, clock),
            None if text.contains(':') => (false, text),
            None => return Some(Self::Date),
        };
        let zoned = clock.ends_with('Z') || clock.contains(['+', '-']);
        Some(match (day, zoned) {
            (false, false) => Self::Time,
            (false, true) => Self::ZonedTime,
            (true, false) => Self::Timestamp,
            (true, true) => Self::ZonedTimestamp,
        })
    }

    /// That of a type by its name in `pg_type`.
    pub fn of_type(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "date" => Self::Date,
            "time" => Self::Time,
            "timetz" => Self::ZonedTime,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::ZonedTimestamp,
            _ => return None,
        })
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Date => "a date",
            Self::Time => "a time",
            Self::ZonedTime => "a time with a zone",
            Self::Timestamp => "a timestamp",
            Self::ZonedTimestamp => "a timestamp with a zone",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spelling_shows_its_parts() {
        for (text, spelling) in [
            ("-0043-03-15", Some(Spelling::Date)),
            ("03:04:05.5", Some(Spelling::Time)),
            ("03:04:05+01:00", Some(Spelling::ZonedTime)),
            ("+12345-01-02T03:04:05", Some(Spelling::Timestamp)),
            ("2026-01-02T03:04:05Z", Some(Spelling::ZonedTimestamp)),
            ("-infinity", None),
        ] {
            assert_eq!(Spelling::of(text), spelling, "{text}");
        }
    }
}
