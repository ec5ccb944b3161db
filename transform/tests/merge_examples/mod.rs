//! Examples to the value: those of the design, and one or two for each rule.

mod design;
mod rules;
