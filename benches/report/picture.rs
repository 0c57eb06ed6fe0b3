//! The fused kernel's share of the copy, shape by shape.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::results::{Report, Row};

const SIZE: (u32, u32) = (1200, 620);

/// Blue, orange and green of Okabe and Ito, which colour-blind readers can tell apart.
const COLOURS: [(&str, RGBColor); 3] =
    [("f32", RGBColor(0, 114, 178)), ("f16", RGBColor(230, 159, 0)), ("bf16", RGBColor(0, 158, 115))];

/// Draws `report.svg` and `report.png` in a folder, which is there.
pub fn draw(folder: &Path, report: &Report) -> Result<[PathBuf; 2], Box<dyn Error>> {
    // The fonts of the machine are never looked for: without one the picture would have no text.
    register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| "the font of the picture cannot be read")?;
    let [svg, png] = ["svg", "png"].map(|kind| folder.join("report").with_extension(kind));
    bars(&SVGBackend::new(&svg, SIZE).into_drawing_area(), report).map_err(|error| error.to_string())?;
    bars(&BitMapBackend::new(&png, SIZE).into_drawing_area(), report).map_err(|error| error.to_string())?;
    Ok([svg, png])
}

fn bars<Backend: DrawingBackend>(
    area: &DrawingArea<Backend, Shift>,
    report: &Report,
) -> Result<(), DrawingAreaErrorKind<Backend::ErrorType>> {
    area.fill(&WHITE)?;
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.kernel == "cross_entropy").collect();
    let mut shapes: Vec<&str> = Vec::new();
    for row in &rows {
        if !shapes.contains(&row.shape.as_str()) {
            shapes.push(&row.shape);
        }
    }
    let title = format!("Fused cross-entropy as a share of a WGSL copy: {}", report.machine.adapter);
    let highest = rows.iter().map(|row| row.ceiling_fraction).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 24))
        .margin(20)
        .x_label_area_size(50)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..shapes.len().max(1) as f64, 0.0..highest * 110.0)?;
    let label = |x: &f64| shapes.get(*x as usize).map_or(String::new(), |shape| (*shape).to_owned());
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_desc("percent of the copy")
        .label_style(("sans-serif", 14))
        .draw()?;
    for (number, (dtype, colour)) in COLOURS.iter().enumerate() {
        let of_dtype = rows.iter().filter(|row| row.dtype == *dtype).filter_map(|row| {
            let at = shapes.iter().position(|shape| *shape == row.shape)? as f64 + 0.1 + 0.27 * number as f64;
            Some(Rectangle::new([(at, 0.0), (at + 0.25, 100.0 * row.ceiling_fraction)], colour.filled()))
        });
        chart
            .draw_series(of_dtype)?
            .label(*dtype)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart.draw_series(
        (0..shapes.len())
            .map(|at| Text::new(label(&(at as f64)), (at as f64 + 0.1, 0.0), ("sans-serif", 13))),
    )?;
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()
}
