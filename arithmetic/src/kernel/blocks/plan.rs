//! Which rows are computed together, and by which factors. Depends on coefficients alone.

use super::{
    super::{Row, nibbles::product},
    Multiplier,
};
use crate::field::Gf256;

/// Most twins of a group whose sums stay in registers.
const GROUP_TWINS_MAX: usize = 2;

/// What it costs to make the second of twins out of a multiple of the first, in products: the product, and making the
/// first ready for it.
const RATIO_PRODUCTS: usize = 2;

/// All rows of a call.
pub(super) struct Plan<M: Multiplier> {
    /// The inputs in which all twins differ.
    pub(super) pairing: Pairing,
    pub(super) twins: Vec<Twins<M>>,
    pub(super) groups: Vec<Group<M>>,
}

/// Rows that are computed in one go.
pub(super) struct Group<M: Multiplier> {
    /// Indices of the rows that multiply.
    pub(super) rows: Vec<usize>,
    /// Index of the row of plain exclusive-or.
    pub(super) sum: Option<usize>,
    /// For each input in turn, a factor for each of `rows`.
    pub(super) factors: Vec<M::Factor>,
}

/// The inputs in which twins differ.
#[derive(PartialEq, Default)]
pub(super) struct Pairing {
    /// Inputs in both of which they differ by the same.
    pub(super) pairs: Vec<[usize; 2]>,
    /// One that has no other. Only twins with a ratio have it.
    pub(super) alone: Option<usize>,
}

/// Pairs of rows that are computed in one go, the second of each from the first.
///
/// The second's coefficients are those of the first, times a ratio, and differences, which are the same in both inputs of a
/// pair and 0 in inputs without a pair, but for one that may stand alone. With `c` the coefficients of the first and
/// `d` the differences, the first sums up `(c_a ⊕ c_b) · y_a ⊕ c_b · (y_a ⊕ y_b)` over a pair `a`, `b` and the second
/// `d · (y_a ⊕ y_b)` more: three products in place of four, or two where `d` is 1, and one in place of two for each of the
/// other inputs.
///
/// That is how `P` goes from x to x + 1 where k is odd, at every even x, with the ratio 1: `P(x) ⊕ P(x + 1)` has a smaller
/// degree and is determined by the sums of its values at 2 and 3, 4 and 5, up to k − 1 and k, which the scaling of the
/// shares leaves with equal factors. Where k is 3 it is the sum of the values at 2 and 3 itself, and all `d` are 1.
///
/// Where k is even, `(x + k + 1) · P(x)` takes the place of `P(x)`: its degree is that of an odd threshold k + 1, for which
/// its value at k + 1, which is 0, completes the pair of k. The factor makes the ratio.
pub(super) struct Twins<M: Multiplier> {
    /// Indices of the rows.
    pub(super) rows: Vec<[usize; 2]>,
    /// Index of the row of plain exclusive-or.
    pub(super) sum: Option<usize>,
    /// For each input without a pair and the first one of each pair, in turn, a factor for each of the twins.
    pub(super) shared_factors: Vec<M::Factor>,
    /// For each pair in turn, a factor of its sum for each of the twins; then those of the input that stands alone.
    pub(super) pair_factors: Vec<M::Factor>,
    /// In the same order, factors for what each of the twins differs by. None if all of them, and all ratios, are 1.
    pub(super) differences: Option<Vec<M::Factor>>,
    /// For each of the twins. None if all of them are 1.
    pub(super) ratios: Option<Vec<M::Factor>>,
}

impl<M: Multiplier> Plan<M> {
    pub(super) fn new(inputs: usize, rows: &[Row<'_>]) -> Self {
        let matrix = Matrix { inputs, rows };
        let (sums, products): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|row| matrix.is_sum(*row));
        let (pairing, mut twins, products) = if M::DEAR && products.len() > 1 {
            matrix.twins(products)
        } else {
            (Pairing::default(), Vec::new(), products)
        };
        let mut groups = matrix.groups(&products);
        for sum in sums {
            let places = twins.iter_mut().map(|group| &mut group.sum);
            let mut places = places.chain(groups.iter_mut().rev().map(|group| &mut group.sum));
            match places.find(|place| place.is_none()) {
                Some(place) => *place = Some(sum),
                None => groups.push(Group { rows: Vec::new(), sum: Some(sum), factors: Vec::new() }),
            }
        }
        Self { pairing, twins, groups }
    }
}

/// The coefficients of a call.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    inputs: usize,
    rows: &'a [Row<'a>],
}

impl Matrix<'_> {
    /// Zero where it is missing.
    fn coefficient(self, row: usize, input: usize) -> u8 {
        self.rows[row].coefficients.get(input).copied().unwrap_or(0)
    }

    fn is_sum(self, row: usize) -> bool {
        (0..self.inputs).all(|input| self.coefficient(row, input) == 1)
    }

    /// How the second of two rows differs from a multiple of the first.
    fn difference(self, rows: [usize; 2], ratio: u8, input: usize) -> u8 {
        product(ratio, self.coefficient(rows[0], input)) ^ self.coefficient(rows[1], input)
    }

    /// By which ratio two rows are twins, if they are; the inputs in which they differ then replace those given.
    fn ratio(self, rows: [usize; 2], pairing: &mut Pairing) -> Option<u8> {
        if self.are_twins(rows, 1, pairing) {
            return Some(1);
        }
        let [first, second] = rows.map(|row| Gf256(self.coefficient(row, 0)));
        if first == Gf256::ZERO {
            return None;
        }
        let ratio = second.div(first).0;
        let few = |pairing: &Pairing| {
            pairing.pairs.len() + usize::from(pairing.alone.is_some()) + RATIO_PRODUCTS < self.inputs
        };
        (ratio > 1 && self.are_twins(rows, ratio, pairing) && few(pairing)).then_some(ratio)
    }

    fn are_twins(self, rows: [usize; 2], ratio: u8, pairing: &mut Pairing) -> bool {
        pairing.pairs.clear();
        pairing.alone = None;
        let mut input = 0;
        while input < self.inputs {
            let here = self.difference(rows, ratio, input);
            if here != 0 {
                if input + 1 < self.inputs && self.difference(rows, ratio, input + 1) == here {
                    pairing.pairs.push([input, input + 1]);
                    input += 1;
                } else if ratio > 1 && pairing.alone.is_none() {
                    pairing.alone = Some(input);
                } else {
                    return false;
                }
            }
            input += 1;
        }
        true
    }

    /// Takes twins that differ in the same inputs, of rows side by side, from among the rows given; gives back these
    /// inputs, the twins and the other rows.
    fn twins<M: Multiplier>(self, products: Vec<usize>) -> (Pairing, Vec<Twins<M>>, Vec<usize>) {
        let (mut pairing, mut found) = (Pairing::default(), Pairing::default());
        let mut twins = Vec::with_capacity(products.len() / 2);
        let mut others = Vec::new();
        let mut rest = products.as_slice();
        while let [row, after @ ..] = rest {
            rest = after;
            let twin = after.split_first().and_then(|(other, after)| {
                let ratio = self.ratio([*row, *other], &mut found)?;
                (twins.is_empty() || pairing == found).then_some(([*row, *other], ratio, after))
            });
            match twin {
                Some((rows, ratio, after)) => {
                    std::mem::swap(&mut pairing, &mut found);
                    twins.push((rows, ratio));
                    rest = after;
                }
                None => others.push(*row),
            }
        }
        // A group that is not full would cost a pass over the inputs of its own: beside other rows its rows go with them.
        if !others.is_empty() {
            let full = twins.len() - twins.len() % GROUP_TWINS_MAX;
            others.extend(twins.drain(full..).flat_map(|(rows, _)| rows));
            others.sort_unstable();
        }
        let groups = twins.chunks(GROUP_TWINS_MAX).map(|twins| self.twins_of(twins, &pairing)).collect();
        (pairing, groups, others)
    }

    /// Twins with their ratios, one group of them.
    fn twins_of<M: Multiplier>(self, twins: &[([usize; 2], u8)], pairing: &Pairing) -> Twins<M> {
        let mut shared_factors = Vec::with_capacity(self.inputs * twins.len());
        let mut pair_factors = Vec::with_capacity((pairing.pairs.len() + 1) * twins.len());
        let mut differences = Vec::with_capacity((pairing.pairs.len() + 1) * twins.len());
        let mut all_one = twins.iter().all(|(_, ratio)| *ratio == 1);
        let ratios = (!all_one).then(|| twins.iter().map(|(_, ratio)| M::factor(*ratio)).collect());
        let mut next = pairing.pairs.iter().peekable();
        let mut input = 0;
        while input < self.inputs {
            if let Some([a, b]) = next.next_if(|[a, _]| *a == input) {
                for (rows, ratio) in twins {
                    let [c_a, c_b] = [a, b].map(|input| self.coefficient(rows[0], *input));
                    let difference = self.difference(*rows, *ratio, *b);
                    all_one &= difference == 1;
                    shared_factors.push(M::factor(c_a ^ c_b));
                    pair_factors.push(M::factor(c_b));
                    differences.push(M::factor(difference));
                }
                input += 2;
            } else {
                if pairing.alone != Some(input) {
                    let factors = twins.iter().map(|(rows, _)| M::factor(self.coefficient(rows[0], input)));
                    shared_factors.extend(factors);
                }
                input += 1;
            }
        }
        if let Some(alone) = pairing.alone {
            for (rows, ratio) in twins {
                pair_factors.push(M::factor(self.coefficient(rows[0], alone)));
                differences.push(M::factor(self.difference(*rows, *ratio, alone)));
            }
        }
        let differences = (!all_one).then_some(differences);
        let rows = twins.iter().map(|(rows, _)| *rows).collect();
        Twins { rows, sum: None, shared_factors, pair_factors, differences, ratios }
    }

    /// Cuts rows into groups of nearly one size.
    fn groups<M: Multiplier>(self, products: &[usize]) -> Vec<Group<M>> {
        let count = products.len().div_ceil(M::GROUP_ROWS_MAX).max(1);
        let mut groups = Vec::with_capacity(count);
        for rows in products.chunks(products.len().div_ceil(count).max(1)) {
            let mut factors = Vec::with_capacity(self.inputs * rows.len());
            for input in 0..self.inputs {
                factors.extend(rows.iter().map(|row| M::factor(self.coefficient(*row, input))));
            }
            groups.push(Group { rows: rows.to_vec(), sum: None, factors });
        }
        groups
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::{
        coefficients::Coefficients,
        field::Gf256,
        kernel::{Start, avx2::Avx2},
    };

    fn plan(coefficients: &[Vec<u8>]) -> Plan<Avx2<false>> {
        let mut outputs = vec![[0]; coefficients.len()];
        let rows: Vec<Row<'_>> = coefficients
            .iter()
            .zip(&mut outputs)
            .map(|(coefficients, output)| Row { coefficients, start: Start::Zero, output })
            .collect();
        Plan::new(coefficients[0].len(), &rows)
    }

    /// Rows of twins, whether all of them differ by one, and the other rows.
    type Rows = (Vec<Vec<[usize; 2]>>, bool, Vec<Vec<usize>>);

    /// Of what a sender computes.
    fn split(n: u8, k: u8) -> Rows {
        let scheme = Coefficients::<Gf256>::new(k);
        let derived = (k..n).map(|target| scheme.derivation_row(target).map(|c| c.0).collect());
        let plan = plan(&derived.chain([vec![1; usize::from(k)]]).collect::<Vec<_>>());
        let sums = plan.twins.iter().map(|group| group.sum).chain(plan.groups.iter().map(|group| group.sum));
        assert_eq!(sums.flatten().collect::<Vec<_>>(), [usize::from(n - k)], "the secret, once");
        let by_one = plan.twins.iter().all(|group| group.differences.is_none());
        let twins = plan.twins.into_iter().map(|group| group.rows).collect();
        (twins, by_one, plan.groups.into_iter().map(|group| group.rows).collect())
    }

    #[test]
    fn derived_shares_of_an_odd_threshold_are_twins() {
        assert_eq!(split(5, 3), (vec![vec![[0, 1]]], true, vec![]));
        assert_eq!(split(9, 5), (vec![vec![[0, 1], [2, 3]]], false, vec![]));
        assert_eq!(split(10, 5), (vec![vec![[0, 1], [2, 3]]], false, vec![vec![4]]));
        assert_eq!(split(14, 7), (vec![vec![[0, 1], [2, 3]]], false, vec![vec![4, 5, 6]]));
    }

    #[test]
    fn few_twins_are_left_among_other_rows() {
        assert_eq!(split(8, 5), (vec![], true, vec![vec![0, 1, 2]]));
    }

    #[test]
    fn derived_shares_of_an_even_threshold_but_the_first_are_twins_with_a_ratio() {
        assert_eq!(
            split(20, 10),
            (vec![vec![[1, 2], [3, 4]], vec![[5, 6], [7, 8]]], false, vec![vec![0, 9]])
        );
        assert_eq!(split(16, 8), (vec![vec![[1, 2], [3, 4]]], false, vec![vec![0, 5, 6, 7]]));
    }

    #[test]
    fn a_ratio_that_costs_what_it_saves_is_left_alone() {
        assert_eq!(split(3, 2), (vec![], true, vec![vec![0]]));
        assert_eq!(split(9, 4), (vec![], true, vec![vec![0, 1, 2], vec![3, 4]]));
    }
}
