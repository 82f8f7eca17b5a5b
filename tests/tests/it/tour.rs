//! The examples of the API description, as printed.

use super::scene::scene;

#[test]
fn the_documented_examples_work_as_printed() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let alice = cluster.object(1, "carts/alice");

    let json = [("content-type", "application/json")];
    let put = http.call("PUT", &alice, &json, br#"{"book":1}"#);
    assert_eq!(put.status, 204, "{}", put.text());
    assert_eq!(put.header("x-atoll-siblings"), "1");
    assert!(!put.context().is_empty());

    let get = http.get(&alice);
    assert_eq!((get.status, get.text().as_str()), (200, r#"{"book":1}"#));
    assert_eq!(get.header("content-type"), "application/json");
    assert_eq!(get.header("x-content-type-options"), "nosniff");
    for name in ["etag", "last-modified", "x-atoll-coordinator", "x-request-id", "server-timing"] {
        assert!(!get.header(name).is_empty(), "{name} is missing: {:?}", get.headers);
    }
    assert_eq!(get.header("x-atoll-acks"), "2/2");

    let put = http.put(&alice, &get.context(), br#"{"book":2}"#);
    assert_eq!(put.status, 204, "{}", put.text());
    assert_eq!(http.get(&alice).text(), r#"{"book":2}"#);

    let photo: Vec<u8> = (0..200_000u32).map(|i| (i * 31 % 251) as u8).collect();
    let cat = cluster.object(2, "photos/2026/11/cat.jpg");
    let put = http.call("PUT", &format!("{cat}?w=all"), &[], &photo);
    assert_eq!(put.status, 204, "{}", put.text());
    assert_eq!(put.header("x-atoll-acks"), "3/3");
    for host in 1..=3 {
        let get = http.get(&cluster.object(host, "photos/2026/11/cat.jpg"));
        assert_eq!((get.status, get.body == photo), (200, true), "host {host}");
    }

    let explain = http.get(&format!("{alice}?explain"));
    assert_eq!(explain.status, 200, "{}", explain.text());
    assert_eq!(explain.json()["replicas"].as_array().map(Vec::len), Some(3), "{}", explain.text());

    let created = http.call("POST", &format!("{}/v1/kv/carts", cluster.router(3)), &[], b"new");
    assert_eq!(created.status, 201, "{}", created.text());
    let location = created.header("location");
    assert_eq!(http.get(&format!("{}{location}", cluster.router(1))).text(), "new");

    let openapi = http.get(&format!("{}/openapi.json", cluster.router(1)));
    assert_eq!(openapi.status, 200);
    assert!(openapi.json()["paths"]["/v1/kv/{bucket}/{key}"].is_object());
}
