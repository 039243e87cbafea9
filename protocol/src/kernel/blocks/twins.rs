//! The walk over [`Twins`]: what both rows share is summed up once, and each goes on from there.

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
    let twins = |twin: usize| group.rows[twin].map(|row| targets[row]);
    let sum = group.sum.map(|row| targets[row]);
    // SAFETY: the caller vouches for the texts; there are as many factors as the walk over so many twins reads.
    unsafe {
        match (group.rows.len(), sum) {
            (1, None) => walk::<M, 1, 0>(group, inputs, &std::array::from_fn(twins), &[], from, to),
            (1, Some(sum)) => walk::<M, 1, 1>(group, inputs, &std::array::from_fn(twins), &[sum], from, to),
            (_, None) => walk::<M, 2, 0>(group, inputs, &std::array::from_fn(twins), &[], from, to),
            (_, Some(sum)) => walk::<M, 2, 1>(group, inputs, &std::array::from_fn(twins), &[sum], from, to),
        }
    }
}

/// `TWINS` twins, and `SUMS` rows of plain exclusive-or.
///
/// # Safety
/// As for [`strip`]; the group has `TWINS` twins.
#[inline(always)]
unsafe fn walk<M: Multiplier, const TWINS: usize, const SUMS: usize>(
    group: &Twins<M>,
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
        // SAFETY: `at` is a block or more before `to`; the factors read are one for each twin and input that is shared
        // and one for each row and pair.
        unsafe {
            let mut plain = [[M::zero()]; SUMS];
            for row in 0..SUMS {
                begin::<M, 1>(&mut plain[row], sums[row], at);
            }
            let mut shared = [M::zero(); TWINS];
            let mut factor = group.shared_factors.as_ptr();
            for input in &group.shared {
                let text = load_input::<M>(place(*input), at);
                for row in 0..SUMS {
                    plain[row][0] = M::add(plain[row][0], text);
                }
                let operand = M::operand(text);
                for twin in 0..TWINS {
                    shared[twin] = M::add_product(shared[twin], &*factor.add(twin), operand);
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
            let mut products = [[[M::zero()]; 2]; TWINS];
            for twin in 0..TWINS {
                for row in 0..2 {
                    begin::<M, 1>(&mut products[twin][row], targets[twin][row], at);
                    products[twin][row][0] = M::add(products[twin][row][0], shared[twin]);
                }
            }
            let mut factor = group.pair_factors.as_ptr();
            for [first, second] in &group.pairs {
                let text = M::add(M::load(place(*first).add(at)), M::load(place(*second).add(at)));
                let operand = M::operand(text);
                for twin in 0..TWINS {
                    for row in 0..2 {
                        let factor = &*factor.add(2 * twin + row);
                        products[twin][row][0] = M::add_product(products[twin][row][0], factor, operand);
                    }
                }
                factor = factor.add(2 * TWINS);
            }
            for twin in 0..TWINS {
                for row in 0..2 {
                    end::<M, 1>(&products[twin][row], targets[twin][row], at);
                }
            }
        }
        at += BLOCK_BYTES;
    }
}
