//! The report: Markdown for people, `report.json` for programs.

use crate::{
    effort::Effort,
    growth::Growth,
    plots,
    side::Sample,
    table::{Figure, Outcome, Row, Target},
};
use serde_json::{Value, json};
use std::{fmt::Write, fs, path::Path};
use tests::document::{assert_generated, root};

/// All that was found out.
pub struct Report {
    pub machine: Vec<(&'static str, String)>,
    pub rows: Vec<Row>,
    pub growth: Vec<Growth>,
}

impl Report {
    /// Writes `report.md`, `report.json` and the pictures into `dir`, and returns the Markdown.
    pub fn write(&self, effort: &Effort, dir: &Path) -> Result<String, Box<dyn std::error::Error>> {
        draw(&self.growth, dir)?;
        let markdown = self.markdown(effort)?;
        fs::write(dir.join("report.md"), &markdown)?;
        fs::write(dir.join("report.json"), serde_json::to_vec_pretty(&self.json(effort))?)?;
        Ok(markdown)
    }

    /// Writes the table and the plots of `docs/performance.md`.
    pub fn document(&self, effort: &Effort) -> Result<(), Box<dyn std::error::Error>> {
        draw(&self.growth, &root().join("docs/performance"))?;
        assert_generated("docs/performance.md", "benchmark", self.table(effort)?.trim_end());
        Ok(())
    }

    fn markdown(&self, effort: &Effort) -> Result<String, std::fmt::Error> {
        let mut text = format!("# Benchmark\n\n{}", self.table(effort)?);
        for growth in &self.growth {
            writeln!(text, "\n![set and get against {}]({})", growth.axis.name(), picture(growth))?;
        }
        Ok(text)
    }

    fn table(&self, effort: &Effort) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for (name, value) in &self.machine {
            writeln!(text, "- {name}: {value}")?;
        }
        writeln!(
            text,
            "\nMedians of {} rounds in alternation, or of twice as many where those were too noisy, the ratio pair by \
             pair. The spread is the interval that holds the true median with 90 % or more. 10,000 keys and values of \
             64 bytes unless said; CPU is that of all processes of the server, for a call.\n",
            effort.rounds
        )?;
        if !effort.full {
            writeln!(text, "In a hurry: without logging and age, and never twice as many rounds.\n")?;
        }
        writeln!(text, "| measure | against | ratio | spread | target | met | calls/s | CPU, us |")?;
        writeln!(text, "| --- | --- | ---: | --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            let (ratio, spread) = match &row.outcome {
                Outcome::Measured(it) => {
                    let number = |value| shown(value, row.figure);
                    let spread = if it.margin() > 0.0 {
                        format!("{} to {}", number(it.low), number(it.high))
                    } else {
                        String::new()
                    };
                    (format!("**{}**{}", number(it.median), row.figure.unit()), spread)
                }
                Outcome::TooNoisy(it) => (
                    "too noisy".into(),
                    format!("{} to {}", shown(it.low, row.figure), shown(it.high, row.figure)),
                ),
                Outcome::NotMeasured(why) => (format!("not measured: {why}"), String::new()),
            };
            let target = match row.target {
                None => String::new(),
                Some(Target::AtLeast(number)) => format!("at least {number}"),
                Some(Target::AtMost(number)) => format!("at most {number}"),
            };
            let met = row.is_met().map_or("", |met| if met { "yes" } else { "**no**" });
            let both = |of: fn(&Sample) -> f64| {
                let sides = row.sides.as_ref();
                sides.map(|[ours, theirs]| format!("{:.0} : {:.0}", of(ours), of(theirs))).unwrap_or_default()
            };
            let (rate, cpu) = (both(|it| it.rate), both(|it| it.cpu));
            let Row { measure, baseline, .. } = row;
            writeln!(
                text,
                "| {measure} | {baseline} | {ratio} | {spread} | {target} | {met} | {rate} | {cpu} |"
            )?;
        }
        Ok(text)
    }

    fn json(&self, effort: &Effort) -> Value {
        let growth = |growth: &Growth| {
            let points =
                growth.points.iter().map(|it| json!({"size": it.size, "set": it.set, "get": it.get}));
            json!({"axis": growth.axis.name(), "points": points.collect::<Vec<_>>()})
        };
        json!({
            "machine": self.machine.iter().map(|(name, value)| (*name, value)).collect::<std::collections::BTreeMap<_, _>>(),
            "mode": if effort.full { "full" } else { "quick" },
            "rounds": effort.rounds,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "growth": self.growth.iter().map(growth).collect::<Vec<_>>(),
        })
    }
}

/// Draws the pictures into `dir`.
fn draw(all: &[Growth], dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(dir)?;
    all.iter().try_for_each(|growth| plots::draw(growth, &dir.join(picture(growth))))
}

fn row(row: &Row) -> Value {
    let (ratio, spread, note) = match &row.outcome {
        Outcome::Measured(it) => (Some(it.median), Some([it.low, it.high]), None),
        Outcome::TooNoisy(it) => (None, Some([it.low, it.high]), Some("too noisy")),
        Outcome::NotMeasured(why) => (None, None, Some(*why)),
    };
    let side = |it: &Sample| json!({"calls_per_second": it.rate, "server_cpu_us_per_call": it.cpu, "delivery_ms": it.delivery});
    json!({
        "measure": row.measure,
        "baseline": row.baseline,
        "ratio": ratio,
        "spread": spread,
        "target": row.target.map(Target::number),
        "bound": row.target.map(|target| if let Target::AtLeast(_) = target { "at least" } else { "at most" }),
        "met": row.is_met(),
        "unit": row.figure.name(),
        "note": note,
        "sides": row.sides.as_ref().map(|[ours, theirs]| json!({"ours": side(ours), "baseline": side(theirs)})),
    })
}

fn shown(value: f64, figure: Figure) -> String {
    match figure {
        Figure::AddedMilliseconds => format!("{value:.3}"),
        Figure::Nanoseconds => format!("{value:.1}"),
        Figure::PerSecond => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn picture(growth: &Growth) -> String {
    format!("{}.svg", growth.axis.name().replace(' ', "-"))
}
