//! Fewer than k hubs learn nothing (§4.2), by exhaustion: for every set of k − 1 hubs and everything that they can
//! see, every key is equally likely.
//!
//! What they see: all bytes of their own tables, and of every other hub the ciphertext and tag of each message, up and
//! down, and the key tag. (What fewer hubs see is a part of it.) The formulas are those of
//! [`dske_protocol::coefficients`], over fields so small that every value of every pad can be tried; over GF(2^8) the
//! real [`Scheme`] is asked. Each check is also run on a scheme with a planted weakness, which it must find.

mod tiny;

use dske_protocol::{
    coefficients::{Coefficients, Field},
    field::Gf256,
    sharing::Scheme,
    tag::KeyTag,
};
use tiny::{
    Gf3, Gf4, Gf5, Gf8, Small,
    counting::{Joint, Verdict, View, sets},
    for_all, key_tag_blocks, tag,
};

/// Elements of the longest share looked at: c, d and S.
const SHARE_MAX: usize = 3;

/// Hubs of the largest agreement looked at as a whole.
const HUBS_MAX: usize = 4;

// -- one agreement, whole

/// What can be wrong with a scheme, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// Hubs 0 and 1 encrypt to the receiver under the same pad.
    SamePad,
    /// The down pad of a hub is the up pad of the next one.
    PadOfAnotherLane,
    /// The first share enters the secret with the factor 0.
    ZeroFactor,
    /// The last hub's x is 0, where the secret lies.
    XIsZero,
    /// The mask of a message tag is the first element of the share pad.
    TagKeyIsPad,
    /// The key tag bears no mask.
    UnmaskedKeyTag,
}

/// What is agreed, and how much of the protocol is looked at together.
#[derive(Debug, Clone, Copy)]
struct Case {
    n: u8,
    k: u8,
    receivers: usize,
    /// The secret is u ‖ S and the key tag is seen; otherwise it is S alone.
    key_tag: bool,
    /// Every message bears a tag.
    message_tags: bool,
    planted: Planted,
}

/// Runs of all hubs: for each that of the sender, then those of the receivers.
struct Runs<'a, F> {
    case: &'a Case,
    pads: &'a [F],
}

impl<'a, F: Field> Runs<'a, F> {
    fn run(&self, hub: usize, lane: usize) -> &'a [F] {
        let len = self.case.share_len() + self.case.tag_key_len();
        let at = (hub * (1 + self.case.receivers) + lane) * len;
        &self.pads[at..at + len]
    }

    fn pad(&self, hub: usize, lane: usize) -> &'a [F] {
        let (hub, lane) = match (self.case.planted, hub, lane) {
            (Planted::SamePad, 1, 1) => (0, 1),
            (Planted::PadOfAnotherLane, 0, 1) => (1, 0),
            _ => (hub, lane),
        };
        &self.run(hub, lane)[..self.case.share_len()]
    }

    /// Point and mask of the tag, where messages bear one.
    fn tag_key(&self, hub: usize, lane: usize) -> Option<(F, F)> {
        let [point, mask] = self.run(hub, lane)[self.case.share_len()..] else { return None };
        Some((point, if self.case.planted == Planted::TagKeyIsPad { self.pad(hub, lane)[0] } else { mask }))
    }
}

impl Case {
    const PLAIN: Self =
        Self { n: 0, k: 0, receivers: 1, key_tag: false, message_tags: false, planted: Planted::Nothing };

    /// Elements of a share.
    fn share_len(&self) -> usize {
        if self.key_tag { SHARE_MAX } else { 1 }
    }

    fn tag_key_len(&self) -> usize {
        if self.message_tags { 2 } else { 0 }
    }

    /// Elements of all pads of all hubs.
    fn pads_len(&self) -> usize {
        usize::from(self.n) * (1 + self.receivers) * (self.share_len() + self.tag_key_len())
    }

    /// One row of coefficients applied to the first k shares, which are pads (§2.3.1).
    fn combine<F: Field>(&self, row: &[F], runs: &Runs<'_, F>) -> [F; SHARE_MAX] {
        let mut sum = [F::ZERO; SHARE_MAX];
        for (hub, coefficient) in row.iter().enumerate() {
            for (sum, element) in sum.iter_mut().zip(runs.pad(hub, 0)) {
                *sum = sum.add(coefficient.mul(*element));
            }
        }
        sum
    }

    /// What the hubs in `corrupt` see of everything, and the key.
    ///
    /// The messages of a corrupt hub are left out: they follow from its table and its share, which are in.
    fn look<F: Small>(&self, rows: &Rows<F>, pads: &[F], corrupt: &[u8]) -> (View, F) {
        let runs = Runs { case: self, pads };
        let mut view = View::new();
        for position in 0..self.n {
            let hub = usize::from(position);
            let derived =
                hub.checked_sub(usize::from(self.k)).map(|at| self.combine(&rows.derived[at], &runs));
            let share = derived.as_ref().map_or(runs.pad(hub, 0), |share| &share[..self.share_len()]);
            if corrupt.contains(&position) {
                (0..=self.receivers).for_each(|lane| view.see(runs.run(hub, lane)));
                view.see(if derived.is_some() { share } else { &[] });
                continue;
            }
            for lane in 0..=self.receivers {
                let mut ciphertext = [F::ZERO; SHARE_MAX];
                // The first k hubs get no share: the pad is the share.
                let len = if lane == 0 && derived.is_none() { 0 } else { share.len() };
                let ciphertext = &mut ciphertext[..len];
                for ((to, share), pad) in ciphertext.iter_mut().zip(share).zip(runs.pad(hub, lane)) {
                    *to = share.add(*pad);
                }
                view.see(ciphertext);
                if let Some((point, mask)) = runs.tag_key(hub, lane) {
                    view.see(&[message_tag(point, mask, ciphertext)]);
                }
            }
        }
        let secret = self.combine(&rows.secret, &runs);
        if !self.key_tag {
            return (view, secret[0]);
        }
        let [point, mask, key] = secret;
        let mask = if self.planted == Planted::UnmaskedKeyTag { F::ZERO } else { mask };
        view.see(&[tag(point, mask, &key_tag_blocks(&[F::ONE], &[key], F::ONE))]);
        (view, key)
    }

    /// Tries all pads.
    fn verdict<F: Small>(&self, corrupt: &[u8]) -> Verdict {
        assert!(usize::from(self.n) <= HUBS_MAX);
        let rows = Rows::new(self);
        let views = self.look(&rows, &vec![F::ZERO; self.pads_len()], corrupt).0.values;
        let mut joint = Joint::new(views, F::SIZE);
        for_all(self.pads_len(), |pads| {
            let (view, key) = self.look(&rows, pads, corrupt);
            joint.count(view.number, key.number());
        });
        joint.verdict()
    }

    /// Fails unless k − 1 hubs learn nothing, whichever they are.
    fn assert_secret<F: Small>(&self) {
        for corrupt in sets(self.n, self.k - 1) {
            assert_eq!(self.verdict::<F>(&corrupt), Verdict::Independent, "{self:?}, hubs {corrupt:?}");
        }
    }
}

/// The tag of a message: over a constant for what is public in it, the ciphertext, and a length.
fn message_tag<F: Field>(point: F, mask: F, ciphertext: &[F]) -> F {
    let mut blocks = [F::ONE; SHARE_MAX + 2];
    blocks[1..=ciphertext.len()].copy_from_slice(ciphertext);
    tag(point, mask, &blocks[..ciphertext.len() + 2])
}

/// The coefficients of a case, from the real formulas.
struct Rows<F> {
    derived: Vec<Vec<F>>,
    secret: Vec<F>,
}

impl<F: Field> Rows<F> {
    fn new(case: &Case) -> Self {
        let coefficients = Coefficients::<F>::new(case.k);
        let first: Vec<u8> = (0..case.k).collect();
        let mut secret: Vec<F> = coefficients.secret_row(&first).collect();
        let derived = (case.k..case.n).map(|target| coefficients.derivation_row(target).collect());
        let mut derived: Vec<Vec<F>> = derived.collect();
        match case.planted {
            Planted::ZeroFactor => secret[0] = F::ZERO,
            Planted::XIsZero => *derived.last_mut().expect("a derived share") = secret.clone(),
            _ => {}
        }
        Self { derived, secret }
    }
}

#[test]
fn with_all_pads_tried_fewer_than_k_hubs_learn_nothing() {
    // Shares of one element: all ciphertexts of all hubs, up and down.
    for n in 1..=3 {
        for k in 1..=n {
            Case { n, k, ..Case::PLAIN }.assert_secret::<Gf4>();
            Case { n, k, receivers: 2, ..Case::PLAIN }.assert_secret::<Gf4>();
        }
    }
    for k in 1..=4 {
        Case { n: 4, k, ..Case::PLAIN }.assert_secret::<Gf5>();
    }
}

#[test]
fn with_all_pads_tried_key_tag_and_message_tags_tell_nothing_either() {
    for (n, k) in [(1, 1), (2, 1), (2, 2)] {
        Case { n, k, key_tag: true, ..Case::PLAIN }.assert_secret::<Gf3>();
        Case { n, k, message_tags: true, ..Case::PLAIN }.assert_secret::<Gf3>();
    }
    Case { n: 1, k: 1, key_tag: true, message_tags: true, ..Case::PLAIN }.assert_secret::<Gf3>();
    Case { n: 1, k: 1, key_tag: true, ..Case::PLAIN }.assert_secret::<Gf8>();
    // With up lanes only there are few enough pads for three hubs.
    for k in 1..=3 {
        Case { n: 3, k, receivers: 0, key_tag: true, ..Case::PLAIN }.assert_secret::<Gf4>();
    }
}

#[test]
fn k_hubs_know_the_key() {
    for (n, k) in [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)] {
        for corrupt in sets(n, k) {
            let case = Case { n, k, ..Case::PLAIN };
            assert_eq!(case.verdict::<Gf4>(&corrupt), Verdict::Determined, "{case:?}, hubs {corrupt:?}");
        }
    }
    let case = Case { n: 2, k: 1, key_tag: true, ..Case::PLAIN };
    assert_eq!(case.verdict::<Gf3>(&[1]), Verdict::Determined);
}

#[test]
fn planted_weaknesses_are_found() {
    let plain = |n, k, planted| Case { n, k, planted, ..Case::PLAIN };
    let cases: [(Case, &[u8]); 6] = [
        // The exclusive-or of the two ciphertexts is that of the shares: the key.
        (plain(2, 2, Planted::SamePad), &[]),
        (plain(2, 2, Planted::PadOfAnotherLane), &[]),
        (plain(3, 2, Planted::ZeroFactor), &[1]),
        (plain(3, 2, Planted::XIsZero), &[2]),
        (Case { message_tags: true, ..plain(1, 1, Planted::TagKeyIsPad) }, &[]),
        (Case { key_tag: true, ..plain(1, 1, Planted::UnmaskedKeyTag) }, &[]),
    ];
    for (case, corrupt) in cases {
        let healthy = Case { planted: Planted::Nothing, ..case };
        assert_eq!(healthy.verdict::<Gf4>(corrupt), Verdict::Independent, "{healthy:?}");
        assert_ne!(case.verdict::<Gf4>(corrupt), Verdict::Independent, "{case:?} was not found");
    }
}

// -- larger agreements, in parts
//
// Pads of different hubs, lanes and elements are independent. So from three facts, each shown for all values, the
// whole follows for any n, k and length: a message shows nothing of its share; k − 1 shares show nothing of the
// secret; and the key tag, beside a uniform u, shows nothing of the key.

#[test]
fn a_message_shows_nothing_of_its_share() {
    fn assert_hidden<F: Small>(share_len: usize) {
        let shares = F::SIZE.pow(u32::try_from(share_len).expect("short"));
        let mut joint = Joint::new(shares * F::SIZE, shares);
        for_all::<F>(2 * share_len + 2, |drawn| {
            let (share, rest) = drawn.split_at(share_len);
            let (pad, tag_key) = rest.split_at(share_len);
            let ciphertext: Vec<F> = share.iter().zip(pad).map(|(share, pad)| share.add(*pad)).collect();
            let mut view = View::new();
            view.see(&ciphertext);
            view.see(&[message_tag(tag_key[0], tag_key[1], &ciphertext)]);
            let mut secret = View::new();
            secret.see(share);
            joint.count(view.number, secret.number);
        });
        assert_eq!(joint.verdict(), Verdict::Independent);
    }
    assert_hidden::<Gf5>(1);
    assert_hidden::<Gf4>(3);
    assert_hidden::<Gf8>(2);
}

#[test]
fn k_minus_1_shares_show_nothing_of_the_secret_and_k_shares_show_it() {
    for n in 1..=6 {
        for k in 1..=n {
            let rows = Rows::<Gf8>::new(&Case { n, k, ..Case::PLAIN });
            for (seen, expected) in [(k - 1, Verdict::Independent), (k, Verdict::Determined)] {
                for hubs in sets(n, seen) {
                    assert_eq!(shares_verdict(&rows, k, &hubs), expected, "({n},{k}), hubs {hubs:?}");
                }
            }
        }
    }
}

/// Tries all first k shares, of one element.
fn shares_verdict<F: Small>(rows: &Rows<F>, k: u8, hubs: &[u8]) -> Verdict {
    let seen = u32::try_from(hubs.len()).expect("few");
    let mut joint = Joint::new(F::SIZE.pow(seen), F::SIZE);
    for_all::<F>(usize::from(k), |first| {
        let combine =
            |row: &[F]| row.iter().zip(first).fold(F::ZERO, |sum, (c, share)| sum.add(c.mul(*share)));
        let mut view = View::new();
        for &hub in hubs {
            let derived = || combine(&rows.derived[usize::from(hub - k)]);
            view.see(&[first.get(usize::from(hub)).copied().unwrap_or_else(derived)]);
        }
        joint.count(view.number, combine(&rows.secret).number());
    });
    joint.verdict()
}

#[test]
fn the_key_tag_shows_nothing_of_the_key() {
    fn verdict<F: Small>(context_len: usize, key_len: usize, masked: bool) -> Verdict {
        let keys = F::SIZE.pow(u32::try_from(key_len).expect("short"));
        let context = vec![F::of(F::SIZE - 1); context_len];
        let mut joint = Joint::new(F::SIZE, keys);
        for_all::<F>(2 + key_len, |secret| {
            let (u, key) = secret.split_at(2);
            let mask = if masked { u[1] } else { F::ZERO };
            let seen = tag(u[0], mask, &key_tag_blocks(&context, key, F::ONE));
            let mut number = View::new();
            number.see(key);
            joint.count(seen.number(), number.number);
        });
        joint.verdict()
    }
    for context_len in 0..3 {
        for key_len in 1..4 {
            assert_eq!(verdict::<Gf4>(context_len, key_len, true), Verdict::Independent);
            assert_eq!(verdict::<Gf8>(context_len, key_len, true), Verdict::Independent);
            assert_eq!(verdict::<Gf8>(context_len, key_len, false), Verdict::Leaking);
        }
    }
}

// -- the real field and the real code

/// The first k shares hold, side by side, every combination of k bytes.
fn all_first_shares(k: u8) -> Vec<Vec<u8>> {
    let combinations = 1_u32 << (8 * k);
    (0..k).map(|at| (0..combinations).map(|number| number.to_le_bytes()[usize::from(at)]).collect()).collect()
}

/// Whether no two of all combinations of the first shares give the same bytes in all these texts.
fn tells_all_apart(texts: &[&[u8]]) -> bool {
    let mut seen = vec![false; 1 << (8 * texts.len())];
    (0..texts[0].len()).all(|at| {
        let number = texts.iter().fold(0, |number, text| number << 8 | usize::from(text[at]));
        !std::mem::replace(&mut seen[number], true)
    })
}

/// Shares of all n positions and the secret, for every value of the first k.
fn real_shares(n: u8, k: u8) -> (Vec<Vec<u8>>, Vec<u8>) {
    let scheme = Scheme::new(n, k).expect("a scheme");
    let mut shares = all_first_shares(k);
    let mut rest = vec![vec![0; shares[0].len()]; usize::from(n - k)];
    let first: Vec<&[u8]> = shares.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
    scheme.derive_onto(&first, &mut outputs).expect("a valid call");
    let mut secret = vec![0; first[0].len()];
    scheme.secret_onto(&first, &mut secret).expect("a valid call");
    shares.append(&mut rest);
    (shares, secret)
}

// k bytes in, and of k − 1 shares and the secret k bytes out: where no two inputs give the same outputs, each pair of
// view and secret comes from exactly one input, and they are independent.

#[test]
fn in_the_real_field_one_hub_of_a_scheme_with_k_2_learns_nothing() {
    let (shares, secret) = real_shares(255, 2);
    for (position, share) in shares.iter().enumerate() {
        assert!(tells_all_apart(&[share, &secret]), "position {position}");
        assert!(!tells_all_apart(&[share, share]));
    }
}

#[test]
fn in_the_real_field_two_hubs_of_a_scheme_with_k_3_learn_nothing() {
    let (shares, secret) = real_shares(4, 3);
    for pair in sets(4, 2) {
        let [a, b] = [pair[0], pair[1]].map(|hub| shares[usize::from(hub)].as_slice());
        assert!(tells_all_apart(&[a, b, &secret]), "hubs {pair:?}");
    }
    // The exclusive-or of all of the first k is the secret.
    assert!(!tells_all_apart(&[&secret, &secret, &shares[0]]));
}

/// Most hubs whose rows are looked at.
const ROWS_MAX: usize = 20;

/// A row of coefficients; those beyond k are zero.
type Row = [u8; ROWS_MAX];

/// Rows over GF(2^8) that are independent, reduced against each other.
struct Independent {
    /// Each with a 1 at its leading place.
    rows: Vec<(usize, Row)>,
    products: Vec<[u8; 256]>,
    /// Sets of rows examined so far.
    sets: u64,
}

impl Independent {
    fn new() -> Self {
        let product = |a: u8, b: u8| Gf256(a).mul(Gf256(b)).0;
        let products = (0..=255)
            .map(|a| std::array::from_fn(|b| product(a, u8::try_from(b).expect("a byte"))))
            .collect();
        Self { rows: Vec::new(), products, sets: 0 }
    }

    /// Takes one more row in; `false` where it is a combination of those that are there.
    fn add(&mut self, row: &Row) -> bool {
        let mut row = *row;
        for (lead, known) in &self.rows {
            let times = &self.products[usize::from(row[*lead])];
            row.iter_mut().zip(known).for_each(|(to, from)| *to ^= times[usize::from(*from)]);
        }
        let Some(lead) = row.iter().position(|&c| c != 0) else { return false };
        let times = &self.products[usize::from(Gf256(row[lead]).inv().0)];
        row.iter_mut().for_each(|c| *c = times[usize::from(*c)]);
        self.rows.push((lead, row));
        true
    }

    /// Whether with any `more` of these rows all stay independent.
    fn stays_with_any(&mut self, more: usize, rows: &[Row]) -> bool {
        if more == 0 {
            self.sets += 1;
            return true;
        }
        (0..=rows.len() - more).all(|at| {
            if !self.add(&rows[at]) {
                return false;
            }
            let stays = self.stays_with_any(more - 1, &rows[at + 1..]);
            self.rows.pop();
            stays
        })
    }
}

/// What takes the first k shares to every share, from the real code: it is given the k unit vectors.
fn share_rows(n: u8, k: u8) -> Vec<Row> {
    let scheme = Scheme::new(n, k).expect("a scheme");
    let unit = |at: u8| -> Row { std::array::from_fn(|place| u8::from(place == usize::from(at))) };
    let first: Vec<Row> = (0..k).map(unit).collect();
    let mut rest = vec![[0; ROWS_MAX]; usize::from(n - k)];
    let slices: Vec<&[u8]> = first.iter().map(|row| row.as_slice()).collect();
    let mut outputs: Vec<&mut [u8]> = rest.iter_mut().map(|row| row.as_mut_slice()).collect();
    scheme.derive_onto(&slices, &mut outputs).expect("a valid call");
    [first, rest].concat()
}

/// What takes the first k shares to the secret: their exclusive-or.
fn secret_row(k: u8) -> Row {
    std::array::from_fn(|place| u8::from(place < usize::from(k)))
}

#[test]
fn in_the_real_field_no_k_minus_1_of_20_hubs_learn_anything() {
    // The rows of k − 1 shares and the row of the secret are independent: then shares and secret are k
    // independent uniform bytes. Rows do not depend on n, so n = 20 has every smaller n in it.
    let mut independent = Independent::new();
    for k in 1..=20 {
        let rows = share_rows(20, k);
        assert!(independent.add(&secret_row(k)));
        assert!(independent.stays_with_any(usize::from(k) - 1, &rows), "k = {k}");
        independent.rows.clear();
    }
    assert_eq!(independent.sets, (1 << 20) - 1, "every set of fewer than 20 hubs is examined once");
}

#[test]
fn in_the_real_field_any_k_of_12_hubs_know_the_key() {
    let mut independent = Independent::new();
    for k in 1..=12 {
        assert!(independent.stays_with_any(usize::from(k), &share_rows(12, k)), "k = {k}");
    }
    assert_eq!(independent.sets, (1 << 12) - 1, "every set of hubs is examined once");
}

#[test]
fn a_weak_row_is_found_by_its_rank() {
    let mut independent = Independent::new();
    assert!(independent.add(&secret_row(3)));
    let mut rows = share_rows(6, 3);
    assert!(independent.stays_with_any(2, &rows));
    // A hub at x = 0 has the secret.
    rows[4] = secret_row(3);
    assert!(!independent.stays_with_any(2, &rows));
}

// -- that the tag above is the real one

/// POLYVAL's field: x^128 + x^127 + x^126 + x^121 + 1, bit i of the number is x^i.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Wide(u128);

impl Field for Wide {
    const ZERO: Self = Self(0);
    const ONE: Self = Self(1);

    fn x(_: u8) -> Self {
        unreachable!("no shares in this field")
    }

    fn add(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    fn sub(self, other: Self) -> Self {
        self.add(other)
    }

    fn mul(self, other: Self) -> Self {
        Self((0..128).rev().fold(0, |product: u128, bit| {
            let reduction = (1 << 127 | 1 << 126 | 1 << 121 | 1) * (product >> 127);
            (product << 1) ^ reduction ^ (self.0 * (other.0 >> bit & 1))
        }))
    }

    fn div(self, _: Self) -> Self {
        unreachable!("nothing is divided in this field")
    }
}

#[test]
fn the_key_tag_examined_here_has_the_shape_of_the_real_one() {
    // POLYVAL multiplies with c · x^−128 (RFC 8452).
    const X_TO_MINUS_128: Wide = Wide(1 << 127 | 1 << 124 | 1 << 121 | 1 << 114 | 1);
    let blocks = |text: &[u8]| -> Vec<Wide> {
        let block = |part: &[u8]| {
            let mut padded = [0; 16];
            padded[..part.len()].copy_from_slice(part);
            Wide(u128::from_le_bytes(padded))
        };
        text.chunks(16).map(block).collect()
    };
    let text = |len: usize, seed: usize| -> Vec<u8> {
        (0..len).map(|i| (i * 167 + seed * 59 + 1).to_le_bytes()[0]).collect()
    };
    for (context_len, key_len) in [(0, 1), (5, 16), (16, 17), (33, 32), (48, 48)] {
        let (context, key, u) = (text(context_len, 1), text(key_len, 2), text(40, 3));
        let u: [u8; 40] = u.try_into().expect("40 bytes");
        let bits = |len: usize| u128::try_from(len * 8).expect("short");
        let lengths = Wide(bits(context_len) | bits(key_len) << 64);
        let point = blocks(&u[..16])[0].mul(X_TO_MINUS_128);
        let expected =
            tag(point, blocks(&u[16..32])[0], &key_tag_blocks(&blocks(&context), &blocks(&key), lengths));
        let real = KeyTag::of(&u, &context, &key);
        assert_eq!(*real.tag.as_bytes(), expected.0.to_le_bytes(), "context {context_len}, key {key_len}");
        let expected = tag(point, blocks(&u[32..])[0], &[Wide(1), Wide(0), Wide(0)]);
        assert_eq!(real.hint, expected.0.to_le_bytes()[..8], "context {context_len}, key {key_len}");
    }
}
