//! Examples of mapping.
