//! The walk over [`Twins`]: the first row of each is summed up, then what the second differs by.

use super::{BLOCK_BYTES, Multiplier, Places, Target, begin, end, load_input, plan::Twins};

/// One group over `from..to`, whole blocks.
///
/// # Safety
/// As for [`super::strip`].
#[inline(always)]
pub(super) unsafe fn strip<M: Multiplier>(
    group: &Twins<M>,
    places: &Places,
    targets: &[Target],
    from: usize,
    to: usize,
) {
    // SAFETY: the caller vouches for the texts; a group has one or two twins.
    unsafe {
        match (group.rows.len(), group.sum) {
            (1, None) => pass::<M, 1, 0>(group, places, targets, &[], from, to),
            (1, Some(sum)) => pass::<M, 1, 1>(group, places, targets, &[targets[sum]], from, to),
            (_, None) => pass::<M, 2, 0>(group, places, targets, &[], from, to),
            (_, Some(sum)) => pass::<M, 2, 1>(group, places, targets, &[targets[sum]], from, to),
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
    places: &Places,
    targets: &[Target],
    sums: &[Target; SUMS],
    from: usize,
    to: usize,
) {
    let targets = std::array::from_fn(|twin| group.rows[twin].map(|row| targets[row]));
    // SAFETY: as the caller vouches for; there are as many factors of differences as of pairs, if any.
    unsafe {
        match (&group.differences, &*places.shared, &*places.pairs) {
            (Some(differences), shared, pairs) => {
                let ratios = group.ratios.as_deref().unwrap_or_default();
                let over = Inputs { shared, pairs, alone: places.alone, differences, ratios };
                if ratios.is_empty() {
                    wide::<M, TWINS, SUMS, TWINS, 0>(group, &over, &targets, sums, from, to);
                } else {
                    wide::<M, TWINS, SUMS, TWINS, TWINS>(group, &over, &targets, sums, from, to);
                }
            }
            // A threshold of 3. The compiler is told how few they are, and makes no loops of them; of more it makes worse
            // code so.
            (None, &[a, b], &[pair]) => {
                let over =
                    Inputs { shared: &[a, b], pairs: &[pair], alone: None, differences: &[], ratios: &[] };
                wide::<M, TWINS, SUMS, 0, 0>(group, &over, &targets, sums, from, to);
            }
            (None, shared, pairs) => {
                let over = Inputs { shared, pairs, alone: None, differences: &[], ratios: &[] };
                wide::<M, TWINS, SUMS, 0, 0>(group, &over, &targets, sums, from, to);
            }
        }
    }
}

/// What a group's walk goes over: [`Places`], and factors.
struct Inputs<'a, M: Multiplier> {
    shared: &'a [*const u8],
    pairs: &'a [[*const u8; 2]],
    alone: Option<*const u8>,
    differences: &'a [M::Factor],
    ratios: &'a [M::Factor],
}

/// Goes over as many blocks at once as registers hold the sums of, then over what is left. `DIFFERENT` is `TWINS`, or 0
/// where all twins differ by the plain sum of the pairs. `RATIOS` is `TWINS`, or 0 where all ratios are 1.
///
/// # Safety
/// As for [`pass`]; there are `DIFFERENT` factors of differences for each pair and for an input that stands alone, and
/// `RATIOS` ratios.
#[inline(always)]
unsafe fn wide<
    M: Multiplier,
    const TWINS: usize,
    const SUMS: usize,
    const DIFFERENT: usize,
    const RATIOS: usize,
>(
    group: &Twins<M>,
    over: &Inputs<'_, M>,
    targets: &[[Target; 2]; TWINS],
    sums: &[Target; SUMS],
    from: usize,
    to: usize,
) {
    // SAFETY: as the caller vouches for.
    unsafe {
        if TWINS == 1 {
            let rest = (to - from) % (2 * BLOCK_BYTES);
            walk::<M, TWINS, SUMS, DIFFERENT, RATIOS, 2>(group, over, targets, sums, from, to - rest);
            walk::<M, TWINS, SUMS, DIFFERENT, RATIOS, 1>(group, over, targets, sums, to - rest, to);
        } else {
            walk::<M, TWINS, SUMS, DIFFERENT, RATIOS, 1>(group, over, targets, sums, from, to);
        }
    }
}

/// `WIDTH` blocks at once.
///
/// # Safety
/// As for [`wide`]; `to − from` is a multiple of `WIDTH` blocks.
#[inline(always)]
unsafe fn walk<
    M: Multiplier,
    const TWINS: usize,
    const SUMS: usize,
    const DIFFERENT: usize,
    const RATIOS: usize,
    const WIDTH: usize,
>(
    group: &Twins<M>,
    over: &Inputs<'_, M>,
    targets: &[[Target; 2]; TWINS],
    sums: &[Target; SUMS],
    from: usize,
    to: usize,
) {
    let mut at = from;
    while at < to {
        // SAFETY: `at` is WIDTH blocks or more before `to`; the factors read are one for each twin and input that is
        // shared, one for each twin and `DIFFERENT` for each pair and the input that stands alone, which only groups of
        // a plan have whose twins have ratios.
        unsafe {
            let mut plain = [[M::zero(); WIDTH]; SUMS];
            for row in 0..SUMS {
                begin::<M, WIDTH>(&mut plain[row], sums[row], at);
            }
            let mut products = [[M::zero(); WIDTH]; TWINS];
            let mut factor = group.shared_factors.as_ptr();
            for input in over.shared {
                for w in 0..WIDTH {
                    let text = load_input::<M>(*input, at + w * BLOCK_BYTES);
                    for row in 0..SUMS {
                        plain[row][w] = M::add(plain[row][w], text);
                    }
                    let operand = M::operand(text);
                    add_products::<M, TWINS, WIDTH>(&mut products, w, factor, operand);
                }
                factor = factor.add(TWINS);
            }
            // The sum is finished first: beside those of the rows there is no register for it.
            for row in 0..SUMS {
                for [_, second] in over.pairs {
                    for w in 0..WIDTH {
                        let text = load_input::<M>(*second, at + w * BLOCK_BYTES);
                        plain[row][w] = M::add(plain[row][w], text);
                    }
                }
                if RATIOS > 0
                    && let Some(alone) = over.alone
                {
                    for w in 0..WIDTH {
                        plain[row][w] = M::add(plain[row][w], M::load(alone.add(at + w * BLOCK_BYTES)));
                    }
                }
                end::<M, WIDTH>(&plain[row], sums[row], at);
            }
            let mut all = [M::zero(); WIDTH];
            let mut different = [[M::zero(); WIDTH]; DIFFERENT];
            let mut factor = group.pair_factors.as_ptr();
            let mut difference = over.differences.as_ptr();
            for [first, second] in over.pairs {
                for w in 0..WIDTH {
                    let at = at + w * BLOCK_BYTES;
                    let text = M::add(M::load(first.add(at)), M::load(second.add(at)));
                    let operand = M::operand(text);
                    if DIFFERENT == 0 {
                        all[w] = M::add(all[w], text);
                    }
                    add_products::<M, TWINS, WIDTH>(&mut products, w, factor, operand);
                    add_products::<M, DIFFERENT, WIDTH>(&mut different, w, difference, operand);
                }
                factor = factor.add(TWINS);
                difference = difference.add(DIFFERENT);
            }
            if RATIOS > 0
                && let Some(alone) = over.alone
            {
                for w in 0..WIDTH {
                    let operand = M::operand(load_input::<M>(alone, at + w * BLOCK_BYTES));
                    add_products::<M, TWINS, WIDTH>(&mut products, w, factor, operand);
                    add_products::<M, DIFFERENT, WIDTH>(&mut different, w, difference, operand);
                }
            }
            for twin in 0..TWINS {
                for row in 0..2 {
                    let mut sum = [M::zero(); WIDTH];
                    begin::<M, WIDTH>(&mut sum, targets[twin][row], at);
                    for w in 0..WIDTH {
                        if row == 1 {
                            let difference = if DIFFERENT == 0 { all[w] } else { different[twin][w] };
                            sum[w] = M::add(sum[w], difference);
                        }
                        if row == 1 && RATIOS > 0 {
                            let operand = M::operand(products[twin][w]);
                            sum[w] = M::add_product(sum[w], &over.ratios[twin], operand);
                        } else {
                            sum[w] = M::add(sum[w], products[twin][w]);
                        }
                    }
                    end::<M, WIDTH>(&sum, targets[twin][row], at);
                }
            }
        }
        at += WIDTH * BLOCK_BYTES;
    }
}

/// Adds the products of block `w` of an input by a factor for each of `TWINS` sums.
///
/// # Safety
/// The processor has the instructions of `M`; there are `TWINS` factors, and `w` is below `WIDTH`.
#[inline(always)]
unsafe fn add_products<M: Multiplier, const TWINS: usize, const WIDTH: usize>(
    sums: &mut [[M::Vector; WIDTH]; TWINS],
    w: usize,
    factors: *const M::Factor,
    operand: M::Operand,
) {
    for twin in 0..TWINS {
        // SAFETY: as the caller vouches for.
        unsafe { sums[twin][w] = M::add_product(sums[twin][w], &*factors.add(twin), operand) };
    }
}
