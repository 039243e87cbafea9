//! The pieces of code that are looked at, and some that are wrong on purpose.

use std::hint::black_box;

use dske_protocol::{
    field::{Gf256, mul_add_rows, xor_into},
    pad::{PadBytes, TAG_KEY_BYTES, TagKey},
    sharing::Scheme,
    tag::{KeyTag, key_tag},
};
use dske_storage::pskm::is_receipt;
use subtle::ConstantTimeEq;

use crate::valgrind::{branches_on, public, secret};

/// Lengths around those at which the kernels change their way, and one of a large key.
const LENGTHS: [usize; 9] = [1, 15, 16, 17, 64, 127, 128, 1025, 4096 + 33];

/// What must come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// No error.
    Clean,
    /// At least one.
    Found,
}

/// A piece of code; it gives back what it computed from secrets.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) expected: Expected,
    pub(crate) run: fn() -> Vec<u8>,
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let clean = |name, run| Case { name, expected: Expected::Clean, run };
    let found = |name, run| Case { name, expected: Expected::Found, run };
    vec![
        clean("field: product", product),
        clean("field: rows of coefficients", rows),
        clean("field: exclusive-or", exclusive_or),
        clean("sharing: shares from pads", derive),
        clean("sharing: shares and secret in one pass", split),
        clean("sharing: secret from the first k shares", secret_from_first),
        clean("sharing: secret from any k shares", secret_from_any),
        clean("sharing: a further share predicted", predict),
        clean("pad: cut into share pad and tag key, applied", pad),
        clean("tag: of a message", message_tag),
        clean("tag: verified, right and wrong", verified),
        clean("key tag", key_tag_of),
        clean("key tag: compared, right and wrong", key_tag_compared),
        clean("receipt: compared, right and wrong", receipt),
        found("wrong on purpose: a branch", wrong_branch),
        found("wrong on purpose: a look-up", wrong_look_up),
        found("wrong on purpose: bytes compared by ==", wrong_compare),
        found("wrong on purpose: a receipt compared letter by letter", wrong_receipt),
        found("wrong on purpose: a secret inverted by look-up", wrong_inverse),
    ]
}

/// Secret bytes without meaning.
fn secrets(len: usize, seed: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i * 167 + seed * 59 + 1).to_le_bytes()[0]).collect();
    secret(&mut bytes);
    bytes
}

fn secret_array<const N: usize>(seed: usize) -> [u8; N] {
    let mut bytes = std::array::from_fn(|i| (i * 151 + seed * 61 + 1).to_le_bytes()[0]);
    secret(&mut bytes);
    bytes
}

/// Shares of all lengths, one after the other.
fn for_lengths(count: usize, mut run: impl FnMut(&[&[u8]], &mut Vec<u8>)) -> Vec<u8> {
    let mut results = Vec::new();
    for len in LENGTHS {
        let texts: Vec<Vec<u8>> = (0..count).map(|seed| secrets(len, seed)).collect();
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let mut result = vec![0; len];
        run(&texts, &mut result);
        results.extend(result);
    }
    results
}

fn product() -> Vec<u8> {
    let (a, b) = (secrets(256, 1), secrets(256, 2));
    a.iter().zip(&b).map(|(a, b)| Gf256(*a).mul(Gf256(*b)).add(Gf256(*a)).0).collect()
}

fn rows() -> Vec<u8> {
    let coefficients: [&[u8]; 2] = [&[0x53, 0, 1, 0xff, 0x80], &[2, 3, 0xca, 0, 0x1b]];
    for_lengths(5, |texts, result| {
        let mut other = secrets(result.len(), 9);
        mul_add_rows(&coefficients, texts, &mut [result, &mut other]);
        xor_into(&other, result);
    })
}

fn exclusive_or() -> Vec<u8> {
    for_lengths(1, |texts, result| xor_into(texts[0], result))
}

fn scheme() -> Scheme {
    Scheme::new(9, 5).expect("a scheme")
}

fn derive() -> Vec<u8> {
    for_lengths(5, |texts, result| {
        let mut others: Vec<Vec<u8>> = (0..3).map(|seed| secrets(result.len(), seed + 20)).collect();
        let mut outputs: Vec<&mut [u8]> = others.iter_mut().map(Vec::as_mut_slice).collect();
        outputs.push(result);
        scheme().derive_onto(texts, &mut outputs).expect("a valid call");
    })
}

fn split() -> Vec<u8> {
    for_lengths(5, |texts, result| {
        let mut others: Vec<Vec<u8>> = (0..4).map(|seed| secrets(result.len(), seed + 20)).collect();
        let mut outputs: Vec<&mut [u8]> = others.iter_mut().map(Vec::as_mut_slice).collect();
        scheme().split(texts, &mut outputs, result).expect("a valid call");
        result.extend(others.into_iter().flatten());
    })
}

fn secret_from_first() -> Vec<u8> {
    for_lengths(5, |texts, result| {
        scheme().reconstruct(&[0, 1, 2, 3, 4], texts, result).expect("a valid call");
        scheme().secret_onto(texts, result).expect("a valid call");
        scheme().secret_onto(texts, result).expect("a valid call");
    })
}

fn secret_from_any() -> Vec<u8> {
    for_lengths(5, |texts, result| {
        scheme().reconstruct_onto(&[8, 0, 6, 3, 5], texts, result).expect("a valid call");
    })
}

fn predict() -> Vec<u8> {
    for_lengths(5, |texts, result| {
        scheme().predict_onto(&[8, 0, 6, 3, 5], texts, 1, result).expect("a valid call");
    })
}

fn pad() -> Vec<u8> {
    let mut results = Vec::new();
    for len in LENGTHS {
        let (pad, key) = PadBytes::mint(secrets(len + TAG_KEY_BYTES, 3)).split().expect("long enough");
        let mut text = secrets(len, 4);
        pad.apply(&mut text);
        results.extend(text);
        results.extend(key.tag(&[], &[]).as_bytes());
    }
    results
}

fn message_tag() -> Vec<u8> {
    let tag = |len| *TagKey::new(secret_array(len)).tag(&secrets(len / 2, 5), &secrets(len, 6)).as_bytes();
    LENGTHS.iter().flat_map(|len| tag(*len)).collect()
}

fn verified() -> Vec<u8> {
    let mut results = Vec::new();
    for len in LENGTHS {
        let message = secrets(len, 7);
        let key = || TagKey::new(secret_array(1));
        let right = key().tag(&[], &message);
        let wrong = TagKey::new(secret_array(2)).tag(&[], &message);
        assert!(public(key().verify(&[], &message, &right)), "a right tag holds");
        assert!(!public(key().verify(&[], &message, &wrong)), "a wrong one does not");
        results.extend(right.as_bytes());
    }
    results
}

fn key_tag_of() -> Vec<u8> {
    LENGTHS
        .iter()
        .flat_map(|len| *key_tag(&secret_array(8), b"public context", &secrets(*len, 9)).as_bytes())
        .collect()
}

fn key_tag_compared() -> Vec<u8> {
    // As the receiver does it, in `KeyCheck::validates`.
    let of = |seed| KeyTag::of(&secret_array(seed), b"public context", &secrets(32, 9));
    let holds = |a: &KeyTag, b: &KeyTag| -> bool { public(a.ct_eq(b).into()) };
    assert!(holds(&of(1), &of(1)) && !holds(&of(1), &of(2)));
    [&of(1).tag.as_bytes()[..], &of(1).hint].concat()
}

fn secret_text(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let checked = std::str::from_utf8(&bytes).is_ok();
    assert!(checked);
    secret(&mut bytes);
    // SAFETY: the bytes were checked; marking them changed nothing.
    #[allow(unsafe_code, reason = "checking the text again would branch on it")]
    unsafe {
        String::from_utf8_unchecked(bytes)
    }
}

fn receipt() -> Vec<u8> {
    let expected = secret_text("olive tango 4417");
    assert!(public(is_receipt(&expected, "Olive-Tango 4417")));
    assert!(!public(is_receipt(&expected, "olive tango 4418")));
    assert!(!public(is_receipt(&expected, "")));
    expected.into_bytes()
}

fn wrong_branch() -> Vec<u8> {
    let bytes = secrets(32, 10);
    vec![u8::from(bytes.iter().any(|byte| branches_on(*byte)))]
}

fn wrong_look_up() -> Vec<u8> {
    let table: [u8; 256] = std::array::from_fn(|i| (i * 7).to_le_bytes()[0]);
    let table = black_box(table);
    secrets(32, 11).iter().map(|byte| table[usize::from(*byte)]).collect()
}

fn wrong_compare() -> Vec<u8> {
    // Longer than what the compiler compares as one number, which would be in constant time by luck.
    let (one, other) = (secrets(100, 12), secrets(100, 12));
    vec![u8::from(public(black_box(&one) == black_box(&other)))]
}

fn wrong_receipt() -> Vec<u8> {
    let expected = secret_text("olive tango 4417");
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    vec![u8::from(public(plain(&expected) == plain("olive tango 4417")))]
}

fn wrong_inverse() -> Vec<u8> {
    secrets(32, 13).iter().map(|byte| Gf256(*byte).inv().0).collect()
}
