//! The walk over [`Twins`]: the first row of each is summed up, then what the second differs by.

use super::{BLOCK_BYTES, Multiplier, Target, begin, end, load_input, plan::Twins};

/// One group over `from..to`, whole blocks.
///
/// # Safety
/// As for [`super::strip`].
#[inline(always)]
pub(super) unsafe fn strip<M: Multiplier>(
    group: &Twins<M>,
    inputs: &[*const u8],
    targets: &[Target],
    from: usize,
    to: usize,
) {
    // SAFETY: the caller vouches for the texts; a group has one or two twins.
    unsafe {
        match (group.rows.len(), group.sum) {
            (1, None) => pass::<M, 1, 0>(group, inputs, targets, &[], from, to),
            (1, Some(sum)) => pass::<M, 1, 1>(group, inputs, targets, &[targets[sum]], from, to),
            (_, None) => pass::<M, 2, 0>(group, inputs, targets, &[], from, to),
            (_, Some(sum)) => pass::<M, 2, 1>(group, inputs, targets, &[targets[sum]], from, to),
        }
    }
}

/// `TWINS` twins, and `SUMS` rows of plain exclusive-or.
///
/// # Safety
/// As for [`strip`]; the group has `TWINS` twins.
#[inline(always)]
unsafe fn pass<M: Multiplier, const TWINS: usize, const SUMS: usize>(
    group: &Twins<M>,
    inputs: &[*const u8],
    targets: &[Target],
    sums: &[Target; SUMS],
    from: usize,
    to: usize,
) {
    let targets = std::array::from_fn(|twin| group.rows[twin].map(|row| targets[row]));
    // SAFETY: as the caller vouches for; there are as many factors of differences as of pairs, if any.
    unsafe {
        match &group.differences {
            Some(differences) => {
                walk::<M, TWINS, SUMS, TWINS>(group, differences, inputs, &targets, sums, from, to);
            }
            None => walk::<M, TWINS, SUMS, 0>(group, &[], inputs, &targets, sums, from, to),
        }
    }
}

/// `DIFFERENT` is `TWINS`, or 0 where all twins differ by the plain sum of the pairs.
///
/// # Safety
/// As for [`pass`]; `differences` has `DIFFERENT` factors for each pair.
#[inline(always)]
unsafe fn walk<M: Multiplier, const TWINS: usize, const SUMS: usize, const DIFFERENT: usize>(
    group: &Twins<M>,
    differences: &[M::Factor],
    inputs: &[*const u8],
    targets: &[[Target; 2]; TWINS],
    sums: &[Target; SUMS],
    from: usize,
    to: usize,
) {
    // SAFETY: the group's indices are below the number of inputs that it was planned for, which these are as many as.
    let place = |input: usize| unsafe { *inputs.get_unchecked(input) };
    let mut at = from;
    while at < to {
        // SAFETY: `at` is a block or more before `to`; the factors read are one for each twin and input that is shared,
        // one for each twin and pair, and `DIFFERENT` for each pair.
        unsafe {
            let mut plain = [[M::zero()]; SUMS];
            for row in 0..SUMS {
                begin::<M, 1>(&mut plain[row], sums[row], at);
            }
            let mut products = [M::zero(); TWINS];
            let mut factor = group.shared_factors.as_ptr();
            for input in &group.shared {
                let text = load_input::<M>(place(*input), at);
                for row in 0..SUMS {
                    plain[row][0] = M::add(plain[row][0], text);
                }
                let operand = M::operand(text);
                for twin in 0..TWINS {
                    products[twin] = M::add_product(products[twin], &*factor.add(twin), operand);
                }
                factor = factor.add(TWINS);
            }
            // The sum is finished first: beside those of the rows there is no register for it.
            for row in 0..SUMS {
                for [_, second] in &group.pairs {
                    plain[row][0] = M::add(plain[row][0], load_input::<M>(place(*second), at));
                }
                end::<M, 1>(&plain[row], sums[row], at);
            }
            let mut all = M::zero();
            let mut different = [M::zero(); DIFFERENT];
            let mut factor = group.pair_factors.as_ptr();
            let mut difference = differences.as_ptr();
            for [first, second] in &group.pairs {
                let text = M::add(M::load(place(*first).add(at)), M::load(place(*second).add(at)));
                let operand = M::operand(text);
                for twin in 0..TWINS {
                    products[twin] = M::add_product(products[twin], &*factor.add(twin), operand);
                }
                factor = factor.add(TWINS);
                if DIFFERENT == 0 {
                    all = M::add(all, text);
                }
                for twin in 0..DIFFERENT {
                    different[twin] = M::add_product(different[twin], &*difference.add(twin), operand);
                }
                difference = difference.add(DIFFERENT);
            }
            for twin in 0..TWINS {
                let second = M::add(products[twin], if DIFFERENT == 0 { all } else { different[twin] });
                for (target, product) in [(targets[twin][0], products[twin]), (targets[twin][1], second)] {
                    let mut sum = [M::zero()];
                    begin::<M, 1>(&mut sum, target, at);
                    end::<M, 1>(&[M::add(sum[0], product)], target, at);
                }
            }
        }
        at += BLOCK_BYTES;
    }
}
