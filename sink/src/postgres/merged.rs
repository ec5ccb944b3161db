//! Which records of a target's entities were merged, as the records told that came to it: `syncline.merged`.
//!
//! A row that refers to one of them refers to all, and the target may have a row of another of them only: so whoever has no
//! row of its own here is looked for among those that were merged with it. Only of entities that others refer to is that kept.
//! It is a matter of words on identity, each with its place in the order of all of them; so an older record that comes again
//! takes nothing back.

use std::collections::BTreeMap;

use syncline_runtime::Outcome;
use syncline_schemas::canonical::Member;

use super::books::{Owner, key_arrays};
use super::session::Session;
use super::statement::Cells;

/// An entity, a record of it, and one that came into that or went from it.
pub type MemberOf<'a> = (&'a str, &'a str, &'a Member);

impl Owner {
    /// Notes who came into records, and who went.
    pub async fn note_members(&self, session: &Session, members: &[MemberOf<'_>]) -> Outcome<()> {
        if members.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO syncline.merged AS m (pipeline, target, entity, cid, into_cid, at, joined) \
            SELECT DISTINCT ON (v.entity, v.cid) ($1::text[])[1], ($2::text[])[1], v.entity, v.cid, v.into_cid, \
                v.at::bigint, v.joined::boolean \
            FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) \
                AS v(entity, into_cid, cid, at, joined) \
            ORDER BY v.entity, v.cid, v.at::bigint DESC, v.joined::boolean DESC \
            ON CONFLICT (pipeline, target, entity, cid) DO UPDATE SET into_cid = EXCLUDED.into_cid, at = EXCLUDED.at, \
                joined = EXCLUDED.joined \
            WHERE (m.at, m.joined) < (EXCLUDED.at, EXCLUDED.joined)";
        let column = |each: &dyn Fn(&MemberOf<'_>) -> String| -> Cells {
            members.iter().map(|member| Some(each(member))).collect()
        };
        let arrays = vec![
            column(&|(entity, _, _)| (*entity).to_owned()),
            column(&|(_, into, _)| (*into).to_owned()),
            column(&|(_, _, member)| member.cid.clone()),
            column(&|(_, _, member)| member.at.to_string()),
            column(&|(_, _, member)| member.joined.to_string()),
        ];
        session.execute(&self.statement(sql, arrays)).await.map(drop)
    }

    /// The records that are merged with these (entity, entity id), in the order of their ids.
    pub async fn merged_with(
        &self,
        session: &Session,
        keys: &[(String, String)],
    ) -> Outcome<BTreeMap<(String, String), Vec<String>>> {
        let sql = "SELECT k.entity, k.cid, o.cid FROM unnest($3::text[], $4::text[]) AS k(entity, cid) \
            LEFT JOIN syncline.merged AS m ON m.pipeline = ($1::text[])[1] AND m.target = ($2::text[])[1] \
                AND m.entity = k.entity AND m.cid = k.cid AND m.joined \
            CROSS JOIN LATERAL (SELECT coalesce(m.into_cid, k.cid) AS cid \
                UNION ALL SELECT n.cid FROM syncline.merged AS n \
                WHERE n.pipeline = ($1::text[])[1] AND n.target = ($2::text[])[1] AND n.entity = k.entity \
                    AND n.into_cid = coalesce(m.into_cid, k.cid) AND n.joined) AS o \
            WHERE o.cid <> k.cid ORDER BY 1, 2, 3";
        let mut merged: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for row in session.rows(&self.statement(sql, key_arrays(keys))).await? {
            if let Ok([Some(entity), Some(cid), Some(other)]) = <[_; 3]>::try_from(row) {
                merged.entry((entity, cid)).or_default().push(other);
            }
        }
        Ok(merged)
    }
}
