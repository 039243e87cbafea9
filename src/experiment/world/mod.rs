//! One agreement of a whole network in one thread: the machines of `dske-protocol` over pads in memory, with
//! whatever is wrong with some of the hubs, and the time that sender and receiver take.
//!
//! Nothing is real but the machines: messages arrive at once, in an order that a seed draws, and time passes only
//! where everybody waits. Must never: tell an honest machine anything that its own messages do not.

mod adversary;
mod conduct;
mod machines;
mod pads;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use dske_protocol::{
    enrolment,
    hub::{Hub, HubClient, HubFault, RequestId},
    identity::{IdentityDesk, IdentityInput},
    ids::{Name, NodeId},
    message::{Content, Identity, NoticeOutcome},
    params::{AcceptancePolicy, KEY_BYTES_MAX, Time, Validate},
    receiver::{Receiver, ReceiverInput},
    refusal::SendFailure,
    sender::{AgreedKey, HubChoice, KeyWish, Sender, SenderInput},
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use subtle::ConstantTimeEq;

pub(crate) use self::conduct::Conduct;
use self::{adversary::Adversary, pads::Pads};

/// How long everybody waits.
const DEADLINE: Time = Time::from_secs(10);

/// What one agreement is tried with.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Shares needed.
    pub(crate) k: u8,
    /// The least k that the receiver accepts, and the least number of hubs that must claim an identity alike.
    pub(crate) k_min: u8,
    /// Bytes of key.
    pub(crate) key_bytes: u32,
    /// What is wrong with each of the n hubs.
    pub(crate) conducts: Vec<Conduct>,
    /// Whether the receiver knows the sender already, or has to ask the hubs.
    pub(crate) acquainted: bool,
    /// For everything that is drawn.
    pub(crate) seed: u64,
}

/// How it ended, as nobody in the network sees it: from both sides.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The sender's key, or why it has none.
    pub(crate) sender: Result<AgreedKey, SendFailure>,
    /// The receiver's verdict; `None` where it never had a share to judge.
    pub(crate) verdict: Option<NoticeOutcome>,
    /// Whether the receiver holds a key, and if so, whether it is the sender's.
    pub(crate) receiver_key: Option<bool>,
    /// Whether the receiver took the sender for somebody else.
    pub(crate) misled: bool,
    /// Whether the receiver asked who the sender is, and came to no answer.
    pub(crate) unknown: bool,
    /// The time that it took.
    pub(crate) spent: Spent,
}

/// Time inside the machines; what the pads, the hubs and the carrying of messages took is not in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// Of the sender.
    pub(crate) sender: Duration,
    /// Of the receiver, until nothing more came, reconstruction included.
    pub(crate) receiver: Duration,
    /// Of the receiver, until the key was there.
    pub(crate) receiver_to_key: Option<Duration>,
    /// Of the receiver's: reconstruction and key tag alone.
    pub(crate) reconstruction: Duration,
}

/// A message from a hub to the receiver.
struct Instruction {
    from: usize,
    bytes: Vec<u8>,
}

/// The network.
struct World {
    setup: Setup,
    sender_id: NodeId,
    receiver_id: NodeId,
    sender: Sender,
    hubs: Vec<(NodeId, Hub)>,
    receiver: Receiver,
    desk: IdentityDesk,
    adversary: Adversary,
    pads: Pads,
    now: Time,
    rng: StdRng,
    /// For the receiver.
    under_way: Vec<Instruction>,
    ended: Option<Result<AgreedKey, SendFailure>>,
    verdict: Option<NoticeOutcome>,
    misled: bool,
    unknown: bool,
    spent: Spent,
}

/// Agrees one key, or fails to.
pub(crate) fn agree(setup: Setup) -> Ended {
    let mut world = World::new(setup);
    world.start();
    world.deliver();
    world.wait();
    world.judge()
}

impl World {
    fn new(setup: Setup) -> Self {
        let mut rng = StdRng::seed_from_u64(setup.seed);
        // Random: a hub derives its lie from its id, and equal bytes would let lies cancel out.
        let secrets = [(); 2].map(|()| *NodeId::random(&mut rng).as_bytes());
        let [sender_id, receiver_id] = [0, 1].map(|at| enrolment::node_of(&secrets[at]));
        let signed = |at: usize, name: &str| {
            // Both are names, so this never fails.
            let name = name.parse::<Name>().ok()?;
            let identity =
                Identity { node: enrolment::node_of(&secrets[at]), name, applications: Vec::new() };
            let signature = enrolment::sign(&secrets[at], &identity);
            Some((identity, signature))
        };
        let ids: Vec<NodeId> = setup.conducts.iter().map(|_| NodeId::random(&mut rng)).collect();
        let hub = |(&id, &conduct): (&NodeId, &Conduct)| {
            let mut hub = Hub::new(id, KEY_BYTES_MAX);
            let lies = conduct == Conduct::FalseIdentity;
            // An adversary without bounds forges the sender's signature: what holds must hold without it.
            let clients = [signed(0, if lies { "mallory" } else { SENDER }), signed(1, "bob")];
            for (known_as, (identity, signature)) in (1..).zip(clients.into_iter().flatten()) {
                hub.set_client(HubClient { identity, signature, known_as, enabled: true });
            }
            if conduct == Conduct::FalseShare {
                hub.set_fault(HubFault::FalseShares);
            }
            (id, hub)
        };
        let policy = AcceptancePolicy {
            k_min: setup.k_min,
            hubs: ids.iter().copied().collect(),
            key_bytes_max: KEY_BYTES_MAX,
            deadline: DEADLINE,
            validate: Validate::First,
        };
        Self {
            sender: Sender::new(sender_id, setup.k_min),
            hubs: ids.iter().zip(&setup.conducts).map(hub).collect(),
            receiver: Receiver::new(receiver_id, policy, setup.acquainted.then_some(sender_id)),
            desk: IdentityDesk::new(setup.k_min),
            adversary: Adversary::new(setup.seed ^ ADVERSARY, setup.k_min),
            pads: Pads::new(&[sender_id, receiver_id], &ids, setup.seed ^ PADS),
            now: Time::ZERO,
            under_way: Vec::new(),
            ended: None,
            verdict: None,
            misled: false,
            unknown: false,
            spent: Spent::default(),
            setup,
            sender_id,
            receiver_id,
            rng,
        }
    }

    /// Share generation and distribution, as far as the hubs.
    fn start(&mut self) {
        let wish = KeyWish {
            receivers: vec![self.receiver_id],
            key_bytes: self.setup.key_bytes,
            content: Content::Keys(1),
            keep: false,
            confirm: false,
            purpose: "experiment".into(),
            k: self.setup.k,
            n: 0,
            hubs: self
                .hubs
                .iter()
                .map(|(node, _)| HubChoice { node: *node, reachable: true, left: u64::MAX })
                .collect(),
            linked: BTreeSet::from([self.receiver_id]),
            deadline: DEADLINE,
            notice_deadline: DEADLINE,
        };
        self.tell_sender(SenderInput::Start { id: RequestId(0), wish });
        self.settle();
    }

    /// The hubs' messages reach the receiver, in any order; whoever injects is first.
    fn deliver(&mut self) {
        let mut messages = std::mem::take(&mut self.under_way);
        messages.shuffle(&mut self.rng);
        messages.sort_by_key(|message| self.setup.conducts[message.from] != Conduct::Injection);
        for Instruction { from, bytes } in messages {
            let from = self.hubs[from].0;
            self.tell_receiver(ReceiverInput::KeyInstruction { id: RequestId(0), from, bytes });
            self.settle();
        }
    }

    /// Nothing more comes: all deadlines pass.
    fn wait(&mut self) {
        for _ in 0..3 {
            self.now += DEADLINE;
            self.desk.handle(self.now, IdentityInput::Tick);
            self.settle();
            self.tell_receiver(ReceiverInput::Tick);
            self.settle();
            self.tell_sender(SenderInput::Tick);
            self.settle();
        }
    }

    fn judge(mut self) -> Ended {
        let sender = self.ended.take().unwrap_or(Err(SendFailure::Internal));
        let mut held = self.pads.keys.iter().filter(|((node, _), _)| *node == self.receiver_id);
        let receiver_key = held.next().map(|((_, block), key)| {
            let equal =
                |agreed: &AgreedKey| agreed.key.as_ref().is_some_and(|ours| ours.0.ct_eq(&key.0).into());
            sender.as_ref().is_ok_and(|agreed| agreed.agreement.block() == *block && equal(agreed))
        });
        Ended {
            receiver_key,
            sender,
            verdict: self.verdict,
            misled: self.misled,
            unknown: self.unknown,
            spent: self.spent,
        }
    }

    /// Until nobody has anything more to do.
    fn settle(&mut self) {
        while self.run_sender() | self.run_receiver() | self.run_desk() {}
    }

    fn tell_sender(&mut self, input: SenderInput) {
        let began = Instant::now();
        self.sender.handle(self.now, input, &mut self.rng);
        self.spent.sender += began.elapsed();
    }

    fn tell_receiver(&mut self, input: ReceiverInput) {
        let began = Instant::now();
        self.receiver.handle(self.now, input);
        self.spent.receiver += began.elapsed();
    }
}

/// The sender's name.
const SENDER: &str = "alice";
/// Sets the seeds of pads and adversary apart from that of the machines.
const PADS: u64 = 0x7061_6473;
/// See [`PADS`].
const ADVERSARY: u64 = 0x6164_7665;

#[cfg(test)]
mod tests {
    use super::*;
    use dske_protocol::refusal::AbortReason;

    fn setup(k: u8, k_min: u8, conducts: Vec<Conduct>) -> Setup {
        Setup { k, k_min, key_bytes: 32, conducts, acquainted: true, seed: 7 }
    }

    fn bad(n: usize, bad: usize, conduct: Conduct) -> Vec<Conduct> {
        (0..n).map(|at| if at < bad { conduct } else { Conduct::Honest }).collect()
    }

    #[test]
    fn honest_hubs_bring_the_key_to_both_sides_and_time_is_told() {
        let ended = agree(setup(3, 3, bad(5, 0, Conduct::Honest)));
        assert!(ended.sender.is_ok() && ended.receiver_key == Some(true) && !ended.misled);
        assert_eq!(ended.verdict, Some(NoticeOutcome::Validated { shares: 3, false_positions: vec![] }));
        let Spent { sender, receiver, receiver_to_key, reconstruction } = ended.spent;
        assert!(!sender.is_zero() && !reconstruction.is_zero());
        assert!(receiver_to_key.is_some_and(|to_key| reconstruction < to_key && to_key < receiver));
    }

    #[test]
    fn a_stranger_is_asked_about_and_a_lie_about_it_excludes_nobody_honest() {
        for conduct in [Conduct::Honest, Conduct::FalseIdentity] {
            let ended = agree(Setup { acquainted: false, ..setup(3, 3, bad(5, 2, conduct)) });
            assert_eq!((ended.receiver_key, ended.misled, ended.unknown), (Some(true), false, false));
        }
        let ended = agree(Setup { acquainted: false, ..setup(3, 3, bad(5, 3, Conduct::FalseIdentity)) });
        assert!(ended.misled, "three of five can introduce anybody");
    }

    #[test]
    fn what_passes_the_threshold_ends_with_its_reason() {
        let too_few = Some(NoticeOutcome::Aborted(AbortReason::TooFewShares { received: 2, k: 3, n: 5 }));
        for conduct in
            [Conduct::Silent, Conduct::CutOff, Conduct::RequestChanged, Conduct::InstructionChanged]
        {
            let ended = agree(setup(3, 3, bad(5, 3, conduct)));
            assert!(ended.sender.is_err() && ended.receiver_key.is_none(), "{conduct:?}");
            assert_eq!(ended.verdict, too_few, "{conduct:?}");
            let ended = agree(setup(3, 3, bad(5, 2, conduct)));
            assert_eq!(ended.receiver_key, Some(true), "{conduct:?}");
        }
    }

    #[test]
    fn colluding_hubs_are_borne_and_fail_without_the_secret() {
        for (liars, k) in [(4, 5), (6, 3)] {
            let ended = agree(setup(k, k, bad(9, liars, Conduct::ColludingShare)));
            assert_eq!(ended.receiver_key, Some(true), "{liars} at k = {k}");
            let Some(NoticeOutcome::Validated { false_positions, .. }) = ended.verdict else {
                panic!("aborted")
            };
            assert!(false_positions.len() <= liars);
        }
        let ended = agree(setup(5, 5, bad(9, 5, Conduct::ColludingShare)));
        assert!(matches!(ended.verdict, Some(NoticeOutcome::Aborted(AbortReason::NoneValidates { .. }))));
    }

    #[test]
    fn a_key_is_injected_by_k_min_hubs_and_by_no_fewer() {
        let ended = agree(setup(5, 3, bad(9, 2, Conduct::Injection)));
        assert_eq!(ended.receiver_key, Some(true));
        let ended = agree(setup(5, 3, bad(9, 3, Conduct::Injection)));
        assert_eq!(ended.receiver_key, Some(false), "the receiver holds the adversary's key");
    }
}
