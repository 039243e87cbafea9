//! Inquiries about clients that came to nothing: what waits for an identity asks again by itself, less and less often, for every
//! question costs pad with every hub. It must never hold up who asks for the first time.

use std::{collections::BTreeMap, time::Duration};

use dske_protocol::{message::Subject, params::Time};

use crate::control::Failure;

/// After an inquiry in vain the same is not asked by a timer for so long, twice as long each time.
const REST_MIN: Duration = Duration::from_secs(1);
/// See [`REST_MIN`].
const REST_MAX: Duration = Duration::from_secs(300);

/// Subjects that are remembered: more than there are streams being opened, each of which has a few.
const SUBJECTS_MAX: usize = 1024;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct InVain(BTreeMap<Subject, Rest>);

#[derive(Debug)]
struct Rest {
    until: Time,
    /// The rest after the next time.
    next: Duration,
    why: Failure,
}

impl InVain {
    /// Whether a timer must not have this asked now.
    pub(super) fn rests(&self, now: Time, subject: &Subject) -> bool {
        self.0.get(subject).is_some_and(|rest| now < rest.until)
    }

    /// Why the last inquiry was in vain, while that is fresh.
    pub(super) fn why(&self, subject: &Subject) -> Option<&Failure> {
        self.0.get(subject).map(|rest| &rest.why)
    }

    /// An inquiry was in vain. Gives whether that is new, and worth a line in the log.
    pub(super) fn failed(&mut self, now: Time, subject: &Subject, why: Failure) -> bool {
        // Of what nobody has asked for a long time nothing is known any more.
        self.0.retain(|_, rest| now < rest.until + REST_MAX);
        if let Some(rest) = self.0.get_mut(subject) {
            let is_new = rest.why.message != why.message;
            *rest = Rest { until: now + rest.next, next: (rest.next * 2).min(REST_MAX), why };
            return is_new;
        }
        if self.0.len() >= SUBJECTS_MAX {
            let first = self.0.iter().min_by_key(|(_, rest)| rest.until).map(|(subject, _)| subject.clone());
            first.and_then(|subject| self.0.remove(&subject));
        }
        self.0.insert(subject.clone(), Rest { until: now + REST_MIN, next: REST_MIN * 2, why });
        true
    }

    /// It is established.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.0.remove(subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::failure;

    fn why(text: &str) -> Failure {
        failure("dske::identity::unknown", 3, text.into(), "")
    }

    fn name(name: &str) -> Subject {
        Subject::Name(name.parse().unwrap())
    }

    #[test]
    fn a_name_that_nobody_has_is_asked_for_ever_more_seldom_and_told_once() {
        let (mut in_vain, bob) = (InVain::default(), name("bob"));
        let (mut asked, mut told) = (Vec::new(), 0);
        // As a timer does: every 100 ms, for an hour.
        for step in 0..36_000_u64 {
            let now = Time::ZERO + Duration::from_millis(step * 100);
            if !in_vain.rests(now, &bob) {
                asked.push(step / 10);
                told += u32::from(in_vain.failed(now, &bob, why("nobody knows it")));
            }
        }
        assert_eq!(asked[..6], [0, 1, 3, 7, 15, 31], "twice as long each time");
        assert!(asked.len() <= 21, "{} times in an hour", asked.len());
        assert_eq!(told, 1);
        let later = Time::ZERO + Duration::from_secs(3600);
        assert!(in_vain.failed(later, &bob, why("two hubs claim otherwise")), "this is new");
        assert!(!in_vain.rests(later, &name("carol")), "others are asked about");
        in_vain.forget(&bob);
        assert!(!in_vain.rests(later, &bob) && in_vain.why(&bob).is_none());
    }

    #[test]
    fn what_is_remembered_has_a_bound_and_an_end() {
        let mut in_vain = InVain::default();
        for number in 0..2 * SUBJECTS_MAX {
            in_vain.failed(Time::ZERO, &name(&format!("n{number}")), why("nobody"));
        }
        assert_eq!(in_vain.0.len(), SUBJECTS_MAX);
        let later = Time::ZERO + REST_MAX * 2;
        assert!(in_vain.failed(later, &name("n0"), why("nobody")), "told again after a long time");
        assert_eq!(in_vain.0.len(), 1);
    }
}
