//! A cluster that is stopped properly comes back with its data, its ring and its contexts.

use super::scene::scene;

#[test]
fn a_stopped_cluster_returns_with_its_data() {
    let mut scene = scene(3);
    let name = "carts/restart";
    let http = tests::harness::Http::new();
    let (before, contexts) = {
        let cluster = &scene.cluster;
        assert_eq!(http.put(&cluster.object(1, name), "", b"left").status, 204);
        assert_eq!(http.put(&cluster.object(2, name), "", b"right").status, 204);
        let ring = http.get(&format!("{}/v1/ring", cluster.router(1))).json();
        (ring["version"].clone(), http.get(&cluster.object(3, name)).context())
    };
    assert!(scene.cluster.shut_down().success(), "{}", scene.cluster.log());
    scene.cluster.launch();
    let cluster = &scene.cluster;
    let ring = http.get(&format!("{}/v1/ring", cluster.router(2))).json();
    assert_eq!(ring["version"], before);
    let get = http.get(&cluster.object(1, name));
    assert_eq!((get.status, get.header("x-atoll-siblings")), (300, "2"));
    assert_eq!(http.put(&cluster.object(1, name), &contexts, b"one").status, 204);
    assert_eq!(http.get(&cluster.object(2, name)).text(), "one");
}
