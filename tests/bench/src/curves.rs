//! Lines: how waits are spread, and how processor time grows. One picture each, a field for each case, plain SVG.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::draw::escaped;
use crate::report::{Cases, OURS, by_case, median};
use crate::result::{Results, Run};

const WIDTH: f64 = 760.0;
const FIELD: f64 = 260.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 36.0;
const LATENCY: [&str; 3] = ["latency", "end_to_end", "agreement"];
/// What grows: its cases, and of a run how many there are of it.
const GROWTH: [Growth; 5] = [
    ("tables", "growth/tables_", |run| run.x),
    ("bytes a row", "growth/width_", |run| {
        run.figures.get("row_bytes").copied()
    }),
    ("rows a transaction", "capture/insert_", transaction_rows),
    ("partitions", "growth/partitions_", |run| run.x),
    ("sinks", "growth/instances", |run| run.x),
];

type Growth = (&'static str, &'static str, fn(&Run) -> Option<f64>);

/// A named line.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// A field: lines over ticks.
struct Field {
    title: String,
    lines: Vec<Line>,
    /// Where on the x axis, and what is written there.
    ticks: Vec<(f64, String)>,
    /// Whether the y axis is one of powers of ten.
    logarithmic: bool,
}

/// Draws both pictures into a directory.
pub fn all(results: &Results, directory: &Path) -> anyhow::Result<()> {
    let cases = by_case(results);
    for (file, fields) in [("latency.svg", latency(&cases)), ("growth.svg", growth(&cases))] {
        if !fields.is_empty() {
            let path = directory.join(file);
            std::fs::write(&path, picture(&fields)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn latency(cases: &Cases<'_>) -> Vec<Field> {
    let field = |case: &&str| {
        let contenders = cases.get(*case)?;
        let mut ticks: Vec<(f64, String)> = Vec::new();
        let mut lines = Vec::new();
        for (who, runs) in contenders {
            let Some(first) = runs.iter().find(|run| !run.curve_ms.is_empty()) else {
                continue;
            };
            let curve = &first.curve_ms;
            let at = |index: usize| move |run: &Run| run.curve_ms.get(index).map_or(f64::NAN, |(_, ms)| *ms);
            let points = (0..curve.len()).filter_map(|index| Some((index as f64, median(runs, at(index))?)));
            lines.push(Line {
                name: (*who).to_owned(),
                points: points.collect(),
            });
            let parts = curve.iter().enumerate();
            ticks = parts
                .map(|(index, (part, _))| (index as f64, format!("p{}", part * 100.0)))
                .collect();
        }
        Some(Field {
            title: format!("{case}: milliseconds that so many in a hundred did not exceed"),
            lines,
            ticks,
            logarithmic: true,
        })
    };
    LATENCY.iter().filter_map(field).collect()
}

fn growth(cases: &Cases<'_>) -> Vec<Field> {
    let field = |(what, prefix, x): &Growth| {
        let mut lines: Vec<Line> = Vec::new();
        for (_, contenders) in cases.iter().filter(|(case, _)| case.starts_with(prefix)) {
            for (who, runs) in contenders {
                let at = runs.iter().find_map(|run| x(run)).filter(|at| *at > 0.0);
                let Some(point) = at.zip(median(runs, |run| run.cpu_s_per_million)) else {
                    continue;
                };
                // Two sinks are another contender than one, and a point of the same line.
                let name = if *prefix == "growth/instances" { OURS } else { *who };
                match lines.iter_mut().find(|line| line.name == name) {
                    Some(line) => line.points.push(point),
                    None => lines.push(Line {
                        name: name.to_owned(),
                        points: vec![point],
                    }),
                }
            }
        }
        lines.retain(|line| line.points.len() > 1);
        for line in &mut lines {
            line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
        }
        let longest = lines.iter().max_by_key(|line| line.points.len())?;
        let ticks = longest
            .points
            .iter()
            .map(|(at, _)| (at.log10(), format!("{at:.0}")))
            .collect();
        for line in &mut lines {
            for point in &mut line.points {
                point.0 = point.0.log10();
            }
        }
        Some(Field {
            title: format!("{what}: CPU seconds a million rows"),
            lines,
            ticks,
            logarithmic: false,
        })
    };
    GROWTH.iter().filter_map(field).collect()
}

/// `capture/insert_100` has a hundred; all in one are as many as were written.
fn transaction_rows(run: &Run) -> Option<f64> {
    match run.case.rsplit_once('_')?.1 {
        "all" => Some(run.rows as f64),
        rows => rows.parse().ok(),
    }
}

fn picture(fields: &[Field]) -> String {
    let height = FIELD * fields.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, field) in fields.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate(0 {:.0})\">", index as f64 * FIELD);
        field.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

impl Field {
    fn draw(&self, svg: &mut String) {
        let height = |value: f64| {
            if self.logarithmic {
                value.max(1e-3).log10()
            } else {
                value
            }
        };
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let xs = points().map(|point| point.0);
        let (left, right) = (xs.clone().fold(f64::MAX, f64::min), xs.fold(f64::MIN, f64::max));
        let ys = points().map(|point| height(point.1));
        let floor = if self.logarithmic {
            ys.clone().fold(f64::MAX, f64::min).floor()
        } else {
            0.0
        };
        let ceiling = ys.fold(f64::MIN, f64::max);
        let ceiling = if self.logarithmic {
            ceiling.ceil()
        } else {
            ceiling * 1.1
        };
        let at_x = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * (x - left) / (right - left).max(f64::EPSILON);
        let at_y = |y: f64| FIELD - BOTTOM - (FIELD - TOP - BOTTOM) * (y - floor) / (ceiling - floor).max(f64::EPSILON);
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"22\" font-size=\"14\">{}</text>",
            escaped(&self.title)
        );
        for step in 0..=4 {
            let y = floor + (ceiling - floor) * f64::from(step) / 4.0;
            let value = if self.logarithmic { 10_f64.powf(y) } else { y };
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#e0e0e0\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                at_y(y),
                at_y(y),
                LEFT - 6.0,
                at_y(y) + 4.0,
                crate::goals::short(value)
            );
        }
        for (x, label) in &self.ticks {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                at_x(*x),
                FIELD - BOTTOM + 18.0,
                escaped(label)
            );
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = colour(&line.name, index);
            let path: Vec<String> = line
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(height(*y))))
                .collect();
            let y = TOP + 14.0 * (index as f64 + 1.0);
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
                 <text x=\"{:.0}\" y=\"{y:.0}\" fill=\"{colour}\">{}</text>",
                path.join(" "),
                WIDTH - RIGHT + 14.0,
                escaped(&line.name)
            );
        }
    }
}

/// Ours is blue, the others are not.
fn colour(name: &str, index: usize) -> &'static str {
    const OTHERS: [&str; 4] = ["#616161", "#8d6e63", "#9e9e9e", "#6d4c41"];
    match name {
        OURS => "#1565c0",
        ours if ours.starts_with(OURS) => "#42a5f5",
        _ => OTHERS[index % OTHERS.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within_their_field() {
        let field = Field {
            title: "a < b".to_owned(),
            lines: vec![Line {
                name: OURS.to_owned(),
                points: vec![(0.0, 1.0), (1.0, 100.0)],
            }],
            ticks: vec![(0.0, "p50".to_owned())],
            logarithmic: true,
        };
        let svg = picture(&[field]);
        assert!(svg.contains("points=\"60.0,224.0 530.0,34.0\""), "{svg}");
        assert!(svg.contains("a &lt; b"));
    }

    #[test]
    fn a_transaction_has_as_many_rows_as_its_name_says() {
        let run = |case: &str| Run {
            case: case.to_owned(),
            rows: 5,
            ..Run::default()
        };
        assert_eq!(transaction_rows(&run("capture/insert_100")), Some(100.0));
        assert_eq!(transaction_rows(&run("capture/insert_all")), Some(5.0));
        assert_eq!(transaction_rows(&run("latency")), None);
    }
}
