//! The two ends of the rounds, and what must hold of them whatever comes between.
//!
//! No key without a tagged word: a sender keeps the key of a round only when the receiver has it on record, and a
//! receiver only one that the sender chose. A key is the exclusive-or of the pads that were chosen; one id has one key,
//! the same at both ends. Each part of a session serves one message, and no input makes an end say it twice; the offers
//! of a round grow. What no end has said has no effect, however often it comes; what carries no tag has none unless k_B
//! hubs pass it on. Only hubs that lied are named. Every message has one answer, every wish one end; nothing stays held; no input makes an end say or
//! hold more than what is under way accounts for; and nothing is left of a session whose rounds are over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dske_protocol::{
    ReconstructJob,
    codec::{self, Blob},
    effect::{BlockKey, PadOutcome, Record},
    hub::RequestId,
    ids::{BlockId, Lane, NodeId},
    message::{Agreement, Content, KeyInstruction, KeyRequest, Notice, NoticeOutcome, Unverified},
    negotiation::{Choice, Confirmation, NEGOTIATION_BYTES_MAX, Offer},
    pad::{TAG_BYTES, TAG_KEY_BYTES, TagKey},
    params::{AcceptancePolicy, KEY_BYTES_MAX, OFFER_AGAIN, Time, Validate},
    receiver::{Receiver, ReceiverEffect, ReceiverInput},
    refusal::Refusal,
    sender::{AgreedKey, Sender, SenderEffect, SenderInput},
    tag::U,
};
use rand::{SeedableRng, rngs::StdRng};
use serde::de::DeserializeOwned;

use super::is_hub;
use crate::{
    alloc::bounded,
    cast::{HUBS, K_MIN, client, hub, unsealed},
    pads::Pads,
    targets::Reached,
};

/// Effects of one input, besides two for everything that is under way: a round begins with a word to each hub.
const EFFECTS_MAX: usize = 8;

/// Kinds of messages of a negotiation.
const OFFER: u8 = 16;
const CHOICE: u8 = 17;
const CONFIRMATION: u8 = 18;

/// The one end.
pub(super) fn sender() -> NodeId {
    client(0)
}

/// The other end.
pub(super) fn receiver() -> NodeId {
    client(1)
}

/// Who says messages of a kind.
pub(super) fn author(kind: u8) -> NodeId {
    if kind == CHOICE { sender() } else { receiver() }
}

/// A part of a session: kind, session, round, and of an offer its number of shares.
type PartOf = (u8, BlockId, u32, usize);

/// What a hub was asked, and its share.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) request: KeyRequest,
    hub: NodeId,
    share: Vec<u8>,
    passed_on: bool,
}

/// See the head of the file.
pub(super) struct Ends {
    pub(super) now: Time,
    pub(super) sender_pads: Pads,
    pub(super) receiver_pads: Pads,
    /// What the hubs have got.
    pub(super) asked: Vec<Asked>,
    /// What the ends have said to each other; how much of it has been brought.
    pub(super) said: Vec<Vec<u8>>,
    brought: usize,
    /// What the receiver has told of ends; how much of it has been brought.
    pub(super) notices: Vec<Notice>,
    notified: usize,
    /// Sessions that the receiver does not know any more.
    pub(super) lost: Vec<BlockId>,
    sender: Sender,
    receiver: Receiver,
    outcomes: [VecDeque<PadOutcome>; 2],
    jobs: VecDeque<(BlockId, usize, ReconstructJob)>,
    strangers: Vec<NodeId>,
    rng: StdRng,
    next: u64,
    /// Wishes and messages without an end.
    wishes: BTreeSet<RequestId>,
    messages: BTreeMap<RequestId, bool>,
    /// The message that each part of a session served.
    parts: BTreeMap<PartOf, Vec<u8>>,
    /// Those that were said since the last input; when the receiver last offered, and what.
    just_said: BTreeSet<PartOf>,
    offered: BTreeMap<BlockId, (Time, Offer)>,
    /// Hubs that passed on that a session is lost, and nodes that passed on how an agreement ended.
    voices: BTreeMap<BlockId, BTreeSet<NodeId>>,
    told: BTreeMap<BlockId, BTreeSet<NodeId>>,
    chosen: BTreeMap<BlockId, Vec<u8>>,
    /// Keys on record.
    sent_keys: BTreeMap<BlockId, Vec<u8>>,
    received_keys: BTreeMap<BlockId, Vec<u8>>,
    /// Hubs that have said something false under a right tag.
    liars: BTreeSet<NodeId>,
    reached: Reached,
}

fn new_receiver() -> Receiver {
    let policy = AcceptancePolicy {
        k_min: K_MIN,
        hubs: (0..HUBS).map(hub).collect(),
        key_bytes_max: KEY_BYTES_MAX,
        deadline: Time::from_secs(10),
        validate: Validate::First,
    };
    Receiver::new(receiver(), policy, [sender()])
}

impl Ends {
    /// Two ends that have a table with every hub.
    pub(super) fn new() -> Self {
        let pads = || Pads::new(Lane::Up, (0..HUBS).map(hub));
        Self {
            now: Time::ZERO,
            sender_pads: pads(),
            receiver_pads: pads(),
            asked: Vec::new(),
            said: Vec::new(),
            brought: 0,
            notices: Vec::new(),
            notified: 0,
            lost: Vec::new(),
            sender: Sender::new(sender(), K_MIN),
            receiver: new_receiver(),
            outcomes: [VecDeque::new(), VecDeque::new()],
            jobs: VecDeque::new(),
            strangers: Vec::new(),
            rng: StdRng::seed_from_u64(7),
            next: 0,
            wishes: BTreeSet::new(),
            messages: BTreeMap::new(),
            parts: BTreeMap::new(),
            just_said: BTreeSet::new(),
            offered: BTreeMap::new(),
            voices: BTreeMap::new(),
            told: BTreeMap::new(),
            chosen: BTreeMap::new(),
            sent_keys: BTreeMap::new(),
            received_keys: BTreeMap::new(),
            liars: BTreeSet::new(),
            reached: Reached::default(),
        }
    }

    /// Sessions of the sender.
    pub(super) fn sessions(&self) -> Vec<BlockId> {
        self.sender.sessions().map(|(session, ..)| session).collect()
    }

    fn id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    /// The sender's owner wants something.
    pub(super) fn wish(&mut self, input: impl FnOnce(RequestId) -> SenderInput) {
        let id = self.id();
        self.wishes.insert(id);
        self.tell_sender(input(id));
    }

    /// A hub sends what it makes of its share: `lie` changes what it says, `change` body and sealed message.
    pub(super) fn pass_on(
        &mut self,
        at: usize,
        lie: impl FnOnce(&mut KeyInstruction),
        mut change: impl FnMut(&mut Vec<u8>),
    ) {
        let Some(asked) = self.asked.get_mut(at) else { return };
        asked.passed_on = true;
        let (from, agreement) = (asked.hub, asked.request.agreement.clone());
        let Some((range, pad)) = self.receiver_pads.peer_takes(&from, agreement.burned_bytes(Lane::Down))
        else {
            return;
        };
        let share = asked.share.iter().zip(pad).map(|(share, pad)| share ^ pad).collect();
        // A round has one receiver.
        let key_tag = asked.request.key_tags[0];
        let mut instruction = KeyInstruction { range, agreement, key_tag, share: Blob(share) };
        let truth = unsealed(&instruction);
        lie(&mut instruction);
        let mut body = unsealed(&instruction);
        change(&mut body);
        if body != truth {
            self.liars.insert(from);
        }
        let mut bytes = self.receiver_pads.seal(body);
        change(&mut bytes);
        let right = self.receiver_pads.expect(&bytes);
        let id = self.id();
        self.messages.insert(id, right);
        self.tell_receiver(ReceiverInput::KeyInstruction { id, from, bytes });
    }

    /// A hub tells the sender what became of its request.
    pub(super) fn hub_answers(&mut self, at: usize, answer: Option<Result<(), Refusal>>) {
        let Some(asked) = self.asked.get(at) else { return };
        let (block, hub) = (asked.request.agreement.block(), asked.hub);
        self.tell_sender(SenderInput::HubAnswer { block, hub, answer });
    }

    /// Something comes over the link, for what it says or as something else.
    pub(super) fn deliver(&mut self, from: NodeId, kind: u8, bytes: Vec<u8>) {
        let genuine = self.said.contains(&bytes);
        let before = (self.chosen.len(), self.sent_keys.len(), self.received_keys.len());
        match kind {
            OFFER => self.tell_sender(SenderInput::Offer { from, bytes }),
            CHOICE => self.tell_receiver(ReceiverInput::Choice { from, bytes }),
            _ => self.tell_sender(SenderInput::Confirmation { from, bytes }),
        }
        let after = (self.chosen.len(), self.sent_keys.len(), self.received_keys.len());
        assert!(genuine || before == after, "what nobody said had an effect");
    }

    /// Every hub that has not spoken passes the truth on and tells the sender.
    pub(super) fn pass_on_fresh(&mut self) {
        for at in 0..self.asked.len() {
            if !self.asked[at].passed_on {
                self.pass_on(at, |_| (), |_| ());
                self.hub_answers(at, Some(Ok(())));
            }
        }
    }

    /// The link brings what it has not brought so far.
    pub(super) fn deliver_fresh(&mut self) {
        while let Some(bytes) = self.said.get(self.brought).cloned() {
            self.brought += 1;
            let kind = bytes.first().copied().unwrap_or(0);
            self.deliver(author(kind), kind, bytes);
        }
        while let Some(session) = self.lost.pop() {
            (0..HUBS).for_each(|at| self.tell_lost(receiver(), hub(at), session));
        }
    }

    /// The sender hears how agreements ended at the receiver.
    pub(super) fn notify_fresh(&mut self) {
        while let Some(notice) = self.notices.get(self.notified).cloned() {
            self.notified += 1;
            self.tell_end(receiver(), None, notice.clone());
            (0..HUBS).for_each(|at| self.tell_end(receiver(), Some(hub(at)), notice.clone()));
        }
    }

    /// Somebody passes on that a session is lost. That of fewer than k_B hubs of it moves nothing.
    pub(super) fn tell_lost(&mut self, from: NodeId, via: NodeId, session: BlockId) {
        let Some(agreement) = self.sender.session(&session).cloned() else { return };
        let voices = self.voices.entry(session).or_default();
        if from == receiver() && agreement.position(&via).is_some() {
            voices.insert(via);
        }
        let enough = voices.len() >= usize::from(K_MIN);
        self.tell_sender(SenderInput::SessionLost { from, via, session });
        assert_eq!(self.sender.session(&session).is_none(), enough, "{} voices", self.voices[&session].len());
    }

    /// Somebody tells how an agreement ended. Of a round that has no effect unless hubs say so.
    pub(super) fn tell_end(&mut self, from: NodeId, via: Option<NodeId>, notice: Notice) {
        let block = notice.block;
        let of = self.asked.iter().find(|asked| asked.request.agreement.block() == block);
        let of = of.map(|asked| asked.request.agreement.clone());
        let before = self.sender.under_way();
        self.tell_sender(SenderInput::Notice { from, via, notice });
        let voices = self.told.entry(block).or_default();
        voices.extend(via.filter(|_| from == receiver()));
        if let Some(agreement) = of.filter(Agreement::is_round) {
            let hubs = voices.iter().filter(|via| agreement.position(via).is_some()).count();
            assert!(
                hubs >= usize::from(K_MIN) || self.sender.under_way() == before,
                "{hubs} hubs ended a round"
            );
        }
    }

    pub(super) fn pass_time(&mut self, by: Time) {
        self.now += by;
        self.tell_sender(SenderInput::Tick);
        self.tell_receiver(ReceiverInput::Tick);
    }

    pub(super) fn exclude(&mut self, hub: NodeId) {
        self.tell_receiver(ReceiverInput::ExcludeHub(hub));
    }

    /// The sender starts anew: what was in memory is gone.
    pub(super) fn restart_sender(&mut self) {
        self.sender = Sender::new(sender(), K_MIN);
        self.outcomes[0].clear();
        self.wishes.clear();
    }

    /// The receiver starts anew: what was in memory is gone.
    pub(super) fn restart_receiver(&mut self) {
        self.receiver = new_receiver();
        self.receiver_pads.restart();
        self.outcomes[1].clear();
        self.jobs.clear();
        self.strangers.clear();
        self.messages.clear();
    }

    /// One answer of the sender's pads, which need not be the oldest.
    pub(super) fn answer_sender_pads(&mut self, at: u8) {
        if let Some(outcome) = self.outcomes[0].remove(at.into()) {
            self.tell_sender(SenderInput::Pad(outcome));
        }
    }

    /// One answer of the receiver's pads, which need not be the oldest.
    pub(super) fn answer_receiver_pads(&mut self, at: u8) {
        if let Some(outcome) = self.outcomes[1].remove(at.into()) {
            self.tell_receiver(ReceiverInput::Pad(outcome));
        }
    }

    /// All that the ends asked for of their own nodes is done.
    pub(super) fn settle(&mut self) {
        loop {
            if !self.outcomes[0].is_empty() {
                self.answer_sender_pads(0);
            } else if !self.outcomes[1].is_empty() {
                self.answer_receiver_pads(0);
            } else if let Some((block, group, job)) = self.jobs.pop_front() {
                let result = job.run(&mut self.rng, &|| false);
                self.tell_receiver(ReceiverInput::Reconstructed { block, group, result });
            } else if let Some(node) = self.strangers.pop() {
                self.tell_receiver(ReceiverInput::Sender { node, established: false });
            } else {
                return;
            }
        }
    }

    /// All that is open ends, and then nothing is left.
    pub(super) fn finish(mut self) -> Reached {
        self.settle();
        // Beyond every deadline of a wish; a receiver's collection takes a second look at most.
        for _ in 0..4 {
            self.pass_time(Time::from_secs(400));
            self.settle();
        }
        assert!(self.wishes.is_empty(), "wishes without an end: {:?}", self.wishes);
        assert!(self.messages.is_empty(), "messages without an answer: {:?}", self.messages);
        assert_eq!((self.sender.under_way(), self.receiver.under_way()), (0, 0), "something hangs");
        assert_eq!(self.receiver.held_bytes(), 0, "shares of nothing are held");
        assert_eq!((self.sender.poll_timeout(), self.receiver.poll_timeout()), (None, None));
        let spent: Vec<_> = self.sender.sessions().filter(|(.., rounds)| *rounds == 0).collect();
        assert!(spent.is_empty(), "sessions without a round that are kept: {spent:?}");
        self.sender_pads.assert_nothing_held();
        self.receiver_pads.assert_nothing_held();
        let Pads { burned, forged_blocks, .. } = self.receiver_pads;
        Reached { burned, forged_blocks, ..self.reached }
    }

    pub(super) fn tell_sender(&mut self, input: SenderInput) {
        let bytes = match &input {
            SenderInput::Offer { bytes, .. } | SenderInput::Confirmation { bytes, .. } => bytes.clone(),
            _ => Vec::new(),
        };
        self.just_said.clear();
        bounded(&bytes, || self.sender.handle(self.now, input, &mut self.rng));
        let most = EFFECTS_MAX + 2 * self.sender.under_way();
        for effects in 0.. {
            let Some(effect) = self.sender.poll_effect() else { return };
            assert!(effects < most, "more than {most} effects of one input");
            self.sender_effect(effect);
        }
    }

    pub(super) fn tell_receiver(&mut self, input: ReceiverInput) {
        let bytes = match &input {
            ReceiverInput::KeyInstruction { bytes, .. } | ReceiverInput::Choice { bytes, .. } => {
                bytes.clone()
            }
            _ => Vec::new(),
        };
        self.just_said.clear();
        bounded(&bytes, || self.receiver.handle(self.now, input));
        let most = EFFECTS_MAX + 2 * self.receiver.under_way();
        for effects in 0.. {
            let Some(effect) = self.receiver.poll_effect() else { return };
            assert!(effects < most, "more than {most} effects of one input");
            self.receiver_effect(effect);
        }
    }

    fn sender_effect(&mut self, effect: SenderEffect) {
        match effect {
            SenderEffect::Pad(effect) => {
                let (outcome, record) = self.sender_pads.execute(effect);
                self.outcomes[0].extend(outcome);
                if let Some((agreement, key)) = record.as_ref().and_then(kept) {
                    self.check_key(agreement, key);
                    let theirs = self.received_keys.get(&agreement.block());
                    assert!(theirs.is_none_or(|theirs| theirs == key), "two keys under one id");
                    if agreement.is_round() {
                        assert!(theirs.is_some(), "the receiver has no such key");
                        self.reached.rounds += 1;
                    }
                    let before = self.sent_keys.insert(agreement.block(), key.to_vec());
                    assert!(before.is_none(), "a second key for one id");
                }
            }
            SenderEffect::Send { block, hub, bytes } => self.send(block, hub, bytes),
            SenderEffect::Choose { block, to, bytes, .. } => {
                let choice: Choice = body(&bytes);
                assert_eq!((choice.block, to), (block, receiver()));
                self.chosen.insert(block, choice.positions);
                self.say((CHOICE, choice.session, choice.round, 0), bytes);
            }
            SenderEffect::Began { .. } => {}
            SenderEffect::Ended { id, result, .. } => {
                assert!(self.wishes.remove(&id), "a wish ends once");
                match result {
                    Ok(agreed) => self.agreed(&agreed),
                    Err(_) => self.reached.refused += 1,
                }
            }
        }
    }

    fn agreed(&mut self, agreed: &AgreedKey) {
        self.reached.accepted += 1;
        match agreed.agreement.content {
            Content::Negotiation => self.reached.sessions += 1,
            Content::Round { .. } => {
                assert_eq!(agreed.confirmed, [receiver()]);
                self.named(&agreed.liars);
            }
            Content::Keys(_) => {}
        }
    }

    /// Hubs are said to have lied in a round.
    fn named(&mut self, hubs: &[NodeId]) {
        assert!(hubs.iter().all(|hub| self.liars.contains(hub)), "{hubs:?} did not lie");
        self.reached.named += hubs.len() as u64;
    }

    /// A hub gets a request, and finds its share.
    fn send(&mut self, block: BlockId, hub: NodeId, bytes: Vec<u8>) {
        assert!(is_hub(&hub));
        let message = Unverified::<KeyRequest>::decode(bytes).expect("what it sends decodes");
        let mut pad = self.sender_pads.read(&message.range()).expect("its run is there");
        let key = pad.split_off(pad.len() - TAG_KEY_BYTES).try_into().expect("a tag key");
        let request = message.verify(TagKey::new(key)).expect("sent under a right tag").into_inner();
        let position = request.agreement.position(&hub).expect("it is in the roster");
        assert_eq!(request.agreement.block(), block);
        assert_eq!(request.share.is_none(), request.agreement.takes_pad(position));
        if let Some(share) = &request.share {
            pad.iter_mut().zip(&share.0).for_each(|(byte, share)| *byte ^= share);
        }
        self.asked.push(Asked { request, hub, share: pad, passed_on: false });
    }

    /// One end says something to the other: for each part of a session always the same.
    fn say(&mut self, part: PartOf, bytes: Vec<u8>) {
        let before = self.parts.entry(part).or_insert_with(|| bytes.clone());
        assert_eq!(*before, bytes, "two messages under one part of a session");
        assert!(self.just_said.insert(part), "said twice at once");
        self.said.push(bytes);
    }

    fn receiver_effect(&mut self, effect: ReceiverEffect) {
        match effect {
            ReceiverEffect::Pad(effect) => {
                let (outcome, record) = self.receiver_pads.execute(effect);
                self.outcomes[1].extend(outcome);
                if let Some((agreement, key)) = record.as_ref().and_then(kept) {
                    self.check_key(agreement, key);
                    let before = self.received_keys.insert(agreement.block(), key.to_vec());
                    assert!(before.is_none(), "a second key for one id");
                }
            }
            ReceiverEffect::Answer { id, result } => {
                let right = self.messages.remove(&id).expect("one answer for each message");
                assert!(right || result.is_err(), "a forged message was accepted");
            }
            ReceiverEffect::Establish(node) => self.strangers.push(node),
            ReceiverEffect::Reconstruct { block, group, job } => self.jobs.push_back((block, group, job)),
            ReceiverEffect::Offer { block, to, bytes, .. } => {
                let offer: Offer = body(&bytes);
                assert_eq!((offer.block, to), (block, sender()));
                if let Some((at, before)) = self.offered.insert(block, (self.now, offer.clone())) {
                    let again = before == offer;
                    assert!(!again || at + OFFER_AGAIN <= self.now, "offered again too soon");
                    let grows = before.shares.iter().all(|share| offer.shares.contains(share));
                    assert!(again || (grows && before.shares.len() < offer.shares.len()), "another offer");
                }
                let part = (OFFER, offer.session, offer.round, offer.shares.len());
                self.say(part, bytes);
            }
            ReceiverEffect::Confirm { block, to, bytes, .. } => {
                let confirmation: Confirmation = body(&bytes);
                assert_eq!((confirmation.block, to), (block, sender()));
                assert!(self.received_keys.contains_key(&block), "confirmed without a key on record");
                self.say((CONFIRMATION, confirmation.session, confirmation.round, 0), bytes);
            }
            ReceiverEffect::SessionLost { session, .. } => {
                self.reached.lost += 1;
                self.lost.push(session);
            }
            ReceiverEffect::Progress { agreement, outcome, .. } => {
                if let (true, NoticeOutcome::Validated { false_positions, .. }) =
                    (agreement.is_round(), &outcome)
                {
                    let hubs = false_positions.iter().map(|at| agreement.roster[usize::from(*at)]);
                    self.named(&hubs.collect::<Vec<_>>());
                }
                self.notices.push(Notice { block: agreement.block(), outcome });
            }
            ReceiverEffect::Began(_) | ReceiverEffect::Heard { .. } | ReceiverEffect::LateShare { .. } => {}
        }
    }

    /// A key that an end keeps is the exclusive-or of shares that were chosen: by the sender, or by their place.
    fn check_key(&self, agreement: &Agreement, key: &[u8]) {
        let positions = if agreement.is_round() {
            self.chosen.get(&agreement.block()).expect("the sender has chosen").clone()
        } else {
            (0..agreement.k).collect()
        };
        assert!(positions.len() >= usize::from(agreement.k), "too few shares for a key");
        let mut secret = vec![0; size_of::<U>() + key.len()];
        for position in positions {
            let of = |asked: &&Asked| {
                asked.request.agreement == *agreement && agreement.position(&asked.hub) == Some(position)
            };
            let share = &self.asked.iter().find(of).expect("the hub was asked").share;
            secret.iter_mut().zip(share).for_each(|(byte, share)| *byte ^= share);
        }
        assert_eq!(secret[size_of::<U>()..], *key, "another key than that of the chosen shares");
    }
}

/// The key that a record keeps, with what was agreed.
fn kept(record: &Record) -> Option<(&Agreement, &[u8])> {
    let ended = record.block.as_ref()?;
    match &ended.result {
        Ok(BlockKey::Keep(key)) => Some((&ended.agreement, &key.0)),
        _ => None,
    }
}

/// What a message of a negotiation says.
fn body<T: DeserializeOwned>(bytes: &[u8]) -> T {
    assert!(bytes.len() <= NEGOTIATION_BYTES_MAX);
    let body = bytes.get(1..bytes.len() - TAG_BYTES).expect("kind and tag");
    codec::decode(body, NEGOTIATION_BYTES_MAX).expect("what an end says decodes")
}
