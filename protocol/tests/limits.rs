//! Limits that a receiver sets at its hubs: they come into force in order, stay in force, and are told again where a
//! directory was put back or the hub lies.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{collections::VecDeque, time::Duration};

use dske_protocol::{
    effect::{Minted, PadEffect, PadOutcome, Record},
    enrolment::Signature,
    hub::{Hub, HubClient, HubEffect, HubInput, RequestId},
    ids::{Lane, NodeId, PadRange, TableId},
    limits::{Limit, Limits, LimitsDesk, LimitsEffect, LimitsInput, LimitsRecord},
    message::{Identity, LimitsAnswer, LimitsOrder, Unverified, seal},
    pad::PadBytes,
    params::{KEY_BYTES_MAX, Time},
    quota::{Account, Quota, Quotas, Spending},
    refusal::Refusal,
    room::OutboxLimits,
};

const BOB: NodeId = NodeId::new([2; 32]);
const P1: NodeId = NodeId::new([101; 32]);
const TABLE: TableId = TableId::new([7; 16]);

fn limits(bytes: u64) -> Limits {
    let limit = Limit { bytes, per_s: 3600 };
    Limits { named: vec![(NodeId::new([9; 32]), limit)], each: Some(limit), all: Some(limit) }
}

fn pad(range: PadRange) -> PadBytes {
    PadBytes::mint(vec![5; usize::try_from(range.len).unwrap()])
}

/// Pads whose bytes are all the same, and records that are kept.
#[derive(Default)]
struct End {
    offset: u64,
    records: Vec<LimitsRecord>,
    spendings: Vec<Spending>,
    /// Records are made durable when this is taken off.
    slow: Option<VecDeque<PadOutcome>>,
    burned: u64,
}

impl End {
    fn execute(&mut self, lane: Lane, effect: PadEffect) -> Option<PadOutcome> {
        match effect {
            PadEffect::Hold { ticket, range, .. } => {
                Some(PadOutcome::Held { ticket, result: Ok(pad(range)), block_ended: false })
            }
            PadEffect::Mint { ticket, wants } => {
                let range = PadRange { table: TABLE, lane, offset: self.offset, len: wants[0].bytes };
                self.offset += range.len;
                self.burned += range.len;
                Some(PadOutcome::Minted { ticket, result: Ok(vec![Minted { range, pad: pad(range) }]) })
            }
            PadEffect::Commit { ticket, record } => {
                let Record { limits, spendings, .. } = *record;
                self.records.extend(limits);
                self.spendings.extend(spendings);
                let outcome = PadOutcome::Committed { ticket, ok: true };
                match &mut self.slow {
                    Some(slow) => {
                        slow.push_back(outcome);
                        None
                    }
                    None => Some(outcome),
                }
            }
            PadEffect::Release { .. } => None,
            other => unreachable!("{other:?}"),
        }
    }
}

struct Pair {
    now: Time,
    desk: LimitsDesk,
    client: End,
    hub: Hub,
    at_hub: End,
    told: Vec<Vec<u8>>,
    in_force: usize,
    next: u64,
}

fn hub() -> Hub {
    let mut hub = Hub::new(P1, KEY_BYTES_MAX);
    let identity = Identity { node: BOB, name: "bob".parse().unwrap(), applications: Vec::new() };
    hub.set_client(HubClient { identity, signature: Signature::new([0; 64]), known_as: 1, enabled: true });
    hub
}

impl Pair {
    fn new() -> Self {
        Self {
            now: Time::ZERO,
            desk: LimitsDesk::new(BOB, []),
            client: End::default(),
            hub: hub(),
            at_hub: End::default(),
            told: Vec::new(),
            in_force: 0,
            next: 0,
        }
    }

    fn input(&mut self, input: LimitsInput) {
        self.desk.handle(self.now, input);
        while let Some(effect) = self.desk.poll_effect() {
            match effect {
                LimitsEffect::Pad(effect) => {
                    if let Some(outcome) = self.client.execute(Lane::Up, effect) {
                        self.desk.handle(self.now, LimitsInput::Pad(outcome));
                    }
                }
                LimitsEffect::Tell { bytes, .. } => self.told.push(bytes),
                LimitsEffect::InForce(_) => self.in_force += 1,
            }
        }
    }

    /// Delivers a message to the hub, and gives its answer.
    fn at_hub(&mut self, bytes: Vec<u8>) -> Option<Result<Vec<u8>, Refusal>> {
        self.next += 1;
        self.hub.handle(self.now, HubInput::Question { id: RequestId(self.next), from: BOB, bytes });
        self.settle_hub()
    }

    fn settle_hub(&mut self) -> Option<Result<Vec<u8>, Refusal>> {
        let mut answer = None;
        while let Some(effect) = self.hub.poll_effect() {
            match effect {
                HubEffect::Pad(effect) => {
                    if let Some(outcome) = self.at_hub.execute(Lane::Down, effect) {
                        self.hub.handle(self.now, HubInput::Pad(outcome));
                    }
                }
                HubEffect::Answer { result, .. } => answer = Some(result),
                HubEffect::KeyAnswer { .. } => unreachable!("no key was asked for"),
            }
        }
        answer
    }

    /// Passes what is told on, and the answer back, until nothing is said any more.
    fn talk(&mut self) {
        while let Some(bytes) = self.told.pop() {
            let bytes = self.at_hub(bytes).unwrap().ok();
            self.input(LimitsInput::Answer { hub: P1, bytes });
        }
    }

    /// Lets ten minutes pass.
    fn pass(&mut self) {
        for _ in 0..10 {
            self.talk();
            self.now += Duration::from_secs(60);
            self.input(LimitsInput::Tick);
        }
        self.talk();
    }

    fn want(&mut self, limits: Limits) {
        self.input(LimitsInput::Want { hub: P1, limits });
    }

    fn ready(&mut self, put_back: bool) {
        self.input(LimitsInput::Ready { hub: P1, put_back });
    }

    fn is_in_force(&self) -> bool {
        self.desk.at(&P1).unwrap().1
    }
}

#[test]
fn limits_are_in_force_once_the_hub_has_said_so_under_a_tag() {
    let mut pair = Pair::new();
    pair.want(limits(960));
    assert!(pair.told.is_empty(), "the hub is away");
    pair.ready(false);
    assert!(!pair.is_in_force());
    pair.talk();
    assert!(pair.is_in_force());
    assert_eq!(pair.in_force, 1);
    let record = LimitsRecord { receiver: BOB, hub: P1, version: 1, limits: limits(960) };
    assert_eq!(pair.hub.limits_of(&BOB), Some(&record));
    // The client has noted before that it tells this hub something.
    let note = LimitsRecord { version: 0, limits: Limits::default(), ..record.clone() };
    assert_eq!(pair.client.records, [note, record.clone()]);
    assert_eq!(pair.at_hub.records, std::slice::from_ref(&record));
    // After a comparison, also one after a restart of either, the hub says it again, and nothing changes.
    for restart in [false, true] {
        if restart {
            pair.desk = LimitsDesk::new(BOB, [pair.client.records.last().unwrap().clone()]);
            pair.want(limits(960));
        }
        pair.now += Duration::from_secs(60);
        pair.ready(false);
        assert!(pair.is_in_force() && pair.desk.is_asking(&P1));
        pair.talk();
        assert!(pair.is_in_force() && !pair.desk.is_asking(&P1));
        assert_eq!((pair.told.len(), pair.in_force), (0, 1));
    }
    // Another policy is news; one that limits nobody too.
    for (version, wanted) in [(4, limits(96)), (5, Limits::default())] {
        pair.want(wanted.clone());
        pair.talk();
        assert!(pair.is_in_force());
        assert_eq!(
            pair.hub.limits_of(&BOB),
            Some(&LimitsRecord { version, limits: wanted, ..record.clone() })
        );
    }
    assert_eq!((pair.desk.under_way(), pair.hub.under_way()), (0, 0));
}

#[test]
fn an_older_order_changes_nothing_whenever_it_comes() {
    for slow in [false, true] {
        let mut pair = Pair::new();
        pair.at_hub.slow = slow.then(VecDeque::new);
        let order = |version, offset| {
            let range = PadRange { table: TABLE, lane: Lane::Up, offset, len: 32 };
            let order = LimitsOrder { range, version, limits: limits(100 * version) };
            seal(&order, pad(range).split().unwrap().1).unwrap()
        };
        let mut answers =
            vec![pair.at_hub(order(2, 32)), pair.at_hub(order(1, 0)), pair.at_hub(order(2, 64))];
        for outcome in pair.at_hub.slow.take().into_iter().flatten() {
            pair.hub.handle(pair.now, HubInput::Pad(outcome));
            answers.push(pair.settle_hub());
        }
        let answers: Vec<_> = answers.into_iter().flatten().map(Result::unwrap).collect();
        assert_eq!(answers.len(), 3);
        for bytes in answers {
            let answer = Unverified::<LimitsAnswer>::decode(bytes).unwrap();
            let answer =
                answer.verify(pad(PadRange { len: 32, ..order_range() }).split().unwrap().1).unwrap();
            assert_eq!(answer.version, 2);
        }
        assert_eq!(pair.hub.limits_of(&BOB).unwrap().limits, limits(200), "slow: {slow}");
        assert_eq!(pair.at_hub.records.len(), 1, "and nothing else is recorded");
    }
}

fn order_range() -> PadRange {
    PadRange { table: TABLE, lane: Lane::Down, offset: 0, len: 32 }
}

#[test]
fn a_hub_that_was_put_back_is_told_again_and_a_client_that_was_finds_the_version() {
    let mut pair = Pair::new();
    pair.want(limits(960));
    pair.ready(false);
    pair.talk();
    let old = pair.client.records[1].clone();
    for bytes in [480, 96] {
        pair.want(limits(bytes));
        pair.talk();
    }
    assert_eq!(pair.hub.limits_of(&BOB).unwrap().version, 3);
    // The hub forgets the last two.
    pair.hub = hub();
    pair.hub.set_limits_of_receivers([old.clone()]);
    assert!(pair.is_in_force(), "nothing shows it yet");
    pair.ready(true);
    assert!(!pair.is_in_force());
    pair.pass();
    assert!(pair.is_in_force());
    let now = pair.hub.limits_of(&BOB).unwrap().clone();
    assert_eq!((now.version, now.limits), (4, limits(96)));
    // The client forgets all but the first, and its operator's policy is another meanwhile.
    pair.desk = LimitsDesk::new(BOB, [old]);
    pair.want(limits(7));
    pair.ready(true);
    pair.pass();
    assert!(pair.is_in_force());
    let now = pair.hub.limits_of(&BOB).unwrap();
    assert_eq!((now.version, &now.limits), (5, &limits(7)));
    // One that has nothing on record, and wants nothing, after it was put back: the hub may have what it forgot.
    pair.desk = LimitsDesk::new(BOB, []);
    pair.want(Limits::default());
    pair.ready(true);
    pair.pass();
    assert!(pair.hub.limits_of(&BOB).unwrap().limits.is_empty() && pair.is_in_force());
}

#[test]
fn a_hub_that_forgot_without_a_trace_is_told_again_after_the_next_comparison() {
    let mut pair = Pair::new();
    pair.want(limits(960));
    pair.ready(false);
    pair.talk();
    pair.want(limits(96));
    pair.talk();
    let first = pair.client.records[1].clone();
    // A restored copy is so recent that comparing marks does not show it.
    pair.hub = hub();
    pair.hub.set_limits_of_receivers([first]);
    pair.input(LimitsInput::Away(P1));
    pair.ready(false);
    pair.pass();
    assert_eq!(pair.hub.limits_of(&BOB).unwrap().limits, limits(96));
    // And one that has forgotten that nobody is limited any more.
    pair.want(Limits::default());
    pair.talk();
    pair.hub.set_limits_of_receivers([LimitsRecord {
        receiver: BOB,
        hub: P1,
        version: 1,
        limits: limits(7),
    }]);
    pair.input(LimitsInput::Away(P1));
    pair.ready(false);
    pair.pass();
    assert!(pair.hub.limits_of(&BOB).unwrap().limits.is_empty());
}

#[test]
fn an_answer_from_before_a_hub_was_put_back_is_not_taken_for_one_after_it() {
    let mut pair = Pair::new();
    pair.want(limits(960));
    pair.ready(false);
    pair.talk();
    let old = pair.client.records[1].clone();
    pair.want(limits(96));
    let order = pair.told.pop().unwrap();
    let answer = pair.at_hub(order).unwrap().unwrap();
    // Its record is on the way when the hub goes, and is there only after it has come back from a copy.
    pair.client.slow = Some(VecDeque::new());
    pair.input(LimitsInput::Answer { hub: P1, bytes: Some(answer) });
    pair.input(LimitsInput::Away(P1));
    pair.hub = hub();
    pair.hub.set_limits_of_receivers([old]);
    pair.ready(true);
    for outcome in pair.client.slow.take().unwrap() {
        pair.input(LimitsInput::Pad(outcome));
    }
    assert!(!pair.is_in_force(), "the hub has forgotten it");
    pair.pass();
    assert!(pair.is_in_force());
    assert_eq!(pair.hub.limits_of(&BOB).unwrap().limits, limits(96));
}

#[test]
fn an_order_whose_answer_was_lost_is_in_force_until_the_hub_says_otherwise() {
    for restart in [false, true] {
        let mut pair = Pair::new();
        pair.want(limits(960));
        pair.ready(false);
        let bytes = pair.told.pop().unwrap();
        pair.at_hub(bytes).unwrap().unwrap();
        if restart {
            pair.desk = LimitsDesk::new(BOB, pair.client.records.last().cloned());
        } else {
            pair.input(LimitsInput::Answer { hub: P1, bytes: None });
            pair.input(LimitsInput::Away(P1));
        }
        // The operator has thought better of it meanwhile.
        pair.want(Limits::default());
        pair.ready(false);
        assert!(!pair.is_in_force() || pair.desk.is_asking(&P1), "restart: {restart}");
        pair.pass();
        assert!(pair.is_in_force() && pair.hub.limits_of(&BOB).unwrap().limits.is_empty());
    }
}

#[test]
fn what_was_spent_comes_back_at_the_rate_of_new_limits_as_soon_as_these_are_in_force() {
    let mut pair = Pair::new();
    pair.want(limits(960));
    pair.ready(false);
    pair.talk();
    for account in
        [Account::Unnamed { receiver: BOB }, Account::Limit { receiver: BOB, sender: NodeId::new([9; 32]) }]
    {
        let (full_at, quota) = (pair.now + Duration::from_secs(3600), Quota::per_hour(960));
        pair.hub.restore(pair.now, Spending { account, full_at, quota });
    }
    let used = |pair: &Pair| pair.hub.uses(pair.now).iter().map(|used| used.used).collect::<Vec<_>>();
    assert_eq!(used(&pair), [960, 960]);
    pair.want(limits(96));
    pair.talk();
    assert_eq!(used(&pair), [96, 96], "as much as there is");
    let mut restarted = hub();
    restarted.set_limits_of_receivers(pair.hub.limits_of(&BOB).cloned());
    pair.at_hub.spendings.iter().for_each(|spending| restarted.restore(pair.now, *spending));
    assert_eq!(restarted.uses(pair.now), pair.hub.uses(pair.now), "a restart finds it so");
    assert_eq!((pair.hub.under_way(), restarted.under_way()), (0, 0), "and has nothing to add");
    pair.now += Duration::from_secs(1800);
    assert_eq!(used(&pair), [48, 48], "and nobody had to ask first");
}

#[test]
fn two_orders_of_one_version_are_told_apart() {
    let mut pair = Pair::new();
    pair.want(limits(960));
    pair.ready(false);
    pair.talk();
    let copy = pair.client.records.clone();
    pair.want(limits(96));
    pair.talk();
    // The receiver's copy does not know that it used version 2, and its operator wants something else.
    pair.desk = LimitsDesk::new(BOB, copy);
    pair.want(limits(7));
    pair.ready(true);
    pair.talk();
    assert_eq!(pair.hub.limits_of(&BOB).unwrap().limits, limits(96));
    assert!(!pair.is_in_force(), "that is what the hub has, under the same version");
    pair.pass();
    assert!(pair.is_in_force());
    assert_eq!(pair.hub.limits_of(&BOB).unwrap().limits, limits(7));
}

#[test]
fn a_hub_that_says_again_and_again_that_it_was_put_back_costs_little() {
    let mut pair = Pair::new();
    pair.want(limits(960));
    pair.ready(false);
    pair.talk();
    for _ in 0..24 * 3600 {
        pair.ready(true);
        pair.talk();
        pair.now += Time::from_secs(1);
        pair.input(LimitsInput::Tick);
        pair.talk();
    }
    assert!(pair.client.burned <= 40 * 32, "{} bytes in a day", pair.client.burned);
}

#[test]
fn after_hours_of_calm_a_hub_that_was_put_back_is_told_again_soon() {
    let mut pair = Pair::new();
    pair.want(limits(960));
    pair.ready(false);
    pair.talk();
    for _ in 0..6 * 60 {
        pair.ready(true);
        pair.pass();
    }
    pair.now += Duration::from_secs(2 * 3600);
    pair.ready(true);
    assert_eq!(pair.told.len(), 1);
    // Its answer is lost.
    pair.told.clear();
    pair.input(LimitsInput::Answer { hub: P1, bytes: None });
    pair.now += Duration::from_secs(5);
    pair.input(LimitsInput::Tick);
    assert_eq!(pair.told.len(), 1, "not in an hour alone");
}

#[test]
fn a_hub_that_does_not_say_so_costs_little() {
    type Lie = fn(&LimitsOrder) -> Option<u64>;
    let lies: [Lie; 4] = [|_| None, |_| Some(0), |order| Some(order.version + 1000), |_| Some(u64::MAX)];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut pair = Pair::new();
        pair.want(limits(960));
        pair.ready(false);
        let mut offset = 0;
        for _ in 0..24 * 3600 {
            for bytes in std::mem::take(&mut pair.told) {
                let order = Unverified::<LimitsOrder>::decode(bytes).unwrap();
                let answer = lie(order.unverified()).map(|version| {
                    let range = PadRange { offset, ..order_range() };
                    offset += 32;
                    let answer = LimitsAnswer { range, request: order.range(), version };
                    seal(&answer, pad(range).split().unwrap().1).unwrap()
                });
                pair.input(LimitsInput::Answer { hub: P1, bytes: answer });
            }
            assert!(!pair.is_in_force(), "lie {number}");
            pair.now += Time::from_secs(1);
            pair.input(LimitsInput::Tick);
        }
        assert!(pair.client.burned <= 40 * 32, "lie {number}: {} bytes in a day", pair.client.burned);
    }
}

#[test]
fn a_client_that_is_refused_without_end_has_each_change_recorded_once() {
    let mut pair = Pair::new();
    let identity = |pair: &mut Pair, bytes| {
        let identity = Quota::new(bytes, Duration::from_secs(86_400));
        pair.hub.set_limits(Quotas { identity, ..Quotas::default() }, OutboxLimits::NONE);
    };
    identity(&mut pair, 1000);
    pair.want(limits(1000));
    pair.ready(true);
    let order = pair.told.pop().unwrap();
    let asked = |pair: &mut Pair| pair.at_hub(order.clone());
    while asked(&mut pair).is_some_and(|answer| answer.is_ok()) {}
    for (bytes, durable) in [(500, true), (1000, false), (400, true), (300, false), (200, true), (100, true)]
    {
        identity(&mut pair, bytes);
        while asked(&mut pair).is_some_and(|answer| answer.is_ok()) {}
        pair.at_hub.spendings.clear();
        // The same quota for another time, so that it stays spent; records are pending, and then durable.
        let identity = Quota::new(bytes, Duration::from_secs(864_000));
        pair.hub.set_limits(Quotas { identity, ..Quotas::default() }, OutboxLimits::NONE);
        pair.at_hub.slow = Some(VecDeque::new());
        for _ in 0..100 {
            assert!(asked(&mut pair).is_none(), "the claim of the refused is pending");
        }
        let mut pending = pair.at_hub.slow.take().unwrap();
        if let Some(PadOutcome::Committed { ok, .. }) = pending.front_mut() {
            *ok = durable;
        }
        for outcome in pending {
            pair.hub.handle(pair.now, HubInput::Pad(outcome));
        }
        pair.settle_hub();
        for _ in 0..100 {
            assert_eq!(asked(&mut pair), Some(Err(Refusal::QuotaExceeded)));
        }
        let records = if durable { 1 } else { 2 };
        assert_eq!(pair.at_hub.spendings.len(), records, "again where it came to nothing: {bytes}");
        assert_eq!(Some(pair.at_hub.spendings[0].quota), identity);
    }
}
