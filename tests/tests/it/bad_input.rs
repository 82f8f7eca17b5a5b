//! Hostile bytes on the client port of a real router, with a real cluster behind it: the table of
//! the router's own tests, against the whole.

use std::net::SocketAddr;
use std::time::Duration;

use tests::harness::eventually;

use super::scene::scene;

#[path = "../../../request-router/tests/bad_input/mod.rs"]
#[expect(clippy::unwrap_used, reason = "a broken assumption is a failed test")]
mod rows;

#[test]
fn bad_input_gets_its_answer_and_stores_nothing() {
    let scene = scene(3);
    let cluster = &scene.cluster;
    let router: SocketAddr =
        cluster.router(1).trim_start_matches("http://").parse().expect("a router address");
    let records = |host| {
        let store = cluster.http.get(&format!("{}/v1/store", cluster.storage(host)));
        assert_eq!(store.status, 200, "{}", store.text());
        store.json()["records"].as_u64().expect("the store counts its records")
    };
    // Replicas beyond W follow a moment after the answer: the count stands when all three agree.
    let fingerprint = || {
        let mut counts = [0, 1, 2];
        eventually("the replicas of all rows are equal", Duration::from_secs(20), || {
            counts = [records(1), records(2), records(3)];
            counts[0] == counts[1] && counts[1] == counts[2]
        });
        counts[0].to_string()
    };
    rows::check_all(router, fingerprint);
}
