//! Latency over time, as an SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::Error;
use crate::meter::Second;

const SIZE: (u32, u32) = (900, 400);

/// Plots p50 and p99 of the deliveries of each second.
pub(crate) fn draw(path: &Path, seconds: &[Second]) -> Result<(), Error> {
    draw_into(path, seconds).map_err(|error| Error::Plot(error.to_string()))
}

fn draw_into<'a>(
    path: &'a Path,
    seconds: &[Second],
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let top = seconds
        .iter()
        .map(|second| second.delivery.p99_ms)
        .fold(0.1, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .caption("time from send to delivery", ("sans-serif", 18))
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0..seconds.len() + 1, 0.0..top * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("second")
        .y_desc("ms")
        .draw()?;
    let p50 = seconds.iter().map(|second| second.delivery.p50_ms);
    let p99 = seconds.iter().map(|second| second.delivery.p99_ms);
    let lines = [
        ("p50", BLUE, p50.collect::<Vec<_>>()),
        ("p99", RED, p99.collect()),
    ];
    for (name, colour, values) in lines {
        let points = (1..).zip(values);
        chart
            .draw_series(LineSeries::new(points, colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    root.present()?;
    Ok(())
}
