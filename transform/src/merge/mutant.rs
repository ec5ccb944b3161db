//! Laws broken on purpose, to see that the tests notice (`transform/tests/README.md`). Only with the feature `mutants`;
//! without it nothing is ever broken, and the question costs nothing.

/// Whether this law is broken in this process: `SYNCLINE_MUTANT` names one.
#[cfg(feature = "mutants")]
pub fn breaks(law: &str) -> bool {
    use std::sync::LazyLock;
    static MUTANT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("SYNCLINE_MUTANT").ok());
    MUTANT.as_deref() == Some(law)
}

/// Never.
#[cfg(not(feature = "mutants"))]
pub const fn breaks(_law: &str) -> bool {
    false
}
