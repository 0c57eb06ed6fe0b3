//! By-products of a step: what is kept of each row, and what each class had over many of them.

use crate::error::TelemetryError;

/// What the forward pass keeps of a row where more than its loss is asked for ([`Options::predictions`],
/// [`Options::class_stats`], [`Options::confusion`]): the element of the `row_losses` buffer.
///
/// [`Options::predictions`]: crate::Options::predictions
/// [`Options::class_stats`]: crate::Options::class_stats
/// [`Options::confusion`]: crate::Options::confusion
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RowRecord {
    /// The row's loss times all its weights, before the denominator.
    pub loss: f32,
    /// The class with the largest logit, the lowest on ties; [`NO_CLASS`] where the row does not count or is not finite.
    pub prediction: u32,
    /// The label, or the class that stands for the row's targets; [`NO_CLASS`] where the row does not count or its
    /// targets are not finite.
    pub class: u32,
    /// Sample weight times the class's weight: what a weighted metric weighs the row with.
    pub weight: f32,
}

/// Where a row has no class or no prediction.
pub const NO_CLASS: u32 = u32::MAX;

/// Where things lie in the telemetry buffer, which the kernels add to until the caller clears it.
///
/// ```text
/// of each class 64 bytes:  rows u64, correct u64, unsummed u64, loss 96 bits, weight 96 bits, correct_weight 96 bits, 4 unused
/// then, with confusion:    [classes, classes] u64, rows the true class, columns the predicted one
/// ```
///
/// All numbers are little-endian. A sum is a whole number of `2^-48`, in two's complement; see [`ClassStats::from_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetryLayout {
    classes: u64,
    confusion: bool,
}

impl TelemetryLayout {
    /// Bytes of one class.
    pub const CLASS_SIZE: u64 = 64;
    /// Byte of [`ClassStats::rows`] in a class.
    pub const ROWS: u64 = 0;
    /// Byte of [`ClassStats::correct`] in a class.
    pub const CORRECT: u64 = 8;
    /// Byte of [`ClassStats::unsummed`] in a class.
    pub const UNSUMMED: u64 = 16;
    /// Byte of [`ClassStats::loss`] in a class.
    pub const LOSS: u64 = 24;
    /// Byte of [`ClassStats::weight`] in a class.
    pub const WEIGHT: u64 = 36;
    /// Byte of [`ClassStats::correct_weight`] in a class.
    pub const CORRECT_WEIGHT: u64 = 48;

    /// The layout for so many classes, with or without confusion counts.
    pub fn new(classes: u32, confusion: bool) -> Self {
        Self { classes: classes.into(), confusion }
    }

    /// Byte of the first confusion count, if there are any.
    pub fn confusion(&self) -> Option<u64> {
        self.confusion.then_some(self.classes * Self::CLASS_SIZE)
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        let cells = if self.confusion { self.classes * self.classes } else { 0 };
        self.classes * Self::CLASS_SIZE + cells * 8
    }
}

/// What each class had over the rows that count of one step or many.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ClassStats {
    /// `[classes]`: rows of the class.
    pub rows: Vec<u64>,
    /// `[classes]`: those whose largest logit is that of the class.
    pub correct: Vec<u64>,
    /// `[classes]`: those whose loss or weight is in no sum, for it is not finite or not below [`ClassStats::SUM_LIMIT`].
    pub unsummed: Vec<u64>,
    /// `[classes]`: sum of the rows' losses, as in `row_losses`.
    pub loss: Vec<f64>,
    /// `[classes]`: sum of the rows' weights, sample weight times class weight.
    pub weight: Vec<f64>,
    /// `[classes]`: the same over the rows predicted right.
    pub correct_weight: Vec<f64>,
    /// `[classes, classes]`: rows by true class (row) and predicted class (column). Rows that are not finite have no
    /// prediction and are not here.
    pub confusion: Option<Vec<u64>>,
}

impl ClassStats {
    /// Losses and weights of this size or above are not summed: of smaller ones a sum holds 8 million at the very least.
    pub const SUM_LIMIT: f32 = 16_777_216.0;

    /// What a sum is a whole number of. Each loss and weight is rounded to the nearest, so that a sum of `n` is off by at
    /// most `n / 2` of these.
    pub const SUM_STEP: f64 = 1.0 / (1u64 << 48) as f64;

    /// Before the first row.
    pub fn new(classes: u32, confusion: bool) -> Self {
        let n = classes as usize;
        Self {
            rows: vec![0; n],
            correct: vec![0; n],
            unsummed: vec![0; n],
            loss: vec![0.0; n],
            weight: vec![0.0; n],
            correct_weight: vec![0.0; n],
            confusion: confusion.then(|| vec![0; n * n]),
        }
    }

    /// Decodes the bytes of a telemetry buffer.
    ///
    /// # Errors
    /// [`TelemetryError::Length`] where there are not as many as the layout says.
    pub fn from_bytes(classes: u32, confusion: bool, bytes: &[u8]) -> Result<Self, TelemetryError> {
        let layout = TelemetryLayout::new(classes, confusion);
        let (got, need) = (bytes.len() as u64, layout.size());
        if got != need {
            return Err(TelemetryError::Length { got, need, classes });
        }
        let (of_classes, cells) = bytes.split_at((u64::from(classes) * TelemetryLayout::CLASS_SIZE) as usize);
        let mut stats = Self::new(classes, false);
        for (i, class) in of_classes.chunks_exact(TelemetryLayout::CLASS_SIZE as usize).enumerate() {
            stats.rows[i] = count(class, TelemetryLayout::ROWS);
            stats.correct[i] = count(class, TelemetryLayout::CORRECT);
            stats.unsummed[i] = count(class, TelemetryLayout::UNSUMMED);
            stats.loss[i] = sum(class, TelemetryLayout::LOSS);
            stats.weight[i] = sum(class, TelemetryLayout::WEIGHT);
            stats.correct_weight[i] = sum(class, TelemetryLayout::CORRECT_WEIGHT);
        }
        stats.confusion = confusion.then(|| cells.chunks_exact(8).map(|cell| count(cell, 0)).collect());
        Ok(stats)
    }

    /// Adds what another device, or another epoch, counted.
    ///
    /// # Errors
    /// [`TelemetryError`] where the two are of different numbers of classes, or only one has confusion counts. Nothing
    /// is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), TelemetryError> {
        let (got, here) = (other.rows.len(), self.rows.len());
        if got != here {
            return Err(TelemetryError::Classes { got, here });
        }
        if self.confusion.is_some() != other.confusion.is_some() {
            return Err(TelemetryError::Confusion);
        }
        let counts = [
            (&mut self.rows, &other.rows),
            (&mut self.correct, &other.correct),
            (&mut self.unsummed, &other.unsummed),
        ];
        for (to, from) in counts.into_iter().chain(self.confusion.as_mut().zip(other.confusion.as_ref())) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        let sums = [
            (&mut self.loss, &other.loss),
            (&mut self.weight, &other.weight),
            (&mut self.correct_weight, &other.correct_weight),
        ];
        for (to, from) in sums {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.rows.len()
    }

    /// Of the rows of a class, the share that was predicted right. `None` where there is no row, or no such class.
    pub fn recall(&self, class: usize) -> Option<f64> {
        ratio(*self.correct.get(class)?, *self.rows.get(class)?)
    }

    /// Of the rows predicted to be of a class, the share that is. `None` where there is none, no such class, or without
    /// confusion counts.
    pub fn precision(&self, class: usize) -> Option<f64> {
        let predicted = self.confusion.as_ref()?.iter().skip(class).step_by(self.classes().max(1)).sum();
        ratio(*self.correct.get(class)?, predicted)
    }

    /// The mean loss of a class's rows, over those that were summed. `None` where there is none, or no such class.
    pub fn mean_loss(&self, class: usize) -> Option<f64> {
        let summed =
            self.rows.get(class)?.checked_sub(*self.unsummed.get(class)?).filter(|rows| *rows > 0)?;
        Some(self.loss.get(class)? / summed as f64)
    }

    /// The share of all rows that was predicted right; 0 of no rows.
    pub fn accuracy(&self) -> f64 {
        ratio(self.correct.iter().sum(), self.rows.iter().sum()).unwrap_or(0.0)
    }

    /// The weight of the rows predicted right over that of all, as Keras' `weighted_metrics` have it; 0 where no row
    /// weighs anything.
    pub fn weighted_accuracy(&self) -> f64 {
        match self.weight.iter().sum() {
            0.0 => 0.0,
            weight => self.correct_weight.iter().sum::<f64>() / weight,
        }
    }

    /// The mean recall of the classes that have rows; 0 of no rows.
    pub fn balanced_accuracy(&self) -> f64 {
        let recalls: Vec<f64> = (0..self.classes()).filter_map(|class| self.recall(class)).collect();
        match recalls.len() {
            0 => 0.0,
            present => recalls.iter().sum::<f64>() / present as f64,
        }
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn count(bytes: &[u8], at: u64) -> u64 {
    bytemuck::pod_read_unaligned(&bytes[at as usize..at as usize + 8])
}

fn sum(bytes: &[u8], at: u64) -> f64 {
    let low: u64 = count(bytes, at);
    let high: i32 = bytemuck::pod_read_unaligned(&bytes[at as usize + 8..at as usize + 12]);
    ((i128::from(high) << 64) + i128::from(low)) as f64 * ClassStats::SUM_STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three rows of class 0 (two right), one of class 1 (wrong); class 2 is absent.
    fn example() -> ClassStats {
        ClassStats {
            rows: vec![3, 1, 0],
            correct: vec![2, 0, 0],
            unsummed: vec![1, 0, 0],
            loss: vec![3.0, 4.0, 0.0],
            weight: vec![3.0, 5.0, 0.0],
            correct_weight: vec![2.0, 0.0, 0.0],
            confusion: Some(vec![2, 1, 0, 1, 0, 0, 0, 0, 0]),
        }
    }

    #[test]
    fn metrics_of_a_small_example() {
        let stats = example();
        assert_eq!([0, 1, 2, 3].map(|c| stats.recall(c)), [Some(2.0 / 3.0), Some(0.0), None, None]);
        assert_eq!([0, 1, 2, 3].map(|c| stats.precision(c)), [Some(2.0 / 3.0), Some(0.0), None, None]);
        assert_eq!([0, 1, 2].map(|c| stats.mean_loss(c)), [Some(1.5), Some(4.0), None]);
        assert_eq!(stats.accuracy(), 0.5);
        assert_eq!(stats.weighted_accuracy(), 0.25);
        assert_eq!(stats.balanced_accuracy(), 1.0 / 3.0);
        let nothing = ClassStats::new(3, true);
        assert_eq!([nothing.accuracy(), nothing.weighted_accuracy(), nothing.balanced_accuracy()], [0.0; 3]);
        assert_eq!(ClassStats::new(3, false).precision(0), None);
    }

    #[test]
    fn merging_adds_or_says_why_not() {
        let mut twice = example();
        twice.merge(&example()).unwrap();
        assert_eq!((twice.rows[0], twice.loss[1], twice.confusion.as_ref().unwrap()[1]), (6, 8.0, 2));
        assert_eq!(twice.accuracy(), 0.5);
        let before = twice.clone();
        let mut message = |other: &ClassStats| twice.merge(other).unwrap_err().to_string();
        assert_eq!(
            message(&ClassStats::new(4, true)),
            "the other telemetry is of 4 classes; this one is of 3"
        );
        assert_eq!(
            message(&ClassStats::new(3, false)),
            "only one of the two telemetries has confusion counts"
        );
        assert_eq!(twice, before);
    }

    #[test]
    fn bytes_are_decoded_by_the_layout() {
        let layout = TelemetryLayout::new(2, true);
        assert_eq!((layout.confusion(), layout.size()), (Some(128), 160));
        let mut bytes = vec![0; 160];
        let mut put = |at: u64, value: &[u8]| bytes[at as usize..][..value.len()].copy_from_slice(value);
        put(TelemetryLayout::ROWS, &(1u64 << 40).to_le_bytes());
        put(64 + TelemetryLayout::CORRECT, &7u64.to_le_bytes());
        put(64 + TelemetryLayout::UNSUMMED, &9u64.to_le_bytes());
        // -1.5 and 2^46.
        put(TelemetryLayout::LOSS, &(-3i128 << 47).to_le_bytes()[..12]);
        put(TelemetryLayout::WEIGHT, &(1i128 << 94).to_le_bytes()[..12]);
        put(64 + TelemetryLayout::CORRECT_WEIGHT, &(1i128 << 48).to_le_bytes()[..12]);
        put(128 + 16, &5u64.to_le_bytes());
        let stats = ClassStats::from_bytes(2, true, &bytes).unwrap();
        let want = ClassStats {
            rows: vec![1 << 40, 0],
            correct: vec![0, 7],
            unsummed: vec![0, 9],
            loss: vec![-1.5, 0.0],
            weight: vec![2f64.powi(46), 0.0],
            correct_weight: vec![0.0, 1.0],
            confusion: Some(vec![0, 0, 5, 0]),
        };
        assert_eq!(stats, want);
        assert_eq!(
            ClassStats::from_bytes(2, false, &bytes).unwrap_err().to_string(),
            "telemetry holds 160 bytes; 2 classes take 128"
        );
    }
}
