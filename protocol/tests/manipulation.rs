//! The key tag withstands shifts of u and S together (§2.3.2, `docs/PROTOCOL.md`, 6), by exhaustion in small fields:
//! for every offset that changes the key, at most e − 1 of the points c are accepted, e being the number of blocks. And the
//! hint beside the tag, which says whether a secret may begin with some u, is passed by few shifted points, and tells nothing.
//!
//! A layout without its two details, the odd number of blocks and the leading 1, is examined as well, and must fail.

mod tiny;

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::coefficients::Field;
use tiny::{Gf8, Small, for_all, key_tag_blocks, tag};

/// For a key and all offsets: the most points that accept a shifted key under the old tag.
fn accepted_max<F: Small>(key: &[F], layout: impl Fn(&[F]) -> Vec<F>) -> usize {
    let old = layout(key);
    let mut most = 0;
    for_all::<F>(key.len() + 1, |offsets| {
        let (point_shift, key_shift) = (offsets[0], &offsets[1..]);
        if key_shift.iter().all(|&shift| shift == F::ZERO) {
            return;
        }
        let shifted: Vec<F> = key.iter().zip(key_shift).map(|(key, shift)| key.add(*shift)).collect();
        let new = layout(&shifted);
        // For each point the mask's shift that is accepted is the difference of the hashes: the adversary takes
        // the one that most points have.
        let mut points = vec![0; F::SIZE];
        for point in F::all() {
            let difference = tag(point.add(point_shift), F::ZERO, &new).sub(tag(point, F::ZERO, &old));
            points[difference.number()] += 1;
        }
        most = most.max(points.into_iter().max().unwrap_or(0));
    });
    most
}

/// The worst over all keys of a length.
fn worst<F: Small>(key_len: usize, layout: impl Fn(&[F]) -> Vec<F>) -> usize {
    let mut most = 0;
    for_all::<F>(key_len, |key| most = most.max(accepted_max(key, &layout)));
    most
}

#[test]
fn a_shifted_key_is_accepted_at_no_more_than_e_minus_1_points() {
    for (context_len, key_len) in [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)] {
        for context in Gf8::all() {
            let context = vec![context; context_len];
            let layout = |key: &[Gf8]| key_tag_blocks(&context, key, Gf8::ONE);
            let blocks = layout(&vec![Gf8::ZERO; key_len]).len();
            assert!(blocks % 2 == 1, "e is odd");
            let worst = worst(key_len, layout);
            assert!(
                worst < blocks,
                "context {context_len}, key {key_len}: {worst} points of {blocks} blocks"
            );
            // The bound says something: some points refuse, whatever the offset.
            assert!(blocks > Gf8::SIZE || worst < Gf8::SIZE, "context {context_len}, key {key_len}");
        }
    }
}

/// A member of a group knows its own u and the key. What it makes of them so that its own tag would stay fits the unknown u
/// of another member at a few points only, and its own always: so both must not be the same.
#[test]
fn what_is_made_with_a_members_own_u_fits_another_ones_at_no_more_than_e_minus_1_points() {
    for_all::<Gf8>(4, |list| {
        let &[own, point_shift, key, key_shift] = list else { unreachable!("four elements") };
        if key_shift == Gf8::ZERO {
            return;
        }
        let layout = |key: Gf8| key_tag_blocks(&[Gf8::ONE], &[key], Gf8::ONE);
        let (old, new) = (layout(key), layout(key.add(key_shift)));
        let hashes = |point: Gf8| (tag(point, Gf8::ZERO, &old), tag(point.add(point_shift), Gf8::ZERO, &new));
        let shift = |point: Gf8| hashes(point).0.sub(hashes(point).1);
        let mask_shift = shift(own);
        let accepts = |point: &Gf8| shift(*point) == mask_shift;
        assert!(accepts(&own));
        assert!(Gf8::all().filter(accepts).count() < old.len());
    });
}

/// `(γ + δ)^3 − γ^3`: what a shift of the point changes in the hint, of which the low bits are given.
fn hint_difference<F: Small>(point: F, shift: F) -> F {
    let cube = |point: F| tag(point, F::ZERO, &[F::ONE, F::ZERO, F::ZERO]);
    cube(point.add(shift)).sub(cube(point))
}

/// A shift of the point is accepted by the hint for at most 2 of 2^bits of the points, whatever the shift of the mask.
#[test]
fn a_shifted_point_passes_the_hint_at_few_points() {
    for bits in 1..=3 {
        let low = (1 << bits) - 1;
        for shift in Gf8::all().filter(|shift| *shift != Gf8::ZERO) {
            let mut points = vec![0; 1 << bits];
            Gf8::all().for_each(|point| points[hint_difference(point, shift).number() & low] += 1);
            let most = points.into_iter().max().unwrap_or(0);
            assert!(most <= 2 * (Gf8::SIZE >> bits), "{bits} bits, shift {shift:?}: {most} points");
        }
    }
}

/// The hint beside the tag tells nothing of the point: beside every tag and hint, each point is equally likely, whatever the
/// key, and with the key each pair of masks fits one pair of tag and hint. With the tag's mask for both, the two together would tell.
#[test]
fn tag_and_hint_under_masks_of_their_own_tell_nothing_of_the_point() {
    let key = Gf8::of(5);
    let blocks = key_tag_blocks(&[Gf8::ONE], &[key], Gf8::ONE);
    let hint = |point: Gf8, mask: Gf8| tag(point, mask, &[Gf8::ONE, Gf8::ZERO, Gf8::ZERO]);
    for bits in 1..=3 {
        let low = (1 << bits) - 1;
        let mut points = BTreeMap::<(usize, usize), Vec<usize>>::new();
        let mut under_one_mask = BTreeMap::<(usize, usize), BTreeSet<usize>>::new();
        for_all::<Gf8>(3, |list| {
            let &[point, mask, mask_of_hint] = list else { unreachable!("three elements") };
            let seen = (tag(point, mask, &blocks).number(), hint(point, mask_of_hint).number() & low);
            points.entry(seen).or_insert_with(|| vec![0; Gf8::SIZE])[point.number()] += 1;
            let seen = (seen.0, hint(point, mask).number() & low);
            under_one_mask.entry(seen).or_default().insert(point.number());
        });
        assert!(points.values().all(|counts| counts.iter().all(|&count| count == counts[0] && count > 0)));
        assert!(under_one_mask.values().any(|points| points.len() < Gf8::SIZE), "{bits} bits");
    }
}

#[test]
fn without_the_odd_number_of_blocks_a_shifted_key_is_always_accepted() {
    // Six blocks: 1, 0, the key, a length.
    let layout = |key: &[Gf8]| [&[Gf8::ONE, Gf8::ZERO], key, &[Gf8::ONE]].concat();
    assert_eq!(accepted_max(&[Gf8::ZERO; 3], layout), Gf8::SIZE);
    let sound = |key: &[Gf8]| key_tag_blocks(&[], key, Gf8::ONE);
    assert!(accepted_max(&[Gf8::ZERO; 3], sound) < Gf8::SIZE);
}

#[test]
fn without_the_leading_one_some_shifted_key_is_always_accepted() {
    // The plain tag of five blocks of key: an even number of blocks, and the key's own first block leads.
    let key = [Gf8::ONE, Gf8::ZERO, Gf8::ZERO, Gf8::ZERO, Gf8::ZERO];
    let layout = |key: &[Gf8]| [key, &[Gf8::ONE]].concat();
    assert_eq!(accepted_max(&key, layout), Gf8::SIZE);
}
