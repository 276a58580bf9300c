//! The curves as SVG.

use crate::growth::{Growth, Point};
use plotters::{coord::Shift, prelude::*};
use std::{error::Error, path::Path};

const SIZE: (u32, u32) = (960, 320);
const FONT: &str = "sans-serif";

/// Draws set and get beside each other, each to its own scale.
pub fn draw(growth: &Growth, file: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let halves = root.split_evenly((1, 2));
    curve(&halves[0], growth, "set", |point| point.set)?;
    curve(&halves[1], growth, "get", |point| point.get)?;
    root.present()?;
    Ok(())
}

/// The steps of what grows are equally far apart, whatever lies between them.
fn curve(
    area: &DrawingArea<SVGBackend, Shift>,
    growth: &Growth,
    name: &str,
    of: fn(&Point) -> f64,
) -> Result<(), Box<dyn Error>> {
    let points = &growth.points;
    let highest = points.iter().map(of).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{name}, calls in a second"), (FONT, 18))
        .margin(16)
        // Half of the last label is beyond the end of its axis.
        .margin_right(36)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0..points.len() - 1, 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(points.len())
        .x_label_formatter(&|&step| points[step].size.to_string())
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .x_desc(growth.axis.name())
        .label_style((FONT, 13))
        .draw()?;
    let line = LineSeries::new(points.iter().map(of).enumerate(), BLUE.stroke_width(2));
    chart.draw_series(line.point_size(3))?;
    Ok(())
}
