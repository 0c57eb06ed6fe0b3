//! What a run goes on from: the model's parameters and the counts of the batches so far, in one file.

use std::fs;
use std::path::Path;

use wgpu_cross_entropy::CountHistory;

use crate::Failure;

const MAGIC: &[u8; 8] = b"wce-mpi1";

/// A checkpoint. Every rank loads the same one, whatever the number of ranks that wrote it.
pub struct Checkpoint {
    /// Steps done.
    pub step: u32,
    pub parameters: Vec<f64>,
    pub history: CountHistory,
}

impl Checkpoint {
    /// Writes a new file and renames it: a rank that is killed meanwhile leaves the old one whole.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.step.to_le_bytes());
        bytes.extend((self.parameters.len() as u32).to_le_bytes());
        self.parameters.iter().for_each(|parameter| bytes.extend(parameter.to_le_bytes()));
        bytes.extend(self.history.as_bytes());
        let new = path.with_extension("new");
        fs::write(&new, bytes)?;
        Ok(fs::rename(new, path)?)
    }

    pub fn load(path: &Path) -> Result<Self, Failure> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let wrong = || format!("{} is no checkpoint", path.display());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(wrong)?;
        let (step, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
        let len = u32::from_le_bytes(*len) as usize;
        let parameters = rest.get(..len * 8).ok_or_else(wrong)?;
        let parameters =
            parameters.chunks_exact(8).filter_map(|chunk| Some(f64::from_le_bytes(chunk.try_into().ok()?)));
        Ok(Self {
            step: u32::from_le_bytes(*step),
            parameters: parameters.collect(),
            history: CountHistory::from_bytes(&rest[len * 8..])?,
        })
    }
}
