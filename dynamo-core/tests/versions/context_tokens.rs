//! Context tokens: what clients carry, and everything they might do to it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dynamo_core::clock::context::{CausalContext, ContextError, ContextKeys, peek_fastest};
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::id::ActorId;
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{CONTEXT_BYTES_MAX, CONTEXT_TOKENS_MAX};
use dynamo_core::testing::strategy;
use dynamo_core::testing::values::node;
use dynamo_core::time::WallMs;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

fn keys(secret: &str) -> ContextKeys {
    ContextKeys::derive([secret.as_bytes()]).expect("one secret")
}

fn object(bucket: &str, key: &str) -> ObjectKey {
    ObjectKey::parse(bucket, key).expect("a legal name")
}

fn context(counter: u64) -> CausalContext {
    let mut context =
        CausalContext { stamp: Hlc(counter), fastest: Some(node(2)), ..Default::default() };
    context.clock.insert_up_to(ActorId { node: node(1), epoch: 4 }, counter, WallMs(9));
    context
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn tokens_round_trip(context in strategy::contexts(), object in strategy::object_keys()) {
        let token = keys("secret").encode(&object, &context).expect("short");
        prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        let read = keys("secret").decode(&object, &token);
        prop_assert_eq!(read, Ok(context.clone()));
        prop_assert_eq!(peek_fastest(&token), context.fastest);
    }

    #[test]
    fn anything_else_is_refused(text in "\\PC{0,200}", raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let object = object("b", "k");
        prop_assert!(keys("secret").decode(&object, &text).is_err());
        prop_assert!(keys("secret").decode(&object, &URL_SAFE_NO_PAD.encode(&raw)).is_err());
        let _hint = peek_fastest(&text);
        let _hint = peek_fastest(&URL_SAFE_NO_PAD.encode(raw));
    }
}

/// A token is for one object of one cluster.
#[test]
fn a_token_is_bound_to_bucket_key_and_cluster() {
    let token = keys("secret").encode(&object("carts", "alice"), &context(7)).expect("short");
    assert_eq!(keys("secret").decode(&object("carts", "alice"), &token), Ok(context(7)));
    // Among them names whose bytes run together to the same text.
    for (bucket, key) in [
        ("carts", "bob"),
        ("cart", "salice"),
        ("cartsa", "lice"),
        ("carts", "alice%00"),
        ("other", "alice"),
    ] {
        let read = keys("secret").decode(&object(bucket, key), &token);
        assert_eq!(read, Err(ContextError::Invalid), "{bucket}/{key}");
    }
    let foreign = keys("another secret").decode(&object("carts", "alice"), &token);
    assert_eq!(foreign, Err(ContextError::Invalid));
}

/// During a rotation tokens of the old secret are read, and new ones are signed with the new one.
#[test]
fn secrets_rotate() {
    let object = object("b", "k");
    let rotating = ContextKeys::derive([&b"new"[..], b"old"]).expect("two secrets");
    let old = keys("old").encode(&object, &context(1)).expect("short");
    assert_eq!(rotating.decode(&object, &old), Ok(context(1)));
    let new = rotating.encode(&object, &context(2)).expect("short");
    assert_eq!(keys("new").decode(&object, &new), Ok(context(2)));
    assert_eq!(keys("old").decode(&object, &new), Err(ContextError::Invalid));
    assert!(ContextKeys::derive([]).is_none());
    assert_eq!(format!("{rotating:?}"), "ContextKeys(2)", "no secret in logs");
}

#[test]
fn every_flipped_bit_of_a_token_is_refused() {
    let object = object("b", "k");
    let token = keys("secret").encode(&object, &context(300)).expect("short");
    let form = URL_SAFE_NO_PAD.decode(&token).expect("base64");
    for bit in 0..form.len() * 8 {
        let mut copy = form.clone();
        copy[bit / 8] ^= 1 << (bit % 8);
        let read = keys("secret").decode(&object, &URL_SAFE_NO_PAD.encode(copy));
        assert!(read.is_err(), "bit {bit} of the form");
    }
    for bit in 0..token.len() * 8 {
        let mut copy = token.clone().into_bytes();
        copy[bit / 8] ^= 1 << (bit % 8);
        let Ok(copy) = String::from_utf8(copy) else { continue };
        assert!(keys("secret").decode(&object, &copy).is_err(), "bit {bit} of the text");
    }
    for end in 0..token.len() {
        assert!(keys("secret").decode(&object, &token[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn a_newer_form_says_so() {
    let object = object("b", "k");
    let token = keys("secret").encode(&object, &context(1)).expect("short");
    let mut form = URL_SAFE_NO_PAD.decode(&token).expect("base64");
    form[0] = 2;
    let newer = URL_SAFE_NO_PAD.encode(form);
    assert_eq!(keys("secret").decode(&object, &newer), Err(ContextError::Version(2)));
    assert_eq!(peek_fastest(&newer), None);
}

/// A client that read from several replicas itself presents all their tokens (section 6.4).
#[test]
fn joined_tokens_are_merged() {
    let (keys, object) = (keys("secret"), object("b", "k"));
    let mut other = CausalContext { stamp: Hlc(99), ..Default::default() };
    other.clock.insert_up_to(ActorId { node: node(3), epoch: 0 }, 2, WallMs(0));
    let tokens: Vec<String> = [&context(5), &other, &context(3)]
        .into_iter()
        .map(|context| keys.encode(&object, context).expect("short"))
        .collect();
    let read = keys.decode(&object, &tokens.join(".")).expect("all genuine");
    let mut expected = context(5);
    expected.clock.merge(&other.clock);
    expected.stamp = Hlc(99);
    assert_eq!(read, expected);
    assert_eq!(peek_fastest(&tokens.join(".")), Some(node(2)));
    // One bad token spoils all; so does an empty one.
    let foreign = self::keys("x").encode(&object, &other).expect("short");
    for header in [
        format!("{}.{foreign}", tokens[0]),
        format!("{}.", tokens[0]),
        format!(".{}", tokens[0]),
        String::new(),
        ".".to_owned(),
    ] {
        assert_eq!(keys.decode(&object, &header), Err(ContextError::Invalid), "{header}");
    }
    let many = |count: usize| vec![tokens[0].clone(); count].join(".");
    assert!(keys.decode(&object, &many(CONTEXT_TOKENS_MAX)).is_ok());
    assert_eq!(keys.decode(&object, &many(CONTEXT_TOKENS_MAX + 1)), Err(ContextError::TooLong));
}

#[test]
fn a_clock_that_outgrows_its_token_is_an_error_of_its_own() {
    let (keys, object) = (keys("secret"), object("b", "k"));
    let mut large = CausalContext::default();
    for number in 0..500 {
        large.clock.insert_up_to(ActorId { node: node(number), epoch: 0 }, 1, WallMs(0));
    }
    assert_eq!(keys.encode(&object, &large), Err(ContextError::TooLong));
    let long = "A".repeat(CONTEXT_BYTES_MAX + 1);
    assert_eq!(keys.decode(&object, &long), Err(ContextError::TooLong));
    assert_eq!(keys.decode(&object, &long[1..]), Err(ContextError::Version(0)));
}
