//! Being fenced is waited for like a restart, unless it happens again and again.
//!
//! A process that slept past its transaction timeout was fenced by the broker and may go on with a new producer. Two
//! processes with one transactional id fence each other for ever; after a few times that is what it is.

use std::time::{Duration, Instant};

use syncline_runtime::Failure;
use syncline_runtime::failure::Class;

const FENCES_MAX: usize = 3;
const FENCES_WITHIN_MS: u64 = 300_000;

/// Remembers when somebody else took over.
#[derive(Debug, Default)]
pub struct Fences {
    seen: Vec<Instant>,
}

impl Fences {
    /// The failure as it is to be taken: being fenced is transient, and definite when it goes on. `who`: the
    /// transactional id and what else would have to be changed.
    pub fn judge(&mut self, failure: Failure, who: &str) -> Failure {
        if failure.code != "FENCED" || failure.class != Class::Definite {
            return failure;
        }
        let within = Duration::from_millis(FENCES_WITHIN_MS);
        self.seen.retain(|seen| seen.elapsed() < within);
        self.seen.push(Instant::now());
        if self.seen.len() < FENCES_MAX {
            return Failure {
                class: Class::Transient,
                ..failure
            };
        }
        let text = format!(
            "{who} is used by another process: taken over {FENCES_MAX} times within {} s",
            FENCES_WITHIN_MS / 1000
        );
        Failure::definite("FENCED", text).hint("stop one of the two, or give one of them another name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_fences_within_minutes_are_two_writers() {
        let mut fences = Fences::default();
        let fenced = || Failure::definite("FENCED", "fenced");
        assert_eq!(fences.judge(fenced(), "id").class, Class::Transient);
        let other = Failure::definite("OTHER", "x");
        assert_eq!(fences.judge(other, "id").class, Class::Definite);
        assert_eq!(fences.judge(fenced(), "id").class, Class::Transient);
        let last = fences.judge(fenced(), "id");
        assert_eq!(last.class, Class::Definite);
        assert!(last.message.contains("id is used"), "{last}");
    }
}
