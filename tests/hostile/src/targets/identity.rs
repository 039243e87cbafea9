//! The whole input path of the desk that establishes identities: true claims, false ones under right tags, forged and
//! replayed ones, answers of the wrong hub, silence.
//!
//! What must hold: fewer than k_B hubs that lie under right tags establish no false identity; every question
//! ends; nothing without a right tag burns anything; nothing stays held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dske_protocol::{
    effect::{EstablishedIdentity, PadOutcome},
    identity::{HubWord, IdentityDesk, IdentityEffect, IdentityInput, InquiryId},
    ids::{Lane, NodeId},
    message::{Identity, IdentityClaim, IdentityRequest, KnownClient, Subject, Unverified},
    pad::TAG_KEY_BYTES,
    params::Time,
};

use super::Reached;
use crate::{
    cast::{CLIENTS, HUBS, K_MIN, client, hub, identity, signature, unsealed},
    input::{Input, mutate},
    pads::Pads,
};

/// Steps of one script.
const STEPS_MAX: usize = 64;

/// A question that a hub was asked.
#[derive(Debug, Clone)]
struct Asked {
    inquiry: InquiryId,
    hub: NodeId,
    request: IdentityRequest,
}

struct Stage {
    desk: IdentityDesk,
    pads: Pads,
    now: Time,
    outcomes: VecDeque<PadOutcome>,
    asked: Vec<Asked>,
    sent: Vec<Vec<u8>>,
    /// Hubs that said something false under a right tag.
    liars: BTreeSet<NodeId>,
    /// Questions that are open, by subject.
    open: BTreeMap<Subject, usize>,
    reached: Reached,
}

/// Plays the input as a script.
pub(super) fn play(input: &[u8]) -> Reached {
    let mut script = Input::new(input);
    let mut stage = Stage {
        desk: IdentityDesk::new(K_MIN),
        pads: Pads::new(Lane::Up, (0..HUBS).map(hub)),
        now: Time::ZERO,
        outcomes: VecDeque::new(),
        asked: Vec::new(),
        sent: Vec::new(),
        liars: BTreeSet::new(),
        open: BTreeMap::new(),
        reached: Reached::default(),
    };
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        stage.step(&mut script);
    }
    stage.end();
    Reached { burned: stage.pads.burned, forged_blocks: stage.pads.forged_blocks, ..stage.reached }
}

impl Stage {
    fn step(&mut self, script: &mut Input<'_>) {
        match script.u8() % 8 {
            0 | 1 => {
                let about = script.u8() % (CLIENTS + 1);
                let how = script.u8();
                let mask = script.u8();
                let hubs = (0..HUBS).filter(|at| mask >> at & 1 == 0).map(hub).collect();
                let deadline = self.now + Time::from_secs(3);
                if how & 6 == 6 {
                    let known_as =
                        (0..HUBS).filter(|at| mask >> at & 1 != 0).map(|at| (hub(at), 9)).collect();
                    let known = EstablishedIdentity { identity: identity(about % CLIENTS), known_as };
                    return self.input(IdentityInput::Widen { known, hubs, deadline });
                }
                let subject = if how & 1 == 0 {
                    Subject::Node(client(about))
                } else {
                    Subject::Name(identity(about).name)
                };
                *self.open.entry(subject.clone()).or_default() += 1;
                self.input(IdentityInput::Establish { subject, hubs, deadline });
            }
            2 | 3 => self.claim(script),
            4 => {
                let Some(asked) = self.asked.get(script.below(self.asked.len())).cloned() else { return };
                let raw = script.u8();
                let bytes = match raw % 3 {
                    0 => None,
                    1 => Some(script.chunk().to_vec()),
                    _ => self.sent.get(script.below(self.sent.len())).cloned(),
                };
                self.answer(asked.inquiry, hub(raw / 3 % (HUBS + 1)), bytes);
            }
            5 => {
                self.now += Time::from_millis(u64::from(script.u16()));
                self.input(IdentityInput::Tick);
            }
            6 => {
                self.pads.trouble.mint = script.u8() & 1 != 0;
                self.pads.trouble.commit = script.u8() & 1 != 0;
            }
            _ => {
                let at = script.below(self.outcomes.len());
                if let Some(outcome) = self.outcomes.remove(at) {
                    self.input(IdentityInput::Pad(outcome));
                }
            }
        }
        if !script.u8().is_multiple_of(4) {
            self.settle_pads();
        }
    }

    fn claim(&mut self, script: &mut Input<'_>) {
        let Some(asked) = self.asked.get(script.below(self.asked.len())).cloned() else { return };
        let Some((range, _)) = self.pads.peer_takes(&asked.hub, TAG_KEY_BYTES as u64) else { return };
        let about = match &asked.request.subject {
            Subject::Node(node) => (0..CLIENTS).find(|at| client(*at) == *node),
            Subject::Name(name) => (0..CLIENTS).find(|at| identity(*at).name == *name),
        };
        let truth =
            about.map(|at| KnownClient { identity: identity(at), signature: signature(at), known_as: 9 });
        let mut known = truth.clone();
        if script.u8() & 1 != 0 {
            let other = script.u8() % (CLIENTS + 1);
            let signature = signature(other);
            known = Some(KnownClient { identity: identity(other), signature, known_as: 9 });
            if let (Some(known), Subject::Name(name)) = (&mut known, &asked.request.subject) {
                known.identity.name = name.clone();
            }
        }
        let mut body = unsealed(&IdentityClaim { range, request: asked.request.range, known });
        mutate(script, &mut body);
        let mut bytes = self.pads.seal(body);
        mutate(script, &mut bytes);
        if let Ok(message) = Unverified::<IdentityClaim>::decode(bytes.clone())
            && message.unverified().known != truth
        {
            self.liars.insert(asked.hub);
        }
        self.sent.push(bytes.clone());
        self.answer(asked.inquiry, asked.hub, Some(bytes));
    }

    fn answer(&mut self, inquiry: InquiryId, hub: NodeId, bytes: Option<Vec<u8>>) {
        bytes.iter().for_each(|bytes| {
            self.pads.expect(bytes);
        });
        self.input(IdentityInput::Answer { inquiry, hub, bytes });
    }

    fn settle_pads(&mut self) {
        while let Some(outcome) = self.outcomes.pop_front() {
            self.input(IdentityInput::Pad(outcome));
        }
    }

    fn input(&mut self, input: IdentityInput) {
        self.desk.handle(self.now, input);
        while let Some(effect) = self.desk.poll_effect() {
            match effect {
                IdentityEffect::Pad(effect) => self.outcomes.extend(self.pads.execute(effect).0),
                IdentityEffect::Ask { inquiry, hub, bytes } => {
                    let message =
                        Unverified::<IdentityRequest>::decode(bytes).expect("what it sends decodes");
                    let request = message.unverified().clone();
                    self.asked.push(Asked { inquiry, hub, request });
                }
                IdentityEffect::Decided { subject, result } => {
                    assert!(self.open.remove(&subject).is_some(), "decided what nobody asked");
                    match &result {
                        Ok(_) => self.reached.accepted += 1,
                        Err(_) => self.reached.refused += 1,
                    }
                    if let Ok(established) = result
                        && self.liars.len() < usize::from(K_MIN)
                    {
                        let is_true = (0..CLIENTS).any(|at| established.identity == identity(at));
                        assert!(is_true, "fewer than k_B liars established {established:?}");
                        let fits = match &subject {
                            Subject::Node(node) => established.identity.node == *node,
                            Subject::Name(name) => established.identity.name == *name,
                        };
                        assert!(fits, "an identity of somebody else");
                    }
                }
                IdentityEffect::Widened(established) => {
                    let from_all = &established.known_as;
                    assert!(
                        (0..CLIENTS).any(|at| established.identity == identity(at)),
                        "what is known stays so"
                    );
                    let distinct: BTreeSet<_> = from_all.iter().map(|(hub, _)| hub).collect();
                    assert_eq!(distinct.len(), from_all.len(), "a hub counts once");
                }
                IdentityEffect::Heard { words, .. } => {
                    let signed = |claim: &Identity| (0..=CLIENTS).any(|at| *claim == identity(at));
                    let heeded = words.iter().all(|(_, word)| match word {
                        HubWord::Claim(claim) => signed(claim),
                        _ => true,
                    });
                    assert!(heeded, "a claim counts that nobody has signed");
                }
                IdentityEffect::Contradicted { hub, .. } => {
                    assert!(self.liars.contains(&hub), "an honest hub contradicts what is true");
                }
                IdentityEffect::Excluded { hub, .. } => {
                    assert!(self.liars.contains(&hub), "an honest hub is excluded");
                }
            }
        }
    }

    fn end(&mut self) {
        self.settle_pads();
        for _ in 0..16 {
            let Some(due) = self.desk.poll_timeout() else { break };
            self.now = self.now.max(due);
            self.input(IdentityInput::Tick);
            self.settle_pads();
        }
        assert!(self.open.is_empty(), "questions without an end: {:?}", self.open);
        assert_eq!(self.desk.poll_timeout(), None);
        self.pads.assert_nothing_held();
    }
}
