//! One agreement with all hubs honest, and the time that each side took.

use std::{hint::black_box, time::Instant};

use dske_protocol::{
    sharing,
    tag::{KeyTag, U},
};

use crate::{
    cli::error::{CliError, Result},
    experiment::world::{self, Conduct, Setup},
};

/// Times of one agreement, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Everything that the sender computes.
    pub(super) sender: f64,
    /// Of that, making the shares and the key tag.
    pub(super) shares: f64,
    /// Everything that the receiver computes, for all n messages.
    pub(super) receiver: f64,
    /// Of that, what it has done when the key is there: k messages.
    pub(super) to_key: f64,
    /// Of that, reconstruction and key tag.
    pub(super) reconstruction: f64,
}

/// Agrees a key.
pub(super) fn sample(n: u8, k: u8, key_bytes: u32, seed: u64) -> Result<Sample> {
    let conducts = vec![Conduct::Honest; usize::from(n)];
    let ended = world::agree(Setup { k, k_min: k, key_bytes, conducts, acquainted: true, seed });
    let (Some(true), Some(to_key)) = (ended.receiver_key, ended.spent.receiver_to_key) else {
        let message = format!("no key was agreed at n = {n}, k = {k}");
        return Err(CliError::new("dske::experiment::fig5", 1, message));
    };
    Ok(Sample {
        sender: ended.spent.sender.as_secs_f64(),
        shares: shares(n, k, key_bytes).unwrap_or(f64::NAN),
        receiver: ended.spent.receiver.as_secs_f64(),
        to_key: to_key.as_secs_f64(),
        reconstruction: ended.spent.reconstruction.as_secs_f64(),
    })
}

/// The sender's arithmetic by itself: n − k derived shares, the secret, the key tag. In seconds.
fn shares(n: u8, k: u8, key_bytes: u32) -> Option<f64> {
    let scheme = sharing::Scheme::new(n, k).ok()?;
    let bytes = size_of::<U>() + usize::try_from(key_bytes).ok()?;
    // Touched before, as the pads of an agreement are.
    let mut pads: Vec<Vec<u8>> = (1..=n).map(|fill| vec![fill; bytes]).collect();
    let mut secret = vec![0; bytes];
    let began = Instant::now();
    let (first, rest) = pads.split_at_mut(usize::from(k));
    let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
    let mut rest: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
    scheme.derive_onto(&first, &mut rest).ok()?;
    scheme.secret_onto(&first, &mut secret).ok()?;
    let (u, key) = secret.split_first_chunk()?;
    black_box(KeyTag::of(u, &[], key));
    black_box(&rest);
    Some(began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_within_the_whole() {
        for (n, k) in [(1, 1), (5, 3), (6, 6)] {
            let sample = sample(n, k, 1000, 3).unwrap();
            assert!(sample.shares > 0.0 && sample.sender > 0.0);
            assert!(0.0 < sample.reconstruction && sample.reconstruction < sample.to_key);
            assert!(sample.to_key <= sample.receiver);
        }
    }
}
