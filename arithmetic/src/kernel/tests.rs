//! Every kernel against the field's own multiplication, and against the portable one.

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::field::Gf256;

/// What this processor can run. GFNI is here only where the processor has it.
fn kernels() -> Vec<Kernel> {
    let mut kernels = vec![Kernel::Portable];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        kernels.push(Kernel::Avx2);
        if is_x86_feature_detected!("gfni") {
            kernels.push(Kernel::Gfni);
        }
    }
    #[cfg(target_arch = "aarch64")]
    kernels.push(Kernel::Neon);
    kernels
}

fn random(len: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Rows of random bytes, now and then of zeros or ones; some of them twins of the row before.
fn coefficients(rows: usize, inputs: usize, rng: &mut StdRng) -> Vec<Vec<u8>> {
    let kind = TwinKind {
        first_pair: (rng.next_u32() % 2) as usize,
        by_one: rng.next_u32().is_multiple_of(3),
        with_ratio: rng.next_u32().is_multiple_of(2),
    };
    let mut all: Vec<Vec<u8>> = Vec::with_capacity(rows);
    while all.len() < rows {
        let row = match (rng.next_u32() % 8, all.last()) {
            (0..5, Some(last)) => kind.twin(last, rng),
            (5, _) => vec![1; inputs],
            (6, _) => random(inputs, rng).iter().map(|byte| byte & 1).collect(),
            _ => random(inputs, rng),
        };
        all.push(row);
    }
    all
}

/// How rows differ.
struct TwinKind {
    first_pair: usize,
    by_one: bool,
    /// A multiple of the other row, and if inputs are left over, another difference in the last one.
    with_ratio: bool,
}

impl TwinKind {
    /// A row that differs from another, or from a multiple of it, by the same in both inputs of each pair.
    fn twin(&self, row: &[u8], rng: &mut StdRng) -> Vec<u8> {
        let mut random = || rng.next_u32().to_le_bytes()[0];
        let ratio = if self.with_ratio { random() } else { 1 };
        let mut twin: Vec<u8> = row.iter().map(|c| Gf256(ratio).mul(Gf256(*c)).0).collect();
        let (pairs, alone) = twin.get_mut(self.first_pair..).unwrap_or_default().as_chunks_mut();
        for [a, b] in pairs {
            let difference = if self.by_one { 1 } else { random() };
            *a ^= difference;
            *b ^= difference;
        }
        if let ([alone], true) = (alone, self.with_ratio) {
            *alone ^= random();
        }
        twin
    }
}

/// Texts of one length, each with its own number of bytes before it.
struct Texts {
    buffers: Vec<Vec<u8>>,
    skews: Vec<usize>,
}

impl Texts {
    fn new(count: usize, len: usize, rng: &mut StdRng) -> Self {
        let skews: Vec<usize> = (0..count).map(|_| (rng.next_u32() % 70) as usize).collect();
        Self { buffers: skews.iter().map(|skew| random(len + skew + 3, rng)).collect(), skews }
    }

    fn get(&self, len: usize) -> Vec<&[u8]> {
        self.buffers.iter().zip(&self.skews).map(|(buffer, skew)| &buffer[*skew..skew + len]).collect()
    }
}

/// One case: what a kernel makes of it, buffers whole, so that a byte written beside the outputs shows.
struct Case {
    coefficients: Vec<Vec<u8>>,
    inputs: Texts,
    starts: Texts,
    outputs: Texts,
    len: usize,
}

impl Case {
    fn new(rows: usize, inputs: usize, len: usize, rng: &mut StdRng) -> Self {
        Self {
            coefficients: coefficients(rows, inputs, rng),
            inputs: Texts::new(inputs, len, rng),
            starts: Texts::new(rows, len, rng),
            outputs: Texts::new(rows, len, rng),
            len,
        }
    }

    /// The row's start: zero, output and text in turn.
    fn start<'a>(row: usize, text: &'a [u8]) -> Start<'a> {
        match row % 3 {
            0 => Start::Output,
            1 => Start::Zero,
            _ => Start::Text(text),
        }
    }

    fn run(&self, kernel: Kernel) -> Vec<Vec<u8>> {
        let mut buffers = self.outputs.buffers.clone();
        let starts = self.starts.get(self.len);
        let outputs = buffers.iter_mut().zip(&self.outputs.skews);
        let outputs = outputs.map(|(buffer, skew)| &mut buffer[*skew..skew + self.len]);
        let rows = self.coefficients.iter().zip(outputs).enumerate();
        let mut rows: Vec<Row<'_>> = rows
            .map(|(at, (coefficients, output))| Row {
                coefficients,
                start: Self::start(at, starts[at]),
                output,
            })
            .collect();
        kernel.rows(&self.inputs.get(self.len), &mut rows);
        buffers
    }

    /// By the field's multiplication, byte after byte.
    fn expected(&self) -> Vec<Vec<u8>> {
        let mut buffers = self.outputs.buffers.clone();
        let (inputs, starts) = (self.inputs.get(self.len), self.starts.get(self.len));
        for (row, buffer) in buffers.iter_mut().enumerate() {
            let skew = self.outputs.skews[row];
            for at in 0..self.len {
                let start = match Self::start(row, starts[row]) {
                    Start::Zero => 0,
                    Start::Output => buffer[skew + at],
                    Start::Text(text) => text[at],
                };
                let terms = self.coefficients[row].iter().zip(&inputs);
                buffer[skew + at] =
                    terms.fold(start, |sum, (c, input)| sum ^ Gf256(*c).mul(Gf256(input[at])).0);
            }
        }
        buffers
    }
}

#[test]
fn all_kernels_agree_at_every_length() {
    let rng = &mut StdRng::seed_from_u64(1);
    for len in 0..400 {
        let (rows, inputs) = ((rng.next_u32() % 13) as usize, (rng.next_u32() % 8) as usize);
        let case = Case::new(rows, inputs, len, rng);
        let expected = case.expected();
        for kernel in kernels() {
            assert_eq!(case.run(kernel), expected, "{kernel:?}: {rows} rows, {inputs} inputs, {len} bytes");
        }
    }
}

#[test]
fn all_kernels_agree_on_texts_that_are_asked_for_ahead() {
    let rng = &mut StdRng::seed_from_u64(2);
    for len in [60_000, 70_001, 70_063, 70_064] {
        for (rows, inputs) in [(1, 4), (2, 5), (3, 3), (5, 5), (11, 7)] {
            let case = Case::new(rows, inputs, len, rng);
            let expected = case.run(Kernel::Portable);
            for kernel in kernels() {
                assert!(
                    case.run(kernel) == expected,
                    "{kernel:?}: {rows} rows, {inputs} inputs, {len} bytes"
                );
            }
        }
    }
}

#[test]
fn all_products_of_two_bytes_are_right() {
    let all: Vec<u8> = (0..=255).collect();
    for kernel in kernels() {
        for coefficient in 0..=255 {
            let mut output = [0; 256];
            let row = Row { coefficients: &[coefficient], start: Start::Zero, output: &mut output };
            kernel.rows(&[&all], &mut [row]);
            for (value, product) in (0..=255).zip(output) {
                assert_eq!(
                    product,
                    Gf256(coefficient).mul(Gf256(value)).0,
                    "{kernel:?}: {coefficient} · {value}"
                );
            }
        }
    }
}

#[test]
fn texts_of_several_lengths_are_computed_over_the_shortest() {
    let input = [7; 100];
    for kernel in kernels() {
        let (mut output, start) = ([9; 80], [1; 70]);
        let row = Row { coefficients: &[1, 5], start: Start::Text(&start), output: &mut output };
        kernel.rows(&[&input], &mut [row]);
        assert_eq!(output[..70], [6; 70], "{kernel:?}: a coefficient too many is ignored");
        assert_eq!(output[70..], [9; 10], "{kernel:?}");
        let row = Row { coefficients: &[], start: Start::Zero, output: &mut output };
        kernel.rows(&[&input], &mut [row]);
        assert_eq!(output, [0; 80], "{kernel:?}: one that is missing is zero");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_kernels_agree_on_large_and_small_schemes(
        seed: u64,
        rows in 0_usize..24,
        inputs in 0_usize..24,
        len in prop_oneof![0_usize..300, 900_usize..1200, 4000_usize..9000],
    ) {
        let case = Case::new(rows, inputs, len, &mut StdRng::seed_from_u64(seed));
        let expected = case.run(Kernel::Portable);
        for kernel in kernels() {
            prop_assert!(case.run(kernel) == expected, "{:?}", kernel);
        }
    }
}
