//! Reads a folder of golden cases: `index.json` and one safetensors file a group (`tests/golden/README.md`).
//!
//! Stands alone, so that any test binary or example can take it with `#[path]`. A malformed folder gives an
//! [`Error`] that names the file, the case and the tensor.

#![allow(dead_code, reason = "each binary that includes this file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::{Map, Value};

/// What is wrong, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Values in row-major order and their shape; `[]` for a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T> {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// As many values as the product of the shape.
    pub values: Vec<T>,
}

/// Where in a case a tensor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the framework was given.
    Inputs,
    /// The formula in `f64`.
    Expected,
    /// What the framework gave, in its own precision.
    FrameworkResult,
}

/// A tensor as the index describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// The tensor's name in the safetensors file.
    pub key: String,
    /// `F32`, `I64`, ...
    pub dtype: String,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
}

/// One case of the index.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique within the group.
    pub name: String,
    /// The group.
    pub group: String,
    /// The safetensors file.
    pub file: String,
    /// The formula.
    pub op: String,
    /// What was run.
    pub framework: String,
    /// Settings of the formula.
    pub params: Map<String, Value>,
    /// Tags.
    pub features: Vec<String>,
    /// Remarks.
    pub notes: String,
    /// Inputs that are made by a formula, by name.
    pub generated: Map<String, Value>,
    /// The error the framework raises instead of a result.
    pub expect_error: Option<String>,
    inputs: BTreeMap<String, TensorEntry>,
    expected: BTreeMap<String, TensorEntry>,
    framework_result: BTreeMap<String, TensorEntry>,
}

impl Case {
    /// `group/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// The tensors of a part, by short name.
    pub fn tensors(&self, part: Part) -> &BTreeMap<String, TensorEntry> {
        match part {
            Part::Inputs => &self.inputs,
            Part::Expected => &self.expected,
            Part::FrameworkResult => &self.framework_result,
        }
    }

    /// Whether a tensor is stored, or, for an input, can be made.
    pub fn has(&self, part: Part, name: &str) -> bool {
        self.tensors(part).contains_key(name) || (part == Part::Inputs && self.recipe(name).is_some())
    }

    /// A setting that is a text; `None` where it is null or absent.
    pub fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        self.param(key, "a text", Value::as_str)
    }

    /// A setting that is a number; `None` where it is null or absent.
    pub fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.param(key, "a number", Value::as_f64)
    }

    /// A setting that is an integer; `None` where it is null or absent.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, Error> {
        self.param(key, "an integer", Value::as_i64)
    }

    /// An integer setting that must be there and not negative.
    pub fn size(&self, key: &str) -> Result<usize, Error> {
        let value = self.integer(key)?.ok_or_else(|| self.error(format!("params.{key} is missing")))?;
        usize::try_from(value)
            .map_err(|_| self.error(format!("params.{key} is {value}; it must be at least 0")))
    }

    /// An error about this case.
    pub fn error(&self, what: impl fmt::Display) -> Error {
        Error(format!("{} ({}): {what}", self.id(), self.file))
    }

    fn param<'a, T>(
        &'a self,
        key: &str,
        kind: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.params.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.error(format!("params.{key} is {value}, not {kind}"))),
        }
    }

    fn recipe(&self, name: &str) -> Option<&Map<String, Value>> {
        self.generated.get(name).and_then(Value::as_object)
    }
}

struct File {
    bytes: Vec<u8>,
    metadata: Metadata,
    data: usize,
}

impl File {
    fn new(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| Error(format!("{name}: {e}")))?;
        // The header stands behind its own length, eight bytes.
        Ok(Self { bytes, metadata, data: header + 8 })
    }
}

/// The name of the index in its folder.
pub const INDEX: &str = "index.json";

/// The cases of an index.
///
/// # Errors
/// [`Error`] names the case.
pub fn read_index(bytes: &[u8]) -> Result<Vec<Case>, Error> {
    let wrong = |what: String| Error(format!("{INDEX}: {what}"));
    let index: Value = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    match index.get("format").and_then(Value::as_str) {
        Some("loss-goldens-1") => {}
        other => return Err(wrong(format!("format is {other:?}, not \"loss-goldens-1\""))),
    }
    let listed =
        index.get("cases").and_then(Value::as_array).ok_or_else(|| wrong("cases is no list".into()))?;
    let read = |(i, case)| read_case(case).map_err(|what| wrong(format!("cases[{i}]: {what}")));
    listed.iter().enumerate().map(read).collect()
}

/// The files that cases lie in, each once.
pub fn files_of(cases: &[Case]) -> BTreeSet<&str> {
    cases.iter().map(|case| case.file.as_str()).collect()
}

/// A folder of cases, wholly in memory.
pub struct Goldens {
    /// The cases in the order of the index.
    pub cases: Vec<Case>,
    files: BTreeMap<String, File>,
}

impl Goldens {
    /// Reads the index and the files it names.
    ///
    /// # Errors
    /// [`Error`] names the file, and the case within the index.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let cases = read_index(&read(&folder.join(INDEX))?)?;
        Self::new(cases, |file| read(&folder.join(file)))
    }

    /// Cases ([`read_index`]) and their files, wherever they come from.
    ///
    /// # Errors
    /// [`Error`] names the file; and what `read` fails with.
    pub fn new(
        cases: Vec<Case>,
        mut read: impl FnMut(&str) -> Result<Vec<u8>, Error>,
    ) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        for file in files_of(&cases) {
            files.insert(file.to_owned(), File::new(file, read(file)?)?);
        }
        Ok(Self { cases, files })
    }

    /// A tensor as `f32`: stored as such, widened exactly from 16 bits, or made by its formula.
    ///
    /// # Errors
    /// [`Error`] where there is no such tensor, its dtype does not fit `f32` exactly, or a `check_*` input
    /// differs from what the formula made.
    pub fn f32s(&self, case: &Case, part: Part, name: &str) -> Result<Tensor<f32>, Error> {
        if part == Part::Inputs
            && let Some(recipe) = case.recipe(name)
        {
            return self.generate_f32s(case, name, recipe);
        }
        let raw = self.raw(case, part, name)?;
        let values = match raw.dtype {
            Dtype::F32 => raw.map(f32::from_le_bytes),
            Dtype::F16 => raw.map(|b| f16_to_f32(u16::from_le_bytes(b))),
            Dtype::BF16 => raw.map(|b| bf16_to_f32(u16::from_le_bytes(b))),
            other => return Err(case.error(format!("{name} is {other:?}, which is not read as f32"))),
        };
        Ok(Tensor { shape: raw.shape, values })
    }

    /// A tensor as `f64`, from any dtype that fits it.
    ///
    /// # Errors
    /// [`Error`] where there is no such tensor or its dtype does not fit.
    pub fn f64s(&self, case: &Case, part: Part, name: &str) -> Result<Tensor<f64>, Error> {
        let raw = self.raw(case, part, name)?;
        match raw.dtype {
            Dtype::F64 => Ok(Tensor { values: raw.map(f64::from_le_bytes), shape: raw.shape }),
            Dtype::I64 => {
                let ints = raw.map(i64::from_le_bytes);
                match ints.iter().find(|value| value.unsigned_abs() > 1 << 53) {
                    Some(value) => Err(case.error(format!("{name} holds {value}, which f64 cannot hold"))),
                    None => Ok(Tensor {
                        values: ints.iter().map(|&value| value as f64).collect(),
                        shape: raw.shape,
                    }),
                }
            }
            _ => {
                let Tensor { shape, values } = self.f32s(case, part, name)?;
                Ok(Tensor { shape, values: values.into_iter().map(f64::from).collect() })
            }
        }
    }

    /// A tensor of integers: stored as such, or labels made by their formula.
    ///
    /// # Errors
    /// As [`Goldens::f32s`].
    pub fn i64s(&self, case: &Case, part: Part, name: &str) -> Result<Tensor<i64>, Error> {
        if part == Part::Inputs
            && let Some(recipe) = case.recipe(name)
        {
            return self.generate_i64s(case, name, recipe);
        }
        let raw = self.raw(case, part, name)?;
        match raw.dtype {
            Dtype::I64 => Ok(Tensor { values: raw.map(i64::from_le_bytes), shape: raw.shape }),
            other => Err(case.error(format!("{name} is {other:?}, not I64"))),
        }
    }

    /// A tensor of one element.
    ///
    /// # Errors
    /// As [`Goldens::f64s`], and where there is not one element.
    pub fn scalar(&self, case: &Case, part: Part, name: &str) -> Result<f64, Error> {
        match self.f64s(case, part, name)?.values.as_slice() {
            [value] => Ok(*value),
            values => Err(case.error(format!("{name} holds {} elements; 1 is needed", values.len()))),
        }
    }

    fn raw(&self, case: &Case, part: Part, name: &str) -> Result<Raw<'_>, Error> {
        let entry = case
            .tensors(part)
            .get(name)
            .ok_or_else(|| case.error(format!("{part:?} holds no tensor {name}")))?;
        let file = self.files.get(&case.file).ok_or_else(|| case.error("the file is not loaded"))?;
        let info = file
            .metadata
            .info(&entry.key)
            .ok_or_else(|| case.error(format!("the file holds no tensor {}", entry.key)))?;
        if info.shape != entry.shape || format!("{:?}", info.dtype) != entry.dtype {
            return Err(case.error(format!(
                "{} is {:?} {:?} in the file and {} {:?} in the index",
                entry.key, info.dtype, info.shape, entry.dtype, entry.shape
            )));
        }
        let (start, end) = info.data_offsets;
        let bytes = file
            .bytes
            .get(file.data + start..file.data + end)
            .ok_or_else(|| case.error(format!("{} lies outside of the file", entry.key)))?;
        Ok(Raw { dtype: info.dtype, shape: info.shape.clone(), bytes })
    }

    fn generate_f32s(
        &self,
        case: &Case,
        name: &str,
        recipe: &Map<String, Value>,
    ) -> Result<Tensor<f32>, Error> {
        let fields = Recipe { case, name, map: recipe };
        let seed = fields.whole("seed")?;
        let (shape, values, check) = match fields.text("kind")? {
            "irwin_hall4" => {
                let k = fields.number("k")? as f32;
                let shape = fields.shape()?;
                let round: fn(f32) -> f32 = match recipe.get("round_to").and_then(Value::as_str) {
                    None => |x| x,
                    Some("bf16") => round_to_bf16,
                    Some("f16") => round_to_f16,
                    Some(other) => return Err(fields.wrong("round_to", other)),
                };
                let count = count(&shape)
                    .filter(|&count| count as u64 <= MOST_GENERATED)
                    .ok_or_else(|| fields.wrong("shape", "too large"))?;
                (shape, (0..count as u64).map(|i| round(irwin_hall4(hash(seed, i)) * k)).collect(), "logits")
            }
            "weights" => {
                let n = fields.whole("n")?;
                if n > MOST_GENERATED {
                    return Err(fields.wrong("n", "too large"));
                }
                let weight = |i| 0.25 + ((hash(seed, i) >> 52) as f32) / 2048.0;
                (vec![n as usize], (0..n).map(weight).collect::<Vec<f32>>(), "weight")
            }
            other => return Err(fields.wrong("kind", other)),
        };
        let same = |stored: Vec<f32>, made: &[f32]| {
            stored.len() == made.len() && stored.iter().zip(made).all(|(a, b)| a.to_bits() == b.to_bits())
        };
        for (end, at_head) in [("head", true), ("tail", false)] {
            let check = format!("check_{check}_{end}");
            if case.tensors(Part::Inputs).contains_key(&check) {
                let stored = self.f32s(case, Part::Inputs, &check)?.values;
                let length = stored.len().min(values.len());
                let made = if at_head { &values[..length] } else { &values[values.len() - length..] };
                if !same(stored, made) {
                    return Err(case.error(format!("{check} differs from the {name} of the formula")));
                }
            }
        }
        Ok(Tensor { shape, values })
    }

    fn generate_i64s(
        &self,
        case: &Case,
        name: &str,
        recipe: &Map<String, Value>,
    ) -> Result<Tensor<i64>, Error> {
        let fields = Recipe { case, name, map: recipe };
        let (seed, n, classes) = (fields.whole("seed")?, fields.whole("n")?, fields.whole("classes")?);
        if classes >= 1 << 32 {
            return Err(fields.wrong("classes", "too large"));
        }
        if n > MOST_GENERATED {
            return Err(fields.wrong("n", "too large"));
        }
        let every = fields.whole("ignore_every")?;
        let ignore = recipe
            .get("ignore_index")
            .and_then(Value::as_i64)
            .ok_or_else(|| fields.wrong("ignore_index", "missing"))?;
        let scaled: fn(u64) -> u64 = match fields.text("kind")? {
            "uniform" => |h| h >> 32,
            "skewed" => |h| ((h >> 32) * (h & 0xffff_ffff)) >> 32,
            other => return Err(fields.wrong("kind", other)),
        };
        let label = |i: u64| match every {
            1.. if i.is_multiple_of(every) => ignore,
            _ => ((scaled(hash(seed, i)) * classes) >> 32) as i64,
        };
        let values: Vec<i64> = (0..n).map(label).collect();
        let check = "check_labels_head";
        if case.tensors(Part::Inputs).contains_key(check) {
            let stored = self.i64s(case, Part::Inputs, check)?.values;
            if stored.as_slice() != values.get(..stored.len()).unwrap_or(&[]) {
                return Err(case.error(format!("{check} differs from the {name} of the formula")));
            }
        }
        Ok(Tensor { shape: vec![values.len()], values })
    }
}

/// A recipe for more elements than this is a mistake, and no reason to run out of memory.
const MOST_GENERATED: u64 = 1 << 30;

struct Raw<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl Raw<'_> {
    /// The file's header was checked against its length, so there is no remainder.
    fn map<const N: usize, T>(&self, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok().map(&read)).collect()
    }
}

/// The formula of one generated input.
struct Recipe<'a> {
    case: &'a Case,
    name: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Recipe<'a> {
    fn wrong(&self, key: &str, what: &str) -> Error {
        self.case.error(format!("generated.{}.{key} is {what}", self.name))
    }

    fn text(&self, key: &str) -> Result<&'a str, Error> {
        self.map.get(key).and_then(Value::as_str).ok_or_else(|| self.wrong(key, "no text"))
    }

    fn number(&self, key: &str) -> Result<f64, Error> {
        self.map.get(key).and_then(Value::as_f64).ok_or_else(|| self.wrong(key, "no number"))
    }

    fn whole(&self, key: &str) -> Result<u64, Error> {
        self.map.get(key).and_then(Value::as_u64).ok_or_else(|| self.wrong(key, "no whole number"))
    }

    fn shape(&self) -> Result<Vec<usize>, Error> {
        self.map.get("shape").and_then(read_shape).ok_or_else(|| self.wrong("shape", "no list of lengths"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|e| Error(format!("{}: {e}", path.display())))
}

fn read_case(value: &Value) -> Result<Case, String> {
    let text = |key: &str| {
        value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("{key} is no text"))
    };
    let object = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(_) => Err(format!("{key} is no object")),
    };
    let tensors = |key: &str| -> Result<BTreeMap<String, TensorEntry>, String> {
        let entry = |(name, entry): (String, Value)| {
            let entry = read_entry(&entry).ok_or_else(|| format!("{key}.{name} is no tensor entry"))?;
            Ok((name, entry))
        };
        object(key)?.into_iter().map(entry).collect()
    };
    let features = match value.get("features").and_then(Value::as_array) {
        None => Vec::new(),
        Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    Ok(Case {
        name: text("name")?,
        group: text("group")?,
        file: text("file")?,
        op: text("op")?,
        framework: text("framework")?,
        params: object("params")?,
        features,
        notes: value.get("notes").and_then(Value::as_str).unwrap_or_default().to_owned(),
        generated: object("generated")?,
        expect_error: match value.get("expect_error") {
            None | Some(Value::Null) => None,
            Some(Value::String(error)) => Some(error.clone()),
            Some(other) => Some(other.to_string()),
        },
        inputs: tensors("inputs")?,
        expected: tensors("expected")?,
        framework_result: tensors("framework_result")?,
    })
}

fn read_entry(value: &Value) -> Option<TensorEntry> {
    Some(TensorEntry {
        key: value.get("key")?.as_str()?.to_owned(),
        dtype: value.get("dtype")?.as_str()?.to_owned(),
        shape: read_shape(value.get("shape")?)?,
    })
}

fn read_shape(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect()
}

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length))
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The pseudo-random bits that the formulas are made of.
pub fn hash(seed: u64, index: u64) -> u64 {
    splitmix64(index.wrapping_add(seed.wrapping_mul(0x100_0000_01b3)))
}

/// The sum of four uniform 16-bit numbers, less its mean: exact in `f32`.
fn irwin_hall4(h: u64) -> f32 {
    let sum = (h & 0xffff) + ((h >> 16) & 0xffff) + ((h >> 32) & 0xffff) + (h >> 48);
    (sum as i64 - 131_070) as f32
}

/// Exact.
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Exact.
pub fn f16_to_f32(bits: u16) -> f32 {
    let (sign, exponent, fraction) =
        (u32::from(bits & 0x8000) << 16, u32::from(bits >> 10) & 31, u32::from(bits & 0x3ff));
    match exponent {
        // Zero and the subnormal numbers: multiples of 2^-24.
        0 => f32::from_bits((fraction as f32 / 16_777_216.0).to_bits() | sign),
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// The nearest bfloat16, to even on ties.
pub fn round_to_bf16(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let bits = x.to_bits();
    let odd = (bits >> 16) & 1;
    f32::from_bits(bits.wrapping_add(0x7fff + odd) & 0xffff_0000)
}

/// The nearest IEEE half, to even on ties; infinite from 65520.
pub fn round_to_f16(x: f32) -> f32 {
    if !x.is_finite() {
        return x;
    }
    if x.abs() >= 65520.0 {
        return f32::INFINITY.copysign(x);
    }
    // Ten fraction bits below the leading one; below 2^-14 the spacing stays 2^-24. Powers of two: exact.
    let exponent = ((x.to_bits() >> 23) & 0xff) as i32 - 127;
    let spacing = f64::from(exponent.max(-14) - 10).exp2();
    ((f64::from(x) / spacing).round_ties_even() * spacing) as f32
}
