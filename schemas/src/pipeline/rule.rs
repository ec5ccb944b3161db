//! Rules: what decides between words that did not see each other, on what terms, and for which fields together.

use std::fmt;

use crate::lens::Expr;
use crate::value::Number;

/// What decides between words that did not see each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The greatest stamp.
    Latest,
    /// The smallest stamp.
    First,
    /// Nobody is overwritten; the field waits for a person.
    Hold,
    /// The most authoritative source that said something; systems by falling authority.
    Order(Vec<String>),
    /// Only this system is read for the field.
    Owner(String),
    /// Initial value and the sum of all deltas.
    Add,
    /// Observed-remove set.
    Union,
    /// The greatest value.
    Max,
    /// The smallest value.
    Min,
    /// The text of most characters.
    Longest,
    /// `true`, of a field that says what is not allowed.
    MostRestrictive,
    /// A text merged line by line; where the same lines were changed, `else` decides.
    MergeText,
    /// An expression examines the words, from the oldest on.
    Rule(Box<Expr>),
}

/// What a rule says beside its strategy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// `else`: what decides where `merge_text` finds the same lines changed.
    pub otherwise: Option<Strategy>,
    /// `if_uncertain`: what decides between words whose stamps are too close for `latest`.
    pub uncertain: Option<Uncertain>,
    /// `lease`: how long `first` keeps the others out, in microseconds of their own stamps; none: until they have seen it.
    pub lease_us: Option<i64>,
    /// `queue`: of `first`, whether who comes while another has the lock waits until it is over, and then holds.
    pub queue: bool,
    /// `min`, `max` and what is done beyond them: of `add`.
    pub bounds: Bounds,
    /// `expires`: when a question that nobody answers is decided all the same, and how.
    pub expires: Option<Expires>,
    /// `absolute_from`: the field in which stock-takes of this counter are said.
    pub absolute_from: Option<String>,
    /// `approvers`: who may approve what another person has decided; where anybody is named, nothing holds before.
    pub approvers: Vec<String>,
}

impl Terms {
    /// Nothing beside the strategy.
    pub const NONE: Terms = Terms {
        otherwise: None,
        uncertain: None,
        lease_us: None,
        queue: false,
        expires: None,
        bounds: Bounds {
            min: None,
            max: None,
            below_min: Beyond::Hold,
            above_max: Beyond::Hold,
        },
        absolute_from: None,
        approvers: Vec::new(),
    };
}

/// What becomes of a held field that nobody decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expires {
    /// `expires`: so long after the last of its candidates, in microseconds of source time.
    pub after_us: i64,
    /// `then`: what decides from then on.
    pub then: Strategy,
}

/// What decides when clocks cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncertain {
    /// Stamps closer than this are too close: the clock skew that the pipeline allows.
    pub within_us: i64,
    /// `hold`, or systems by falling authority.
    pub then: Strategy,
}

/// Between which sums a counter makes sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The least.
    pub min: Option<Number>,
    /// The greatest.
    pub max: Option<Number>,
    /// `below_min`: what is done with a smaller sum.
    pub below_min: Beyond,
    /// `above_max`: what is done with a greater sum.
    pub above_max: Beyond,
}

/// What is done with a sum beyond its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond {
    /// All apps get the true sum, and a person is told.
    #[default]
    Hold,
    /// All apps get the bound, as long as the sum is beyond it.
    Clamp,
}

/// Fields that win together: the values of a group always come from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name; conflicts and decisions bear it in place of a field's.
    pub name: String,
    /// Its fields, in the order of the file, which is the order of values in its conflicts.
    pub fields: Vec<String>,
    /// What decides between words that did not see each other.
    pub strategy: Strategy,
    /// On what terms.
    pub terms: Terms,
    /// Where the file says so.
    pub rule: RuleRef,
}

/// A condition on agreed values: what does not meet it goes to no app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The field, or the name of a condition on the whole record.
    pub name: String,
    /// `value` and `record.FIELD` of a field, `FIELD` of a record.
    pub condition: Expr,
    /// Where the file says so.
    pub rule: RuleRef,
}

/// Where a rule stands: `acme.yaml:34`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleRef {
    /// The file, as in [`super::Pipeline::file`].
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl Strategy {
    /// Whether the sink adds to the app's value instead of replacing it.
    pub fn is_counter(&self) -> bool {
        *self == Strategy::Add
    }

    /// Whether it asks only who said something and when: such a rule can decide about several fields as one.
    pub fn decides_by_source(&self) -> bool {
        matches!(
            self,
            Strategy::Latest | Strategy::First | Strategy::Hold | Strategy::Order(_) | Strategy::Owner(_)
        )
    }
}

/// As in the file.
impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::Latest => f.write_str("latest"),
            Strategy::First => f.write_str("first"),
            Strategy::Hold => f.write_str("hold"),
            Strategy::Order(systems) => write!(f, "[{}]", systems.join(", ")),
            Strategy::Owner(system) => write!(f, "owner: {system}"),
            Strategy::Add => f.write_str("add"),
            Strategy::Union => f.write_str("union"),
            Strategy::Max => f.write_str("max"),
            Strategy::Min => f.write_str("min"),
            Strategy::Longest => f.write_str("longest"),
            Strategy::MostRestrictive => f.write_str("most_restrictive"),
            Strategy::MergeText => f.write_str("merge_text"),
            Strategy::Rule(rule) => write!(f, "rule: {rule}"),
        }
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
