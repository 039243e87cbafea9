//! Mistakes in this crate that the simulation does not reach are caught here. Only with the feature `planted-faults`, and in a
//! process of its own, because a fault is made by the whole process.

#![cfg(feature = "planted-faults")]

use dske_protocol::{
    ids::NodeId,
    planted::{Fault, select},
    sync::Restores,
};

/// A hub tells late of a restore that others have told of.
fn late_word() -> Option<u64> {
    let mut restores = Restores::default();
    assert_eq!(restores.hear(NodeId::new([1; 32]), 3, 9, 1), Some(9));
    restores.hear(NodeId::new([2; 32]), 4, 20, 1)
}

#[test]
fn mistakes_that_the_simulation_does_not_reach_are_caught() {
    assert_eq!(late_word(), None, "without a fault");
    for fault in Fault::OF_RESTORES {
        select(Some(fault));
        let voided = late_word();
        select(None);
        assert!(voided.is_some(), "{fault:?} is not caught");
    }
}
