//! Groups (§1, §4.2), by exhaustion: what k − 1 hubs learn of the key, and what k − 1 hubs and every other receiver
//! learn together of one receiver's u. The answer is nothing, for every set of hubs: beside everything that they see, each
//! key, and each point c of that u, is equally likely.
//!
//! Two receivers; a share has five elements, those of c_1, d_1, c_2, d_2 and S. Tables, pads and message tags are left out:
//! `secrecy.rs` shows that messages say nothing of what they carry. With one u for both receivers, or without its mask, the
//! check must find what is wrong.

mod tiny;

use dske_protocol::coefficients::Coefficients;
use tiny::{
    Gf3, Gf4, Gf5, Small,
    counting::{Joint, Verdict, View, sets},
    for_all, key_tag_blocks, tag,
};

/// Elements of a share.
const SHARE: usize = 5;
/// Places in a share.
const U_1: [usize; 2] = [0, 1];
const U_2: [usize; 2] = [2, 3];
const KEY: usize = 4;

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// k − 1 hubs, and whoever reads the line.
    Hubs,
    /// They and the first receiver.
    HubsAndMember,
}

/// What they would like to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Key,
    /// The point of the second receiver's u.
    Point,
}

/// What can be wrong with a group, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// The first receiver's u serves for both.
    OneForAll,
    /// The second receiver's key tag bears no mask.
    Unmasked,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    n: u8,
    k: u8,
    who: Who,
    about: About,
    planted: Planted,
}

impl Case {
    /// All shares, the derived ones with the real formulas, and the secret.
    fn shares<F: Small>(&self, first: &[F]) -> (Vec<[F; SHARE]>, [F; SHARE]) {
        let coefficients = Coefficients::<F>::new(self.k);
        let combine = |row: &[F]| -> [F; SHARE] {
            std::array::from_fn(|at| {
                let terms = row.iter().zip(first.chunks(SHARE)).map(|(factor, share)| factor.mul(share[at]));
                terms.fold(F::ZERO, F::add)
            })
        };
        let given: Vec<u8> = (0..self.k).collect();
        let secret: Vec<F> = coefficients.secret_row(&given).collect();
        let mut shares: Vec<[F; SHARE]> =
            first.chunks(SHARE).map(|share| share.try_into().expect("a whole share")).collect();
        for target in self.k..self.n {
            shares.push(combine(&coefficients.derivation_row(target).collect::<Vec<F>>()));
        }
        (shares, combine(&secret))
    }

    fn look<F: Small>(&self, first: &[F], corrupt: &[u8]) -> (View, F) {
        let (shares, secret) = self.shares(first);
        let mut view = View::new();
        corrupt.iter().for_each(|&hub| view.see(&shares[usize::from(hub)]));
        if self.who == Who::HubsAndMember {
            // With one more share of its own u and of the key all of these follow, so further hubs tell no more.
            let honest = (0..self.n).find(|hub| !corrupt.contains(hub)).expect("k − 1 of n hubs are corrupt");
            let share = &shares[usize::from(honest)];
            view.see(&[share[U_1[0]], share[U_1[1]], share[KEY]]);
        }
        let of = |[point, mask]: [usize; 2], masked: bool| {
            let mask = if masked { secret[mask] } else { F::ZERO };
            tag(secret[point], mask, &key_tag_blocks(&[F::ONE], &[secret[KEY]], F::ONE))
        };
        let second = if self.planted == Planted::OneForAll { U_1 } else { U_2 };
        view.see(&[of(U_1, true), of(second, self.planted != Planted::Unmasked)]);
        (view, secret[if self.about == About::Key { KEY } else { second[0] }])
    }

    /// Tries all first k shares.
    fn verdict<F: Small>(&self, corrupt: &[u8]) -> Verdict {
        let drawn = usize::from(self.k) * SHARE;
        let views = self.look::<F>(&vec![F::ZERO; drawn], corrupt).0.values;
        let mut joint = Joint::new(views, F::SIZE);
        for_all::<F>(drawn, |first| {
            let (view, sought) = self.look(first, corrupt);
            joint.count(view.number, sought.number());
        });
        joint.verdict()
    }

    /// Fails unless k − 1 hubs learn nothing, whichever they are.
    fn assert_nothing_is_learnt<F: Small>(&self) {
        for corrupt in sets(self.n, self.k - 1) {
            assert_eq!(self.verdict::<F>(&corrupt), Verdict::Independent, "{self:?}, hubs {corrupt:?}");
        }
    }
}

fn case(n: u8, k: u8, who: Who, about: About) -> Case {
    Case { n, k, who, about, planted: Planted::Nothing }
}

#[test]
fn k_minus_1_hubs_and_both_key_tags_show_nothing_of_the_key() {
    case(1, 1, Who::Hubs, About::Key).assert_nothing_is_learnt::<Gf5>();
    case(2, 1, Who::Hubs, About::Key).assert_nothing_is_learnt::<Gf5>();
    for n in 2..=3 {
        case(n, 2, Who::Hubs, About::Key).assert_nothing_is_learnt::<Gf4>();
    }
}

#[test]
fn k_minus_1_hubs_and_the_other_receiver_learn_nothing_of_a_receivers_point() {
    for n in 1..=3 {
        case(n, 1, Who::HubsAndMember, About::Point).assert_nothing_is_learnt::<Gf4>();
    }
    case(2, 2, Who::HubsAndMember, About::Point).assert_nothing_is_learnt::<Gf3>();
    case(3, 2, Who::HubsAndMember, About::Point).assert_nothing_is_learnt::<Gf4>();
}

#[test]
fn the_other_receiver_knows_the_key() {
    assert_eq!(case(3, 2, Who::HubsAndMember, About::Key).verdict::<Gf4>(&[2]), Verdict::Determined);
}

#[test]
fn one_u_for_both_and_a_tag_without_mask_are_found() {
    let member = case(2, 2, Who::HubsAndMember, About::Point);
    let one_for_all = Case { planted: Planted::OneForAll, ..member };
    assert_eq!(one_for_all.verdict::<Gf4>(&[0]), Verdict::Determined);
    let unmasked = Case { planted: Planted::Unmasked, ..member };
    assert_ne!(unmasked.verdict::<Gf4>(&[0]), Verdict::Independent);
    let hubs = Case { planted: Planted::Unmasked, ..case(1, 1, Who::Hubs, About::Key) };
    assert_ne!(hubs.verdict::<Gf5>(&[]), Verdict::Independent);
}
