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
#[error(
    "'{0}' is not a quota: write a size of 1B or more, a slash and a second, minute, hour or day, such as 64KiB/minute or 1GiB/day"
)]
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

    /// The same where the last record is of another quota, or of less: one that was asked for after it came to nothing.
    fn restated(&mut self, now: Time, account: Account) -> Option<Spending> {
        let last = self.asked.back().or(self.durable.as_ref());
        let covers = last.is_some_and(|&(until, of)| of == self.quota && self.full_at <= until);
        if covers { None } else { self.changed(now, account) }
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

    /// Records are durable. They become so in the order in which they were asked for, and the last one stands; this is heard in
    /// any order.
    pub fn recorded(&mut self, spendings: &[Spending]) {
        for spending in spendings {
            if let Some(state) = self.accounts.get_mut(&spending.account) {
                let record = (spending.full_at, spending.quota);
                // One that was asked for before another that is durable, and is heard of only now, does not stand any more.
                if let Some(at) = state.asked.iter().position(|asked| *asked == record) {
                    state.asked.drain(..=at);
                    state.durable = Some(record);
                }
            }
        }
    }

    /// Records came to nothing, as far as is known: what the last one says is not, and the next payment or refusal has it
    /// recorded again.
    pub fn not_recorded(&mut self, spendings: &[Spending]) {
        for spending in spendings {
            if let Some(state) = self.accounts.get_mut(&spending.account) {
                let record = (spending.full_at, spending.quota);
                let asked = state.asked.iter().position(|asked| *asked == record);
                asked.and_then(|at| state.asked.remove(at));
                state.durable = None;
            }
        }
    }

    /// Accounts that are not full, of those that have a quota now, and by that one.
    pub fn uses(&self, now: Time, quota_of: impl Fn(&Account) -> Option<Quota>) -> Vec<Use> {
        let used = |(account, state): (&Account, &State)| {
            let quota = quota_of(account)?;
            let used = state.quota.worth(state.full_at.checked_sub(now)?).min(quota.bytes);
            (used > 0).then_some(Use { account: *account, quota, used })
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
mod tests;
