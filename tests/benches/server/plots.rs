//! The curves as SVG.

use crate::growth::{Growth, Point};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (720, 360);
const FONT: &str = "sans-serif";

/// Draws set and get into one picture. The steps of what grows are equally far apart, whatever lies between them.
pub fn draw(growth: &Growth, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let highest = growth.points.iter().map(|point| point.set.max(point.get)).fold(0.0, f64::max);
    let last = f64::from(u32::try_from(growth.points.len())?) - 1.0;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("calls in a second, against {}", growth.axis.name()), (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.2..last + 0.2, 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(0)
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .x_desc(growth.axis.name())
        .label_style((FONT, 13))
        .draw()?;
    let position = |index: usize| f64::from(u32::try_from(index).unwrap_or(u32::MAX));
    for (index, point) in growth.points.iter().enumerate() {
        let below = (position(index), 0.0);
        chart.draw_series([
            EmptyElement::at(below) + Text::new(point.size.to_string(), (-8, -16), (FONT, 13))
        ])?;
    }
    for (name, colour, of) in
        [("set", RED, (|point| point.set) as fn(&Point) -> f64), ("get", BLUE, |point| point.get)]
    {
        let points: Vec<_> =
            growth.points.iter().enumerate().map(|(index, point)| (position(index), of(point))).collect();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .border_style(BLACK)
        .background_style(WHITE)
        .label_font((FONT, 13))
        .draw()?;
    root.present()?;
    Ok(())
}
