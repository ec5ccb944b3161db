//! What can go wrong, sorted by what can be done about it.
//!
//! There are three classes and no fourth. *Transient*: the same step may succeed later, so wait and take it again
//! (the broker restarts, a lock times out). *Definite*: it will not heal by itself, so stop what it concerns and tell
//! a person which command repairs it. *Poison*: this one record can never pass, the next one can, so set it aside.
//! A failure gets its class where it happens, once; a loop above only obeys. The code is for machines and stays the
//! same from release to release, the message is for people and holds no values of rows.

use std::fmt::{self, Display};

/// What can be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Wait and do the same again.
    Transient,
    /// Stop and tell a person.
    Definite,
    /// Set the record aside and go on.
    Poison,
}

/// Why something did not happen.
#[derive(Debug)]
pub struct Failure {
    /// What can be done about it.
    pub class: Class,
    /// The name of the reason, for machines: `SLOT_AHEAD`.
    pub code: &'static str,
    /// The reason, for people.
    pub message: String,
    /// What to do now.
    pub hint: Option<String>,
    /// What caused it.
    pub cause: Option<anyhow::Error>,
}

/// A value, or why there is none.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// The same step may succeed later.
    pub fn transient(code: &'static str, message: impl Display) -> Self {
        Self::new(Class::Transient, code, message)
    }

    /// It will not heal by itself.
    pub fn definite(code: &'static str, message: impl Display) -> Self {
        Self::new(Class::Definite, code, message)
    }

    /// This record can never pass.
    pub fn poison(code: &'static str, message: impl Display) -> Self {
        Self::new(Class::Poison, code, message)
    }

    fn new(class: Class, code: &'static str, message: impl Display) -> Self {
        Self {
            class,
            code,
            message: message.to_string(),
            hint: None,
            cause: None,
        }
    }

    /// Adds what to do about it, best of all as a command.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub fn source(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

/// The code, the message and what caused it. Many errors repeat their cause in their own words; that is said once.
impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        let mut said = self.message.clone();
        for cause in self.cause.iter().flat_map(|cause| cause.chain()) {
            let text = cause.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_ref()
            .map(|cause| cause.as_ref() as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_code_message_and_the_whole_chain() {
        let io = std::io::Error::other("connection refused");
        let failure = Failure::transient("KAFKA_UNAVAILABLE", "cannot reach kafka:9092")
            .source(io)
            .hint("is it up?");
        assert_eq!(
            failure.to_string(),
            "KAFKA_UNAVAILABLE: cannot reach kafka:9092: connection refused"
        );
        assert_eq!(failure.hint.as_deref(), Some("is it up?"));
        assert_eq!(failure.class, Class::Transient);
    }

    #[test]
    fn a_cause_that_repeats_its_own_is_said_once() {
        let inner = anyhow::anyhow!("connection refused");
        let outer = inner.context("fetch failed: connection refused");
        let failure = Failure::transient("AWAY", "cannot look").source(outer);
        assert_eq!(
            failure.to_string(),
            "AWAY: cannot look: fetch failed: connection refused"
        );
    }

    #[test]
    fn a_failure_can_cause_another() {
        let inner = Failure::definite("SLOT_GONE", "no slot");
        let outer = Failure::transient("CAPTURE", "stopped").source(inner);
        assert_eq!(outer.to_string(), "CAPTURE: stopped: SLOT_GONE: no slot");
        assert!(std::error::Error::source(&outer).is_some());
    }
}
