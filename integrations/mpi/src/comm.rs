//! All-reduces that give up: a rank that is gone must not leave the others waiting.

use std::time::{Duration, Instant};

use mpi::collective::SystemOperation;
use mpi::datatype::Equivalence;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

/// All ranks, and how long one waits for the others.
pub struct Ranks {
    pub world: SimpleCommunicator,
    pub patience: Duration,
}

impl Ranks {
    pub fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    pub fn size(&self) -> usize {
        self.world.size() as usize
    }

    /// The sum over all ranks. Where it does not come in time, says what was waited for and ends all ranks: a collective
    /// cannot be taken back, and buffers that it may still write to must not be touched.
    pub fn all_reduce<T: Equivalence + Clone + Default>(&self, what: &str, step: u32, mine: &[T]) -> Vec<T> {
        let mut sum = vec![T::default(); mine.len()];
        let sum_of = SystemOperation::sum();
        let late = mpi::request::scope(|scope| {
            let mut request = self.world.immediate_all_reduce_into(scope, mine, &mut sum[..], sum_of);
            let began = Instant::now();
            loop {
                match request.test() {
                    Ok(_) => return,
                    Err(pending) => request = pending,
                }
                if began.elapsed() > self.patience {
                    eprintln!(
                        "rank {} of {}: the all-reduce of {what} in step {step} did not finish within {:?}: a rank is \
                         gone or stuck; all ranks end",
                        self.rank(),
                        self.size(),
                        self.patience,
                    );
                    self.world.abort(3);
                }
                // Ranks may share cores with one another and with a software GPU.
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let () = late;
        sum
    }
}
