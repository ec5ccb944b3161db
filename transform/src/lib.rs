//! Map what each source says to entities, then merge what several sources say. In the order of a record's way.

/// Pure: words of several apps into one agreed record.
pub mod merge;
