//! Which rows are computed together, and by which factors. Depends on coefficients alone.

use super::{super::Row, Multiplier};

/// Most twins of a group whose sums stay in registers.
const GROUP_TWINS_MAX: usize = 2;

/// Twins that save more than it costs to go over the inputs once more for rows that have none.
const TWINS_BESIDE_OTHERS_MIN: usize = 2;

/// All rows of a call.
pub(super) struct Plan<M: Multiplier> {
    /// Pairs of inputs of all twins.
    pub(super) pairs: Vec<[usize; 2]>,
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

/// Pairs of rows that are computed in one go, the second of each from the first.
///
/// The coefficients of twins differ by the same in both inputs of a pair, and not at all in inputs without a pair. With
/// `c` the coefficients of the first and `d` the differences, the first sums up `(c_a ⊕ c_b) · y_a ⊕ c_b · (y_a ⊕ y_b)`
/// over a pair `a`, `b` and the second `d · (y_a ⊕ y_b)` more: three products in place of four, or two where `d` is 1,
/// and one in place of two for each of the other inputs.
///
/// That is how `P` goes from x to x + 1 where k is odd, at every even x: `P(x) ⊕ P(x + 1)` has a smaller degree and is
/// determined by the sums of its values at 2 and 3, 4 and 5, up to k − 1 and k, which the scaling of the shares leaves
/// with equal factors. Where k is 3 it is the sum of the values at 2 and 3 itself, and all `d` are 1.
pub(super) struct Twins<M: Multiplier> {
    /// Indices of the rows.
    pub(super) rows: Vec<[usize; 2]>,
    /// Index of the row of plain exclusive-or.
    pub(super) sum: Option<usize>,
    /// For each input without a pair and the first one of each pair, in turn, a factor for each of the twins.
    pub(super) shared_factors: Vec<M::Factor>,
    /// For each pair in turn, a factor of its sum for each of the twins.
    pub(super) pair_factors: Vec<M::Factor>,
    /// For each pair in turn, a factor of its sum for what each of the twins differs by. None if all of them are 1.
    pub(super) differences: Option<Vec<M::Factor>>,
}

impl<M: Multiplier> Plan<M> {
    pub(super) fn new(inputs: usize, rows: &[Row<'_>]) -> Self {
        let matrix = Matrix { inputs, rows };
        let (sums, products): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|row| matrix.is_sum(*row));
        let (pairs, mut twins, products) = if M::DEAR && products.len() > 1 {
            matrix.twins(products)
        } else {
            (Vec::new(), Vec::new(), products)
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
        Self { pairs, twins, groups }
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

    /// Whether two rows are twins by some pairs of inputs, which then replace those given.
    fn are_twins(self, rows: [usize; 2], pairs: &mut Vec<[usize; 2]>) -> bool {
        let difference = |input| self.coefficient(rows[0], input) ^ self.coefficient(rows[1], input);
        pairs.clear();
        let mut input = 0;
        while input < self.inputs {
            let here = difference(input);
            if here != 0 {
                if input + 1 == self.inputs || difference(input + 1) != here {
                    return false;
                }
                pairs.push([input, input + 1]);
                input += 1;
            }
            input += 1;
        }
        true
    }

    /// Takes twins by one and the same pairs, of rows side by side, from among the rows given; gives back the pairs, the
    /// twins and the other rows.
    fn twins<M: Multiplier>(self, products: Vec<usize>) -> (Vec<[usize; 2]>, Vec<Twins<M>>, Vec<usize>) {
        let (mut pairs, mut found) =
            (Vec::with_capacity(self.inputs / 2), Vec::with_capacity(self.inputs / 2));
        let mut twins = Vec::with_capacity(products.len() / 2);
        let mut others = Vec::new();
        let mut rest = products.as_slice();
        while let [row, after @ ..] = rest {
            rest = after;
            match after {
                [other, after @ ..]
                    if self.are_twins([*row, *other], &mut found) && (twins.is_empty() || pairs == found) =>
                {
                    std::mem::swap(&mut pairs, &mut found);
                    twins.push([*row, *other]);
                    rest = after;
                }
                _ => others.push(*row),
            }
        }
        if !others.is_empty() && twins.len() < TWINS_BESIDE_OTHERS_MIN {
            return (Vec::new(), Vec::new(), products);
        }
        let groups = twins.chunks(GROUP_TWINS_MAX).map(|rows| self.twins_of(rows, &pairs)).collect();
        (pairs, groups, others)
    }

    fn twins_of<M: Multiplier>(self, rows: &[[usize; 2]], pairs: &[[usize; 2]]) -> Twins<M> {
        let coefficient = |row, input| self.coefficient(row, input);
        let mut shared_factors = Vec::with_capacity(self.inputs * rows.len());
        let mut pair_factors = Vec::with_capacity(pairs.len() * rows.len());
        let mut differences = Vec::with_capacity(pairs.len() * rows.len());
        let mut all_one = true;
        let mut next = pairs.iter().peekable();
        let mut input = 0;
        while input < self.inputs {
            if let Some([a, b]) = next.next_if(|[a, _]| *a == input) {
                for [first, second] in rows {
                    let difference = coefficient(*first, *b) ^ coefficient(*second, *b);
                    all_one &= difference == 1;
                    shared_factors.push(M::factor(coefficient(*first, *a) ^ coefficient(*first, *b)));
                    pair_factors.push(M::factor(coefficient(*first, *b)));
                    differences.push(M::factor(difference));
                }
                input += 2;
            } else {
                shared_factors.extend(rows.iter().map(|[first, _]| M::factor(coefficient(*first, input))));
                input += 1;
            }
        }
        let differences = (!all_one).then_some(differences);
        Twins { rows: rows.to_vec(), sum: None, shared_factors, pair_factors, differences }
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
        assert_eq!(split(14, 7), (vec![vec![[0, 1], [2, 3]], vec![[4, 5]]], false, vec![vec![6]]));
    }

    #[test]
    fn few_twins_are_left_among_other_rows() {
        assert_eq!(split(8, 5), (vec![], true, vec![vec![0, 1, 2]]));
    }

    #[test]
    fn derived_shares_of_an_even_threshold_are_rows_by_themselves() {
        assert_eq!(split(3, 2), (vec![], true, vec![vec![0]]));
        assert_eq!(split(20, 10), (vec![], true, vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]));
    }
}
