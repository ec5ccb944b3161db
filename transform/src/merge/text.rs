//! Texts that several apps changed at once, merged line by line as diff3 does, for any number of sides.
//!
//! Every side is a set of hunks: lines of the common base that it replaced. The sides agree if no two different hunks
//! overlap or touch (at least one line that nobody changed stands between them); then all hunks are applied. A set of
//! hunks has no order, so neither has the merge: whoever is read first, the text is the same.

use std::collections::BTreeSet;

use super::mutant::breaks;

/// Lines of base times lines of a side, without what they begin and end with in common. Beyond it, the whole middle counts
/// as replaced: that can only lead to more overlaps, never to a wrong text.
const CELLS_MAX: usize = 1_000_000;

/// Lines `from..to` of the base, replaced by others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hunk<'t> {
    from: usize,
    to: usize,
    lines: Vec<&'t str>,
}

/// What all sides made of `base` together; none if two of them changed the same place.
pub fn merge(base: &str, sides: &[&str]) -> Option<String> {
    let base: Vec<&str> = base.split('\n').collect();
    let sides: Vec<Vec<&str>> = sides.iter().map(|side| side.split('\n').collect()).collect();
    let hunks: BTreeSet<Hunk<'_>> = sides.iter().flat_map(|side| hunks(&base, side)).collect();
    let mut merged: Vec<&str> = Vec::new();
    let mut at = 0;
    let mut untouched_from = None;
    for hunk in &hunks {
        if untouched_from.is_some_and(|from| hunk.from <= from) {
            if breaks("overlaps-are-conflicts") {
                continue;
            }
            return None;
        }
        merged.extend(base.get(at..hunk.from)?);
        merged.extend(&hunk.lines);
        at = hunk.to;
        untouched_from = Some(hunk.to);
    }
    merged.extend(base.get(at..)?);
    Some(merged.join("\n"))
}

/// What `side` replaced.
fn hunks<'t>(base: &[&'t str], side: &[&'t str]) -> Vec<Hunk<'t>> {
    let alike = |(left, right): &(&&str, &&str)| left == right;
    let before = base.iter().zip(side).take_while(alike).count();
    let (base, side) = (&base[before..], &side[before..]);
    let behind = base.iter().rev().zip(side.iter().rev()).take_while(alike).count();
    let (base, side) = (&base[..base.len() - behind], &side[..side.len() - behind]);
    let mut hunks = Vec::new();
    let (mut in_base, mut in_side) = (0, 0);
    for (next_base, next_side) in common(base, side).into_iter().chain([(base.len(), side.len())]) {
        if next_base > in_base || next_side > in_side {
            hunks.push(Hunk {
                from: before + in_base,
                to: before + next_base,
                lines: side[in_side..next_side].to_vec(),
            });
        }
        (in_base, in_side) = (next_base + 1, next_side + 1);
    }
    hunks
}

/// The places of a longest common subsequence; none if it would cost too much to find.
fn common(left: &[&str], right: &[&str]) -> Vec<(usize, usize)> {
    let width = right.len() + 1;
    if left.len().saturating_mul(right.len()) > CELLS_MAX {
        return Vec::new();
    }
    let mut longest = vec![0_u32; (left.len() + 1) * width];
    for (l, r) in (0..left.len())
        .rev()
        .flat_map(|l| (0..right.len()).rev().map(move |r| (l, r)))
    {
        longest[l * width + r] = if left[l] == right[r] {
            longest[(l + 1) * width + r + 1] + 1
        } else {
            longest[(l + 1) * width + r].max(longest[l * width + r + 1])
        };
    }
    let (mut l, mut r, mut places) = (0, 0, Vec::new());
    while l < left.len() && r < right.len() {
        if left[l] == right[r] {
            places.push((l, r));
            (l, r) = (l + 1, r + 1);
        } else if longest[(l + 1) * width + r] >= longest[l * width + r + 1] {
            l += 1;
        } else {
            r += 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_different_lines_are_merged_whoever_comes_first() {
        let base = "a\nb\nc\nd\ne";
        for (sides, merged) in [
            (&["A\nb\nc\nd\ne", "a\nb\nc\nd\nE"][..], Some("A\nb\nc\nd\nE")),
            (
                &["A\nb\nc\nd\ne", "a\nb\nC\nd\ne", "a\nb\nc\nd\nE"],
                Some("A\nb\nC\nd\nE"),
            ),
            (&["a\nb\nc\nd\ne\nf", "x\na\nb\nc\nd\ne"], Some("x\na\nb\nc\nd\ne\nf")),
            (&["a\nc\nd\ne", "a\nb\nc\ne"], Some("a\nc\ne")),
            (
                &["a\nB\nc\nd\ne", "a\nB\nc\nd\ne", "a\nb\nc\nD\ne"],
                Some("a\nB\nc\nD\ne"),
            ),
            (&["a\nB\nc\nd\ne", "a\nß\nc\nd\ne"], None),
            (&["a\nB\nc\nd\ne", "a\nb\nC\nd\ne"], None),
            (&["x\na\nb\nc\nd\ne", "y\na\nb\nc\nd\ne"], None),
            (&["", "a\nb\nc\nd\nE"], None),
        ] {
            let mut turned = sides.to_vec();
            turned.reverse();
            assert_eq!(merge(base, sides).as_deref(), merged, "{sides:?}");
            assert_eq!(merge(base, &turned).as_deref(), merged, "{turned:?}");
        }
    }

    #[test]
    fn one_side_alone_is_what_it_says() {
        for (base, side) in [
            ("", "a\n"),
            ("a\nb", "b\na\nb"),
            ("a\na\nb\n", "a\nc\na\n"),
            ("x\ny", ""),
        ] {
            assert_eq!(merge(base, &[side]).as_deref(), Some(side));
            assert_eq!(merge(base, &[side, base]).as_deref(), Some(side));
        }
    }

    #[test]
    fn a_text_too_long_to_compare_is_one_hunk() {
        let long = |letter: &str| vec![letter; 1_100].join("\n");
        let (base, other) = (long("a"), long("b"));
        assert_eq!(merge(&base, &[&other]), Some(other.clone()));
        assert_eq!(merge(&base, &[&other, &long("c")]), None);
    }
}
