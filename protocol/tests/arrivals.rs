//! What a receiver makes of shares that arrive, in whatever order (§2.4, §4.2). Below the disruption threshold a key comes,
//! whatever its length and whatever the false shares look like: the end of a search is not the end of an agreement.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise, and its numbers are small"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use dske_protocol::{
    ReconstructJob, Reconstructed,
    codec::Blob,
    effect::{BlockKey, PadEffect, PadOutcome},
    field::Gf256,
    hub::RequestId,
    ids::{BlockId, BlockNonce, Lane, NodeId, PadRange, TableId},
    key_check::KeyCheck,
    message::{Agreement, Content, KeyInstruction, NoticeOutcome, seal},
    pad::PadBytes,
    params::{
        AcceptancePolicy, KEY_BYTES_MAX, PROTOCOL_VERSION, SEARCHES_MAX, Time, U_BYTES, Validate,
        disruption_threshold,
    },
    receiver::{Receiver, ReceiverEffect, ReceiverInput},
    reconstruct::{Reconstruction, WorkBound, reconstruct},
    refusal::AbortReason,
    sharing::Scheme,
    tag::KeyTag,
};
use proptest::prelude::*;
use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};

const ME: NodeId = NodeId::new([1; 32]);
const SENDER: NodeId = NodeId::new([2; 32]);
const OTHER_SENDER: NodeId = NodeId::new([3; 32]);
const DEADLINE: Time = Time::from_secs(10);

fn hub(at: u8) -> NodeId {
    NodeId::new([100 + at; 32])
}

/// What the liars add to their shares.
#[derive(Debug, Clone, Copy)]
enum Errors {
    /// Noise.
    Noise,
    /// The values of one other polynomial.
    OnePolynomial,
    /// `v · ∏ (x_i + x_h)` over fewer than k honest hubs h, others for every few bytes: each such piece puts the liars and
    /// these hubs on one polynomial.
    Products,
    /// Noise behind the tag's key alone: whatever the liars take part in gives the sender's u.
    BehindU,
    /// Noise in the tag's key alone.
    WithinU,
    /// Noise in the mask of the tag alone: whatever the liars take part in gives the sender's point, and masks of its own.
    WithinMask,
    /// Noise in the mask of the hint alone.
    WithinHintMask,
    /// One bit, each in a place of its own.
    OneBit,
}

const ERRORS: [Errors; 8] = [
    Errors::Noise,
    Errors::OnePolynomial,
    Errors::Products,
    Errors::BehindU,
    Errors::WithinU,
    Errors::WithinMask,
    Errors::WithinHintMask,
    Errors::OneBit,
];

struct Case {
    agreement: Agreement,
    key: Vec<u8>,
    key_tag: KeyTag,
    shares: Vec<Vec<u8>>,
}

impl Case {
    fn agreement(n: u8, k: u8, key_bytes: usize) -> Agreement {
        Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([7; 16]),
            sender: SENDER,
            receivers: vec![ME],
            purpose: String::new(),
            k,
            key_bytes: key_bytes as u32,
            content: Content::Keys(1),
            roster: (0..n).map(hub).collect(),
        }
    }

    fn new(n: u8, k: u8, key_bytes: usize, rng: &mut StdRng) -> Self {
        Self::of(Self::agreement(n, k, key_bytes), rng)
    }

    fn of(agreement: Agreement, rng: &mut StdRng) -> Self {
        let (n, k) = (agreement.n(), agreement.k);
        let len = agreement.share_bytes(Lane::Down) as usize;
        let scheme = Scheme::new(n, k).unwrap();
        let mut shares = vec![vec![0; len]; n.into()];
        shares.iter_mut().take(k.into()).for_each(|share| rng.fill_bytes(share));
        let (first, rest) = shares.split_at_mut(k.into());
        let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
        let mut rest: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
        let mut secret = vec![0; len];
        scheme.split(&first, &mut rest, &mut secret).unwrap();
        let (u, key) = secret.split_first_chunk().unwrap();
        let key_tag = KeyTag::of(u, &agreement.context().unwrap(), key);
        Self { key: key.to_vec(), key_tag, shares, agreement }
    }

    fn lie(&mut self, liars: &[u8], errors: Errors, rng: &mut StdRng) {
        let (n, k) = (self.agreement.n(), self.agreement.k);
        let len = self.shares[0].len();
        let u_bytes = U_BYTES as usize;
        match errors {
            Errors::Noise => {
                liars.iter().for_each(|&liar| rng.fill_bytes(&mut self.shares[usize::from(liar)]));
            }
            Errors::OnePolynomial => {
                let other = Self::new(n, k, len - u_bytes, rng);
                for &liar in liars {
                    self.shares[usize::from(liar)].clone_from(&other.shares[usize::from(liar)]);
                }
            }
            Errors::Products => {
                let scale = scales(n, k);
                let honest: Vec<u8> = (0..n).filter(|hub| !liars.contains(hub)).collect();
                for start in (0..len).step_by(len.div_ceil(24)) {
                    let count = usize::from(k - 1) - rng.next_u32() as usize % 2 * usize::from(k > 2);
                    let zeros: Vec<u8> = honest.sample(rng, count).copied().collect();
                    for &liar in liars {
                        let x = |at: u8| Gf256(at + 1);
                        let product = zeros
                            .iter()
                            .fold(scale[usize::from(liar)], |product, &h| product.mul(x(liar).add(x(h))));
                        let share = &mut self.shares[usize::from(liar)];
                        let end = len.min(start + len.div_ceil(24));
                        // One v for all liars at each byte.
                        let mut v = StdRng::seed_from_u64(start as u64);
                        for byte in &mut share[start..end] {
                            *byte ^= Gf256(v.next_u32() as u8).mul(product).0;
                        }
                    }
                }
            }
            Errors::BehindU => {
                liars.iter().for_each(|&liar| rng.fill_bytes(&mut self.shares[usize::from(liar)][u_bytes..]));
            }
            Errors::WithinU => {
                liars.iter().for_each(|&liar| rng.fill_bytes(&mut self.shares[usize::from(liar)][..u_bytes]));
            }
            Errors::WithinMask => {
                liars.iter().for_each(|&liar| rng.fill_bytes(&mut self.shares[usize::from(liar)][16..32]));
            }
            Errors::WithinHintMask => {
                liars.iter().for_each(|&liar| rng.fill_bytes(&mut self.shares[usize::from(liar)][32..40]));
            }
            Errors::OneBit => {
                for &liar in liars {
                    self.shares[usize::from(liar)][len - 1 - usize::from(liar)] ^= 1;
                }
            }
        }
    }

    /// What a receiver ends with, its searches done as soon as they are asked for.
    fn outcome(
        &self,
        validate: Validate,
        order: &[u8],
        rng: &mut StdRng,
    ) -> (NoticeOutcome, Option<Vec<u8>>) {
        let mut bench = Bench::new(self.agreement.k, &self.agreement.roster, validate);
        for &position in order {
            bench.arrives(self, position);
            while bench.search(rng) {}
        }
        bench.ended.remove(&self.agreement.block()).expect("all have spoken")
    }

    fn instruction(&self, position: u8, number: u64) -> Vec<u8> {
        let len = self.agreement.burned_bytes(Lane::Down);
        let offset = number * (2 << 20);
        let range = PadRange { table: TableId::new([position; 16]), lane: Lane::Down, offset, len };
        let (pad, tag_key) = PadBytes::mint(vec![5; len as usize]).split().unwrap();
        let mut share = self.shares[usize::from(position)].clone();
        share.iter_mut().zip(pad.into_bytes().iter()).for_each(|(byte, pad)| *byte ^= pad);
        let agreement = self.agreement.clone();
        seal(&KeyInstruction { range, agreement, key_tag: self.key_tag, share: Blob(share) }, tag_key)
            .unwrap()
    }

    /// The least bound on full-length work under which the search among all shares finds the key, in lengths of a share.
    fn passes(&self) -> u64 {
        let scheme = Scheme::new(self.agreement.n(), self.agreement.k).unwrap();
        let shares: Vec<(u8, &[u8])> = (0..).zip(self.shares.iter().map(Vec::as_slice)).collect();
        let check = KeyCheck::new(self.agreement.context().unwrap(), self.key_tag);
        let is_found = |passes: u64| {
            let full_length_bytes_max = passes * self.shares[0].len() as u64;
            let bound = WorkBound { full_length_bytes_max, ..WorkBound::default() };
            let rng = &mut StdRng::seed_from_u64(1);
            let found = reconstruct(&scheme, &shares, &check, &bound, rng, &|| false).unwrap();
            matches!(found, Reconstruction::Found(_))
        };
        let (mut too_few, mut enough) = (0, 1);
        while !is_found(enough) {
            (too_few, enough) = (enough, enough * 2);
        }
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            *(if is_found(middle) { &mut enough } else { &mut too_few }) = middle;
        }
        enough
    }

    fn expect_key(&self, validate: Validate, liars: &[u8], order: &[u8], rng: &mut StdRng, what: &str) {
        let (outcome, key) = self.outcome(validate, order, rng);
        let NoticeOutcome::Validated { false_positions, .. } = outcome else {
            panic!("{what}: liars {liars:?}, order {order:?}: {outcome:?}");
        };
        assert!(key.unwrap() == self.key, "{what}: another key than the sender's");
        let named: BTreeSet<u8> = false_positions.into_iter().collect();
        assert_eq!(named, liars.iter().copied().collect(), "{what}: order {order:?}");
    }
}

/// A receiver, and what it has out.
struct Bench {
    receiver: Receiver,
    now: Time,
    jobs: Vec<(BlockId, usize, ReconstructJob)>,
    /// How agreements ended, with the keys.
    ended: BTreeMap<BlockId, (NoticeOutcome, Option<Vec<u8>>)>,
    keys: BTreeMap<BlockId, Vec<u8>>,
    messages: u64,
}

impl Bench {
    fn new(k_min: u8, hubs: &[NodeId], validate: Validate) -> Self {
        let policy = AcceptancePolicy {
            k_min,
            hubs: hubs.iter().copied().collect(),
            key_bytes_max: KEY_BYTES_MAX,
            deadline: DEADLINE,
            validate,
        };
        Self {
            receiver: Receiver::new(ME, policy, [SENDER, OTHER_SENDER]),
            now: Time::ZERO,
            jobs: Vec::new(),
            ended: BTreeMap::new(),
            keys: BTreeMap::new(),
            messages: 0,
        }
    }

    fn arrives(&mut self, case: &Case, position: u8) {
        self.messages += 1;
        let (id, bytes) = (RequestId(self.messages), case.instruction(position, self.messages));
        self.input(ReceiverInput::KeyInstruction { id, from: hub(position), bytes });
    }

    /// Gives something in, and lets the pads answer.
    fn input(&mut self, input: ReceiverInput) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.receiver.handle(self.now, input);
            while let Some(effect) = self.receiver.poll_effect() {
                match effect {
                    ReceiverEffect::Pad(PadEffect::Hold { ticket, range, block, .. }) => {
                        let result = Ok(PadBytes::mint(vec![5; range.len as usize]));
                        let block_ended = block.is_some_and(|block| self.ended.contains_key(&block));
                        inputs.push(ReceiverInput::Pad(PadOutcome::Held { ticket, result, block_ended }));
                    }
                    ReceiverEffect::Pad(PadEffect::Commit { ticket, record }) => {
                        if let Some(ended) = record.block
                            && let Ok(BlockKey::Keep(kept)) = ended.result
                        {
                            self.keys.insert(ended.agreement.block(), kept.0.to_vec());
                        }
                        inputs.push(ReceiverInput::Pad(PadOutcome::Committed { ticket, ok: true }));
                    }
                    ReceiverEffect::Reconstruct { block, group, job } => self.jobs.push((block, group, job)),
                    ReceiverEffect::Progress { agreement, outcome, .. } => {
                        let key = self.keys.get(&agreement.block()).cloned();
                        self.ended.insert(agreement.block(), (outcome, key));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Does the eldest job, if there is one.
    fn search(&mut self, rng: &mut StdRng) -> bool {
        self.search_with(|job| job.run(rng, &|| false))
    }

    fn search_with(&mut self, run: impl FnOnce(ReconstructJob) -> Reconstructed) -> bool {
        if self.jobs.is_empty() {
            return false;
        }
        let (block, group, job) = self.jobs.remove(0);
        let result = run(job);
        self.input(ReceiverInput::Reconstructed { block, group, result });
        true
    }

    fn outcome(&self, block: &BlockId) -> Option<&NoticeOutcome> {
        self.ended.get(block).map(|(outcome, _)| outcome)
    }

    fn key(&self, block: &BlockId) -> Option<&[u8]> {
        self.keys.get(block).map(Vec::as_slice)
    }
}

/// What the values of the polynomial are multiplied with to give the shares: all but the first k are the values.
fn scales(n: u8, k: u8) -> Vec<Gf256> {
    let lagrange = |i: u8| {
        (1..=k)
            .filter(|&m| m != i)
            .fold(Gf256::ONE, |product, m| product.mul(Gf256(m)).mul(Gf256(m).add(Gf256(i)).inv()))
    };
    (1..=n).map(|i| if i <= k { lagrange(i) } else { Gf256::ONE }).collect()
}

/// Liars first, honest hubs after: the searches that come before enough honest shares are there find nothing, and end
/// nothing.
#[test]
fn a_key_of_any_length_comes_when_the_liars_are_heard_first() {
    let rng = &mut StdRng::seed_from_u64(1);
    for (n, k) in [(5, 3), (9, 5), (20, 10), (20, 11)] {
        for key_bytes in [32, 8 << 10, 32 << 10, 128 << 10, 1 << 20] {
            let mut case = Case::new(n, k, key_bytes, rng);
            let mut order: Vec<u8> = (0..n).collect();
            order.shuffle(rng);
            let liars = order[..usize::from(disruption_threshold(n, k, k)) - 1].to_vec();
            case.lie(&liars, Errors::Noise, rng);
            let what = format!("({n},{k}), {key_bytes} bytes");
            case.expect_key(Validate::First, &liars, &order, rng, &what);
        }
    }
}

/// Errors that liars have arranged make no search longer than its bound, at any k for which all subsets are looked at.
#[test]
fn a_key_of_any_length_comes_whatever_the_errors_are() {
    let rng = &mut StdRng::seed_from_u64(2);
    for (n, k, key_bytes) in
        [(20, 10, 1 << 20), (20, 11, 1 << 20), (22, 11, 1 << 20), (22, 12, 100_000), (9, 5, 32)]
    {
        for errors in ERRORS {
            let mut case = Case::new(n, k, key_bytes, rng);
            let mut order: Vec<u8> = (0..n).collect();
            order.shuffle(rng);
            let liars = order[..usize::from(disruption_threshold(n, k, k)) - 1].to_vec();
            case.lie(&liars, errors, rng);
            // One search, among all shares.
            let what = format!("({n},{k}), {key_bytes} bytes, {errors:?}");
            case.expect_key(Validate::All, &liars, &order, rng, &what);
        }
    }
}

/// What searches cost: of all that the arrival of one share after another asks for, the liars' first, the time; of the last
/// one, among all shares, the bytes on the full length. The key is found in each case.
#[test]
#[ignore = "prints what searches cost; for release builds"]
fn what_searches_cost() {
    let rng = &mut StdRng::seed_from_u64(9);
    for (n, k) in [(20, 10), (20, 11), (22, 11), (22, 12)] {
        for key_bytes in [32, 125_000, 1 << 20] {
            for errors in [Errors::Noise, Errors::BehindU, Errors::WithinMask, Errors::Products] {
                let mut case = Case::new(n, k, key_bytes, rng);
                let mut order: Vec<u8> = (0..n).collect();
                order.shuffle(rng);
                let liars = order[..usize::from(disruption_threshold(n, k, k)) - 1].to_vec();
                case.lie(&liars, errors, rng);
                let began = Instant::now();
                case.expect_key(Validate::First, &liars, &order, rng, "one after another");
                let one_after_another = began.elapsed();
                let began = Instant::now();
                case.expect_key(Validate::All, &liars, &order, rng, "all at once");
                let at_once = began.elapsed();
                println!(
                    "({n},{k}), {} liars, {key_bytes} B, {errors:?}: {one_after_another:.2?}, at once {at_once:.2?}, {} passes",
                    liars.len(),
                    case.passes()
                );
            }
        }
    }
}

/// Searches that end before they are through, as at a bound on work, end nothing while shares can come; with the last
/// share it is their end that is told.
#[test]
fn the_end_of_a_search_is_not_the_end_of_an_agreement() {
    let rng = &mut StdRng::seed_from_u64(3);
    let mut case = Case::new(5, 3, 32, rng);
    case.lie(&[0, 1], Errors::Noise, rng);
    let block = case.agreement.block();
    for the_last_is_through in [true, false] {
        let mut bench = Bench::new(3, &case.agreement.roster, Validate::First);
        for position in 0..5 {
            bench.arrives(&case, position);
            if position == 4 && the_last_is_through {
                assert!(bench.search(rng));
            } else {
                while bench.search_with(|_| Reconstructed::WorkBound) {}
            }
            assert_eq!(bench.ended.len(), usize::from(position == 4), "position {position}");
        }
        if the_last_is_through {
            assert_eq!(bench.key(&block), Some(&case.key[..]));
        } else {
            let reason = AbortReason::WorkBound { received: 5, k: 3 };
            assert_eq!(bench.outcome(&block), Some(&NoticeOutcome::Aborted(reason)));
        }
    }
}

/// A search that is under way when more shares come is ended, and taken up again with them.
#[test]
fn a_search_that_more_shares_have_overtaken_is_not_gone_on_with() {
    let rng = &mut StdRng::seed_from_u64(4);
    let mut case = Case::new(7, 4, 32, rng);
    case.lie(&[0, 1, 2], Errors::Noise, rng);
    let mut bench = Bench::new(4, &case.agreement.roster, Validate::First);
    (0..4).for_each(|position| bench.arrives(&case, position));
    assert!(bench.search(rng));
    // Five shares are being searched when the last two come.
    bench.arrives(&case, 4);
    assert_eq!(bench.jobs.len(), 1);
    (5..7).for_each(|position| bench.arrives(&case, position));
    assert_eq!(bench.jobs.len(), 1, "one search of an agreement at a time");
    bench.search_with(|job| {
        let result = job.run(rng, &|| false);
        assert!(matches!(result, Reconstructed::WorkBound), "{result:?}");
        result
    });
    assert!(bench.search(rng));
    assert_eq!(bench.key(&case.agreement.block()), Some(&case.key[..]));
}

/// Hubs that lie in every agreement have few searches under way at once, and one sender's agreements do not keep
/// another's waiting.
#[test]
fn searches_are_few_at_once_and_each_sender_has_its_turn() {
    let rng = &mut StdRng::seed_from_u64(5);
    let mut cases: Vec<Case> = Vec::new();
    for (number, sender) in [SENDER; 8].into_iter().chain([OTHER_SENDER]).enumerate() {
        let nonce = BlockNonce::new([number as u8; 16]);
        let mut case = Case::of(Agreement { nonce, sender, ..Case::agreement(5, 3, 32) }, rng);
        case.lie(&[0], Errors::Noise, rng);
        cases.push(case);
    }
    let mut bench = Bench::new(3, &cases[0].agreement.roster, Validate::First);
    for case in &cases {
        (0..3).for_each(|position| bench.arrives(case, position));
        // k shares are tried without waiting.
        let (block, group, job) = bench.jobs.pop().unwrap();
        assert_eq!(block, case.agreement.block());
        let result = job.run(rng, &|| false);
        assert!(matches!(result, Reconstructed::Nothing));
        bench.input(ReceiverInput::Reconstructed { block, group, result });
        assert!(bench.jobs.len() <= SEARCHES_MAX);
        (3..5).for_each(|position| bench.arrives(case, position));
        assert!(bench.jobs.len() <= SEARCHES_MAX, "{} searches at once", bench.jobs.len());
    }
    assert!(bench.ended.is_empty());
    // Time passes meanwhile, and ends nothing that waits for its search.
    bench.now = DEADLINE + Time::from_secs(60);
    bench.input(ReceiverInput::Tick);
    assert!(bench.ended.is_empty());
    let mut order = Vec::new();
    while bench.search(rng) {
        assert!(bench.jobs.len() <= SEARCHES_MAX);
        order.extend(bench.ended.keys().filter(|block| !order.contains(*block)).copied().collect::<Vec<_>>());
    }
    for case in &cases {
        assert_eq!(bench.key(&case.agreement.block()), Some(&case.key[..]));
    }
    let last = cases[8].agreement.block();
    let at = order.iter().position(|block| *block == last).unwrap();
    assert!(at <= SEARCHES_MAX + 1, "the other sender's only agreement was number {at}");
}

/// k_B hubs that collude and are heard first, with a key of their own under a key tag of their own.
#[test]
fn colluders_who_are_heard_first_are_noticed_where_all_are_awaited() {
    let rng = &mut StdRng::seed_from_u64(6);
    let (honest, theirs) = (Case::new(7, 3, 32, rng), Case::new(7, 3, 32, rng));
    let block = honest.agreement.block();
    for validate in [Validate::First, Validate::All] {
        let mut bench = Bench::new(3, &honest.agreement.roster, validate);
        (0..3).for_each(|position| bench.arrives(&theirs, position));
        while bench.search(rng) {}
        (3..7).for_each(|position| bench.arrives(&honest, position));
        while bench.search(rng) {}
        match validate {
            // Nothing can be done about it by one who does not wait: at the injection threshold the key is theirs.
            Validate::First => assert_eq!(bench.key(&block), Some(&theirs.key[..])),
            Validate::All => {
                let ambiguous = NoticeOutcome::Aborted(AbortReason::Ambiguous);
                assert_eq!((bench.outcome(&block), bench.key(&block)), (Some(&ambiguous), None));
            }
        }
    }
}

/// The same under the sender's key tag, which colluders who know it can give a secret of theirs.
#[test]
fn colluders_in_the_senders_own_group_are_noticed_where_all_are_awaited() {
    let rng = &mut StdRng::seed_from_u64(7);
    let honest = Case::new(7, 3, 32, rng);
    let mut mixed = Case::new(7, 3, 32, rng);
    let of = |case: &Case| [&case.key_tag.tag.as_bytes()[..], &case.key_tag.hint].concat();
    let difference: Vec<u8> = of(&mixed).iter().zip(of(&honest)).map(|(a, b)| a ^ b).collect();
    // The masks of tag and hint end u; a change of them in one of the first k shares is one of the secret.
    mixed.shares[0][16..40].iter_mut().zip(&difference).for_each(|(byte, change)| *byte ^= change);
    mixed.key_tag = honest.key_tag;
    let block = honest.agreement.block();
    for validate in [Validate::First, Validate::All] {
        let mut bench = Bench::new(3, &honest.agreement.roster, validate);
        (0..3).for_each(|position| bench.arrives(&mixed, position));
        while bench.search(rng) {}
        (3..7).for_each(|position| bench.arrives(&honest, position));
        while bench.search(rng) {}
        match validate {
            Validate::First => assert_eq!(bench.key(&block), Some(&mixed.key[..])),
            Validate::All => {
                let ambiguous = NoticeOutcome::Aborted(AbortReason::Ambiguous);
                assert_eq!((bench.outcome(&block), bench.key(&block)), (Some(&ambiguous), None));
            }
        }
    }
}

/// As many colluders as can give a secret of their own may put it onto a polynomial that up to k − 1 honest hubs lie on
/// too. Fewer than k shares are off it then, and k true ones are there all the same.
#[test]
fn colluders_whose_polynomial_honest_hubs_lie_on_are_noticed_where_all_are_awaited() {
    let rng = &mut StdRng::seed_from_u64(9);
    for (n, k, key_bytes) in [(6, 3, 32), (7, 3, 32), (8, 3, 100_000), (10, 5, 32), (20, 10, 1000)] {
        for place in 0..4 {
            let honest = Case::new(n, k, key_bytes, rng);
            let (mixed, colluders, along) = colluding(&honest, place, rng);
            let block = honest.agreement.block();
            let what = format!("({n}, {k}): {colluders:?} with {along:?}");
            let (outcome, key) = mixed.outcome(Validate::All, &(0..n).collect::<Vec<_>>(), rng);
            assert_eq!((outcome, key), (NoticeOutcome::Aborted(AbortReason::Ambiguous), None), "{what}");
            assert_eq!(block, mixed.agreement.block());
        }
    }
}

/// k colluders put another key under the sender's key tag, on one polynomial with k − 1 honest hubs.
fn colluding(honest: &Case, place: u64, rng: &mut StdRng) -> (Case, Vec<u8>, Vec<u8>) {
    let (n, k) = (honest.agreement.n(), honest.agreement.k);
    let mut order: Vec<u8> = (0..n).collect();
    match place {
        0 => {}
        1 => order.reverse(),
        _ => order.shuffle(rng),
    }
    let (colluders, rest) = order.split_at(k.into());
    let along = &rest[..usize::from(k) - 1];
    let u_bytes = U_BYTES as usize;
    let mut secret = vec![0; honest.shares[0].len()];
    for share in &honest.shares[..k.into()] {
        secret.iter_mut().zip(share).for_each(|(byte, share)| *byte ^= share);
    }
    let mut other = secret.clone();
    rng.fill_bytes(&mut other[u_bytes..]);
    let context = honest.agreement.context().unwrap();
    let tag = KeyTag::of(other.first_chunk().unwrap(), &context, &other[u_bytes..]).tag;
    let masks = tag.as_bytes().iter().zip(honest.key_tag.tag.as_bytes()).map(|(a, b)| a ^ b);
    other[16..32].iter_mut().zip(masks).for_each(|(byte, change)| *byte ^= change);
    let x = |at: u8| Gf256(at + 1);
    let at_0 = along.iter().fold(Gf256::ONE, |product, &h| product.mul(x(h))).inv();
    let scale = scales(n, k);
    let mut mixed = Case {
        agreement: honest.agreement.clone(),
        key: other[u_bytes..].to_vec(),
        key_tag: honest.key_tag,
        shares: honest.shares.clone(),
    };
    for &liar in colluders {
        let factor =
            along.iter().fold(scale[usize::from(liar)], |product, &h| product.mul(x(liar).add(x(h))));
        let factor = factor.mul(at_0);
        let share = &mut mixed.shares[usize::from(liar)];
        for (byte, (a, b)) in share.iter_mut().zip(secret.iter().zip(&other)) {
            *byte ^= Gf256(a ^ b).mul(factor).0;
        }
    }
    (mixed, colluders.to_vec(), along.to_vec())
}

/// Where all are awaited, a hub that is silent costs the deadline, and the key comes then.
#[test]
fn a_silent_hub_costs_the_deadline_where_all_are_awaited() {
    let rng = &mut StdRng::seed_from_u64(8);
    let mut case = Case::new(5, 3, 32, rng);
    case.lie(&[0], Errors::Noise, rng);
    let block = case.agreement.block();
    let mut bench = Bench::new(3, &case.agreement.roster, Validate::All);
    (0..4).for_each(|position| bench.arrives(&case, position));
    assert!(bench.jobs.is_empty() && bench.ended.is_empty());
    assert_eq!(bench.receiver.poll_timeout(), Some(DEADLINE));
    bench.now = DEADLINE;
    bench.input(ReceiverInput::Tick);
    while bench.search(rng) {}
    assert_eq!(bench.key(&block), Some(&case.key[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every order of arrival, every kind of error, every number of liars below the threshold.
    #[test]
    fn a_key_comes_in_every_order_of_arrival(
        seed: u64,
        n in 3_u8..=14,
        k_of in 0_u8..14,
        liars_of in 0_u8..14,
        length in prop::sample::select(vec![32_usize, 33, 5000, 40_000]),
        errors in prop::sample::select(ERRORS.to_vec()),
    ) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let k = 2 + k_of % (n - 1);
        let mut positions: Vec<u8> = (0..n).collect();
        positions.shuffle(rng);
        let liars = positions[..usize::from(liars_of % disruption_threshold(n, k, k))].to_vec();
        let mut case = Case::new(n, k, length, rng);
        case.lie(&liars, errors, rng);
        positions.shuffle(rng);
        let validate = if seed % 3 == 0 { Validate::All } else { Validate::First };
        let what = format!("({n},{k}), {length} bytes, {errors:?}, {validate:?}");
        case.expect_key(validate, &liars, &positions, rng, &what);
    }
}
