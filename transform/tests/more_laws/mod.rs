//! Laws of single rules, beside those that hold for all of them.

mod deletes;
mod moves;
mod queue;
