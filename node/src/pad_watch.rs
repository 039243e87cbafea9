//! How fast pads are used, and when they will be empty.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dske_protocol::ids::{Lane, Name, NodeId};
use dske_storage::{TableSide, TableState, TableStatus};

use crate::{
    config::PadsConfig,
    span::span,
    status::{Level, PadForecast},
};

/// Between two looks at the tables.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// The rate that is shown is averaged over about this long. What is foretold rests on a longer average, that of
/// [`PadsConfig`], which begins at nothing: so a burst counts for its part of that time and no more, whenever it comes.
const SHOWN_OVER: Duration = Duration::from_secs(900);

/// Shared between the task that looks and those who ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct PadWatch(Arc<Mutex<BTreeMap<Key, Pad>>>);

/// With whom, as which end, and which lane.
type Key = (NodeId, TableSide, Lane);

/// One lane of all active tables with a peer of which this node is one end.
#[derive(Debug)]
struct Pad {
    peer: Name,
    used_bytes: u64,
    left_bytes: u64,
    bytes: u64,
    bytes_per_s: f64,
    /// Averaged over the longer time.
    habit_per_s: f64,
    /// How long its use has been watched.
    observed: Duration,
    /// Whether that is enough to foretell its end.
    known: bool,
    level: Level,
}

impl PadWatch {
    /// Takes the tables in as they stand `since` the last look. Gives what has become worse.
    pub(crate) fn look(
        &self,
        tables: &[TableStatus],
        since: Duration,
        config: &PadsConfig,
    ) -> Vec<(Level, String)> {
        let mut now: BTreeMap<Key, Pad> = BTreeMap::new();
        for table in tables {
            for lane in &table.lanes {
                let pad = now.entry((table.peer, table.side, lane.lane)).or_insert_with(|| Pad {
                    peer: table.peer_name.clone(),
                    used_bytes: 0,
                    left_bytes: 0,
                    bytes: 0,
                    bytes_per_s: 0.0,
                    habit_per_s: 0.0,
                    observed: Duration::ZERO,
                    known: false,
                    level: Level::Info,
                });
                // Of all tables ever, so that one that is retired or new makes no jump.
                pad.used_bytes += lane.used_key + lane.used_identity + lane.used_sync;
                if table.state == TableState::Active {
                    pad.left_bytes += lane.for_keys;
                    pad.bytes += lane.of_keys();
                }
            }
        }
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worse = Vec::new();
        for (key, pad) in &mut now {
            if let Some(old) = before.get(key) {
                let used = pad.used_bytes.saturating_sub(old.used_bytes) as f64;
                let rate = used / since.as_secs_f64().max(0.001);
                let averaged = |old: f64, over: Duration| {
                    let weight = (since.as_secs_f64() / over.as_secs_f64().max(0.001)).min(1.0);
                    old + weight * (rate - old)
                };
                pad.bytes_per_s = averaged(old.bytes_per_s, SHOWN_OVER);
                pad.habit_per_s = averaged(old.habit_per_s, config.average_over.0.0);
                pad.observed = old.observed + since;
                pad.known = pad.observed >= config.observed_min();
                pad.level = old.level;
            }
            let level = pad.judge(config);
            if level > pad.level {
                worse.push((level, pad.told(*key)));
            }
            pad.level = level;
        }
        *before = now;
        worse
    }

    /// What is to be expected of every pad.
    #[expect(clippy::cast_possible_truncation, reason = "a rate of bytes is far from the end of u64")]
    pub(crate) fn forecasts(&self) -> Vec<PadForecast> {
        let pads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let forecast = |(&(node, side, lane), pad): (&Key, &Pad)| PadForecast {
            node,
            peer: pad.peer.clone(),
            side,
            lane,
            left_bytes: pad.left_bytes,
            bytes: pad.bytes,
            bytes_per_s: pad.bytes_per_s.round().max(0.0) as u64,
            empty_in_s: pad.empty_in().map(|time| time.as_secs()),
            level: pad.level,
        };
        pads.iter().map(forecast).collect()
    }
}

impl Pad {
    /// `None` where nothing is used to speak of, nothing is left, or use has not been watched for long enough.
    fn empty_in(&self) -> Option<Duration> {
        let seconds = self.left_bytes as f64 / self.habit_per_s;
        // Beyond a century nobody asks.
        (self.known && self.left_bytes > 0 && seconds.is_finite() && seconds < 3.2e9)
            .then(|| Duration::from_secs_f64(seconds.max(0.0)))
    }

    fn judge(&self, config: &PadsConfig) -> Level {
        if self.bytes == 0 {
            // No active table at all: the tables' own states tell why.
            return Level::Info;
        }
        let percent = self.left_bytes.saturating_mul(100) / self.bytes;
        let within = |limit: Duration| self.empty_in().is_some_and(|time| time < limit);
        if percent < u64::from(PadForecast::CRIT_PERCENT) || within(config.crit_before.0.0) {
            Level::Crit
        } else if percent < u64::from(PadForecast::WARN_PERCENT) || within(config.warn_before.0.0) {
            Level::Warn
        } else {
            Level::Info
        }
    }

    fn told(&self, (_, side, lane): Key) -> String {
        let what = match side {
            TableSide::Client => "hub",
            TableSide::Hub => "client",
        };
        let until = self
            .empty_in()
            .map_or_else(String::new, |time| format!(", empty in {} at the present rate", span(time)));
        format!(
            "the {lane} pad with {} as our {what} has {} bytes left{until}: a new module for this pair is needed",
            self.peer, self.left_bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Span, Text};
    use dske_protocol::ids::TableId;
    use dske_storage::LaneStatus;

    fn table(state: TableState, used: u64) -> TableStatus {
        let lane = |lane| LaneStatus {
            lane,
            allocator: lane == Lane::Up,
            bytes: 1_000_000,
            used_key: used,
            used_identity: 0,
            used_sync: 0,
            skipped: 0,
            reserved: 0,
            left: 1_000_000 - used,
            for_keys: 1_000_000 - used,
        };
        TableStatus {
            table: TableId::new([1; 16]),
            serial: "p1-0001".into(),
            peer: NodeId::new([1; 32]),
            peer_name: "p1".parse().unwrap(),
            side: TableSide::Client,
            state,
            lanes: [lane(Lane::Up), lane(Lane::Down)],
            forged_blocks: 0,
            open: true,
            comparable: true,
        }
    }

    #[test]
    fn a_pad_that_will_be_empty_soon_is_told_once_and_a_new_module_ends_it() {
        let (watch, minute) = (PadWatch::default(), Duration::from_secs(60));
        let days = |days: u64| Text(Span(Duration::from_secs(days * 86_400)));
        let average_over = Text(Span(Duration::from_secs(900)));
        let config = PadsConfig { warn_before: days(7), crit_before: days(1), average_over };
        assert!(watch.look(&[table(TableState::Active, 0)], minute, &config).is_empty());
        assert_eq!(watch.forecasts()[0].empty_in_s, None);
        let mut told = Vec::new();
        for look in 1..60 {
            told.extend(watch.look(&[table(TableState::Active, look * 240)], minute, &config));
        }
        // Four bytes a second: 2.9 days.
        assert_eq!(told.len(), 2, "once for each lane: {told:?}");
        assert!(told[0].0 == Level::Warn && told[0].1.contains("with p1"), "{told:?}");
        let forecast = &watch.forecasts()[0];
        assert_eq!((forecast.level, forecast.bytes_per_s), (Level::Warn, 4));
        let told = watch.look(&[table(TableState::Active, 995_000)], minute, &config);
        assert!(told.iter().all(|(level, _)| *level == Level::Crit) && told.len() == 2, "{told:?}");
    }

    #[test]
    fn a_burst_just_after_a_start_is_no_habit() {
        let (watch, config) = (PadWatch::default(), PadsConfig::default());
        assert!(watch.look(&[table(TableState::Active, 0)], LOOK, &config).is_empty());
        // Three of a hundred in five seconds: at that rate it would be empty in minutes.
        let used = 30_000;
        let told = watch.look(&[table(TableState::Active, used)], LOOK, &config);
        assert!(told.is_empty(), "{told:?}");
        assert!(watch.forecasts().iter().all(|pad| pad.level == Level::Info && pad.empty_in_s.is_none()));
        // Nor is it one hour later, or at any time of the day.
        let minute = Duration::from_secs(60);
        for _ in 0..24 * 60 {
            let told = watch.look(&[table(TableState::Active, used)], minute, &config);
            assert!(told.is_empty(), "{told:?}");
        }
    }

    #[test]
    fn steady_use_is_told_well_before_the_end() {
        let (watch, config) = (PadWatch::default(), PadsConfig::default());
        let minute = Duration::from_secs(60);
        let mut told = Vec::new();
        // A thousandth in every nine minutes: empty after six days and six hours.
        for look in 0..6 * 1440 {
            let news = watch.look(&[table(TableState::Active, look * 1000 / 9)], minute, &config);
            told.extend(news.into_iter().map(|(level, text)| (level, look, text)));
        }
        let first = |wanted| told.iter().find(|(level, ..)| *level == wanted).map(|(_, look, _)| *look);
        let (warned, alarmed) = (first(Level::Warn).unwrap(), first(Level::Crit).unwrap());
        assert!((60..2 * 1440).contains(&warned), "warned after {warned} minutes");
        assert!((4 * 1440..6 * 1440).contains(&alarmed), "alarmed after {alarmed} minutes");
    }

    #[test]
    fn a_peer_that_is_hub_and_client_has_two_pads_in_each_direction() {
        let (watch, minute, config) = (PadWatch::default(), Duration::from_secs(60), PadsConfig::default());
        let as_hub = |used| {
            let table = table(TableState::Active, used);
            TableStatus { table: TableId::new([2; 16]), side: TableSide::Hub, ..table }
        };
        assert!(watch.look(&[table(TableState::Active, 0), as_hub(0)], minute, &config).is_empty());
        let told = watch.look(&[table(TableState::Active, 0), as_hub(950_000)], minute, &config);
        assert_eq!(told.len(), 2, "the lanes of one table: {told:?}");
        assert!(told.iter().all(|(_, text)| text.contains("as our client")), "{told:?}");
        let left: Vec<_> = watch.forecasts().iter().map(|pad| (pad.side, pad.lane, pad.left_bytes)).collect();
        let expected = [
            (TableSide::Hub, Lane::Up, 50_000),
            (TableSide::Hub, Lane::Down, 50_000),
            (TableSide::Client, Lane::Up, 1_000_000),
            (TableSide::Client, Lane::Down, 1_000_000),
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn an_idle_pad_is_low_by_what_is_left_of_it() {
        let (watch, config) = (PadWatch::default(), PadsConfig::default());
        let told = watch.look(&[table(TableState::Active, 950_000)], LOOK, &config);
        assert_eq!(told.len(), 2);
        // The table is retired and nothing else is there: that is not for the watch to say.
        assert!(watch.look(&[table(TableState::Retired, 950_000)], LOOK, &config).is_empty());
    }
}
