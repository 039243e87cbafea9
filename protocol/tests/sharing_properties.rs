//! Properties of sharing, of the field kernels, and of reconstruction among false shares.

use std::{cell::Cell, ops::Range};

use dske_protocol::{
    field::{Gf256, mul_add_rows},
    key_check::KeyCheck,
    message::NO_KEY_TAG,
    reconstruct::{Candidate, Reconstruction, WorkBound, reconstruct, reconstruct_only},
    sharing::{Scheme, SharingError},
    tag::KeyTag,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

const CONTEXT: &[u8] = b"context";

/// One agreement: all n shares of a random secret, and the key tag.
struct Agreement {
    scheme: Scheme,
    shares: Vec<Vec<u8>>,
    secret: Vec<u8>,
    tag: KeyTag,
}

fn random(len: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn slices(texts: &[Vec<u8>]) -> Vec<&[u8]> {
    texts.iter().map(Vec::as_slice).collect()
}

fn tag_of(secret: &[u8]) -> KeyTag {
    let (u, key) = secret.split_first_chunk().expect("a secret starts with u");
    KeyTag::of(u, CONTEXT, key)
}

impl Agreement {
    fn new(n: u8, k: u8, len: usize, rng: &mut StdRng) -> Self {
        Self::of((0..k).map(|_| random(len, rng)).collect(), n)
    }

    /// The agreement whose first k shares these are.
    fn of(first: Vec<Vec<u8>>, n: u8) -> Self {
        let k = u8::try_from(first.len()).expect("a threshold");
        let len = first.first().map_or(0, Vec::len);
        let scheme = Scheme::new(n, k).expect("a scheme");
        let mut rest = vec![vec![0; len]; usize::from(n - k)];
        let mut outputs: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
        scheme.derive_onto(&slices(&first), &mut outputs).expect("a valid call");
        let mut secret = vec![0; len];
        scheme.secret_onto(&slices(&first), &mut secret).expect("a valid call");
        let tag = tag_of(&secret);
        Self { scheme, shares: [first, rest].concat(), secret, tag }
    }

    fn given(&self, positions: &[u8]) -> Vec<&[u8]> {
        positions.iter().map(|&i| self.shares[usize::from(i)].as_slice()).collect()
    }

    fn corrupt(&mut self, positions: &[u8], rng: &mut StdRng) {
        for &position in positions {
            let share = &mut self.shares[usize::from(position)];
            *share = random(share.len(), rng);
        }
    }

    /// All but the part that gives u.
    fn corrupt_behind_u(&mut self, positions: &[u8], rng: &mut StdRng) {
        let len = self.secret.len();
        self.corrupt_within(40..len, positions, rng);
    }

    fn corrupt_within(&mut self, part: Range<usize>, positions: &[u8], rng: &mut StdRng) {
        positions.iter().for_each(|&i| rng.fill_bytes(&mut self.shares[usize::from(i)][part.clone()]));
    }

    /// Moves the shares at some positions onto one other polynomial.
    fn inject(&mut self, positions: &[u8], rng: &mut StdRng) {
        let other = Self::new(self.scheme.n(), self.scheme.k(), self.secret.len(), rng);
        self.take_over(positions, &other);
    }

    /// The same, onto one whose secret has the sender's key tag: whoever knows the tag finds the masks that give it.
    fn inject_with_the_same_tag(&mut self, positions: &[u8], rng: &mut StdRng) {
        let (n, k) = (self.scheme.n(), self.scheme.k());
        let mut other = Self::new(n, k, self.secret.len(), rng);
        let of = |tag: &KeyTag| [&tag.tag.as_bytes()[..], &tag.hint].concat();
        let difference: Vec<u8> = of(&other.tag).iter().zip(of(&self.tag)).map(|(a, b)| a ^ b).collect();
        let mut first = other.shares[..k.into()].to_vec();
        first[0][16..40].iter_mut().zip(difference).for_each(|(byte, change)| *byte ^= change);
        other = Self::of(first, n);
        assert_eq!(other.tag, self.tag);
        self.take_over(positions, &other);
    }

    fn take_over(&mut self, positions: &[u8], other: &Self) {
        for &position in positions {
            self.shares[usize::from(position)].clone_from(&other.shares[usize::from(position)]);
        }
    }

    fn reconstruct(&self, positions: &[u8], bound: &WorkBound) -> Reconstruction {
        self.reconstruct_for(self.tag, positions, bound)
    }

    /// With another key tag than the sender's, which none of its secrets has.
    fn reconstruct_for(&self, tag: KeyTag, positions: &[u8], bound: &WorkBound) -> Reconstruction {
        let shares: Vec<(u8, &[u8])> = positions.iter().copied().zip(self.given(positions)).collect();
        let (rng, check) = (&mut StdRng::seed_from_u64(99), KeyCheck::new(CONTEXT.to_vec(), tag));
        reconstruct(&self.scheme, &shares, &check, bound, rng, &|| false).expect("a valid call")
    }

    /// Reconstructs, checks the secret, and checks which shares are reported as false.
    fn expect_found(&self, positions: &[u8], false_positions: &[u8]) -> Candidate {
        let Reconstruction::Found(found) = self.reconstruct(positions, &WorkBound::default()) else {
            panic!("not found among {positions:?} with {false_positions:?} false");
        };
        let mut expected = false_positions.to_vec();
        expected.sort_unstable();
        assert_eq!(*found.secret, self.secret);
        assert_eq!(found.false_positions, expected);
        assert!(found.basis.iter().all(|i| positions.contains(i) && !expected.contains(i)));
        assert_eq!(found.basis.len(), usize::from(self.scheme.k()));
        found
    }
}

/// All positions in random order.
fn shuffled(n: u8, rng: &mut StdRng) -> Vec<u8> {
    let mut positions: Vec<u8> = (0..n).collect();
    positions.shuffle(rng);
    positions
}

#[test]
fn any_k_shares_of_any_small_scheme_reconstruct_and_predict_the_rest() {
    let rng = &mut StdRng::seed_from_u64(1);
    for n in 1..=12 {
        for k in 1..=n {
            let agreement = Agreement::new(n, k, 41, rng);
            for mask in (0..1_u32 << n).filter(|mask| mask.count_ones() == u32::from(k)) {
                let positions: Vec<u8> = (0..n).filter(|i| mask >> i & 1 == 1).collect();
                let given = agreement.given(&positions);
                let mut secret = vec![0; 41];
                agreement.scheme.reconstruct_onto(&positions, &given, &mut secret).expect("a valid call");
                assert_eq!(secret, agreement.secret, "({n},{k}) from {positions:?}");
                let target = u8::try_from(mask % u32::from(n)).expect("below n");
                let mut share = vec![0; 41];
                agreement.scheme.predict_onto(&positions, &given, target, &mut share).expect("a valid call");
                assert_eq!(share, agreement.shares[usize::from(target)], "({n},{k}) from {positions:?}");
            }
        }
    }
}

#[test]
fn deriving_chosen_positions_onto_pads_encrypts_the_same_shares() {
    let rng = &mut StdRng::seed_from_u64(2);
    let agreement = Agreement::new(9, 4, 100, rng);
    let pads = [random(100, rng), random(100, rng)];
    let mut texts = pads.clone();
    let mut outputs: Vec<&mut [u8]> = texts.iter_mut().map(Vec::as_mut_slice).collect();
    let first = slices(&agreement.shares[..4]);
    agreement.scheme.derive_positions_onto(&first, &[8, 5], &mut outputs).expect("a valid call");
    for ((text, pad), position) in texts.iter().zip(&pads).zip([8, 5]) {
        let share: Vec<u8> = text.iter().zip(pad).map(|(z, r)| z ^ r).collect();
        assert_eq!(share, agreement.shares[position]);
    }
}

#[test]
fn the_largest_scheme_works() {
    let rng = &mut StdRng::seed_from_u64(3);
    let mut agreement = Agreement::new(255, 128, 64, rng);
    let mut liars = shuffled(255, rng);
    liars.truncate(63);
    agreement.inject(&liars, rng);
    agreement.expect_found(&(0..255).collect::<Vec<_>>(), &liars);

    let mut agreement = Agreement::new(255, 1, 64, rng);
    agreement.corrupt(&[0, 254], rng);
    agreement.expect_found(&(0..255).collect::<Vec<_>>(), &[0, 254]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_match_the_field_at_all_lengths_and_alignments(
        seed: u64,
        (rows, inputs, skew) in (0_usize..6, 0_usize..6, 0_usize..16),
    ) {
        let rng = &mut StdRng::seed_from_u64(seed);
        for len in 0..200 {
            let coefficients: Vec<Vec<u8>> = (0..rows).map(|_| random(inputs, rng)).collect();
            let buffers: Vec<Vec<u8>> = (0..inputs).map(|_| random(len + skew, rng)).collect();
            let given: Vec<&[u8]> = buffers.iter().map(|buffer| &buffer[skew..]).collect();
            let mut outputs: Vec<Vec<u8>> = (0..rows).map(|_| random(len + skew / 2, rng)).collect();
            let mut expected = outputs.clone();
            for (row, output) in coefficients.iter().zip(&mut expected) {
                for (at, byte) in output[skew / 2..].iter_mut().enumerate() {
                    for (coefficient, input) in row.iter().zip(&given) {
                        *byte ^= Gf256(*coefficient).mul(Gf256(input[at])).0;
                    }
                }
            }
            let mut views: Vec<&mut [u8]> = outputs.iter_mut().map(|output| &mut output[skew / 2..]).collect();
            mul_add_rows(&slices(&coefficients), &given, &mut views);
            prop_assert_eq!(&outputs, &expected);
        }
    }

    #[test]
    fn inverses_and_distributivity(a: u8, b: u8, c: u8) {
        let (a, b, c) = (Gf256(a), Gf256(b), Gf256(c));
        prop_assert_eq!(a.mul(b.add(c)), a.mul(b).add(a.mul(c)));
        prop_assert_eq!(a.mul(b).mul(c), a.mul(b.mul(c)));
        prop_assert_eq!(a.mul(a.inv()), if a == Gf256::ZERO { Gf256::ZERO } else { Gf256::ONE });
    }

    /// Liars who fill in noise, and liars who share another secret among themselves: with at least k + 1
    /// honest shares, or exactly k, the secret is found and every false share named.
    #[test]
    fn false_shares_are_located(seed: u64, n in 2_u8..=10, k_of in 0_u8..10, liars_of in 0_u8..10, mode in 0..3) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let k = 1 + k_of % n;
        let mut agreement = Agreement::new(n, k, 80, rng);
        let positions = shuffled(n, rng);
        let (absent, present) = positions.split_at(usize::from(n - k) / 3);
        let liars = &present[..usize::from(liars_of) % (present.len() - usize::from(k) + 1)];
        match mode {
            0 => agreement.corrupt(liars, rng),
            1 => agreement.inject(liars, rng),
            // The smallest lie: one bit. Each in a byte of its own: errors in one byte could cancel in the secret, and
            // the honest shares would lie off the polynomial then.
            _ => liars.iter().for_each(|&i| agreement.shares[usize::from(i)][79 - usize::from(i)] ^= 1),
        }
        let found = agreement.expect_found(present, liars);
        prop_assert!(found.basis.iter().all(|i| !absent.contains(i)));
    }

    #[test]
    fn fewer_than_k_honest_shares_give_nothing(seed: u64, n in 1_u8..=9, k_of in 0_u8..9) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let k = 1 + k_of % n;
        let mut agreement = Agreement::new(n, k, 48, rng);
        let positions = shuffled(n, rng);
        agreement.corrupt(&positions[usize::from(k) - 1..], rng);
        let outcome = agreement.reconstruct(&positions, &WorkBound::default());
        let gave_up = matches!(outcome, Reconstruction::None { exhausted: true, .. });
        prop_assert!(gave_up);
    }

    /// k liars who know a key tag that both secrets pass: the receiver must not choose.
    #[test]
    fn two_secrets_that_validate_are_ambiguous(seed: u64, k in 1_u8..=5, more in 0_u8..=2) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let n = 2 * k + more;
        let mut agreement = Agreement::new(n, k, 64, rng);
        let positions = shuffled(n, rng);
        let liars = &positions[..k.into()];
        agreement.inject_with_the_same_tag(liars, rng);
        let outcome = agreement.reconstruct(&positions, &WorkBound::default());
        prop_assert!(matches!(outcome, Reconstruction::Ambiguous));
    }
}

#[test]
fn twenty_hubs_with_ten_liars_still_deliver() {
    let rng = &mut StdRng::seed_from_u64(4);
    let mut agreement = Agreement::new(20, 10, 64, rng);
    let mut liars = shuffled(20, rng);
    liars.truncate(10);
    agreement.corrupt(&liars, rng);
    agreement.expect_found(&(0..20).collect::<Vec<_>>(), &liars);
}

/// Decoding alone, without a search of subsets: arranged errors up to half of the redundancy, noise up to
/// 16/17 of it, also in the shares that the clean path takes.
#[test]
fn decoding_needs_no_search() {
    let rng = &mut StdRng::seed_from_u64(10);
    let all: Vec<u8> = (0..20).collect();
    let bound = WorkBound { subsets_max: 0, ..WorkBound::default() };
    for k in [1, 2, 10, 18] {
        let mut arranged = Agreement::new(20, k, 300, rng);
        let liars = &all[..usize::from(20 - k) / 2];
        arranged.inject(liars, rng);
        let mut noisy = Agreement::new(20, k, 300, rng);
        let noise = &all[1..=usize::from(20 - k) * 16 / 17];
        noisy.corrupt(noise, rng);
        for (agreement, false_positions) in [(arranged, liars), (noisy, noise)] {
            let outcome = agreement.reconstruct(&all, &bound);
            let Reconstruction::Found(found) = outcome else { panic!("k = {k}, {false_positions:?} false") };
            assert_eq!(*found.secret, agreement.secret);
            assert_eq!(found.false_positions, false_positions);
        }
    }
}

/// Long shares are reduced strip by strip, sparsely first. Liars may lie everywhere or in one byte, in places of
/// their own or in one, with unrelated errors or with one polynomial among them.
#[test]
fn false_shares_are_located_in_long_shares_wherever_they_differ() {
    let rng = &mut StdRng::seed_from_u64(11);
    let all: Vec<u8> = (0..9).collect();
    for len in [16_384, 16_385, 100_000] {
        for liars in [&[0][..], &[8], &[1, 3], &[2, 6], &[0, 4, 8], &[1, 2, 3, 4], &[0, 6, 7, 8]] {
            for mode in 0..5 {
                let mut agreement = Agreement::new(9, 5, len, rng);
                match mode {
                    0 => agreement.corrupt(liars, rng),
                    1 => agreement.inject(liars, rng),
                    // All in one place, of so many bytes that no errors cancel in the secret.
                    2 => liars
                        .iter()
                        .for_each(|&i| rng.fill_bytes(&mut agreement.shares[usize::from(i)][len - 16..])),
                    3 => liars
                        .iter()
                        .for_each(|&i| agreement.shares[usize::from(i)][len / 9 * usize::from(i)] ^= 1),
                    // One everywhere, the others in one byte.
                    _ => {
                        agreement.corrupt(&liars[..1], rng);
                        for &i in &liars[1..] {
                            agreement.shares[usize::from(i)][len / 2 + usize::from(i)] ^= 0x80;
                        }
                    }
                }
                agreement.expect_found(&all, liars);
            }
        }
    }
}

#[test]
fn agreeing_liars_beyond_half_the_redundancy_are_outvoted_by_the_tag() {
    let rng = &mut StdRng::seed_from_u64(5);
    let mut agreement = Agreement::new(14, 5, 5000, rng);
    let liars = [0, 2, 3, 5, 7, 11, 12, 13];
    agreement.inject(&liars, rng);
    agreement.expect_found(&(0..14).collect::<Vec<_>>(), &liars);
}

/// More liars than decoding can locate: what is gone over on the full length is a few shares' worth, however many subsets there
/// are and however the errors were chosen, and the bound on it says so.
#[test]
fn what_few_true_shares_give_is_found_with_little_full_length_work() {
    for seed in 0..40 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut agreement = Agreement::new(14, 7, 200, rng);
        let mut liars = shuffled(14, rng);
        liars.truncate(7);
        match seed % 5 {
            0 => agreement.inject(&liars, rng),
            1 => agreement.corrupt(&liars, rng),
            // Behind u alone: every one of the 3432 subsets gives the sender's u.
            2 => agreement.corrupt_behind_u(&liars, rng),
            // In the mask of the tag alone: every one gives the sender's point, and nearly each a mask of its own.
            3 => agreement.corrupt_within(16..32, &liars, rng),
            // In the mask of the hint alone.
            _ => agreement.corrupt_within(32..40, &liars, rng),
        }
        // Two passes over each share, times 8, and what decoding proposes.
        let passes = if matches!(seed % 5, 2 | 3) { 2 * 8 * 14 + 8 } else { 8 };
        let bound = WorkBound { full_length_bytes_max: passes * 200, ..WorkBound::default() };
        let outcome = agreement.reconstruct(&(0..14).collect::<Vec<_>>(), &bound);
        let Reconstruction::Found(found) = outcome else { panic!("seed {seed}, {liars:?} lie") };
        assert_eq!(*found.secret, agreement.secret);
    }
}

/// Liars whose errors cancel in u for the sets that they are in give the sender's u, too: each set is judged by itself.
#[test]
fn errors_that_cancel_in_u_hide_nobody() {
    for seed in 0..8 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (n, k) = (9, 5);
        let mut agreement = Agreement::new(n, k, 600, rng);
        // The first k, of which four lie: three at random, and the fourth so that their errors in u add up to nothing.
        let liars = [0, 1, 2, 3];
        for liar in 0..3 {
            let error = random(600, rng);
            for (at, byte) in error.iter().enumerate() {
                agreement.shares[liar][at] ^= byte;
                if at < 40 {
                    agreement.shares[3][at] ^= byte;
                }
            }
        }
        rng.fill_bytes(&mut agreement.shares[3][40..]);
        agreement.expect_found(&(0..n).collect::<Vec<_>>(), &liars);
    }
}

#[test]
fn a_subset_of_many_coefficients_counts_in_proportion() {
    let rng = &mut StdRng::seed_from_u64(12);
    // s times k, and what is left of 64 subsets.
    for (n, k, subsets) in [(16, 8, 64), (32, 8, 64), (33, 8, 32), (40, 20, 16), (64, 32, 8)] {
        let mut agreement = Agreement::new(n, k, 64, rng);
        let all: Vec<u8> = (0..n).collect();
        agreement.corrupt_behind_u(&all, rng);
        let bound = WorkBound { subsets_max: 64, ..WorkBound::default() };
        // All give one u, which is the sender's, and so each is tried until images are cheaper.
        let outcome = agreement.reconstruct(&all, &bound);
        let Reconstruction::None { tried, exhausted: false } = outcome else { panic!("({n}, {k})") };
        assert_eq!(tried, 1 + subsets, "({n}, {k}): the first k shares, and those");
    }
}

#[test]
fn shares_of_one_wrong_polynomial_are_given_up_at_once() {
    for len in [64, 40_000] {
        let agreement = Agreement::new(20, 3, len, &mut StdRng::seed_from_u64(6));
        let positions: Vec<u8> = (0..20).collect();
        let outcome = agreement.reconstruct_for(NO_KEY_TAG, &positions, &WorkBound::default());
        assert!(matches!(outcome, Reconstruction::None { tried: 1, exhausted: true }), "{len} bytes");
    }
}

#[test]
fn the_work_bound_holds() {
    let rng = &mut StdRng::seed_from_u64(7);
    let mut agreement = Agreement::new(12, 4, 100, rng);
    agreement.corrupt_behind_u(&[0, 1, 2, 3, 4, 5, 6, 7, 8], rng);
    let positions: Vec<u8> = (0..12).collect();
    for (bound, most) in [
        (WorkBound { full_length_bytes_max: 1000, ..WorkBound::default() }, 11),
        (WorkBound { subsets_max: 20, ..WorkBound::default() }, 21),
        (WorkBound { full_length_bytes_max: 0, subsets_max: 0 }, 1),
    ] {
        let outcome = agreement.reconstruct(&positions, &bound);
        let Reconstruction::None { tried, exhausted: false } = outcome else { panic!("{bound:?}") };
        assert!(tried <= most, "{tried} tried under {bound:?}");
    }
}

#[test]
fn cancelling_stops_the_search() {
    let rng = &mut StdRng::seed_from_u64(8);
    let mut agreement = Agreement::new(20, 10, 64, rng);
    agreement.corrupt_behind_u(&(0..12).collect::<Vec<_>>(), rng);
    let check = KeyCheck::new(CONTEXT.to_vec(), agreement.tag);
    let shares: Vec<(u8, &[u8])> = (0..20).zip(slices(&agreement.shares)).collect();
    let polls = Cell::new(0);
    let cancelled = || polls.replace(polls.get() + 1) >= 30;
    let outcome = reconstruct(&agreement.scheme, &shares, &check, &WorkBound::default(), rng, &cancelled);
    assert!(matches!(outcome, Ok(Reconstruction::None { tried: 1..=30, exhausted: false })));
    assert!(polls.get() < 40);
}

#[test]
fn bad_input_is_an_error() {
    let scheme = Scheme::new(4, 2).expect("a scheme");
    let attempt = |shares: &[(u8, &[u8])]| {
        let (rng, check) = (&mut StdRng::seed_from_u64(9), KeyCheck::new(Vec::new(), NO_KEY_TAG));
        reconstruct(&scheme, shares, &check, &WorkBound::default(), rng, &|| false).err()
    };
    assert_eq!(attempt(&[(0, &[1])]), Some(SharingError::ShareCount { needed: 2, given: 1 }));
    assert_eq!(attempt(&[(1, &[1]), (1, &[1])]), Some(SharingError::RepeatedPosition { position: 1 }));
    assert_eq!(
        attempt(&[(0, &[1]), (4, &[1])]),
        Some(SharingError::Position { position: 4, first: 0, end: 4 })
    );
    assert_eq!(attempt(&[(0, &[1]), (2, &[])]), Some(SharingError::Empty));
    assert_eq!(attempt(&[(0, &[1]), (2, &[1, 2])]), Some(SharingError::Length { expected: 1, given: 2 }));
    assert_eq!(attempt(&[(3, &[1]), (2, &[1])]), None);
}

#[test]
fn a_key_of_which_no_rival_validates_is_never_refused_where_it_must_be_the_only_one() {
    let rng = &mut StdRng::seed_from_u64(77);
    for n in 2..=8_u8 {
        for k in 1..n {
            for (bad, way) in (0..=n - k).flat_map(|bad| (0..4).map(move |way| (bad, way))) {
                let mut agreement = Agreement::new(n, k, 200, rng);
                let positions = shuffled(n, rng);
                let bad = &positions[..usize::from(bad)];
                match way {
                    0 => agreement.corrupt(bad, rng),
                    1 => agreement.corrupt_behind_u(bad, rng),
                    2 => agreement.corrupt_within(0..16, bad, rng),
                    _ => bad.iter().for_each(|&at| agreement.shares[usize::from(at)][199] ^= 1),
                }
                let given = shuffled(n, rng);
                let shares: Vec<(u8, &[u8])> = given.iter().copied().zip(agreement.given(&given)).collect();
                let check = KeyCheck::new(CONTEXT.to_vec(), agreement.tag);
                let bound = WorkBound::default();
                let found = reconstruct_only(&agreement.scheme, &shares, &check, &bound, rng, &|| false);
                let Ok(Reconstruction::Found(found)) = found else { panic!("({n},{k}), {bad:?}, way {way}") };
                let mut bad = bad.to_vec();
                bad.sort_unstable();
                assert_eq!(*found.secret, agreement.secret, "({n},{k}), {bad:?}, way {way}");
                if way < 3 {
                    // Errors that are equal may cancel, and then honest shares look off.
                    assert_eq!(found.false_positions, bad, "({n},{k}), way {way}");
                }
            }
        }
    }
}
