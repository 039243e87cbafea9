//! The arithmetic against `vectors/dske-arithmetic.json` (definitions inside the file).

use dske_protocol::{
    field::Gf256,
    key_check::KeyCheck,
    pad::TagKey,
    reconstruct::{Reconstruction, WorkBound, reconstruct},
    sharing::Scheme,
    tag::{KeyTag, Tag, key_tag},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

fn vectors(section: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("vectors/dske-arithmetic.json")).expect("valid JSON");
    let cases = all[section].as_array().expect("a section is a list").clone();
    assert!(!cases.is_empty());
    cases
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().expect("a string of hexadecimal digits");
    let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn number(value: &Value) -> u8 {
    value.as_u64().and_then(|number| u8::try_from(number).ok()).expect("a number of one byte")
}

fn texts(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().expect("a list").iter().map(hex).collect()
}

fn slices(texts: &[Vec<u8>]) -> Vec<&[u8]> {
    texts.iter().map(Vec::as_slice).collect()
}

fn tag(value: &Value) -> Tag {
    Tag::new(hex(value).try_into().expect("16 bytes"))
}

#[test]
fn products() {
    for case in vectors("gf256_mul") {
        let [a, b, product] = [0, 1, 2].map(|i| Gf256(number(&case[i])));
        assert_eq!(a.mul(b), product);
        assert_eq!(b.mul(a), product);
        if b != Gf256::ZERO {
            assert_eq!(product.div(b), a);
        }
    }
}

#[test]
fn tags() {
    for case in vectors("tags") {
        let key: [u8; 32] = hex(&case["key"]).try_into().expect("32 bytes");
        let (aad, message, expected) = (hex(&case["aad"]), hex(&case["msg"]), tag(&case["tag"]));
        assert_eq!(TagKey::new(key).tag(&aad, &message), expected);
        assert!(TagKey::new(key).verify(&aad, &message, &expected));
        let mut other = *expected.as_bytes();
        other[15] ^= 0x80;
        assert!(!TagKey::new(key).verify(&aad, &message, &Tag::new(other)));
    }
}

#[test]
fn sharing_and_key_tags() {
    for case in vectors("sharing") {
        let (n, k) = (number(&case["n"]), number(&case["k"]));
        let scheme = Scheme::new(n, k).expect("a scheme");
        let (shares, secret) = (texts(&case["shares"]), hex(&case["secret_y0"]));
        assert_eq!(shares[..k.into()], texts(&case["pads"])[..k.into()]);
        let (first, rest) = shares.split_at(k.into());

        let mut derived = vec![vec![0; secret.len()]; rest.len()];
        let mut outputs: Vec<&mut [u8]> = derived.iter_mut().map(Vec::as_mut_slice).collect();
        scheme.derive_onto(&slices(first), &mut outputs).expect("a valid call");
        assert_eq!(derived, rest, "({n},{k})");

        let mut sum = vec![0; secret.len()];
        scheme.secret_onto(&slices(first), &mut sum).expect("a valid call");
        assert_eq!(sum, secret, "({n},{k})");

        let chosen = case["a_subset_that_reconstructs"].as_array().expect("a list");
        let positions: Vec<u8> = chosen.iter().map(number).collect();
        let given: Vec<&[u8]> = positions.iter().map(|&i| shares[usize::from(i)].as_slice()).collect();
        let mut again = vec![0; secret.len()];
        scheme.reconstruct_onto(&positions, &given, &mut again).expect("a valid call");
        assert_eq!(again, secret, "({n},{k}) from {positions:?}");

        let (u, key, context) = (hex(&case["u"]), hex(&case["key"]), hex(&case["context"]));
        assert_eq!([u.as_slice(), &key].concat(), secret);
        let u: [u8; 32] = u.try_into().expect("32 bytes");
        let expected = tag(&case["key_tag"]);
        assert_eq!(key_tag(&u, &context, &key), expected);

        // In these shares no mask of a hint stands between u and the key. One of zeros has shares of zeros.
        let with_mask = |text: &[u8]| [&text[..32], &[0; 8], &text[32..]].concat();
        let masked: [u8; 40] = with_mask(&u).try_into().expect("40 bytes");
        let key_tag = KeyTag::of(&masked, &context, &key);
        assert_eq!(key_tag.tag, expected);
        let check = KeyCheck::new(context, key_tag);
        let given: Vec<Vec<u8>> = given.iter().map(|share| with_mask(share)).collect();
        let named: Vec<(u8, &[u8])> = positions.iter().copied().zip(slices(&given)).collect();
        let bound = WorkBound::default();
        let rng = &mut StdRng::seed_from_u64(1);
        let found = reconstruct(&scheme, &named, &check, &bound, rng, &|| false);
        let Ok(Reconstruction::Found(found)) = found else { panic!("({n},{k}) from {positions:?}") };
        assert_eq!(*found.secret, with_mask(&secret));
    }
}
