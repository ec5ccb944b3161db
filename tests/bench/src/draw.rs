//! The medians as bars, one picture for each figure: plain SVG, readable on light and dark ground.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::curves;
use crate::report::{OURS, by_case, median};
use crate::result::{Results, Run};

const WIDTH: f64 = 760.0;
const LABEL: f64 = 300.0;
const BAR: f64 = 16.0;
const GAP: f64 = 8.0;

/// A figure: file name, title, and what it is of a run; runs without it have no bar.
type Figure = (&'static str, &'static str, fn(&Run) -> f64);

const FIGURES: [Figure; 4] = [
    (
        "throughput.svg",
        "thousand rows a second, warm (more is better)",
        |run| {
            if is_throughput(run) {
                run.rows_per_s_warm / 1e3
            } else {
                f64::NAN
            }
        },
    ),
    ("cpu.svg", "CPU seconds a million rows (less is better)", |run| {
        if is_throughput(run) {
            run.cpu_s_per_million
        } else {
            f64::NAN
        }
    }),
    ("p50.svg", "latency, p50, milliseconds (less is better)", |run| {
        run.p50_ms.unwrap_or(f64::NAN)
    }),
    ("p99.svg", "latency, p99, milliseconds (less is better)", |run| {
        run.p99_ms.unwrap_or(f64::NAN)
    }),
];

fn is_throughput(run: &Run) -> bool {
    run.p50_ms.is_none() && run.rows_per_s_warm > 0.0
}

/// Draws all figures into a directory.
pub fn all(results: &Results, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (file, title, figure) in FIGURES {
        let bars = bars(results, figure);
        if !bars.is_empty() {
            let path = directory.join(file);
            std::fs::write(&path, picture(title, &bars)).with_context(|| path.display().to_string())?;
        }
    }
    curves::all(results, directory)
}

struct Bar {
    label: String,
    value: f64,
    ours: bool,
}

fn bars(results: &Results, figure: fn(&Run) -> f64) -> Vec<Bar> {
    let cases = by_case(results);
    // What grows is drawn as a line.
    let cases = cases.iter().filter(|(case, _)| !case.starts_with("growth/"));
    let all = cases.flat_map(|(case, contenders)| {
        contenders.iter().filter_map(move |(who, runs)| {
            Some(Bar {
                label: format!("{case}: {who}"),
                value: median(runs, figure)?,
                ours: who.starts_with(OURS),
            })
        })
    });
    all.collect()
}

fn picture(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value).fold(f64::EPSILON, f64::max);
    let height = 40.0 + bars.len() as f64 * (BAR + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"10\" y=\"22\" font-size=\"14\">{title}</text>\n"
    );
    for (index, bar) in bars.iter().enumerate() {
        let y = 34.0 + index as f64 * (BAR + GAP);
        let width = (WIDTH - LABEL - 70.0) * bar.value / most;
        let colour = if bar.ours { "#1565c0" } else { "#9e9e9e" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{:.1}</text>",
            LABEL - 8.0,
            y + BAR - 4.0,
            escaped(&bar.label),
            LABEL + width + 6.0,
            y + BAR - 4.0,
            bar.value
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// As text within an element.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
