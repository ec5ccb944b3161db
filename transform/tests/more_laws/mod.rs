//! Laws of single rules, beside those that hold for all of them.

mod deletes;
mod keys;
mod lifts;
mod moves;
mod queue;
