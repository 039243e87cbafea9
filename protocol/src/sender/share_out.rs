//! From fresh pads to shares, keys and sealed messages (§2.3.1, §2.3.2).

use crate::{
    codec::Blob,
    effect::{Minted, SecretKey},
    field::mul_set_rows,
    ids::{Lane, NodeId, PadRange},
    message::{Agreement, KeyRequest, NO_KEY_TAG, seal},
    pad::TagKey,
    planted::{Fault, planted},
    sharing::Scheme,
    tag::KeyTag,
    wiped::Wiped,
};

/// A message and the hub that it is for.
pub(super) type SealedRequest = (NodeId, Vec<u8>);

/// A share, which is a pad.
pub(super) type Share = Wiped;

/// A share and its roster position.
pub(super) type Placed = (u8, Share);

/// The runs of one agreement, taken apart; `None` if one has a wrong length.
struct Runs {
    ranges: Vec<PadRange>,
    pads: Vec<Share>,
    tag_keys: Vec<TagKey>,
}

impl Runs {
    fn of(agreement: &Agreement, hubs: &[NodeId], minted: Vec<Minted>) -> Option<Self> {
        let share_bytes = usize::try_from(agreement.share_bytes(Lane::Up)).ok()?;
        let mut runs = Self {
            ranges: Vec::with_capacity(minted.len()),
            pads: Vec::with_capacity(minted.len()),
            tag_keys: Vec::with_capacity(minted.len()),
        };
        for run in minted {
            let (pad, tag_key) = run.pad.split()?;
            runs.ranges.push(run.range);
            runs.pads.push(pad.into_bytes());
            runs.tag_keys.push(tag_key);
        }
        let whole = runs.pads.len() == hubs.len()
            && hubs.len() >= usize::from(agreement.k)
            && runs.pads.iter().all(|pad| pad.len() == share_bytes);
        whole.then_some(runs)
    }
}

/// Makes the shares (§2.3.1) and seals one message per hub (§2.3.2). `hubs` are the first roster hubs,
/// at least k. `None` only if a run has a wrong length.
pub(super) fn share_out(
    agreement: &Agreement,
    hubs: &[NodeId],
    minted: Vec<Minted>,
) -> Option<(SecretKey, Vec<SealedRequest>)> {
    let (k, share_bytes) = (usize::from(agreement.k), usize::try_from(agreement.share_bytes(Lane::Up)).ok()?);
    let scheme = Scheme::new(agreement.n(), agreement.k).ok()?;
    let Runs { ranges, mut pads, tag_keys } = Runs::of(agreement, hubs, minted)?;
    let (first, rest) = pads.split_at_mut(k);
    let first: Vec<&[u8]> = first.iter().map(|pad| pad.as_slice()).collect();
    // Over the pads R_i this leaves Z_i = Y_i ⊕ R_i in place.
    let mut rest: Vec<&mut [u8]> = rest.iter_mut().map(|pad| pad.as_mut_slice()).collect();
    let mut secret = Wiped::new(vec![0; share_bytes]);
    scheme.split(&first, &mut rest, &mut secret).ok()?;
    let (us, key) =
        secret.split_at_checked(share_bytes.checked_sub(usize::try_from(agreement.key_bytes).ok()?)?)?;
    let key_tags = key_tags(us, &agreement.context().ok()?, key)?;
    let key = SecretKey(Wiped::new(key.to_vec()));
    let mut messages = Vec::with_capacity(hubs.len());
    let runs = ranges.into_iter().zip(pads).zip(tag_keys);
    for (position, (&hub, ((range, pad), tag_key))) in hubs.iter().zip(runs).enumerate() {
        // Only the derived positions travel; what stands in those buffers is ciphertext.
        let share = (position >= k).then(|| Blob(pad.to_vec()));
        let request = KeyRequest { range, agreement: agreement.clone(), key_tags: key_tags.clone(), share };
        messages.push((hub, seal(&request, tag_key).ok()?));
    }
    if planted(Fault::SharesSwapped) && hubs.len() > 1 {
        messages.swap(0, 1);
        (messages[0].0, messages[1].0) = (hubs[0], hubs[1]);
    }
    Some((key, messages))
}

/// The key tag of each receiver, under the u that this receiver alone gets to know.
fn key_tags(us: &[u8], context: &[u8], key: &[u8]) -> Option<Vec<KeyTag>> {
    let (us, []) = us.as_chunks() else { return None };
    let of = |at: usize| if planted(Fault::OneKeyTagKeyForAll) { us.first() } else { us.get(at) };
    (0..us.len()).map(|at| Some(KeyTag::of(of(at)?, context, key))).collect()
}

/// A round of the Adapted protocol (§3): every pad is a share, and indices are all that is sent. `None` only if a run
/// has a wrong length.
pub(super) fn share_round(
    agreement: &Agreement,
    hubs: &[NodeId],
    minted: Vec<Minted>,
) -> Option<(Vec<Placed>, Vec<SealedRequest>)> {
    let Runs { ranges, pads, tag_keys } = Runs::of(agreement, hubs, minted)?;
    let mut shares = Vec::with_capacity(hubs.len());
    let mut messages = Vec::with_capacity(hubs.len());
    for (&hub, ((range, pad), tag_key)) in hubs.iter().zip(ranges.into_iter().zip(pads).zip(tag_keys)) {
        shares.push((agreement.position(&hub)?, pad));
        let agreement = agreement.clone();
        messages.push((
            hub,
            seal(&KeyRequest { range, agreement, key_tags: vec![NO_KEY_TAG], share: None }, tag_key).ok()?,
        ));
    }
    Some((shares, messages))
}

/// The secret of a round: the exclusive-or of the chosen shares, cut into the key tag and the key. The tag binds the
/// choice as well. `None` if there are no shares, or their lengths differ.
pub(crate) fn close_round(
    agreement: &Agreement,
    positions: &[u8],
    shares: &[&[u8]],
) -> Option<(SecretKey, KeyTag)> {
    let bytes = shares.first()?.len();
    if shares.iter().any(|share| share.len() != bytes) {
        return None;
    }
    let mut secret = Wiped::new(vec![0; bytes]);
    mul_set_rows(&[&vec![1; shares.len()]], shares, &mut [&mut secret]);
    let (u, key) = secret.split_first_chunk()?;
    let mut context = agreement.context().ok()?;
    context.extend_from_slice(positions);
    let key_tag = KeyTag::of(u, &context, key);
    Some((SecretKey(Wiped::new(key.to_vec())), key_tag))
}
