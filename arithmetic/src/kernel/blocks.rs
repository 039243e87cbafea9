//! The walk that all vector kernels share: some rows at once over blocks of 64 bytes, their sums in registers.
//!
//! Rows are cut into groups. A group goes over a strip of all inputs, which then lie in the nearest cache for the
//! next group; an input's block is loaded and prepared once for all rows of the group. A row whose coefficients are
//! all 1 multiplies nothing and travels with a group of others, whose blocks it finds in the nearest cache. What is
//! shorter than a block goes through copies that are padded to one.
//!
//! Every function here is inlined into a function of the kernel's that has its instructions; closures and functions of
//! the standard library would not be, so what handles vectors is written out in loops.
//!
//! Addresses depend on positions alone, branches on coefficients and lengths.

#![allow(
    unsafe_code,
    reason = "vector instructions, on addresses whose bounds are checked once for each call"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "what iterators call is compiled without the instructions of the kernel"
)]

mod plan;
mod twins;

use zeroize::Zeroize;

use self::plan::{Group, Pairing, Plan};
use super::{Row, Start};

/// Bytes of a [`Multiplier::Vector`].
pub(super) const BLOCK_BYTES: usize = 64;

/// Bytes of each text that all groups go over before the next strip: long enough that the processor sees what comes
/// next of each text, short enough that a strip of some tens of texts stays in the second cache.
const STRIP_BYTES: usize = 8192;

/// How far ahead of its blocks a text is asked for: of 512, 1024, 2048 and 4096 the best on the whole, where texts come
/// from the third cache. Left to itself the processor waits for them.
const AHEAD_BYTES: usize = 1024;

/// Texts that have more bytes together do not fit into the second cache, where that is small. In the second cache asking
/// for blocks ahead takes more time than it saves.
const NEAR_BYTES: usize = 256 << 10;

/// Rows of a group beside whose sums there is no register for a row of plain exclusive-or: that one follows, block by
/// block.
const ROWS_ALONE_MIN: usize = 4;

/// Multiplication of 64 bytes by one coefficient.
///
/// # Safety
/// All functions but [`Self::factor`] and [`Self::prefetch`] may be called only where the processor has the kernel's
/// instructions. Those that take a text's address read or write [`BLOCK_BYTES`] there, aligned in any way.
pub(super) trait Multiplier {
    /// A coefficient, made ready.
    type Factor: Copy;
    /// 64 bytes in registers.
    type Vector: Copy;
    /// 64 bytes, made ready to be multiplied.
    type Operand: Copy;
    /// Whether a product takes several times as long as an addition, so that [`Twins`](plan::Twins) pay.
    const DEAR: bool;
    /// Most rows of a group whose sums, and what is multiplied beside them, stay in registers. No more than five.
    const GROUP_ROWS_MAX: usize;

    fn factor(coefficient: u8) -> Self::Factor;
    /// Asks for what lies at an address, which may be any, to be brought near, if texts are [far](are_far).
    fn prefetch(_: *const u8) {}
    unsafe fn zero() -> Self::Vector;
    unsafe fn load(text: *const u8) -> Self::Vector;
    unsafe fn store(text: *mut u8, vector: Self::Vector);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn operand(vector: Self::Vector) -> Self::Operand;
    /// `sum ⊕ factor · operand`.
    unsafe fn add_product(sum: Self::Vector, factor: &Self::Factor, operand: Self::Operand) -> Self::Vector;
}

/// Where the bytes of the inputs stand.
struct Places {
    inputs: Vec<*const u8>,
    /// Of the inputs without a pair, but for the one that twins differ in, and of the first one of each pair, in turn. Empty
    /// where there are no twins.
    shared: Vec<*const u8>,
    /// Of the inputs of each pair.
    pairs: Vec<[*const u8; 2]>,
    /// Of the input without a pair that twins differ in.
    alone: Option<*const u8>,
}

impl Places {
    fn new<M: Multiplier>(plan: &Plan<M>, inputs: Vec<*const u8>) -> Self {
        if plan.twins.is_empty() {
            return Self { inputs, shared: Vec::new(), pairs: Vec::new(), alone: None };
        }
        let Pairing { pairs, alone } = &plan.pairing;
        let is_shared = |input| *alone != Some(input) && pairs.iter().all(|[_, second]| *second != input);
        let shared = (0..inputs.len()).filter(|input| is_shared(*input)).map(|input| inputs[input]).collect();
        let pairs = pairs.iter().map(|pair| pair.map(|input| inputs[input])).collect();
        let alone = alone.map(|input| inputs[input]);
        Self { inputs, shared, pairs, alone }
    }
}

/// Where the bytes of a row stand.
#[derive(Clone, Copy)]
struct Target {
    output: *mut u8,
    /// Null for zeros.
    start: *const u8,
}

/// Whether the first `len` bytes of so many texts are better asked for ahead.
pub(super) fn are_far(texts: usize, len: usize) -> bool {
    texts.saturating_mul(len) > NEAR_BYTES
}

/// Computes rows over the first `len` bytes of all texts.
///
/// # Safety
/// The processor has the instructions of `M`, and no text is shorter than `len`.
#[inline(always)]
pub(super) unsafe fn rows<M: Multiplier>(inputs: &[&[u8]], rows: &mut [Row<'_>], len: usize) {
    let plan = Plan::<M>::new(inputs.len(), rows);
    let places = Places::new(&plan, inputs.iter().map(|input| input.as_ptr()).collect());
    let targets: Vec<Target> = rows.iter_mut().map(Target::of).collect();
    let whole = len - len % BLOCK_BYTES;
    let mut from = 0;
    while from < whole {
        let to = whole.min(from + STRIP_BYTES);
        // SAFETY: every place and target has `len` bytes, and `to` is not beyond it. The outputs are borrowed
        // exclusively, so that no two of them, nor one and an input, overlap; a start may be its own output.
        unsafe { strip(&plan, &places, &targets, from, to) };
        from = to;
    }
    if whole < len {
        // SAFETY: as the caller vouches for.
        unsafe { rest(&plan, inputs, rows, whole, len - whole) };
    }
}

/// Computes what is left behind the last whole block, `bytes` at `from`.
///
/// # Safety
/// As for [`rows`]; the texts have `from + bytes` bytes, and `bytes` is less than a block.
#[inline(always)]
unsafe fn rest<M: Multiplier>(
    plan: &Plan<M>,
    inputs: &[&[u8]],
    rows: &mut [Row<'_>],
    from: usize,
    bytes: usize,
) {
    let padded = |text: &[u8]| {
        let mut block = [0; BLOCK_BYTES];
        block[..bytes].copy_from_slice(&text[from..from + bytes]);
        block
    };
    let inputs = Padded(inputs.iter().map(|input| padded(input)).collect());
    let starts = rows.iter().map(|row| match row.start {
        Start::Zero => [0; BLOCK_BYTES],
        Start::Output => padded(row.output),
        Start::Text(text) => padded(text),
    });
    let mut outputs = Padded(starts.collect());
    let places = Places::new(plan, inputs.0.iter().map(|block| block.as_ptr()).collect());
    let targets = outputs.0.iter_mut().map(|block| {
        let output = block.as_mut_ptr();
        Target { output, start: output }
    });
    let targets: Vec<Target> = targets.collect();
    // SAFETY: every place and target is one block, all of them apart from each other.
    unsafe { strip(plan, &places, &targets, 0, BLOCK_BYTES) };
    for (row, block) in rows.iter_mut().zip(&outputs.0) {
        row.output[from..from + bytes].copy_from_slice(&block[..bytes]);
    }
}

/// Copies of what is shorter than a block. Erased on drop, as one slice: many bytes at once.
struct Padded(Vec<[u8; BLOCK_BYTES]>);

impl Drop for Padded {
    fn drop(&mut self) {
        self.0.as_flattened_mut().zeroize();
    }
}

impl Target {
    fn of(row: &mut Row<'_>) -> Self {
        let output = row.output.as_mut_ptr();
        let start = match row.start {
            Start::Zero => std::ptr::null(),
            Start::Output => output.cast_const(),
            Start::Text(text) => text.as_ptr(),
        };
        Self { output, start }
    }
}

/// All rows over `from..to`, whole blocks.
///
/// # Safety
/// The processor has the instructions of `M`; the places are made for the plan; inputs, outputs and starts have `to`
/// bytes, and none overlaps an output but a start its own.
#[inline(always)]
unsafe fn strip<M: Multiplier>(plan: &Plan<M>, places: &Places, targets: &[Target], from: usize, to: usize) {
    for group in &plan.twins {
        // SAFETY: as the caller vouches for.
        unsafe { twins::strip(group, places, targets, from, to) };
    }
    for group in &plan.groups {
        // SAFETY: as the caller vouches for.
        unsafe { strip_of_group(group, &places.inputs, targets, from, to) };
    }
}

/// One group over `from..to`, whole blocks.
///
/// # Safety
/// As for [`strip`].
#[inline(always)]
unsafe fn strip_of_group<M: Multiplier>(
    group: &Group<M>,
    inputs: &[*const u8],
    targets: &[Target],
    from: usize,
    to: usize,
) {
    let sum = group.sum.map(|row| targets[row]);
    let target = |row: usize| targets[group.rows[row]];
    // SAFETY: the caller vouches for the texts; a group has as many factors for each input as rows.
    unsafe {
        match group.rows.len() {
            0 => pass::<M, 0>(&group.factors, inputs, &[], sum, from, to),
            1 => pass::<M, 1>(&group.factors, inputs, &std::array::from_fn(target), sum, from, to),
            2 => pass::<M, 2>(&group.factors, inputs, &std::array::from_fn(target), sum, from, to),
            3 => pass::<M, 3>(&group.factors, inputs, &std::array::from_fn(target), sum, from, to),
            4 => pass::<M, 4>(&group.factors, inputs, &std::array::from_fn(target), sum, from, to),
            _ => pass::<M, 5>(&group.factors, inputs, &std::array::from_fn(target), sum, from, to),
        }
    }
}

/// `ROWS` rows, and one of plain exclusive-or where `sum` is given, over `from..to`.
///
/// # Safety
/// As for [`strip_of_group`], with `ROWS` factors for each input.
#[inline(always)]
unsafe fn pass<M: Multiplier, const ROWS: usize>(
    factors: &[M::Factor],
    inputs: &[*const u8],
    targets: &[Target; ROWS],
    sum: Option<Target>,
    from: usize,
    to: usize,
) {
    // SAFETY: as the caller vouches for.
    unsafe {
        match sum {
            Some(sum) => wide::<M, ROWS, 1>(factors, inputs, targets, &[sum], from, to),
            None => wide::<M, ROWS, 0>(factors, inputs, targets, &[], from, to),
        }
    }
}

/// Goes over as many blocks at once as registers hold the sums of, then over what is left. Two inputs, of which there is
/// little to compute, are told to the compiler: it then has no loop over them.
///
/// # Safety
/// As for [`pass`].
#[inline(always)]
unsafe fn wide<M: Multiplier, const ROWS: usize, const SUMS: usize>(
    factors: &[M::Factor],
    inputs: &[*const u8],
    targets: &[Target; ROWS],
    sums: &[Target; SUMS],
    from: usize,
    to: usize,
) {
    let at_once = match ROWS + SUMS {
        0 | 1 => 4,
        2 => 2,
        _ => 1,
    };
    let rest = (to - from) % (at_once * BLOCK_BYTES);
    // SAFETY: as the caller vouches for.
    unsafe {
        match (at_once, inputs) {
            (4, &[a, b]) => walk::<M, ROWS, SUMS, 4>(factors, &[a, b], targets, sums, from, to - rest),
            (2, &[a, b]) => walk::<M, ROWS, SUMS, 2>(factors, &[a, b], targets, sums, from, to - rest),
            (4, _) => walk::<M, ROWS, SUMS, 4>(factors, inputs, targets, sums, from, to - rest),
            (2, _) => walk::<M, ROWS, SUMS, 2>(factors, inputs, targets, sums, from, to - rest),
            _ => {}
        }
        let from = if at_once == 1 { from } else { to - rest };
        walk::<M, ROWS, SUMS, 1>(factors, inputs, targets, sums, from, to);
    }
}

/// `WIDTH` blocks at once.
///
/// # Safety
/// As for [`pass`]; `to − from` is a multiple of `WIDTH` blocks.
#[inline(always)]
unsafe fn walk<M: Multiplier, const ROWS: usize, const SUMS: usize, const WIDTH: usize>(
    factors: &[M::Factor],
    inputs: &[*const u8],
    targets: &[Target; ROWS],
    sums: &[Target; SUMS],
    from: usize,
    to: usize,
) {
    let together = ROWS < ROWS_ALONE_MIN;
    let mut at = from;
    while at < to {
        // SAFETY: `at` is WIDTH blocks or more before `to`; the factor read is one of `ROWS` for each input.
        unsafe {
            let mut products = [[M::zero(); WIDTH]; ROWS];
            for row in 0..ROWS {
                begin::<M, WIDTH>(&mut products[row], targets[row], at);
            }
            let mut plain = [[M::zero(); WIDTH]; SUMS];
            if together {
                for row in 0..SUMS {
                    begin::<M, WIDTH>(&mut plain[row], sums[row], at);
                }
            }
            let mut factor = factors.as_ptr();
            for input in inputs {
                for w in 0..WIDTH {
                    let text = load_input::<M>(*input, at + w * BLOCK_BYTES);
                    if together {
                        for row in 0..SUMS {
                            plain[row][w] = M::add(plain[row][w], text);
                        }
                    }
                    if ROWS > 0 {
                        let operand = M::operand(text);
                        for row in 0..ROWS {
                            products[row][w] = M::add_product(products[row][w], &*factor.add(row), operand);
                        }
                    }
                }
                factor = factor.add(ROWS);
            }
            for row in 0..ROWS {
                end::<M, WIDTH>(&products[row], targets[row], at);
            }
            if !together {
                for row in 0..SUMS {
                    begin::<M, WIDTH>(&mut plain[row], sums[row], at);
                    for input in inputs {
                        for w in 0..WIDTH {
                            plain[row][w] = M::add(plain[row][w], M::load(input.add(at + w * BLOCK_BYTES)));
                        }
                    }
                }
            }
            for row in 0..SUMS {
                end::<M, WIDTH>(&plain[row], sums[row], at);
            }
        }
        at += WIDTH * BLOCK_BYTES;
    }
}

/// Loads a block of an input, and asks for a later one.
///
/// # Safety
/// The processor has the instructions of `M`, and the input has the block at `at`.
#[inline(always)]
unsafe fn load_input<M: Multiplier>(input: *const u8, at: usize) -> M::Vector {
    M::prefetch(input.wrapping_add(at + AHEAD_BYTES));
    // SAFETY: as the caller vouches for.
    unsafe { M::load(input.add(at)) }
}

/// Loads what a row's sum is added to, zeros stay; asks for a later block of the output.
///
/// # Safety
/// As for [`walk`].
#[inline(always)]
unsafe fn begin<M: Multiplier, const WIDTH: usize>(sum: &mut [M::Vector; WIDTH], target: Target, at: usize) {
    for w in 0..WIDTH {
        M::prefetch(target.output.wrapping_add(at + w * BLOCK_BYTES + AHEAD_BYTES));
    }
    if !target.start.is_null() {
        for w in 0..WIDTH {
            // SAFETY: a start that is not null has the block at `at + w` blocks.
            sum[w] = unsafe { M::load(target.start.add(at + w * BLOCK_BYTES)) };
        }
    }
}

/// Stores a row's sum.
///
/// # Safety
/// As for [`walk`].
#[inline(always)]
unsafe fn end<M: Multiplier, const WIDTH: usize>(sum: &[M::Vector; WIDTH], target: Target, at: usize) {
    for w in 0..WIDTH {
        // SAFETY: an output has the block at `at + w` blocks.
        unsafe { M::store(target.output.add(at + w * BLOCK_BYTES), sum[w]) };
    }
}
