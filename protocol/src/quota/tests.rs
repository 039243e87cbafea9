//! What an account comes to, by example and beside a simple account of all payments.

use super::*;
use proptest::prelude::*;

const DAY: Duration = Duration::from_secs(86_400);

fn node(id: u16) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    NodeId::new(bytes)
}

fn pair(receiver: u16) -> Account {
    Account::Pair { sender: node(1), receiver: node(receiver) }
}

fn quota(bytes: u64) -> Option<Quota> {
    Quota::new(bytes, DAY)
}

/// Pays from one account, and has it recorded.
fn pay(budgets: &mut Budgets, now: Time, account: Account, quota: Option<Quota>, bytes: u64) -> bool {
    let spendings = budgets.pay(now, [(account, quota, bytes)]);
    if let Ok(spendings) = &spendings {
        budgets.recorded(spendings);
    }
    spendings.is_ok()
}

#[test]
fn what_is_spent_comes_back_with_time() {
    let (mut budgets, limit) = (Budgets::default(), quota(960));
    for _ in 0..10 {
        assert!(pay(&mut budgets, Time::ZERO, pair(2), limit, 96));
    }
    assert!(!pay(&mut budgets, Time::ZERO, pair(2), limit, 1));
    assert_eq!(budgets.uses(Time::ZERO, |_| limit)[0].used, 960);
    assert!(!pay(&mut budgets, DAY / 10 - Time::from_secs(1), pair(2), limit, 96));
    assert!(pay(&mut budgets, DAY / 10, pair(2), limit, 96));
    assert!(!pay(&mut budgets, DAY, pair(2), limit, 961), "more than all never fits");
    assert!(pay(&mut budgets, DAY * 3, pair(2), limit, 960));
    assert!(budgets.uses(DAY * 5, |_| limit).is_empty());
}

#[test]
fn bytes_that_were_spent_stay_spent_under_another_quota_and_its_time_does_not() {
    let mut budgets = Budgets::default();
    assert!(pay(&mut budgets, Time::ZERO, pair(2), quota(1000), 900));
    let larger = Quota::new(100_000, Duration::from_secs(60));
    assert!(pay(&mut budgets, Time::ZERO, pair(2), larger, 99_000), "900 of 100 000 were spent");
    assert!(!pay(&mut budgets, Time::ZERO, pair(2), larger, 101));
    assert!(pay(&mut budgets, Time::from_secs(60), pair(2), larger, 100_000), "all comes back in a minute");
    let smaller = quota(500);
    let later = Time::from_secs(61);
    assert!(!pay(&mut budgets, later, pair(2), smaller, 250), "more than that was spent");
    assert_eq!(budgets.uses(later, |_| smaller)[0].quota, smaller.expect("a quota"));
    assert!(
        !pay(&mut budgets, Time::from_secs(120), pair(2), smaller, 250),
        "and no more comes back so soon"
    );
    assert!(pay(&mut budgets, later + DAY / 2, pair(2), smaller, 250), "half of it in half a day");
    assert!(!pay(&mut budgets, later + DAY / 2, pair(2), smaller, 1));
}

#[test]
fn who_is_refused_waits_at_the_rate_of_the_quota_that_refuses() {
    let mut budgets = Budgets::default();
    assert!(pay(&mut budgets, Time::ZERO, pair(2), quota(1000), 1000));
    let faster = Quota::new(100, Duration::from_secs(10));
    assert!(!pay(&mut budgets, Time::ZERO, pair(2), faster, 50), "more than that was spent");
    assert!(!pay(&mut budgets, Time::from_millis(4_999), pair(2), faster, 50));
    assert!(pay(&mut budgets, Time::from_secs(5), pair(2), faster, 50), "half of it in half the time");
    assert!(!pay(&mut budgets, Time::from_secs(5), pair(2), faster, 1));
}

#[test]
fn limits_that_a_receiver_changes_count_from_then_on() {
    let (receiver, sender) = (node(7), node(1));
    for account in [Account::Limit { receiver, sender }, Account::Unnamed { receiver }] {
        let mut budgets = Budgets::default();
        assert!(pay(&mut budgets, Time::ZERO, account, quota(1000), 1000));
        let other = Account::Unnamed { receiver: node(8) };
        assert!(pay(&mut budgets, Time::ZERO, other, quota(1000), 1000));
        let faster = Quota::new(100, Duration::from_secs(10));
        budgets.limits_changed(Time::from_secs(1), receiver, |_| faster);
        assert!(!pay(&mut budgets, Time::from_millis(5_999), account, faster, 50));
        assert!(pay(&mut budgets, Time::from_secs(6), account, faster, 50), "nobody asked in between");
        assert!(!pay(&mut budgets, Time::from_secs(6), account, faster, 1));
        let uses = budgets.uses(Time::from_secs(6), |_| quota(1000));
        let use_of_other = uses.into_iter().find(|used| used.account == other);
        assert_eq!(use_of_other.map(|used| used.used), Some(1000), "another's are as they were");
    }
}

#[test]
fn what_is_given_back_after_a_change_is_no_more_than_was_taken_over() {
    let mut budgets = Budgets::default();
    assert!(pay(&mut budgets, Time::ZERO, pair(2), quota(1000), 600));
    let smaller = quota(500);
    assert!(!pay(&mut budgets, Time::ZERO, pair(2), smaller, 1));
    budgets.refund(&pair(2), 600);
    assert!(pay(&mut budgets, Time::ZERO, pair(2), smaller, 500), "it was all there was");
}

#[test]
fn one_receiver_that_has_too_little_stops_the_payment_for_all() {
    let (mut budgets, limit) = (Budgets::default(), quota(100));
    assert!(pay(&mut budgets, Time::ZERO, pair(3), limit, 90));
    let both = [(pair(2), limit, 20), (pair(3), limit, 20)];
    let exceeded = Exceeded { account: pair(3), changed: Vec::new() };
    assert_eq!(budgets.pay(Time::ZERO, both), Err(exceeded));
    assert_eq!(budgets.uses(Time::ZERO, |_| limit).len(), 1);
    assert!(pay(&mut budgets, Time::ZERO, pair(2), limit, 100));
}

#[test]
fn without_a_quota_nothing_is_counted() {
    let mut budgets = Budgets::default();
    assert_eq!(budgets.pay(Time::ZERO, [(pair(2), None, u64::MAX)]), Ok(Vec::new()));
    assert!(budgets.uses(Time::ZERO, |_| quota(1)).is_empty());
}

#[test]
fn a_restart_refills_nothing_and_costs_one_part_at_most() {
    let limit = quota(1600);
    let mut budgets = Budgets::default();
    let mut record = None;
    for _ in 0..8 {
        let spendings = budgets.pay(Time::ZERO, [(pair(2), limit, 100)]).expect("within the quota");
        budgets.recorded(&spendings);
        record = spendings.last().copied().or(record);
    }
    let mut restarted = Budgets::default();
    restarted.restore(Time::ZERO, record.expect("recorded ahead"), limit);
    let used = restarted.uses(Time::ZERO, |_| limit)[0].used;
    assert!((800..=900).contains(&used), "{used}");
    // A quota that has become smaller since is empty at worst, not for longer than its period.
    let mut smaller = Budgets::default();
    let little = Quota::new(10, DAY / 24);
    smaller.restore(Time::ZERO, record.expect("a record"), little);
    assert_eq!(smaller.uses(Time::ZERO, |_| little)[0].used, 10);
}

#[test]
fn what_is_spent_is_shown_by_the_quota_that_is_in_force() {
    let mut budgets = Budgets::default();
    assert!(pay(&mut budgets, Time::ZERO, pair(2), quota(1000), 600));
    let shown = |now: Option<Quota>| {
        let uses = budgets.uses(Time::ZERO, |_| now);
        uses.first().map(|shown| (shown.used, shown.quota))
    };
    assert_eq!(shown(quota(1000)), quota(1000).map(|quota| (600, quota)));
    assert_eq!(
        shown(quota(5000)),
        quota(5000).map(|quota| (600, quota)),
        "nothing was paid since it was raised"
    );
    assert_eq!(shown(quota(500)), quota(500).map(|quota| (500, quota)), "it counts as used up");
    assert_eq!(shown(None), None, "it was lifted");
}

#[test]
fn a_quota_that_changes_at_a_restart_counts_bytes_and_not_time() {
    let limit = quota(1000);
    let before = Spending { account: pair(2), full_at: DAY, quota: limit.expect("a quota") };
    let restarted = |limit, later| {
        let mut budgets = Budgets::default();
        let changed = budgets.restore(Time::ZERO, before, limit);
        (changed, budgets.uses(later, |_| limit.or(quota(1000))).first().map_or(0, |used| used.used))
    };
    let larger = quota(100_000);
    let (changed, used) = restarted(larger, Time::ZERO);
    assert_eq!(used, 1000, "of 100 000");
    let changed = changed.expect("the next restart has to find it so");
    assert_eq!((Some(changed.quota), changed.account), (larger, pair(2)));
    assert!(changed.full_at < DAY / 10, "{changed:?}");
    let slower = Quota::new(1000, 10 * DAY);
    assert_eq!(restarted(slower, 5 * DAY).1, 500, "it comes back as slowly as the new one says");
    assert_eq!(restarted(None, DAY / 2), (None, 500), "as before, where there is none");
    assert_eq!(restarted(limit, DAY / 2), (None, 500));
}

#[test]
fn a_refusal_under_another_quota_counts_at_a_restart_as_well() {
    // A default that is a part of the pads shared with a receiver has become smaller.
    let (large, small) = (quota(1000), quota(100));
    let mut budgets = Budgets::default();
    let spendings = budgets.pay(Time::ZERO, [(pair(2), large, 100)]).expect("within the quota");
    budgets.recorded(&spendings);
    let exceeded = budgets.pay(Time::ZERO, [(pair(2), small, 1)]).expect_err("all of it was spent");
    budgets.recorded(&exceeded.changed);
    let again = budgets.pay(Time::ZERO, [(pair(2), small, 1)]).expect_err("still");
    assert_eq!((exceeded.changed.len(), again.changed.len()), (1, 0), "it is recorded once");
    let later = DAY / 5;
    let mut restarted = Budgets::default();
    restarted.restore(later, exceeded.changed[0], small);
    assert!(budgets.pay(later, [(pair(2), small, 90)]).is_err(), "20 have come back");
    assert!(restarted.pay(later, [(pair(2), small, 90)]).is_err(), "nor have more after a restart");
}

#[test]
fn a_record_that_came_to_nothing_is_asked_for_again() {
    let (large, small) = (quota(1000), quota(100));
    let mut budgets = Budgets::default();
    assert!(pay(&mut budgets, Time::ZERO, pair(2), large, 100));
    let refused = |budgets: &mut Budgets| {
        budgets.pay(Time::ZERO, [(pair(2), small, 1)]).expect_err("all of it was spent").changed
    };
    for _ in 0..3 {
        let changed = refused(&mut budgets);
        assert_eq!((changed.len(), refused(&mut budgets).len()), (1, 0), "once at a time");
        budgets.not_recorded(&changed);
    }
    let changed = refused(&mut budgets);
    budgets.recorded(&changed);
    assert_eq!((changed.len(), refused(&mut budgets).len()), (1, 0));
}

#[test]
fn records_that_come_to_nothing_do_not_add_up() {
    let mut budgets = Budgets::default();
    for _ in 0..100 {
        let spendings = budgets.pay(Time::ZERO, [(pair(2), quota(1000), 100)]).expect("nothing was used");
        assert_eq!(spendings.len(), 1, "no payment goes through without its record");
        budgets.not_recorded(&spendings);
        budgets.refund(&pair(2), 100);
    }
    assert!(budgets.accounts[&pair(2)].asked.is_empty());
}

#[test]
fn what_is_asked_for_does_not_add_up() {
    let (mut budgets, quotas) =
        (Budgets::default(), [quota(1000), quota(100_000), Quota::new(700, DAY / 24)]);
    let mut queue = VecDeque::new();
    let (mut records, mut messages) = (0, 0);
    for step in 0..100_000_u64 {
        let now = Time::from_secs(step);
        // It changes every minute, and records take ten messages.
        let quota = quotas[usize::try_from(step / 60 % 3).expect("small")];
        messages += 1;
        if let Ok(spendings) = budgets.pay(now, [(pair(2), quota, 1)]) {
            records += usize::from(!spendings.is_empty());
            queue.push_back(spendings);
        }
        if queue.len() > 10 {
            budgets.recorded(&queue.pop_front().expect("one"));
        }
        let state = &budgets.accounts[&pair(2)];
        assert!(state.asked.len() <= 11, "{:?}", state.asked);
    }
    assert!(records < messages / 5, "{records} records of {messages} messages");
}

#[test]
fn crowding_an_account_out_does_not_refill_it() {
    let (mut budgets, limit) = (Budgets::default(), quota(1000));
    for receiver in 0..ACCOUNTS_PER_PAYER_MAX {
        assert!(pay(&mut budgets, Time::ZERO, pair(receiver.try_into().expect("few")), limit, 1000));
    }
    assert!(!pay(&mut budgets, Time::ZERO, pair(5000), limit, 1), "no room");
    assert!(!pay(&mut budgets, Time::ZERO, pair(7), limit, 1), "none was forgotten");
    let other = Account::Pair { sender: node(2), receiver: node(7) };
    assert!(pay(&mut budgets, Time::ZERO, other, limit, 1), "others are not concerned");
    assert!(pay(&mut budgets, DAY, pair(5000), limit, 1), "full ones make way");
    assert!(budgets.accounts.len() < 10);
}

#[test]
fn names_choose_the_quota() {
    let quotas = Quotas {
        default: quota(1).into(),
        payers: BTreeMap::from([(node(1), quota(2)), (node(3), None)]),
        pairs: BTreeMap::from([((node(1), node(9)), quota(3))]),
        identity: quota(4),
    };
    assert_eq!(quotas.of(&pair(8)), quota(2));
    assert_eq!(quotas.of(&pair(9)), quota(3));
    assert_eq!(quotas.of(&Account::Lane { sender: node(3), hub: node(9) }), None);
    assert_eq!(quotas.of(&Account::Pair { sender: node(4), receiver: node(9) }), quota(1));
    assert_eq!(quotas.of(&Account::Identity { client: node(1) }), quota(4));
}

#[test]
fn quotas_are_read_as_they_are_written() {
    for (text, bytes, secs) in [
        ("1GiB/day", 1 << 30, 86_400),
        ("64KiB/minute", 64 << 10, 60),
        ("96B/second", 96, 1),
        ("3TiB/hour", 3 << 40, 3_600),
    ] {
        let quota = text.parse::<Quota>();
        assert_eq!(quota, Ok(Quota { bytes, per: Duration::from_secs(secs) }));
        assert_eq!(quota.map(|quota| quota.to_string()), Ok(text.to_owned()));
    }
    assert_eq!(" 64 kib / min ".parse::<Quota>(), "64KiB/minute".parse());
    for bad in [
        "",
        "1GiB",
        "GiB/day",
        "0B/s",
        "1GiB/week",
        "1.5GiB/day",
        "-1B/s",
        "1GB/day",
        "99999999TiB/s",
        "1/day/day",
    ] {
        assert!(bad.parse::<Quota>().is_err(), "{bad}");
    }
}

#[test]
fn a_default_is_none_a_quota_or_a_part_of_the_lanes() {
    let per = DAY;
    for (text, default) in [
        ("none", DefaultQuota::None),
        ("1GiB/day", DefaultQuota::Quota(Quota { bytes: 1 << 30, per })),
        ("10%/day", DefaultQuota::OF_HUBS),
    ] {
        assert_eq!(text.parse(), Ok(default));
        assert_eq!(default.to_string(), text);
    }
    let said = "200%/day".parse::<DefaultQuota>().expect_err("too much").to_string();
    assert!(said.contains("10%/day") && said.contains("none"), "{said}");
    for bad in ["", "0%/day", "101%/day", "10%", "%/day", "10%/week", "-1%/day", "1.5%/day"] {
        assert!(bad.parse::<DefaultQuota>().is_err(), "{bad}");
    }
    assert_eq!(DefaultQuota::OF_HUBS.of(1 << 20), quota(104_857));
    assert_eq!(DefaultQuota::OF_HUBS.of(0), quota(96), "an unknown lane is a short one");
    assert_eq!(DefaultQuota::OF_HUBS.of(u64::MAX), quota(u64::MAX / 10));
    assert_eq!(DefaultQuota::None.of(1 << 20), None);
}

proptest! {
    /// Whatever the order of payments and restarts, no window of a period lets more through than twice the
    /// quota, and a restart never lets more through than none would have.
    #[test]
    fn no_period_sees_more_than_twice_the_quota(
        steps in prop::collection::vec((0u64..40_000, 1u64..400, any::<bool>()), 1..120)
    ) {
        let limit = quota(1000);
        let (mut budgets, mut record, mut now) = (Budgets::default(), None, Time::ZERO);
        let mut paid: Vec<(Time, u64)> = Vec::new();
        for (secs, bytes, restart) in steps {
            now += Time::from_secs(secs);
            if restart {
                budgets = Budgets::default();
                if let Some(spending) = record {
                    budgets.restore(now, spending, limit);
                }
            }
            if let Ok(spendings) = budgets.pay(now, [(pair(2), limit, bytes)]) {
                budgets.recorded(&spendings);
                record = spendings.last().copied().or(record);
                paid.push((now, bytes));
            }
        }
        for (at, &(end, _)) in paid.iter().enumerate() {
            let window = paid[..=at].iter().filter(|(time, _)| *time + DAY > end);
            let sum: u64 = window.map(|(_, bytes)| bytes).sum();
            prop_assert!(sum <= 2000, "{sum} bytes in the day before {end:?}");
        }
    }
}

/// What a property test does with one account.
#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(u64),
    Pay(u64),
    /// The last payment came to nothing, where it has been recorded and nothing has changed since.
    GiveBack,
    /// Another of the quotas counts.
    Change(usize),
    /// The same, and the account hears of it with the next payment.
    ChangeUnsaid(usize),
    /// The record that was asked for first comes to nothing, where it is of a change.
    Fail,
    /// The record that was asked for first becomes durable.
    Record,
    /// A crash loses what is not durable; then this quota counts.
    Restart(usize),
}

/// Quotas that a property test changes between, from the slowest to the fastest; and none.
fn some_quotas() -> [Option<Quota>; 5] {
    let quota = |bytes, secs| Quota::new(bytes, Time::from_secs(secs));
    [quota(1000, 86_400), quota(500, 3600), quota(4000, 3600), quota(1000, 10), None]
}

/// What an account comes to without machinery: every payment that was used, and every change.
#[derive(Default)]
struct Reference {
    /// When, bytes that were paid, and the quota from then on.
    events: Vec<(Time, f64, Option<Quota>)>,
}

impl Reference {
    fn spent(&self, now: Time) -> f64 {
        let (mut spent, mut before, mut quota): (f64, _, _) = (0.0, Time::ZERO, None::<Quota>);
        for &(at, paid, next) in self.events.iter().chain([&(now, 0.0, None)]) {
            if let Some(quota) = quota {
                let rate = quota.bytes as f64 / quota.per.as_secs_f64();
                spent = (spent - rate * (at - before).as_secs_f64()).max(0.0);
            }
            (before, spent) = (at, spent + paid);
            if let Some(next) = next {
                spent = spent.min(next.bytes as f64);
                quota = Some(next);
            }
        }
        spent
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever the order of payments, changes, records and crashes: nobody gets more than a simple account of what was
    /// used would give, and nobody that it lets through with room to spare is refused.
    #[test]
    fn an_account_agrees_with_a_simple_one_after_changes_and_crashes(
        first in 0usize..5,
        steps in prop::collection::vec(
            prop_oneof![
                3 => (0u64..20).prop_map(Step::Pass),
                1 => (0u64..20_000).prop_map(Step::Pass),
                6 => (1u64..600).prop_map(Step::Pay),
                1 => Just(Step::GiveBack),
                2 => (0usize..5).prop_map(Step::Change),
                2 => (0usize..5).prop_map(Step::ChangeUnsaid),
                1 => Just(Step::Fail),
                6 => Just(Step::Record),
                1 => (0usize..5).prop_map(Step::Restart),
            ],
            1..60,
        )
    ) {
        let account = Account::Unnamed { receiver: node(7) };
        let (mut budgets, mut now, mut quota) = (Budgets::default(), Time::ZERO, some_quotas()[first]);
        let (mut used, mut all) = (Reference::default(), Reference::default());
        for reference in [&mut used, &mut all] {
            reference.events.push((now, 0.0, quota));
        }
        let mut durable: Option<Spending> = None;
        // Each with the payment and the change of the quota that it stands for.
        let mut asked: VecDeque<(Vec<Spending>, std::ops::RangeInclusive<usize>)> = VecDeque::new();
        // The first change whose record came to nothing, until another is durable.
        let mut failed: Option<usize> = None;
        let (mut changes, mut last) = (1.0, quota.unwrap_or(Quota::per_hour(1)));
        let mut paid: Option<(usize, u64, f64)> = None;
        // What a restart may cost: a part of the largest quota, and what was given back since its record.
        const PART: f64 = 4000.0 / PARTS as f64;
        let mut ahead = PART;
        for step in steps {
            match step {
                Step::Pass(secs) => now += Time::from_secs(secs),
                Step::Pay(bytes) => {
                    let Some(quota) = quota else { continue };
                    let first = used.events.len();
                    let unsaid = quota != last;
                    if unsaid {
                        (last, changes) = (quota, changes + 1.0);
                        used.events.push((now, 0.0, Some(quota)));
                        all.events.push((now, 0.0, Some(quota)));
                    }
                    let room = |reference: &Reference| quota.bytes as f64 - reference.spent(now) - bytes as f64;
                    match budgets.pay(now, [(account, Some(quota), bytes)]) {
                        Ok(spendings) => {
                            prop_assert!(room(&used) > -changes - 1.0, "{now:?}: {}", room(&used));
                            used.events.push((now, bytes as f64, None));
                            all.events.push((now, bytes as f64, None));
                            paid = Some((used.events.len() - 1, bytes, changes));
                            if !spendings.is_empty() {
                                asked.push_back((spendings, first..=used.events.len() - 1));
                            }
                        }
                        Err(Exceeded { changed, .. }) => {
                            prop_assert!(room(&all) < changes + 1.0, "{now:?}: {}", room(&all));
                            let said = !unsaid && failed.is_none();
                            prop_assert!(!said || changed.is_empty(), "one record of a change");
                            let at = failed.filter(|_| !unsaid).unwrap_or(first);
                            asked.extend((!changed.is_empty()).then_some((changed, at..=at)));
                            let again = budgets.pay(now, [(account, Some(quota), bytes)]);
                            prop_assert!(again.is_err_and(|again| again.changed.is_empty()), "nor another");
                        }
                    }
                }
                Step::GiveBack => {
                    let recorded = |at| asked.iter().all(|(_, other)| !other.contains(&at));
                    if let Some((at, bytes, since)) = paid.take()
                        && since == changes
                        && recorded(at)
                    {
                        budgets.refund(&account, bytes);
                        (used.events[at].1, all.events[at].1) = (0.0, 0.0);
                        ahead = ahead.max(PART + bytes as f64);
                    }
                }
                // Without one the last stays that by which it comes back.
                Step::Change(to) if some_quotas()[to].is_none_or(|quota| quota == last) => {
                    quota = some_quotas()[to];
                }
                Step::ChangeUnsaid(to) => quota = some_quotas()[to],
                Step::Fail => {
                    let of_change = |(_, at): &(_, std::ops::RangeInclusive<usize>)| {
                        at.clone().all(|at| used.events.get(at).is_none_or(|(_, paid, _)| *paid == 0.0))
                    };
                    if asked.front().is_some_and(of_change)
                        && let Some((spendings, at)) = asked.pop_front()
                    {
                        budgets.not_recorded(&spendings);
                        failed = failed.or(Some(*at.start()));
                    }
                }
                Step::Change(to) => {
                    last = some_quotas()[to].unwrap_or(last);
                    (quota, changes) = (some_quotas()[to], changes + 1.0);
                    used.events.push((now, 0.0, quota));
                    all.events.push((now, 0.0, quota));
                    let changed = budgets.limits_changed(now, node(7), |_| quota);
                    let at = used.events.len() - 1;
                    asked.extend((!changed.is_empty()).then_some((changed, at..=at)));
                }
                Step::Record => {
                    if let Some((spendings, _)) = asked.pop_front() {
                        budgets.recorded(&spendings);
                        durable = spendings.last().copied().or(durable);
                        failed = None;
                    }
                }
                Step::Restart(to) => {
                    let recorded = durable.map_or(last, |spending| spending.quota);
                    last = some_quotas()[to].unwrap_or(recorded);
                    // What was lost came back by the quota before it.
                    let lost = asked.front().map_or(used.events.len(), |(_, at)| *at.start());
                    let lost = failed.take().map_or(lost, |failed| failed.min(lost));
                    for reference in [&mut used, &mut all] {
                        reference.events[lost..].iter_mut().for_each(|event| event.2 = None);
                    }
                    asked.drain(..).for_each(|(_, at)| used.events[*at.end()].1 = 0.0);
                    (quota, changes) = (some_quotas()[to], changes + 1.0);
                    budgets = Budgets::default();
                    if let Some(spending) = durable {
                        let changed = budgets.restore(now, spending, quota);
                        let at = used.events.len();
                        asked.extend(changed.map(|changed| (vec![changed], at..=at)));
                    }
                    used.events.push((now, 0.0, Some(last)));
                    all.events.push((now, ahead, Some(last)));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Of accounts that are charged together under quotas that change unsaid: a refusal has each change recorded once, and
    /// when all records are durable they say what is known, to a part of the quota.
    #[test]
    fn refusals_have_each_change_of_each_account_recorded_once(
        steps in prop::collection::vec(
            (0u64..600, prop::collection::vec((0u16..4, 0usize..4, 1u64..700), 1..4), 0usize..4, any::<bool>()),
            1..60,
        )
    ) {
        let (mut budgets, mut now) = (Budgets::default(), Time::ZERO);
        let (mut pending, mut durable) = (VecDeque::new(), BTreeMap::<Account, Spending>::new());
        for (secs, mut payments, done, crash) in steps {
            now += Time::from_secs(secs);
            payments.sort_unstable();
            payments.dedup_by_key(|(receiver, ..)| *receiver);
            let payments = payments.iter().map(|&(to, quota, bytes)| (pair(to), some_quotas()[quota], bytes));
            let payments: Vec<_> = payments.collect();
            match budgets.pay(now, payments.clone()) {
                Ok(spendings) => pending.push_back(spendings),
                Err(exceeded) => {
                    pending.push_back(exceeded.changed);
                    let asked = |budgets: &Budgets| -> usize {
                        budgets.accounts.values().map(|state| state.asked.len()).sum()
                    };
                    let before = asked(&budgets);
                    for _ in 0..3 {
                        let again = budgets.pay(now, payments.clone());
                        prop_assert!(again.is_err_and(|again| again.changed.is_empty()), "once");
                    }
                    prop_assert_eq!(asked(&budgets), before);
                }
            }
            for _ in 0..done {
                let spendings: Vec<Spending> = pending.pop_front().unwrap_or_default();
                budgets.recorded(&spendings);
                durable.extend(spendings.iter().map(|spending| (spending.account, *spending)));
            }
            let waiting: usize = pending.iter().map(Vec::len).sum();
            let asked: usize = budgets.accounts.values().map(|state| state.asked.len()).sum();
            prop_assert!(asked <= waiting, "{asked} of {waiting}");
            if pending.is_empty() {
                for (account, state) in budgets.accounts.iter().filter(|(_, state)| state.full_at > now) {
                    let record = durable[account];
                    prop_assert_eq!(record.quota, state.quota);
                    let most = state.full_at + state.quota.per / PARTS;
                    prop_assert!((state.full_at..=most).contains(&record.full_at), "{state:?} {record:?}");
                }
                if crash {
                    budgets = Budgets::default();
                    for spending in durable.values() {
                        prop_assert_eq!(budgets.restore(now, *spending, None), None);
                    }
                }
            }
        }
    }
}

#[test]
fn a_record_that_is_reported_late_does_not_stand_for_the_one_after_it() {
    let limit = quota(1600);
    let mut budgets = Budgets::default();
    // This payment comes to nothing while the record of the next one is on its way.
    assert!(pay(&mut budgets, Time::ZERO, pair(2), limit, 700));
    let older = budgets.pay(Time::ZERO, [(pair(2), limit, 800)]).expect("there is room");
    budgets.refund(&pair(2), 700);
    let newer = budgets.pay(Time::ZERO, [(pair(2), limit, 10)]).expect("there is room");
    assert_eq!((older.len(), newer.len()), (1, 1));
    // The disk says what was asked for last; that is heard of first.
    budgets.recorded(&newer);
    budgets.recorded(&older);
    let mut disk = newer[0];
    for _ in 0..60 {
        if let Ok(spendings) = budgets.pay(Time::ZERO, [(pair(2), limit, 10)]) {
            budgets.recorded(&spendings);
            disk = spendings.last().copied().unwrap_or(disk);
        }
    }
    assert!(disk.full_at >= budgets.accounts[&pair(2)].full_at, "a restart would forget what was paid");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Records come to nothing, or are durable in the order in which they were asked for, and either is heard of at any time.
    /// When all is said, one refusal at most has the rest recorded, and then a restart finds what is known.
    #[test]
    fn whatever_comes_to_nothing_one_refusal_has_recorded(
        steps in prop::collection::vec(
            (0u64..600, 0u16..2, 0usize..4, 1u64..700, 0usize..4, any::<bool>(), any::<bool>()),
            1..40,
        )
    ) {
        let (mut budgets, mut now) = (Budgets::default(), Time::ZERO);
        let mut disk = BTreeMap::<Account, Spending>::new();
        // What was asked for, and whether it will come to nothing.
        let mut pending: Vec<(Vec<Spending>, bool)> = Vec::new();
        let mut quotas = [some_quotas()[0]; 2];
        // A payment that comes to nothing stays paid here, as at a receiver.
        let report = |budgets: &mut Budgets, (spendings, fails): &(Vec<Spending>, bool)| {
            if *fails { budgets.not_recorded(spendings) } else { budgets.recorded(spendings) }
        };
        for (secs, to, which, bytes, done, fails, restart) in steps {
            now += Time::from_secs(secs);
            quotas[usize::from(to)] = some_quotas()[which];
            let spendings = match budgets.pay(now, [(pair(to), quotas[usize::from(to)], bytes)]) {
                Ok(spendings) => spendings,
                Err(exceeded) => exceeded.changed,
            };
            if !fails {
                disk.extend(spendings.iter().map(|spending| (spending.account, *spending)));
            }
            pending.push((spendings, fails));
            for _ in 0..done {
                if !pending.is_empty() {
                    let at = usize::try_from(bytes).unwrap_or(0) % pending.len();
                    let said = pending.remove(at);
                    report(&mut budgets, &said);
                }
            }
            if !restart {
                continue;
            }
            for said in std::mem::take(&mut pending) {
                report(&mut budgets, &said);
            }
            for to in [0, 1] {
                let quota = quotas[usize::from(to)];
                let refused = |budgets: &mut Budgets| {
                    budgets.pay(now, [(pair(to), quota, u64::MAX)]).expect_err("too much").changed
                };
                let changed = refused(&mut budgets);
                prop_assert!(changed.len() <= 1 && refused(&mut budgets).is_empty());
                disk.extend(changed.iter().map(|spending| (spending.account, *spending)));
                budgets.recorded(&changed);
                prop_assert!(refused(&mut budgets).is_empty());
            }
            for (account, state) in budgets.accounts.iter().filter(|(_, state)| state.full_at > now) {
                prop_assert!(state.asked.is_empty());
                let record = disk[account];
                prop_assert_eq!(record.quota, state.quota);
                // It may be more: what came to nothing in between was of a faster quota.
                prop_assert!(state.full_at <= record.full_at, "{:?} {:?}", state, record);
            }
            budgets = Budgets::default();
            for spending in disk.values() {
                prop_assert_eq!(budgets.restore(now, *spending, None), None);
            }
        }
    }
}
