//! When another client is called at the addresses that it announces.
//!
//! An announcement may name anything, such as machines of somebody else. So whoever cannot be reached where it says is called
//! seldom, whatever it announces and however many keys are agreed with it; what clients say to each other goes through hubs
//! meanwhile.

use std::{collections::BTreeMap, time::Duration};

use dske_protocol::{ids::NodeId, params::Time};

/// Between two calls that lead nowhere, at first and at last.
const CALL_PAUSE_MIN: Duration = Duration::from_secs(2);
/// See [`CALL_PAUSE_MIN`].
const CALL_PAUSE_MAX: Duration = Duration::from_secs(600);

/// See the head of the file. It holds one entry for each client whose identity is established, at most.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<NodeId, Call>);

#[derive(Debug)]
struct Call {
    began: Time,
    due: Time,
    pause: Duration,
}

impl Calls {
    /// Whether a call is worth a wait of `patience`: it began less long ago, or may begin now.
    pub(super) fn is_worth(&self, now: Time, node: &NodeId, patience: Duration) -> bool {
        self.0.get(node).is_none_or(|call| call.due <= now || now < call.began + patience)
    }

    /// Whether a client may be called now; if so, that counts as a call that leads nowhere until [`Calls::reached`].
    pub(super) fn begin(&mut self, now: Time, node: NodeId) -> bool {
        let call = self.0.entry(node).or_insert(Call { began: now, due: now, pause: CALL_PAUSE_MIN });
        if now < call.due {
            return false;
        }
        call.began = now;
        call.due = now + call.pause;
        call.pause = (call.pause * 2).min(CALL_PAUSE_MAX);
        true
    }

    /// A call has reached the client.
    pub(super) fn reached(&mut self, node: &NodeId) {
        self.0.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_announces_false_addresses_is_called_seldom() {
        let (mut calls, node) = (Calls::default(), NodeId::new([1; 32]));
        let patience = Duration::from_millis(400);
        let (mut called, mut waits) = (0, 0);
        for second in 0..3600 {
            let now = Time::from_secs(second);
            waits += usize::from(calls.is_worth(now, &node, patience));
            called += usize::from(calls.begin(now, node));
        }
        assert!((5..15).contains(&called), "{called} calls in an hour");
        assert_eq!(waits, called, "nobody waits where nobody is called");
        let now = Time::from_secs(3600);
        calls.reached(&node);
        assert!(calls.begin(now, node) && calls.is_worth(now, &node, patience) && !calls.begin(now, node));
    }
}
