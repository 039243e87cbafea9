//! Quotas: how many pad bytes somebody may have burned per time (§4.1, depletion attacks).
//!
//! Each account is a token bucket, kept as one moment: when it will be full again. Spending moves that moment
//! on by what the bytes cost in time; it may not lie further ahead than the quota's period. So a full bucket
//! and an absent one are the same, and only such are ever forgotten: nobody gets a fresh bucket by
//! crowding an old one out.
//!
//! A bucket must not be fuller after a restart than it was before. The moment is therefore recorded ahead, a
//! part of the quota at a time, before that part is spent: a restart costs at most that part, and few
//! payments need a record. Time counts only while the node runs, so that no clock that was set can refill.
//!
//! Must never: let a payment through whose record is not durable; forget an account that is not full.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    ids::NodeId,
    params::Time,
    planted::{Fault, planted},
};

/// Parts of a quota; one is recorded ahead, and so at most lost to a restart.
const PARTS: u32 = 16;

/// Accounts of one payer that are not full. Beyond it the payer opens no new one: with so many it has spent
/// with as many peers within the period.
pub const ACCOUNTS_PER_PAYER_MAX: usize = 1024;

/// So many bytes per so much time; also the most that may be spent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
pub struct Quota {
    bytes: u64,
    per: Duration,
}

/// Units of size and of time, as quotas are written.
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// See [`SIZES`].
const TIMES: [(&str, u64); 4] = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];

impl Quota {
    /// `None` where one of the two is nothing, or the time is longer than a year.
    pub fn new(bytes: u64, per: Duration) -> Option<Self> {
        let year = Duration::from_secs(366 * 86_400);
        (bytes > 0 && !per.is_zero() && per <= year).then_some(Self { bytes, per })
    }

    /// So many bytes in an hour.
    pub const fn per_hour(bytes: u64) -> Self {
        assert!(bytes > 0, "a quota of nothing");
        Self { bytes, per: Duration::from_secs(3_600) }
    }

    /// The most that may be spent at once, and what comes back in a period.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The period.
    pub fn per(&self) -> Duration {
        self.per
    }

    /// The time in which so many bytes come back, rounded up; `None` for more than all.
    fn cost(&self, bytes: u64) -> Option<Duration> {
        if bytes > self.bytes {
            return None;
        }
        let nanos = (u128::from(bytes) * self.per.as_nanos()).div_ceil(u128::from(self.bytes));
        // At most a year, which fits.
        Some(u64::try_from(nanos).map_or(self.per, Duration::from_nanos))
    }

    /// The bytes that come back in a time, rounded up.
    fn worth(&self, time: Duration) -> u64 {
        let bytes = (time.as_nanos() * u128::from(self.bytes)).div_ceil(self.per.as_nanos());
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// As it is recorded: bytes, and the period in nanoseconds.
impl From<Quota> for (u64, u64) {
    fn from(quota: Quota) -> Self {
        // At most a year, which fits.
        (quota.bytes, u64::try_from(quota.per.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl TryFrom<(u64, u64)> for Quota {
    type Error = &'static str;

    fn try_from((bytes, nanos): (u64, u64)) -> Result<Self, Self::Error> {
        Self::new(bytes, Duration::from_nanos(nanos)).ok_or("no quota: of nothing, or for more than a year")
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) =
            SIZES.into_iter().find(|(_, size)| self.bytes.is_multiple_of(*size)).unwrap_or(("B", 1));
        let whole = TIMES.into_iter().find(|(_, secs)| self.per == Duration::from_secs(*secs));
        match whole {
            Some((time, _)) => write!(f, "{}{unit}/{time}", self.bytes / size),
            None => write!(f, "{}{unit}/{}s", self.bytes / size, self.per.as_secs_f64()),
        }
    }
}

/// A text that is no quota.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a quota: write a size, a slash and a time, such as 64KiB/minute or 1GiB/day")]
pub struct QuotaSyntax(String);

impl FromStr for Quota {
    type Err = QuotaSyntax;

    /// `1GiB/day`, `64 KiB / minute`, `96B/s`: binary units, whole numbers.
    fn from_str(text: &str) -> Result<Self, QuotaSyntax> {
        let parse = || {
            let (size, time) = text.split_once('/')?;
            let size = size.trim();
            let at = size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len());
            let (number, unit) = size.split_at(at);
            let unit = unit.trim();
            let unit = SIZES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
            let secs = match time.trim().to_ascii_lowercase().as_str() {
                "d" | "day" => 86_400,
                "h" | "hour" => 3_600,
                "m" | "min" | "minute" => 60,
                "s" | "sec" | "second" => 1,
                _ => return None,
            };
            Self::new(number.parse::<u64>().ok()?.checked_mul(unit)?, Duration::from_secs(secs))
        };
        parse().ok_or_else(|| QuotaSyntax(text.chars().take(64).collect()))
    }
}

/// What serves for those who are not named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultQuota {
    /// No limit.
    #[default]
    None,
    /// So many bytes in so much time.
    Quota(Quota),
    /// A part of the lanes that are concerned, in so much time.
    Part {
        /// Of a hundred.
        percent: u8,
        /// The time.
        per: Duration,
    },
}

/// The least that a part comes to: a key of 256 bits.
const PART_BYTES_MIN: u64 = 96;

impl DefaultQuota {
    /// What a hub lets each sender burn of one receiver's lanes, unless somebody sets otherwise: a tenth in a day. So a
    /// lane that one sender uses up at this rate lasts for ten days, and the warning that comes a week ahead of the end
    /// comes in time.
    pub const OF_HUBS: Self = Self::Part { percent: 10, per: Duration::from_secs(86_400) };

    /// The quota, where the lanes that are concerned have so many bytes in all.
    pub fn of(&self, lane_bytes: u64) -> Option<Quota> {
        match *self {
            Self::None => None,
            Self::Quota(quota) => Some(quota),
            Self::Part { percent, per } => {
                let bytes = u128::from(lane_bytes) * u128::from(percent) / 100;
                Quota::new(u64::try_from(bytes).unwrap_or(u64::MAX).max(PART_BYTES_MIN), per)
            }
        }
    }
}

impl From<Option<Quota>> for DefaultQuota {
    fn from(quota: Option<Quota>) -> Self {
        quota.map_or(Self::None, Self::Quota)
    }
}

impl fmt::Display for DefaultQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Quota(quota) => quota.fmt(f),
            Self::Part { percent, per } => {
                match TIMES.into_iter().find(|(_, secs)| *per == Duration::from_secs(*secs)) {
                    Some((time, _)) => write!(f, "{percent}%/{time}"),
                    None => write!(f, "{percent}%/{}s", per.as_secs_f64()),
                }
            }
        }
    }
}

/// A text that is no default quota.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a default quota: write a size, a slash and a time, such as 1GiB/day, a part of the pads such as 10%/day (at most \
     100%), or none"
)]
pub struct DefaultQuotaSyntax(String);

impl FromStr for DefaultQuota {
    type Err = DefaultQuotaSyntax;

    /// As a quota, or `10%/day`, or `none`.
    fn from_str(text: &str) -> Result<Self, DefaultQuotaSyntax> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        let wrong = || DefaultQuotaSyntax(text.chars().take(64).collect());
        let Some((percent, time)) = text.split_once('%') else {
            return text.parse().map(Self::Quota).map_err(|_: QuotaSyntax| wrong());
        };
        let parse = || {
            let percent = percent.trim().parse::<u8>().ok().filter(|percent| (1..=100).contains(percent))?;
            let per = format!("1B{time}").parse::<Quota>().ok()?.per;
            Some(Self::Part { percent, per })
        };
        parse().ok_or_else(wrong)
    }
}

/// Whose spending is counted, and towards whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Account {
    /// At a hub: what a sender has burned of a receiver's down lanes.
    Pair {
        /// The sender.
        sender: NodeId,
        /// The receiver.
        receiver: NodeId,
    },
    /// At a receiver: what a sender has burned of the down lanes shared with one hub. Counted by hub, so that
    /// one that invents messages spends nothing of the others'.
    Lane {
        /// The sender.
        sender: NodeId,
        /// The hub.
        hub: NodeId,
    },
    /// At a hub: what a client's identity requests have burned of its own down lanes.
    Identity {
        /// The client.
        client: NodeId,
    },
    /// At a hub: what a sender has burned of the down lanes of a receiver that has set a limit for it, or for each that
    /// it does not name.
    Limit {
        /// The receiver.
        receiver: NodeId,
        /// The sender.
        sender: NodeId,
    },
    /// At a hub: what all senders together have burned of the down lanes of a receiver that does not name them.
    Unnamed {
        /// The receiver.
        receiver: NodeId,
    },
    /// At a client: what senders that a hub named, and nobody knew, have made it burn of every up lane.
    Introduction {
        /// The hub.
        hub: NodeId,
    },
}

impl Account {
    /// Who pays.
    pub fn payer(&self) -> NodeId {
        match *self {
            Self::Pair { sender, .. } | Self::Lane { sender, .. } => sender,
            Self::Identity { client } => client,
            Self::Introduction { hub } => hub,
            Self::Limit { receiver, .. } | Self::Unnamed { receiver } => receiver,
        }
    }

    /// Whether a hub keeps it; the others are a client's. A node that is both has one ledger for both.
    pub fn is_of_hub(&self) -> bool {
        match self {
            Self::Pair { .. } | Self::Identity { .. } | Self::Limit { .. } | Self::Unnamed { .. } => true,
            Self::Lane { .. } | Self::Introduction { .. } => false,
        }
    }

    /// The first and the last account that the payer can have beside this one.
    fn kin(&self) -> std::ops::RangeInclusive<Self> {
        let (least, most) = (NodeId::new([0; 32]), NodeId::new([0xff; 32]));
        match *self {
            Self::Pair { sender, .. } => {
                Self::Pair { sender, receiver: least }..=Self::Pair { sender, receiver: most }
            }
            Self::Lane { sender, .. } => Self::Lane { sender, hub: least }..=Self::Lane { sender, hub: most },
            Self::Limit { receiver, .. } => {
                Self::Limit { receiver, sender: least }..=Self::Limit { receiver, sender: most }
            }
            Self::Identity { .. } | Self::Introduction { .. } | Self::Unnamed { .. } => *self..=*self,
        }
    }
}

/// An account's record: taken to be full again at this moment, after a restart too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spending {
    /// The account.
    pub account: Account,
    /// When it is full again.
    pub full_at: Time,
    /// Under this quota. After a restart another may be in force, and what was spent is a number of bytes.
    pub quota: Quota,
}

/// A payment that would exceed its quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The account that has too little.
    pub account: Account,
    /// What has to be recorded all the same: accounts that have come under another quota.
    pub changed: Vec<Spending>,
}

/// One account, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The account.
    pub account: Account,
    /// Its quota.
    pub quota: Quota,
    /// Bytes spent that have not come back yet.
    pub used: u64,
}

/// What each may spend. A payer that is not named has the default; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    /// For keys, of payers that are not named.
    pub default: DefaultQuota,
    /// For keys, by payer.
    pub payers: BTreeMap<NodeId, Option<Quota>>,
    /// For keys, by payer and the other side; counts before the payer's.
    pub pairs: BTreeMap<(NodeId, NodeId), Option<Quota>>,
    /// For identity requests.
    pub identity: Option<Quota>,
}

impl Quotas {
    /// The quota of an account, as far as this node's operator has set it. That for introductions is nobody's to set,
    /// and of a default only what is a number of bytes.
    pub fn of(&self, account: &Account) -> Option<Quota> {
        let (payer, other) = match *account {
            Account::Pair { sender, receiver } => (sender, receiver),
            Account::Lane { sender, hub } => (sender, hub),
            Account::Identity { .. } => return self.identity,
            Account::Introduction { .. } | Account::Limit { .. } | Account::Unnamed { .. } => return None,
        };
        self.named(&payer, &other).unwrap_or(match self.default {
            DefaultQuota::Quota(quota) => Some(quota),
            DefaultQuota::None | DefaultQuota::Part { .. } => None,
        })
    }

    /// The quota of a payer that is named, alone or with the other side.
    pub fn named(&self, payer: &NodeId, other: &NodeId) -> Option<Option<Quota>> {
        self.pairs.get(&(*payer, *other)).or_else(|| self.payers.get(payer)).copied()
    }
}

/// All accounts of a node's role.
#[derive(Debug, Clone, Default)]
pub struct Budgets {
    accounts: BTreeMap<Account, State>,
}

#[derive(Debug, Clone)]
struct State {
    quota: Quota,
    full_at: Time,
    /// What the record says, and of which quota; nothing may be spent beyond it.
    durable: Option<(Time, Quota)>,
    /// What it will say, from the record that was asked for first.
    asked: VecDeque<(Time, Quota)>,
}

impl State {
    /// Comes under a quota, which may be another than before: bytes that were spent and have not come back stay spent, and
    /// come back as fast as the new one says.
    fn come_under(&mut self, now: Time, quota: Quota) {
        if self.quota != quota && !planted(Fault::QuotaKeepsItsTime) {
            let spent = self.quota.worth(self.full_at.saturating_sub(now)).min(quota.bytes);
            self.full_at = now + quota.cost(spent).unwrap_or(quota.per);
        }
        self.quota = quota;
    }

    /// What has to be recorded, a part of the quota ahead, unless the record says so already.
    fn record(&mut self, account: Account) -> Option<Spending> {
        let Self { quota, full_at, .. } = *self;
        let covers = |&(until, of): &(Time, Quota)| of == quota && full_at <= until;
        if self.durable.as_ref().is_some_and(covers) && self.asked.iter().all(covers) {
            return None;
        }
        let full_at = full_at + quota.per / PARTS;
        self.asked.push_back((full_at, quota));
        Some(Spending { account, full_at, quota })
    }

    /// The same where the last record is of another quota.
    fn restated(&mut self, now: Time, account: Account) -> Option<Spending> {
        let recorded = self.asked.back().or(self.durable.as_ref()).map(|(_, quota)| *quota);
        if recorded == Some(self.quota) { None } else { self.changed(now, account) }
    }

    /// The same after a change, where there is anything left to come back.
    fn changed(&mut self, now: Time, account: Account) -> Option<Spending> {
        if self.full_at > now { self.record(account) } else { None }
    }
}

impl Budgets {
    /// Takes up a record from before a restart. Where another quota is in force since, gives what has to be recorded now; where
    /// none is, what was spent comes back as before, and counts if there is one again.
    pub fn restore(&mut self, now: Time, spending: Spending, quota: Option<Quota>) -> Option<Spending> {
        let Spending { account, full_at, quota: before } = spending;
        let durable = Some((full_at, before));
        let full_at = full_at.min(now + before.per);
        if full_at <= now || planted(Fault::SpendingForgotten) {
            return None;
        }
        let mut state = State { quota: before, full_at, durable, asked: VecDeque::new() };
        quota.into_iter().for_each(|quota| state.come_under(now, quota));
        let changed = state.changed(now, account);
        self.accounts.insert(account, state);
        changed
    }

    /// A receiver has set other limits: what has not come back comes back as fast as these say, from now on. Gives what has to
    /// be recorded, so that a restart finds it so.
    pub fn limits_changed(
        &mut self,
        now: Time,
        receiver: NodeId,
        quota_of: impl Fn(&Account) -> Option<Quota>,
    ) -> Vec<Spending> {
        let any = Account::Limit { receiver, sender: receiver }.kin();
        let all = Account::Unnamed { receiver }.kin();
        let mut changed = Vec::new();
        for accounts in [any, all] {
            for (account, state) in self.accounts.range_mut(accounts) {
                if let Some(quota) = quota_of(account).filter(|quota| *quota != state.quota) {
                    state.come_under(now, quota);
                    changed.extend(state.changed(now, *account));
                }
            }
        }
        changed
    }

    /// Pays from all of these accounts or from none; an account without a quota pays nothing. What is given
    /// back has to be recorded, and [`Budgets::recorded`] be told, before the bytes are used.
    ///
    /// # Errors
    /// The first account that has too little.
    pub fn pay(
        &mut self,
        now: Time,
        payments: impl IntoIterator<Item = (Account, Option<Quota>, u64)>,
    ) -> Result<Vec<Spending>, Exceeded> {
        let mut due = Vec::new();
        for (account, quota, bytes) in payments {
            let Some(quota) = quota else { continue };
            // Also where nothing is paid in the end: else one that is refused would wait at the rate of a quota that is gone.
            let full_at = self.accounts.get_mut(&account).map_or(now, |known| {
                known.come_under(now, quota);
                known.full_at.max(now)
            });
            let paid = quota.cost(bytes).map(|cost| full_at + cost);
            let Some(paid) = paid.filter(|paid| *paid <= now + quota.per) else {
                return Err(self.exceeded(now, account, &due));
            };
            if !self.accounts.contains_key(&account) && !self.has_room(now, &account) {
                return Err(self.exceeded(now, account, &due));
            }
            due.push((account, quota, paid));
        }
        let mut spendings = Vec::new();
        for (account, quota, full_at) in due {
            let new = State { quota, full_at, durable: None, asked: VecDeque::new() };
            let state = self.accounts.entry(account).or_insert(new);
            state.full_at = full_at;
            spendings.extend(state.record(account));
        }
        Ok(spendings)
    }

    /// Gives back what was paid and not used.
    pub fn refund(&mut self, account: &Account, bytes: u64) {
        if let Some(state) = self.accounts.get_mut(account) {
            // Of what was paid under a quota that was larger, no more than this one holds was taken over.
            let cost = state.quota.cost(bytes.min(state.quota.bytes)).unwrap_or_default();
            state.full_at = state.full_at.saturating_sub(cost);
        }
    }

    /// Records are durable. They become so in the order in which they were asked for, and the last one stands.
    pub fn recorded(&mut self, spendings: &[Spending]) {
        for spending in spendings {
            if let Some(state) = self.accounts.get_mut(&spending.account) {
                let record = (spending.full_at, spending.quota);
                // One that was asked for before it and not made durable never will be.
                let asked = state.asked.iter().position(|asked| *asked == record);
                state.asked.drain(..asked.map_or(0, |at| at + 1));
                state.durable = Some(record);
            }
        }
    }

    /// Accounts that are not full.
    pub fn uses(&self, now: Time) -> Vec<Use> {
        let used = |(account, state): (&Account, &State)| {
            let used = state.quota.worth(state.full_at.checked_sub(now)?);
            (used > 0).then_some(Use { account: *account, quota: state.quota, used })
        };
        self.accounts.iter().filter_map(used).collect()
    }

    /// A payment that comes to nothing, with the changes of quotas that were met on the way to it.
    fn exceeded(&mut self, now: Time, account: Account, before: &[(Account, Quota, Time)]) -> Exceeded {
        let met = before.iter().map(|(account, ..)| *account).chain([account]);
        let changed =
            met.filter_map(|account| self.accounts.get_mut(&account)?.restated(now, account)).collect();
        Exceeded { account, changed }
    }

    /// Room for one more account of this payer; full ones make way.
    fn has_room(&mut self, now: Time, account: &Account) -> bool {
        if self.accounts.range(account.kin()).count() < ACCOUNTS_PER_PAYER_MAX {
            return true;
        }
        let full: Vec<_> = self
            .accounts
            .range(account.kin())
            .filter(|(_, state)| state.full_at <= now)
            .map(|(account, _)| *account)
            .collect();
        for account in &full {
            self.accounts.remove(account);
        }
        !full.is_empty()
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(budgets.uses(Time::ZERO)[0].used, 960);
        assert!(!pay(&mut budgets, DAY / 10 - Time::from_secs(1), pair(2), limit, 96));
        assert!(pay(&mut budgets, DAY / 10, pair(2), limit, 96));
        assert!(!pay(&mut budgets, DAY, pair(2), limit, 961), "more than all never fits");
        assert!(pay(&mut budgets, DAY * 3, pair(2), limit, 960));
        assert!(budgets.uses(DAY * 5).is_empty());
    }

    #[test]
    fn bytes_that_were_spent_stay_spent_under_another_quota_and_its_time_does_not() {
        let mut budgets = Budgets::default();
        assert!(pay(&mut budgets, Time::ZERO, pair(2), quota(1000), 900));
        let larger = Quota::new(100_000, Duration::from_secs(60));
        assert!(pay(&mut budgets, Time::ZERO, pair(2), larger, 99_000), "900 of 100 000 were spent");
        assert!(!pay(&mut budgets, Time::ZERO, pair(2), larger, 101));
        assert!(
            pay(&mut budgets, Time::from_secs(60), pair(2), larger, 100_000),
            "all comes back in a minute"
        );
        let smaller = quota(500);
        let later = Time::from_secs(61);
        assert!(!pay(&mut budgets, later, pair(2), smaller, 250), "more than that was spent");
        assert_eq!(budgets.uses(later)[0].quota, smaller.expect("a quota"));
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
            let use_of_other =
                budgets.uses(Time::from_secs(6)).into_iter().find(|used| used.account == other);
            assert_eq!(use_of_other.map(|used| used.quota), quota(1000), "another's are as they were");
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
        assert_eq!(budgets.uses(Time::ZERO).len(), 1);
        assert!(pay(&mut budgets, Time::ZERO, pair(2), limit, 100));
    }

    #[test]
    fn without_a_quota_nothing_is_counted() {
        let mut budgets = Budgets::default();
        assert_eq!(budgets.pay(Time::ZERO, [(pair(2), None, u64::MAX)]), Ok(Vec::new()));
        assert!(budgets.uses(Time::ZERO).is_empty());
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
        let used = restarted.uses(Time::ZERO)[0].used;
        assert!((800..=900).contains(&used), "{used}");
        // A quota that has become smaller since is empty at worst, not for longer than its period.
        let mut smaller = Budgets::default();
        smaller.restore(Time::ZERO, record.expect("a record"), Quota::new(10, DAY / 24));
        assert_eq!(smaller.uses(Time::ZERO)[0].used, 10);
    }

    #[test]
    fn a_quota_that_changes_at_a_restart_counts_bytes_and_not_time() {
        let limit = quota(1000);
        let before = Spending { account: pair(2), full_at: DAY, quota: limit.expect("a quota") };
        let restarted = |limit, later| {
            let mut budgets = Budgets::default();
            let changed = budgets.restore(Time::ZERO, before, limit);
            (changed, budgets.uses(later).first().map_or(0, |used| used.used))
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
            // Each with the payment or the change of the quota that it stands for.
            let mut asked: VecDeque<(Vec<Spending>, usize)> = VecDeque::new();
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
                        let room = |reference: &Reference| quota.bytes as f64 - reference.spent(now) - bytes as f64;
                        match budgets.pay(now, [(account, Some(quota), bytes)]) {
                            Ok(spendings) => {
                                prop_assert!(room(&used) > -changes - 1.0, "{now:?}: {}", room(&used));
                                used.events.push((now, bytes as f64, None));
                                all.events.push((now, bytes as f64, None));
                                paid = Some((used.events.len() - 1, bytes, changes));
                                if !spendings.is_empty() {
                                    asked.push_back((spendings, used.events.len() - 1));
                                }
                            }
                            Err(_) => prop_assert!(room(&all) < changes + 1.0, "{now:?}: {}", room(&all)),
                        }
                    }
                    Step::GiveBack => {
                        let recorded = |at| asked.iter().all(|(_, other)| *other != at);
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
                    Step::Change(to) => {
                        last = some_quotas()[to].unwrap_or(last);
                        (quota, changes) = (some_quotas()[to], changes + 1.0);
                        used.events.push((now, 0.0, quota));
                        all.events.push((now, 0.0, quota));
                        let changed = budgets.limits_changed(now, node(7), |_| quota);
                        asked.extend((!changed.is_empty()).then_some((changed, used.events.len() - 1)));
                    }
                    Step::Record => {
                        if let Some((spendings, _)) = asked.pop_front() {
                            budgets.recorded(&spendings);
                            durable = spendings.last().copied().or(durable);
                        }
                    }
                    Step::Restart(to) => {
                        let recorded = durable.map_or(last, |spending| spending.quota);
                        last = some_quotas()[to].unwrap_or(recorded);
                        // What was lost came back by the quota before it.
                        let lost = asked.front().map_or(used.events.len(), |(_, at)| *at);
                        for reference in [&mut used, &mut all] {
                            reference.events[lost..].iter_mut().for_each(|event| event.2 = None);
                        }
                        asked.drain(..).for_each(|(_, at)| used.events[at].1 = 0.0);
                        (quota, changes) = (some_quotas()[to], changes + 1.0);
                        budgets = Budgets::default();
                        if let Some(spending) = durable {
                            let changed = budgets.restore(now, spending, quota);
                            asked.extend(changed.map(|changed| (vec![changed], used.events.len())));
                        }
                        used.events.push((now, 0.0, Some(last)));
                        all.events.push((now, ahead, Some(last)));
                    }
                }
            }
        }
    }
}
