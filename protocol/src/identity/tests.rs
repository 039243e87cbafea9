use super::*;
use crate::enrolment::Signature;
use proptest::prelude::*;

fn identity(variant: u8) -> Identity {
    let name = "bob".parse().expect("a name");
    Identity { node: NodeId::new([variant; 32]), name, applications: Vec::new() }
}

fn inquiry(claims: &[Option<u8>]) -> Inquiry {
    let hub = |at: usize| NodeId::new([u8::try_from(at).expect("few hubs") + 100; 32]);
    let signature = Signature::new([0; 64]);
    let claim = |variant: u8| KnownClient { identity: identity(variant), signature, known_as: 7 };
    Inquiry {
        subject: Subject::Name("bob".parse().expect("a name")),
        known: None,
        asked: (0..claims.len()).map(|at| (hub(at), None)).collect(),
        silent: BTreeSet::new(),
        claims: claims.iter().enumerate().map(|(at, c)| (hub(at), c.map(claim))).collect(),
        unsigned: BTreeMap::new(),
        deadline: Time::ZERO,
    }
}

#[test]
fn who_contradicts_the_others_is_outvoted_and_not_excluded() {
    let Decision { established, contradicting, excluded } =
        inquiry(&[Some(1), Some(1), Some(2), Some(1), None]).consensus(3).expect("three alike");
    assert_eq!(established.identity, identity(1));
    assert_eq!(established.known_as.len(), 3);
    assert_eq!(contradicting, [(NodeId::new([102; 32]), identity(2))]);
    assert_eq!(excluded, []);
}

#[test]
fn nobody_is_asked_about_again_while_the_last_answer_is_being_written() {
    let mut desk = IdentityDesk::new(1);
    let known = |node| EstablishedIdentity { identity: identity(node), known_as: Vec::new() };
    desk.begin(Job::Widen { established: known(1) });
    let mut asks = |node| {
        let (hubs, deadline) = (vec![NodeId::new([9; 32])], Time::ZERO);
        desk.handle(Time::ZERO, IdentityInput::Widen { known: known(node), hubs, deadline });
        desk.poll_effect().is_some()
    };
    assert_eq!((asks(1), asks(2)), (false, true));
}

#[test]
fn too_few_alike_establish_nothing() {
    let split = inquiry(&[Some(1), Some(1), Some(2), Some(2)]).consensus(2);
    assert!(matches!(split, Err(IdentityFailure::TooFewAlike { alike: 2, needed: 3, .. })));
    let few = inquiry(&[Some(1), Some(1), None]).consensus(3);
    assert!(matches!(few, Err(IdentityFailure::TooFewAlike { alike: 2, needed: 3, .. })));
    let none = inquiry(&[None, None]).consensus(1);
    assert_eq!(none.map(|_| ()), Err(IdentityFailure::Unknown { answered: 2 }));
}

#[test]
fn a_hub_that_does_not_answer_delays_no_decision_that_it_cannot_change() {
    let hub = |at: u8| NodeId::new([at + 100; 32]);
    let claim = |variant| KnownClient {
        identity: identity(variant),
        signature: Signature::new([0; 64]),
        known_as: 7,
    };
    let deadline = Time::from_millis(3000);
    // Of five hubs three have to claim the same, with k_B = 4 four; those that do not know the client abstain.
    for (k_min, claims, certain) in [
        (2, &[Some(1), Some(1)][..], false),
        (2, &[Some(1), Some(1), Some(2)], false),
        (2, &[Some(1), Some(1), None], false),
        (2, &[Some(1), Some(1), None, None], true),
        (2, &[Some(1), Some(2), None, None], false),
        (2, &[Some(1), Some(1), Some(1)], true),
        (4, &[Some(1), Some(1), Some(1)], false),
        (4, &[Some(1), Some(1), Some(1), Some(1)], true),
    ] {
        let mut desk = IdentityDesk::new(k_min);
        let subject = Subject::Name("bob".parse().unwrap());
        let hubs = (0..5).map(hub).collect();
        desk.handle(Time::ZERO, IdentityInput::Establish { subject, hubs, deadline });
        let inquiry = *desk.inquiries.keys().next().unwrap();
        let now = Time::from_millis(20);
        for (at, variant) in (0..5).zip(claims) {
            let ticket = desk.begin(Job::Claim { inquiry, hub: hub(at), known: variant.map(claim) });
            desk.handle(now, IdentityInput::Pad(PadOutcome::Committed { ticket, ok: true }));
        }
        let due = if certain { now + STRAGGLERS } else { deadline };
        assert_eq!(desk.poll_timeout(), Some(due), "{k_min} {claims:?}");
        desk.handle(due, IdentityInput::Tick);
        assert!(desk.inquiries.is_empty());
        let decides = desk.jobs.values().any(|job| matches!(job, Job::Decide { .. }));
        assert!(decides || !certain, "{k_min} {claims:?}");
    }
}

proptest! {
    /// Fewer than k_B liars never decide who somebody is, whatever the honest hubs say.
    #[test]
    fn fewer_than_k_min_liars_never_decide(honest in 0usize..8, liars in 0usize..8, k_min in 1usize..8) {
        prop_assume!(liars < k_min);
        let claims: Vec<_> = std::iter::repeat_n(Some(1), honest).chain(std::iter::repeat_n(Some(2), liars)).collect();
        if let Ok(decision) = inquiry(&claims).consensus(k_min) {
            prop_assert_eq!(decision.established.identity, identity(1));
        }
    }
}
