//! Counts over many batches, as they are saved and loaded: the bytes of a buffer on the device, checked.
//!
//! ```text
//! words 0..16   the header, see `HistoryHeader`
//! then          Ema: [counters] f32, the moving averages, their bias not corrected
//!               Cumulative: [counters, 4] u32, each a sum of 64 bits before the point and 64 after it, the lowest word
//!               first: whole counts are the third and fourth word
//! ```
//!
//! A counter is a class; of a sigmoid loss, a column's positives, and its negatives. Words are little-endian.

use crate::error::HistoryError;
use crate::spec::{CountsOver, Spec};

/// `WCEH` in the first four bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"WCEH");
/// Of the layout.
const VERSION: u32 = 1;

/// The head of a history: the twin of what `shaders/class_weights/history.wgsl` reads and writes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
struct HistoryHeader {
    magic: u32,
    version: u32,
    /// 1: moving averages, 2: sums.
    kind: u32,
    /// How many counters follow.
    counters: u32,
    /// Of moving averages; else 0.
    momentum: f32,
    /// 1 where counts are `f32`: mass, and those of a sigmoid loss.
    mass: u32,
    reserved: [u32; 2],
    /// Batches seen, the low word first. From here on everything starts as 0.
    steps: [u32; 2],
    /// `1 - momentum^steps`, of moving averages; else 0.
    weight: f32,
    unused: [u32; 5],
}

const HEADER_SIZE: u64 = size_of::<HistoryHeader>() as u64;

/// The counts of many batches: what a plan with [`CountsOver::Ema`] or [`CountsOver::Cumulative`] keeps in a buffer.
///
/// A trainer saves [`CountHistory::as_bytes`] with its checkpoint, and gives a plan for the same spec and classes what
/// [`CountHistory::from_bytes`] makes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct CountHistory {
    bytes: Vec<u8>,
}

impl CountHistory {
    /// The byte from which on a history that is all zeros has seen no batch; see [`CountHistory::as_bytes`].
    pub const STEPS: u64 = 32;

    /// Before the first batch. `None` where the spec keeps no history.
    pub fn new(spec: &Spec, classes: u32) -> Option<Self> {
        match spec.needs_counts() {
            true => Self::of(spec.live_counts.over, spec.counts_are_mass(), classes),
            false => None,
        }
    }

    pub(crate) fn of(over: CountsOver, mass: bool, counters: u32) -> Option<Self> {
        let (kind, momentum) = match over {
            CountsOver::Batch => return None,
            CountsOver::Ema { momentum } => (1, momentum),
            CountsOver::Cumulative => (2, 0.0),
        };
        let header = HistoryHeader {
            magic: MAGIC,
            version: VERSION,
            kind,
            counters,
            momentum,
            mass: mass.into(),
            ..HistoryHeader::default()
        };
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        bytes.resize(Self::size(over, counters) as usize, 0);
        Some(Self { bytes })
    }

    /// Bytes of so many counters' history; 0 where none is kept.
    pub(crate) fn size(over: CountsOver, counters: u32) -> u64 {
        match over {
            CountsOver::Batch => 0,
            CountsOver::Ema { .. } => HEADER_SIZE + u64::from(counters) * 4,
            CountsOver::Cumulative => HEADER_SIZE + u64::from(counters) * 16,
        }
    }

    /// Checks saved bytes.
    ///
    /// # Errors
    /// [`HistoryError`] says what is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HistoryError> {
        let short = || HistoryError::Length { got: bytes.len() as u64, need: HEADER_SIZE };
        let head = bytes.get(..HEADER_SIZE as usize).ok_or_else(short)?;
        let header: HistoryHeader = bytemuck::pod_read_unaligned(head);
        if header.magic != MAGIC {
            return Err(HistoryError::NoHistory { got: header.magic.to_le_bytes() });
        }
        if header.version != VERSION {
            return Err(HistoryError::Version { got: header.version, expected: VERSION });
        }
        let field = |name, got: u32, expected| Err(HistoryError::Field { name, got, expected });
        let over = match header.kind {
            1 => CountsOver::Ema { momentum: header.momentum },
            2 => CountsOver::Cumulative,
            got => return field("kind", got, "1 (moving averages) or 2 (sums)"),
        };
        if header.mass > 1 {
            return field("mass", header.mass, "0 or 1");
        }
        let need = Self::size(over, header.counters);
        if bytes.len() as u64 != need {
            return Err(HistoryError::Length { got: bytes.len() as u64, need });
        }
        if header.kind == 1 {
            let number = |name, got: f32, expected, good: bool| match good {
                true => Ok(()),
                false => Err(HistoryError::Number { name, got, expected }),
            };
            let (momentum, weight) = (header.momentum, header.weight);
            number("momentum", momentum, "from 0 to 0.9999", (0.0..=0.9999).contains(&momentum))?;
            // It is above 0 after the first batch.
            let started = header.steps != [0, 0];
            let expected = if started { "above 0, at most 1" } else { "0 before the first batch" };
            number("weight", weight, expected, (0.0..=1.0).contains(&weight) && (weight > 0.0) == started)?;
            let averages: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[HEADER_SIZE as usize..]);
            if let Some(bad) = averages.iter().find(|average| !average.is_finite()) {
                number("a moving average", *bad, "finite", false)?;
            }
        }
        Ok(Self { bytes: bytes.to_vec() })
    }

    /// The bytes, as they lie on the device.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many batches it has seen.
    pub fn steps(&self) -> u64 {
        let [low, high] = self.header().steps;
        u64::from(high) << 32 | u64::from(low)
    }

    /// The counts that the formulas take: moving averages with their bias corrected, or sums.
    pub fn counts(&self) -> Vec<f64> {
        let header = self.header();
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&self.bytes[HEADER_SIZE as usize..]);
        match header.kind {
            1 if header.weight == 0.0 => vec![0.0; words.len()],
            1 => {
                let average = |word: &u32| f64::from(f32::from_bits(*word)) / f64::from(header.weight);
                words.iter().map(average).collect()
            }
            _ => words.chunks_exact(4).map(exact_value).collect(),
        }
    }

    /// Writes it to a plan's buffer, if it is like the plan's own.
    pub(crate) fn load(
        &self,
        queue: &wgpu::Queue,
        own: Option<Self>,
        buffer: Option<&wgpu::Buffer>,
    ) -> Result<(), HistoryError> {
        let (Some(own), Some(buffer)) = (own, buffer) else { return Err(HistoryError::NotKept) };
        self.check_like(&own)?;
        queue.write_buffer(buffer, 0, &self.bytes);
        Ok(())
    }

    /// Whether a plan may go on with it: the other one is the plan's own.
    fn check_like(&self, own: &Self) -> Result<(), HistoryError> {
        let (got, expected) = (self.header(), own.header());
        let same = |name, got: f64, expected: f64| match got == expected {
            true => Ok(()),
            false => Err(HistoryError::Mismatch { name, got, expected }),
        };
        same("kind", got.kind.into(), expected.kind.into())?;
        same("counters", got.counters.into(), expected.counters.into())?;
        same("momentum", got.momentum.into(), expected.momentum.into())?;
        same("mass", got.mass.into(), expected.mass.into())
    }

    fn header(&self) -> HistoryHeader {
        bytemuck::pod_read_unaligned(&self.bytes[..HEADER_SIZE as usize])
    }
}

/// A sum of 128 bits, 64 of them after the point, in two's complement.
fn exact_value(words: &[u32]) -> f64 {
    let bits = words.iter().rev().fold(0u128, |bits, word| bits << 32 | u128::from(*word));
    bits as i128 as f64 / (1u128 << 64) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ClassWeights, LiveCounts, WeightScheme};

    fn spec(over: CountsOver) -> Spec {
        let class_weights: ClassWeights = WeightScheme::Balanced.into();
        Spec { class_weights, live_counts: LiveCounts { over, ..LiveCounts::default() }, ..Spec::default() }
    }

    const EMA: CountsOver = CountsOver::Ema { momentum: 0.5 };

    #[test]
    fn what_is_saved_is_loaded() {
        assert_eq!(CountHistory::new(&spec(CountsOver::Batch), 3), None);
        assert_eq!(CountHistory::new(&Spec { class_weights: ClassWeights::None, ..spec(EMA) }, 3), None);
        for over in [EMA, CountsOver::Cumulative] {
            let history = CountHistory::new(&spec(over), 3).unwrap();
            assert_eq!(history.as_bytes().len() as u64, CountHistory::size(over, 3));
            assert_eq!(CountHistory::from_bytes(history.as_bytes()).unwrap(), history);
            assert_eq!((history.steps(), history.counts()), (0, vec![0.0; 3]));
            assert!(history.as_bytes()[CountHistory::STEPS as usize..].iter().all(|byte| *byte == 0));
        }
        let mut bytes = CountHistory::new(&spec(CountsOver::Cumulative), 2).unwrap().as_bytes().to_vec();
        bytes[64..80].copy_from_slice(bytemuck::cast_slice(&[0u32, 1 << 31, 7, 1]));
        bytes[32..40].copy_from_slice(bytemuck::cast_slice(&[5u32, 1]));
        let history = CountHistory::from_bytes(&bytes).unwrap();
        assert_eq!(history.steps(), (1 << 32) + 5);
        assert_eq!(history.counts(), [4_294_967_303.5, 0.0]);
    }

    #[test]
    fn what_is_no_history_is_named() {
        let good = CountHistory::new(&spec(EMA), 3).unwrap().as_bytes().to_vec();
        let message = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            CountHistory::from_bytes(&bytes).unwrap_err().to_string()
        };
        assert_eq!(message(&|b| b.truncate(10)), "the history holds 10 bytes; 64 are needed");
        assert_eq!(message(&|b| b.truncate(72)), "the history holds 72 bytes; 76 are needed");
        assert_eq!(message(&|b| b.push(0)), "the history holds 77 bytes; 76 are needed");
        assert_eq!(message(&|b| b[0] = b'X'), "this is no history: it starts with [88, 67, 69, 72]");
        assert_eq!(message(&|b| b[4] = 9), "the history has version 9; this crate reads 1");
        assert_eq!(
            message(&|b| b[8] = 7),
            "kind of the history is 7; it must be 1 (moving averages) or 2 (sums)"
        );
        assert_eq!(message(&|b| b[20] = 2), "mass of the history is 2; it must be 0 or 1");
        let float = |at: usize, value: f32| {
            move |b: &mut Vec<u8>| b[at..at + 4].copy_from_slice(&value.to_le_bytes())
        };
        assert_eq!(message(&float(16, 1.0)), "momentum of the history is 1; it must be from 0 to 0.9999");
        assert_eq!(
            message(&float(40, 0.5)),
            "weight of the history is 0.5; it must be 0 before the first batch"
        );
        assert_eq!(
            message(&float(68, f32::NAN)),
            "a moving average of the history is NaN; it must be finite"
        );
        let started = |b: &mut Vec<u8>| b[32] = 1;
        assert_eq!(message(&started), "weight of the history is 0; it must be above 0, at most 1");
    }

    #[test]
    fn a_plan_takes_what_is_like_its_own() {
        let own = CountHistory::new(&spec(EMA), 3).unwrap();
        let message = |other: Option<CountHistory>| other.unwrap().check_like(&own).unwrap_err().to_string();
        assert!(own.check_like(&own).is_ok());
        let other = CountHistory::new(&spec(CountsOver::Cumulative), 3);
        assert_eq!(message(other), "kind of the history is 2; the plan's is 1");
        assert_eq!(
            message(CountHistory::new(&spec(EMA), 4)),
            "counters of the history is 4; the plan's is 3"
        );
        let other = CountHistory::of(EMA, true, 3);
        assert_eq!(message(other), "mass of the history is 1; the plan's is 0");
        let other = CountHistory::of(CountsOver::Ema { momentum: 0.75 }, false, 3);
        assert_eq!(message(other), "momentum of the history is 0.75; the plan's is 0.5");
    }
}
