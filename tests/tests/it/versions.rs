//! Siblings, contexts, deletes and last-write-wins, as a client sees them.

use super::scene::scene;

#[test]
fn concurrent_writers_leave_siblings_and_a_context_resolves_them() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let key = |host| cluster.object(host, "carts/bob");

    assert_eq!(http.put(&key(1), "", b"base").status, 204);
    let seen = http.get(&key(1)).context();
    assert_eq!(http.put(&key(1), &seen, b"left").status, 204);
    assert_eq!(http.put(&key(2), &seen, b"right").status, 204);

    let both = http.get(&key(3));
    assert_eq!(both.status, 300, "{}", both.text());
    assert_eq!(both.header("x-atoll-siblings"), "2");
    let siblings = both.json()["siblings"].as_array().cloned().unwrap_or_default();
    let mut values: Vec<_> = siblings.iter().filter_map(|s| s["value"].as_str()).collect();
    values.sort_unstable();
    assert_eq!(values, ["left", "right"]);

    let etag = siblings[0]["etag"].as_str().unwrap().trim_matches('"').to_owned();
    let one = http.get(&format!("{}?sibling={etag}", key(1)));
    assert_eq!((one.status, one.text().as_str()), (200, siblings[0]["value"].as_str().unwrap()));
    let parts = http.call("GET", &key(1), &[("accept", "multipart/mixed")], b"");
    assert_eq!(parts.status, 300);
    assert!(parts.header("content-type").starts_with("multipart/mixed; boundary="));
    assert_eq!(http.get(&format!("{}?resolve=lww", key(1))).text(), "right");

    assert_eq!(http.put(&key(2), &both.context(), b"merged").status, 204);
    let merged = http.get(&key(1));
    assert_eq!((merged.status, merged.text().as_str()), (200, "merged"));
    assert_eq!(merged.header("x-atoll-siblings"), "1");
}

#[test]
fn a_put_answer_covers_what_its_client_saw_and_nothing_more() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let key = cluster.object(1, "carts/carol");
    let mine = http.put(&key, "", b"mine");
    let theirs = http.put(&key, "", b"theirs");
    assert_eq!((mine.status, theirs.status), (204, 204));
    // My next put supersedes my own write and not theirs, which I have not read.
    assert_eq!(http.put(&key, &mine.context(), b"mine again").status, 204);
    let both = http.get(&key);
    let mut values: Vec<_> = both.json()["siblings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["value"].as_str().unwrap().to_owned())
        .collect();
    values.sort_unstable();
    assert_eq!(values, ["mine again", "theirs"]);
}

#[test]
fn a_deleted_key_says_so_and_can_be_created_again() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let key = cluster.object(1, "carts/dave");
    assert_eq!(http.get(&key).status, 404);
    assert_eq!(http.put(&key, "", b"x").status, 204);
    let deleted = http.call("DELETE", &key, &[("x-atoll-context", &http.get(&key).context())], b"");
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    let gone = http.get(&cluster.object(2, "carts/dave"));
    assert_eq!((gone.status, gone.header("x-atoll-deleted")), (404, "true"));
    assert!(!gone.context().is_empty());
    assert_eq!(http.call("DELETE", &key, &[], b"").status, 204, "a delete is idempotent");
    assert_eq!(http.put(&key, &gone.context(), b"back").status, 204);
    assert_eq!(http.get(&cluster.object(3, "carts/dave")).text(), "back");
    // A delete without a context removes what the coordinator's quorum sees.
    assert_eq!(http.call("DELETE", &key, &[], b"").status, 204);
    assert_eq!(http.get(&key).status, 404);
}

#[test]
fn a_retried_put_is_one_sibling_and_another_body_is_refused() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let id = [("idempotency-key", "8a5b1f3e-0d55-4c5e-9d39-1f0a3c6a7b11")];
    for host in [1, 2, 3, 1] {
        let key = cluster.object(host, "carts/erin");
        assert_eq!(http.call("PUT", &key, &id, b"once").status, 204);
    }
    let get = http.get(&cluster.object(2, "carts/erin"));
    assert_eq!((get.status, get.header("x-atoll-siblings")), (200, "1"));
    let other = http.call("PUT", &cluster.object(1, "carts/erin"), &id, b"twice");
    assert_eq!(other.status, 422, "{}", other.text());
}

#[test]
fn siblings_are_capped_with_a_helpful_refusal() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let key = cluster.object(1, "carts/frank");
    let mut refused = None;
    for blind in 0..110 {
        let put = http.put(&key, "", format!("{blind}").as_bytes());
        if put.status != 204 {
            refused = Some(put);
            break;
        }
    }
    let refused = refused.expect("110 blind puts exceed the cap");
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["code"], "too_many_siblings");
    assert_eq!(http.put(&key, &refused.context(), b"one").status, 204);
    assert_eq!(http.get(&key).text(), "one");
}

#[test]
fn conditions_are_checked() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let key = cluster.object(1, "carts/grace");
    let absent = [("if-none-match", "*")];
    assert_eq!(http.call("PUT", &key, &absent, b"first").status, 204);
    assert_eq!(http.call("PUT", &key, &absent, b"second").status, 412);
    let etag = http.get(&key).header("etag").to_owned();
    assert_eq!(http.call("PUT", &key, &[("if-match", &etag)], b"third").status, 204);
    assert_eq!(http.call("PUT", &key, &[("if-match", &etag)], b"fourth").status, 412);
}

#[test]
fn last_write_wins_where_a_bucket_asks_for_it() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let bucket = format!("{}/v1/buckets/sessions", cluster.router(1));
    let json = [("content-type", "application/json")];
    let set = http.call("PUT", &bucket, &json, br#"{"reconciliation":"lww"}"#);
    assert!(set.status < 300, "{} {}", set.status, set.text());
    tests::harness::eventually(
        "every host knows the bucket's properties",
        std::time::Duration::from_secs(20),
        || {
            (1..=3).all(|host| {
                let url = format!("{}/v1/buckets/sessions", cluster.router(host));
                http.get(&url).json()["props"]["reconciliation"] == "lww"
            })
        },
    );
    for (host, value) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(
            http.put(&cluster.object(host, "sessions/s1"), "", value.as_bytes()).status,
            204
        );
    }
    let get = http.get(&cluster.object(1, "sessions/s1"));
    assert_eq!((get.status, get.text().as_str()), (200, "c"));
}
