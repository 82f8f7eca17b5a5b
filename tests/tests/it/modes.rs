//! The client library against a real cluster, in each of its modes, with a host that goes away.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic, also in its helpers")]

use atoll_client::{Client, Mode};

use super::scene::{Scene, scene, secure_scene};

#[test]
fn every_client_mode_survives_a_host_that_stops() {
    survive(&scene(3));
}

/// With an API key at routers and storage nodes alike.
#[test]
fn every_client_mode_survives_a_host_that_stops_where_keys_are_asked_for() {
    survive(&secure_scene(3));
}

fn survive(scene: &Scene) {
    let cluster = &scene.cluster;
    let key = cluster.admin_key();
    let ca = || std::fs::read(cluster.ca_file()).unwrap();
    let (runtime, _) = cluster.http.parts();
    let endpoints: Vec<String> = (1..=3).map(|host| cluster.router(host)).collect();
    for (mode, name) in [
        (Mode::Routed, "routed"),
        (Mode::PartitionAware, "partition-aware"),
        (Mode::ClientDriven, "client-driven"),
    ] {
        runtime.block_on(async {
            let builder = Client::builder().endpoints(endpoints.clone()).mode(mode);
            let builder = if key.is_empty() { builder } else { builder.api_key(&key).ca_pem(ca()) };
            let client = builder.build().unwrap_or_else(|error| panic!("{name}: {error}"));
            let bucket = client.bucket("modes");
            let key = |index: usize| format!("{name}-{index}");
            for index in 0..40 {
                if index == 20 {
                    cluster.dev("stop", 2, &[]);
                }
                let put = bucket.put(key(index), format!("value {index}")).await;
                put.unwrap_or_else(|error| panic!("{name}: put {index}: {error}"));
            }
            for index in 0..40 {
                let get = bucket.get_one(key(index)).await;
                let version = get.unwrap_or_else(|error| panic!("{name}: get {index}: {error}"));
                let version = version.unwrap_or_else(|| panic!("{name}: {index} is absent"));
                assert_eq!(version.value, format!("value {index}"), "{name}");
            }
            // What was read is superseded: a context from a read carries through every mode.
            let read = bucket.get(key(0)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            let put = bucket.put(key(0), "second").context(read.context.clone()).await;
            put.unwrap_or_else(|error| panic!("{name}: put with context: {error}"));
            let read = bucket.get(key(0)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(read.versions.len(), 1, "{name}");
            cluster.dev("start", 2, &[]);
        });
        super::scene::hints_drain(cluster);
    }
}
