//! What was found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};

use super::finding::{Finding, Severity};
use super::modes::Modes;
use crate::paper::Table;

/// Raised when a reader of the JSON would misunderstand it.
const FORMAT: u32 = 1;

/// Everything that is said.
#[derive(Debug, Serialize)]
pub struct Report {
    format: u32,
    /// Whether a run would be stopped.
    stops: bool,
    /// The worst first.
    findings: Vec<Finding>,
    /// What each captured table allows.
    tables: Vec<Modes>,
    /// What the roles need: SQL, by system. Only if it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grants: Vec<String>,
}

impl Report {
    /// Puts what was found in order.
    pub fn new(mut findings: Vec<Finding>, tables: Vec<Modes>) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        Self {
            format: FORMAT,
            stops: findings.iter().any(|finding| finding.severity == Severity::Stops),
            findings,
            tables,
            grants: Vec::new(),
        }
    }

    /// The same, with what the roles need.
    #[must_use]
    pub fn with_grants(mut self, grants: Vec<String>) -> Self {
        self.grants = grants;
        self
    }

    /// Whether a run would be stopped.
    pub fn stops(&self) -> bool {
        self.stops
    }

    /// One JSON object.
    pub fn json(&self) -> Outcome<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n")
            .map_err(|error| Failure::definite("OUTPUT", error))
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        if !self.grants.is_empty() {
            return self.grants.join("\n");
        }
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&paragraph(finding));
        }
        text.push_str(&self.table());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", self.summary());
        text
    }

    fn table(&self) -> String {
        let mut table = Table::new(["TABLE", "BEFORE-IMAGE", "DELETES SEEN", "OWN WRITES KNOWN", "ALLOWS"]);
        let yes = |holds| if holds { "yes" } else { "no" };
        for modes in &self.tables {
            let allowed = if modes.allowed.is_empty() {
                "nothing".to_owned()
            } else {
                modes.allowed.join(" ")
            };
            table.row([
                &modes.table,
                modes.before_image,
                yes(modes.deletes),
                yes(modes.marks),
                &allowed,
            ]);
        }
        match table.render() {
            text if text.is_empty() => text,
            text => text + "\n",
        }
    }

    fn summary(&self) -> String {
        let count = |severity| {
            self.findings
                .iter()
                .filter(|finding| finding.severity == severity)
                .count()
        };
        let (stops, risks, notes) = (count(Severity::Stops), count(Severity::Risk), count(Severity::Note));
        let verdict = if self.stops {
            "a run would be stopped"
        } else {
            "a run would not be stopped"
        };
        format!("{verdict}: {stops} to mend first, {risks} risks, {notes} notes")
    }
}

fn paragraph(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Stops => "STOPS",
        Severity::Risk => "RISK",
        Severity::Note => "NOTE",
    };
    let mut text = format!("{severity}  {}  {}: {}\n", finding.code, finding.place, finding.what);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "       why:  {}", finding.why);
    if !finding.mend.is_empty() {
        let _ = writeln!(text, "       mend: {}", finding.mend.replace('\n', "\n             "));
    }
    text.push('\n');
    text
}
