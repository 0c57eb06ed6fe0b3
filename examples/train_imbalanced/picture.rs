//! The result as one picture: recall by class, loss curves, balanced accuracy.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, FontStyle, register_font};

use crate::data::Data;
use crate::report::Outcome;

/// Width and height, in the units that every coordinate below is in.
const SIZE: (f64, f64) = (1200.0, 900.0);

/// Pixels a unit in the PNG, which then looks sharp on a dense screen.
const PNG_SCALE: f64 = 2.0;

/// The colour of a run, the same in every picture: those of Okabe and Ito, which colour-blind readers can tell
/// apart, three darker ones, and grey for the run that the others are compared with.
fn colour(run: &Outcome) -> RGBColor {
    match run.name {
        "fixed" => RGBColor(0, 114, 178),
        "balanced" => RGBColor(213, 94, 0),
        "balanced_ema" => RGBColor(86, 180, 233),
        "inverse" => RGBColor(230, 159, 0),
        "effective" => RGBColor(102, 51, 153),
        "log_prior" => RGBColor(139, 90, 43),
        "focal" => RGBColor(60, 60, 60),
        "cost" => RGBColor(0, 158, 115),
        "sample" => RGBColor(204, 121, 167),
        _ => RGBColor(128, 128, 128),
    }
}

const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT_INK: RGBColor = RGBColor(96, 96, 96);
const GRID: RGBColor = RGBColor(222, 222, 222);

/// Draws `<data set>.svg` and `<data set>.png` in `folder`, which is there, and says where they are.
pub fn draw(
    folder: &Path,
    data: &Data,
    outcomes: &[Outcome],
    subtitle: &str,
) -> Result<[PathBuf; 2], Box<dyn Error>> {
    // The fonts of the machine are never looked for: without one the picture would have no text.
    register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| "the font of the picture cannot be read")?;
    let [svg, png] = ["svg", "png"].map(|kind| folder.join(data.source.name()).with_extension(kind));

    let size = |scale: f64| ((SIZE.0 * scale) as u32, (SIZE.1 * scale) as u32);
    let area = SVGBackend::new(&svg, size(1.0)).into_drawing_area();
    Canvas { area, scale: 1.0, drop: 0.0 }.picture(data, outcomes, subtitle)?;
    let area = BitMapBackend::new(&png, size(PNG_SCALE)).into_drawing_area();
    Canvas { area, scale: PNG_SCALE, drop: 0.1 }.picture(data, outcomes, subtitle)?;
    Ok([svg, png])
}

/// Somewhere to draw, in units of `SIZE`.
struct Canvas<Backend: DrawingBackend> {
    area: DrawingArea<Backend, Shift>,
    scale: f64,
    /// How far text is moved down, as a share of its size: the bitmap's text lies higher than the SVG's.
    drop: f64,
}

/// A part of the canvas.
#[derive(Clone, Copy)]
struct Panel {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Panel {
    /// Where a share of the panel's width lies.
    fn x(&self, share: f64) -> f64 {
        self.left + share * (self.right - self.left)
    }

    /// Where a share of the panel's height lies, counted from the bottom.
    fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }
}

type Drawn<Backend> = Result<(), DrawingAreaErrorKind<<Backend as DrawingBackend>::ErrorType>>;

impl<Backend: DrawingBackend> Canvas<Backend> {
    fn picture(&self, data: &Data, outcomes: &[Outcome], subtitle: &str) -> Drawn<Backend> {
        self.area.fill(&WHITE)?;
        let title = format!("What each loss finds: {}", data.title);
        self.text((40.0, 36.0), &title, 26.0, &INK, HPos::Left)?;
        self.text((40.0, 66.0), subtitle, 15.0, &FAINT_INK, HPos::Left)?;
        self.legend((40.0, 104.0), outcomes)?;
        let top = Panel { left: 90.0, right: 1170.0, top: 170.0, bottom: 480.0 };
        self.recall(top, data, outcomes)?;
        self.losses(Panel { left: 90.0, right: 640.0, top: 610.0, bottom: 840.0 }, outcomes)?;
        self.balanced(Panel { left: 810.0, right: 1120.0, top: 610.0, bottom: 840.0 }, outcomes)?;
        self.area.present()
    }

    fn legend(&self, (mut x, y): (f64, f64), outcomes: &[Outcome]) -> Drawn<Backend> {
        for outcome in outcomes {
            self.bar((x, y - 7.0), (x + 14.0, y + 7.0), &colour(outcome))?;
            self.text((x + 22.0, y), outcome.name, 16.0, &INK, HPos::Left)?;
            let (width, _) = self.area.estimate_text_size(outcome.name, &self.font(16.0, &INK))?;
            x += 22.0 + f64::from(width) / self.scale + 30.0;
        }
        Ok(())
    }

    /// One group of bars a class, one bar a run.
    fn recall(&self, panel: Panel, data: &Data, outcomes: &[Outcome]) -> Drawn<Backend> {
        self.heading((40.0, panel.top - 30.0), "Recall by class, % of the held-out rows")?;
        self.grid(panel, &[0.0, 0.25, 0.5, 0.75, 1.0], |share| format!("{:.0}", 100.0 * share))?;
        let group = (panel.right - panel.left) / data.classes() as f64;
        let step = (0.84 * group / outcomes.len() as f64).min(60.0);
        let [train, test] = [&data.train, &data.test].map(|part| part.class_rows(data.classes()));
        for (class, (train, test)) in train.iter().zip(test).enumerate() {
            let centre = panel.left + (class as f64 + 0.5) * group;
            let first = centre - 0.5 * step * outcomes.len() as f64;
            for (index, outcome) in outcomes.iter().enumerate() {
                let recall = outcome.score.recall[class];
                let left = first + index as f64 * step;
                let top = panel.y(recall);
                self.bar((left + 1.5, top), (left + step - 1.5, panel.bottom), &colour(outcome))?;
                let label = format!("{:.0}", 100.0 * recall);
                let middle = left + 0.5 * step;
                // White behind the number, so that no grid line crosses it; as wide as the bar where bars are thin.
                let (half, size) = if step < 22.0 { (0.5 * step, 8.5) } else { (11.0, 12.0) };
                self.bar((middle - half, top - 15.0), (middle + half, top - 2.0), &WHITE)?;
                self.text((middle, top - 8.0), &label, size, &FAINT_INK, HPos::Center)?;
            }
            let name = format!("{} {}", data.class_word, data.class_names[class]);
            self.text((centre, panel.bottom + 20.0), &name, 16.0, &INK, HPos::Center)?;
            let rows = format!("{train} rows, {test} held out");
            self.text((centre, panel.bottom + 41.0), &rows, 13.0, &FAINT_INK, HPos::Center)?;
        }
        self.line(&[(panel.left, panel.bottom), (panel.right, panel.bottom)], &INK, 1.0)
    }

    /// The runs' losses have different scales, so each is shown as a share of its own beginning.
    fn losses(&self, panel: Panel, outcomes: &[Outcome]) -> Drawn<Backend> {
        self.heading((40.0, panel.top - 30.0), "Training loss, each run's as a share of its first epoch's")?;
        self.grid(panel, &[0.0, 0.25, 0.5, 0.75, 1.0], |share| format!("{share:.2}"))?;
        let epochs = outcomes.iter().map(|outcome| outcome.losses.len()).max().unwrap_or(0);
        let x = |epoch: usize| panel.x(epoch as f64 / (epochs.max(2) - 1) as f64);
        for outcome in outcomes {
            let share = |loss: f64| (loss / outcome.losses[0]).clamp(0.0, 1.1);
            let points: Vec<_> = outcome
                .losses
                .iter()
                .enumerate()
                .map(|(epoch, &loss)| (x(epoch), panel.y(share(loss))))
                .collect();
            self.line(&points, &colour(outcome), 2.0)?;
        }
        self.line(&[(panel.left, panel.bottom), (panel.right, panel.bottom)], &INK, 1.0)?;
        for epoch in [1, epochs] {
            let place = (x(epoch - 1), panel.bottom + 17.0);
            self.text(place, &epoch.to_string(), 13.0, &FAINT_INK, HPos::Center)?;
        }
        self.text((panel.x(0.5), panel.bottom + 17.0), "epoch", 13.0, &FAINT_INK, HPos::Center)
    }

    fn balanced(&self, panel: Panel, outcomes: &[Outcome]) -> Drawn<Backend> {
        self.heading((panel.left - 82.0, panel.top - 30.0), "Balanced accuracy, % (mean recall)")?;
        let row = ((panel.bottom - panel.top) / outcomes.len() as f64).min(60.0);
        let most = outcomes.iter().map(|outcome| outcome.score.balanced_accuracy).fold(0.0, f64::max);
        for (index, outcome) in outcomes.iter().enumerate() {
            let centre = panel.top + (index as f64 + 0.5) * row;
            let accuracy = outcome.score.balanced_accuracy;
            let right = panel.x(accuracy / most.max(f64::MIN_POSITIVE));
            self.bar((panel.left, centre - 0.36 * row), (right, centre + 0.36 * row), &colour(outcome))?;
            self.text((panel.left - 10.0, centre), outcome.name, 15.0, &INK, HPos::Right)?;
            let label = format!("{:.1}", 100.0 * accuracy);
            self.text((right + 8.0, centre), &label, 15.0, &INK, HPos::Left)?;
        }
        let bottom = panel.top + row * outcomes.len() as f64;
        self.line(&[(panel.left, panel.top), (panel.left, bottom)], &INK, 1.0)
    }

    fn heading(&self, place: (f64, f64), text: &str) -> Drawn<Backend> {
        self.text(place, text, 17.0, &INK, HPos::Left)
    }

    /// Horizontal lines at shares of the height, with their labels.
    fn grid(&self, panel: Panel, shares: &[f64], label: impl Fn(f64) -> String) -> Drawn<Backend> {
        for &share in shares {
            let y = panel.y(share);
            self.line(&[(panel.left, y), (panel.right, y)], &GRID, 1.0)?;
            self.text((panel.left - 10.0, y), &label(share), 13.0, &FAINT_INK, HPos::Right)?;
        }
        Ok(())
    }

    fn pixel(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn font<'a>(&self, size: f64, colour: &'a RGBColor) -> TextStyle<'a> {
        TextStyle::from((FontFamily::SansSerif, size * self.scale)).color(colour)
    }

    /// Text whose middle height lies at the place.
    fn text(
        &self,
        place: (f64, f64),
        text: &str,
        size: f64,
        colour: &RGBColor,
        align: HPos,
    ) -> Drawn<Backend> {
        let style = self.font(size, colour).pos(Pos::new(align, VPos::Center));
        let place = self.pixel((place.0, place.1 + self.drop * size));
        self.area.draw(&Text::new(text, place, style))
    }

    fn bar(&self, a: (f64, f64), b: (f64, f64), colour: &RGBColor) -> Drawn<Backend> {
        self.area.draw(&Rectangle::new([self.pixel(a), self.pixel(b)], colour.filled()))
    }

    fn line(&self, points: &[(f64, f64)], colour: &RGBColor, width: f64) -> Drawn<Backend> {
        let points: Vec<_> = points.iter().map(|&point| self.pixel(point)).collect();
        self.area.draw(&PathElement::new(points, colour.stroke_width((width * self.scale) as u32)))
    }
}
