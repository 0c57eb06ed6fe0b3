// What is the same for all rows. How many classes they have is a constant where it is known when the pipeline is made, so
// that tails fold away.

// Whether the device is a CPU. There a load costs time rather than latency, and those past the last class are branched
// around; elsewhere they read it again, so that nothing stands between the loads. And there a row that is read again lies
// in a cache whichever end comes first, while writes are the faster for going upwards.
override ON_CPU: bool = false;

// 0: what `params` says.
override CLASSES: u32 = 0u;

// Read once, outside of any branch: drivers that run on CPUs repeat a load for every invocation inside of one.
var<private> classes_in_all: u32;
var<private> inner_size: u32;

// Every kernel that visits rows calls it first, in `stage_in`.
fn open_rows() {
    classes_in_all = params.classes;
    inner_size = params.inner;
}

fn class_count() -> u32 {
    if (CLASSES != 0u) { return CLASSES; }
    return classes_in_all;
}
