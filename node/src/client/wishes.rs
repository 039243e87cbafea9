//! Requests for keys from their arrival to their end: names become identities, links are tried, a roster
//! is chosen, and the sender takes over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dske_protocol::{
    hub::RequestId,
    ids::{BlockId, KeyId, Lane, NodeId},
    message::{Content, Subject},
    params::Time,
    refusal::SendFailure,
    sender::{AgreedKey, KeyWish, SenderInput, serving},
};
use dske_storage::SecretBytes;

use super::{
    ClientActor, KeyReply, Names, failures,
    inquiries::Occasion,
    micros,
    whom::{Whom, subject},
};
use crate::{
    config::PolicyConfig,
    control::{Course, Failure, KeyDelivery, KeyGet, failure},
    metrics::Side,
    status::{Level, Step, WishStatus},
};

/// How long a direct link to a receiver is awaited before a first key: it only brings the receiver's
/// word sooner.
const LINK_PATIENCE: Duration = Duration::from_millis(400);

/// How long a wish waits for as many usable hubs as it needs, from when it is known whom it is for.
const HUBS_PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits where enough hubs are usable and too few have said who the receivers are: those that were slow are
/// being [asked again](ClientActor::widen).
const CLAIMS_PATIENCE: Duration = Duration::from_secs(4);

/// A notice is awaited for the receiver's deadline and this much more.
const NOTICE_MARGIN: Duration = Duration::from_secs(1);

/// Hubs that are slow are awaited this long where no notice will come.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// Longest wait for hubs, whatever the caller asks for.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Wishes that wait for identities or links at once.
const WAITING_MAX: usize = 1024;

/// Wishes that are told of at once.
const SHOWN_MAX: usize = 64;

/// See the head of the file.
#[derive(Default)]
pub(super) struct Wishes {
    waiting: Vec<Waiting>,
    under_way: BTreeMap<RequestId, UnderWay>,
    next: u64,
}

struct Waiting {
    get: KeyGet,
    /// The hubs that it is confined to; none is all.
    hubs: Vec<NodeId>,
    reply: KeyReply,
    began: Time,
    /// When all its receivers were known.
    known: Option<Time>,
}

struct UnderWay {
    get: KeyGet,
    /// Whom it is with, in the order in which they were named.
    receivers: Vec<NodeId>,
    reply: KeyReply,
    began: Time,
    started: Time,
    /// Whether its roster is drawn: then it is among the sessions.
    drawn: bool,
}

impl Wishes {
    /// A name for the next agreement that this node begins.
    pub(super) fn next_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    /// What an agreement went through before its roster was drawn.
    pub(super) fn steps(&mut self, id: RequestId, now: Time) -> Vec<(Step, Time)> {
        match self.under_way.get_mut(&id) {
            Some(wish) => {
                wish.drawn = true;
                vec![(Step::Identity, wish.began), (Step::Generation, wish.started)]
            }
            // Nobody asked for it: a block of a stream.
            None => vec![(Step::Generation, now)],
        }
    }

    /// The wishes that are not among the sessions yet, oldest first.
    pub(super) fn status(&self, now: Time) -> Vec<WishStatus> {
        let status = |get: &KeyGet, step, began: Time| WishStatus {
            with: get.with.iter().map(ToString::to_string).collect(),
            key_bytes: get.bits / 8,
            step,
            waiting_us: micros(now.saturating_sub(began)),
        };
        let making = self.under_way.values().filter(|wish| !wish.drawn);
        let making = making.map(|wish| status(&wish.get, Step::Generation, wish.began));
        let waiting = self.waiting.iter().map(|wish| status(&wish.get, Step::Identity, wish.began));
        making.chain(waiting).take(SHOWN_MAX).collect()
    }

    /// Ends every wish for somebody whose identity could not be established.
    pub(super) fn fail(&mut self, about: &Subject, why: &Failure) {
        let concerned = |wish: &mut Waiting| wish.get.with.iter().any(|meant| subject(meant) == *about);
        for wish in self.waiting.extract_if(.., concerned) {
            let _ = wish.reply.send(Err(why.clone()));
        }
    }
}

impl ClientActor {
    pub(super) fn key_get(&mut self, now: Time, get: KeyGet, reply: KeyReply) {
        if let Err(why) = check(&get, &self.policy) {
            let _ = reply.send(Err(why));
            return;
        }
        if self.wishes.waiting.len() >= WAITING_MAX {
            let _ = reply.send(Err(failures::send(&SendFailure::Busy, NodeId::short)));
            return;
        }
        let hubs = get.hubs.iter().map(|meant| self.hub_meant(meant)).collect();
        let hubs: Vec<NodeId> = match hubs {
            Ok(hubs) => hubs,
            Err(why) => {
                let _ = reply.send(Err(why));
                return;
            }
        };
        let waiting = Waiting { get, hubs, reply, began: now, known: None };
        if let Some(waiting) = self.advance_wish(now, waiting, Occasion::Order) {
            self.wishes.waiting.push(waiting);
        }
    }

    pub(super) fn advance_wishes(&mut self, now: Time) {
        for wish in std::mem::take(&mut self.wishes.waiting) {
            if let Some(wish) = self.advance_wish(now, wish, Occasion::Timer) {
                self.wishes.waiting.push(wish);
            }
        }
    }

    /// Takes a wish as far as it can go now; gives it back where it must wait.
    fn advance_wish(&mut self, now: Time, mut wish: Waiting, occasion: Occasion) -> Option<Waiting> {
        if wish.reply.is_closed() {
            return None;
        }
        let timeout = Duration::from_millis(wish.get.timeout_ms).min(TIMEOUT_MAX);
        if now >= wish.began + timeout {
            let why = failure(
                "dske::key::timeout",
                3,
                format!("no key within {timeout:?}: identities of the receivers are not established yet"),
                "see `dske status` for hubs that are not connected",
            );
            let _ = wish.reply.send(Err(self.with_versions(why)));
            return None;
        }
        let mut receivers = Vec::with_capacity(wish.get.with.len());
        let mut unknown = Vec::new();
        for meant in &wish.get.with {
            match self.whom(meant) {
                Whom::Known(node) => receivers.push(node),
                Whom::Ask(subject) => unknown.push(subject),
                Whom::Refused(why) => {
                    let _ = wish.reply.send(Err(why));
                    return None;
                }
            }
        }
        if !unknown.is_empty() {
            self.establish_all(now, unknown, occasion);
            return Some(wish);
        }
        if receivers.iter().collect::<BTreeSet<_>>().len() != receivers.len() {
            let why = failure("dske::key::parameters", 2, "a receiver is named twice".into(), "");
            let _ = wish.reply.send(Err(why));
            return None;
        }
        let known = *wish.known.get_or_insert(now);
        let unlinked: Vec<_> = receivers.iter().filter(|node| !self.linked.contains(node)).copied().collect();
        if !unlinked.is_empty() {
            let callable = unlinked.iter().any(|node| {
                !self.directory.addresses(node).is_empty() && self.calls.is_worth(now, node, LINK_PATIENCE)
            });
            if callable && now < known + LINK_PATIENCE {
                unlinked.into_iter().for_each(|node| self.call(now, node));
                return Some(wish);
            }
        }
        // Soon after a start, or a break of connections, the hubs are only just being compared.
        let k = usize::from(wish.get.k.unwrap_or(self.policy.k));
        let usable = self.hubs.usable(&self.store);
        let patience = if usable.len() < k { HUBS_PATIENCE } else { CLAIMS_PATIENCE };
        if usable.intersection(&self.hubs_serving(&receivers)).count() < k && now < known + patience {
            return Some(wish);
        }
        self.start(now, wish, receivers);
        None
    }

    /// The hubs that can take part in keys with these receivers.
    pub(super) fn hubs_serving(&self, receivers: &[NodeId]) -> BTreeSet<NodeId> {
        let served_by = |receiver: &NodeId| self.identities.get(receiver).map(|known| &known.hubs);
        serving(&self.me.0, self.hubs.accepted(), receivers, served_by)
    }

    fn start(&mut self, now: Time, wish: Waiting, receivers: Vec<NodeId>) {
        let usable = self.hubs.usable(&self.store);
        let serving = self.hubs_serving(&receivers);
        let hubs = self.hubs.choices(&self.store, &usable, &serving, &wish.hubs);
        let linked: BTreeSet<_> =
            receivers.iter().filter(|node| self.linked.contains(node)).copied().collect();
        let patience = if linked.is_empty() { STRAGGLERS } else { self.policy.deadline() + NOTICE_MARGIN };
        let timeout = Duration::from_millis(wish.get.timeout_ms).min(TIMEOUT_MAX);
        let key_wish = KeyWish {
            receivers: receivers.clone(),
            // `check` has seen that it fits.
            key_bytes: u32::try_from(wish.get.bits / 8).unwrap_or(u32::MAX),
            content: Content::Keys(1),
            keep: false,
            confirm: false,
            purpose: wish.get.purpose.clone(),
            k: wish.get.k.unwrap_or(self.policy.k),
            n: self.policy.n,
            hubs,
            linked,
            deadline: wish.began + timeout,
            notice_deadline: (now + patience).min(wish.began + timeout),
        };
        let id = self.wishes.next_id();
        let Waiting { get, reply, began, .. } = wish;
        let under_way = UnderWay { get, receivers, reply, began, started: now, drawn: false };
        self.wishes.under_way.insert(id, under_way);
        self.sender.handle(now, SenderInput::Start { id, wish: key_wish }, &mut self.rng);
    }

    /// An agreement that this node began has ended.
    pub(super) fn agreement_ended(
        &mut self,
        now: Time,
        id: RequestId,
        block: Option<BlockId>,
        result: Result<AgreedKey, SendFailure>,
    ) {
        match (&result, block) {
            (Ok(agreed), _) => {
                self.sessions.measures.validated(Side::Sender, agreed.agreement.block(), now);
            }
            (Err(error), block) => self.sessions.measures.aborted(Side::Sender, block, error.name()),
        }
        self.session_over(now, block, &result);
        if let Some(result) = self.stream_ended(now, id, block.is_some(), result) {
            self.key_got(now, id, block, result);
        }
    }

    fn session_over(&mut self, now: Time, block: Option<BlockId>, result: &Result<AgreedKey, SendFailure>) {
        let Some(block) = block else { return };
        let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
        let told = match result {
            Ok(agreed) => Ok((agreed.shares, agreed.liars.iter().map(|hub| names.of(hub)).collect())),
            Err(error) => Err(failures::send(error, |node| names.of(node)).message),
        };
        self.sessions.ended(now, &block, told);
    }

    fn key_got(
        &mut self,
        now: Time,
        id: RequestId,
        block: Option<BlockId>,
        result: Result<AgreedKey, SendFailure>,
    ) {
        let Some(under_way) = self.wishes.under_way.remove(&id) else { return };
        if result.as_ref().is_ok_and(|agreed| agreed.confirmed.len() == under_way.receivers.len()) {
            self.receivers_confirmed(now, &under_way.receivers);
        }
        let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
        let took_us = micros(now.saturating_sub(under_way.began));
        let result = match result {
            Err(error) => {
                self.sessions.aborted += 1;
                let why = self.with_versions(failures::send(&error, |node| names.of(node)));
                if block.is_none() {
                    let with: Vec<_> = under_way.get.with.iter().map(ToString::to_string).collect();
                    let text = format!("no key with {}: {}", with.join(", "), why.message);
                    self.sessions.event(Level::Warn, text);
                }
                Err(why)
            }
            Ok(agreed) => {
                self.sessions.sent += 1;
                let agreement = &agreed.agreement;
                let liars: Vec<_> = agreed.liars.iter().map(|hub| names.of(hub)).collect();
                // As they were named by who asked.
                let named = under_way.receivers.iter().zip(&under_way.get.with);
                let confirmed = named.filter(|(node, _)| agreed.confirmed.contains(node));
                Ok(KeyDelivery {
                    id: KeyId { block: agreement.block(), index: 0 },
                    n: agreement.n(),
                    k: agreement.k,
                    from: None,
                    confirmed: confirmed.map(|(_, meant)| meant.clone()).collect(),
                    burned_bytes: agreement.burned_bytes(Lane::Up),
                    course: Some(Course { shares: agreed.shares, liars, burned_hubs: agreed.asked, took_us }),
                    key: SecretBytes::new({
                        // A wish of `key get` keeps nothing.
                        agreed.key.map(|mut key| std::mem::take(&mut *key.0)).unwrap_or_default()
                    }),
                })
            }
        };
        // A caller that has gone does not get the key; its record says that it was handed out.
        let _ = under_way.reply.send(result);
    }
}

fn check(get: &KeyGet, policy: &PolicyConfig) -> Result<(), Failure> {
    let bits_max = policy.key_bits_max;
    let bad = |message: String| Err(failure("dske::key::parameters", 2, message, ""));
    if get.bits == 0 || !get.bits.is_multiple_of(8) {
        return bad(format!("{} bits: a key has a multiple of 8 bits", get.bits));
    }
    if get.bits > bits_max {
        return bad(format!("{} bits: a key of one agreement has at most {bits_max} bits", get.bits));
    }
    if let Some(k) = get.k.filter(|k| *k < policy.k_min) {
        let k_min = policy.k_min;
        return bad(format!("k = {k} is below k_min = {k_min}: receivers of this network refuse such a key"));
    }
    if get.with.is_empty() || get.with.len() > dske_protocol::params::RECEIVERS_MAX {
        return bad(format!("give 1 to {} receivers", dske_protocol::params::RECEIVERS_MAX));
    }
    Ok(())
}
