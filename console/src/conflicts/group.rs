//! Pure: conflicts that are alike, as one. A first load of two apps that disagree gives thousands that are one question:
//! same field, same rule, the same apps having said something in the same way. Their values differ and do not count.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::case::{Case, Standing};
use crate::tail::time_of_ms;

/// Conflicts that are alike.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Names it: the same for the same kind of conflict.
    pub group: String,
    /// How many.
    pub count: usize,
    /// The entity.
    pub entity: String,
    /// The field.
    pub field: String,
    /// Where they stand.
    pub status: Standing,
    /// Who works on them, or has answered.
    pub who: Option<String>,
    /// Who may approve the answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// The rule.
    pub strategy: String,
    /// Its place in the file.
    pub rule: String,
    /// Who said something, and how.
    pub apps: String,
    /// Since when the oldest is asked.
    pub since: String,
    /// The id of the oldest.
    pub example: String,
}

/// The name of the group that a conflict belongs to.
pub fn name(case: &Case) -> String {
    let conflict = &case.conflict;
    let apps = case.apps();
    let alike = [&case.entity, &conflict.field, &conflict.strategy, &conflict.rule, &apps].map(String::as_str);
    let digest = Sha256::digest(alike.join("\n").as_bytes());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The groups, the largest first.
pub fn groups<'a>(cases: impl Iterator<Item = &'a Case>) -> Vec<Group> {
    let mut alike: BTreeMap<(String, Standing, Option<&str>), Vec<&Case>> = BTreeMap::new();
    for case in cases {
        alike
            .entry((name(case), case.standing(), case.who()))
            .or_default()
            .push(case);
    }
    let mut groups: Vec<Group> = alike
        .into_iter()
        .filter_map(|((name, status, who), cases)| group(name, status, who, &cases))
        .collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.since.clone(), group.group.clone()));
    groups
}

fn group(group: String, status: Standing, who: Option<&str>, cases: &[&Case]) -> Option<Group> {
    let oldest = cases.iter().min_by_key(|case| (case.since_ms, &case.conflict.id))?;
    let conflict = &oldest.conflict;
    Some(Group {
        group,
        count: cases.len(),
        entity: oldest.entity.clone(),
        field: conflict.field.clone(),
        status,
        who: who.map(str::to_owned),
        waits_for: oldest.waits_for().into_iter().map(str::to_owned).collect(),
        strategy: conflict.strategy.clone(),
        rule: conflict.rule.clone(),
        apps: oldest.apps(),
        since: time_of_ms(oldest.since_ms),
        example: conflict.id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn conflicts_that_differ_in_their_values_alone_are_one_line() {
        let mut cases: Vec<Case> = (0..4_000).map(|n| case(&n.to_string(), &["crm", "shop"])).collect();
        cases.push(case("other", &["billing", "crm"]));
        cases[17].since_ms = -1;
        let groups = groups(cases.iter());
        assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [4_000, 1]);
        assert_eq!(groups[0].example, "id-17", "the oldest");
        assert_eq!(groups[0].apps, "crm (first load), shop (first load)");
        assert_ne!(groups[0].group, groups[1].group);
    }
}
