//! Laws of single rules, beside those that hold for all of them.

mod deletes;
mod early;
mod keys;
mod lifts;
mod moves;
mod parts;
mod queue;
