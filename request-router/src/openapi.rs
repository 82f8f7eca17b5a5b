//! `/openapi.json`: the description of the API (OpenAPI 3.1), generated from the handlers.

use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use std::sync::OnceLock;
use utoipa::OpenApi;

use crate::answer::siblings::with_status;
use crate::api::{
    anti_entropy, buckets, bulk, cluster, health, hints, kv, later, load, log_level, ring,
    transfers,
};

/// The description.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Atoll",
        description = "An always-writeable, eventually consistent key-value store. Raw bytes in, raw \
            bytes out; errors are application/problem+json with a closed set of codes and an outcome."
    ),
    tags(
        (name = "objects", description = "Storing and reading objects"),
        (name = "buckets", description = "Properties of buckets"),
        (name = "cluster", description = "Members, ring, health, hints, movements and repairs"),
        (name = "admin", description = "Everything that is stored, for backups and verification")
    ),
    paths(
        kv::get, kv::head, kv::put, kv::delete, kv::post, kv::list, later::batch,
        buckets::list, buckets::get, buckets::put, buckets::delete,
        cluster::cluster, cluster::stage, cluster::unstage, cluster::plan, cluster::commit,
        health::health, health::safe_to_stop, load::stats, load::load, load::peers, ring::ring, ring::preference,
        hints::hints, hints::set_sync_point, hints::sync_point,
        transfers::transfers, transfers::accept_loss,
        anti_entropy::anti_entropy, anti_entropy::repair, anti_entropy::repair_status,
        bulk::records, bulk::keys, bulk::digest, bulk::merge,
        log_level::read, log_level::change, document,
    )
)]
pub struct ApiDoc;

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "cluster",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> Response {
    static ENCODED: OnceLock<Bytes> = OnceLock::new();
    let encoded = ENCODED.get_or_init(|| match ApiDoc::openapi().to_json() {
        Ok(json) => Bytes::from(json),
        Err(error) => {
            // Only a mistake in the program could do this, and a test would show it.
            tracing::error!(%error, "the API description could not be encoded");
            Bytes::from_static(b"{}")
        }
    });
    let mut head = http::HeaderMap::new();
    head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    with_status(http::StatusCode::OK, head, encoded.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_exactly_the_routes_that_are_served() {
        let document: serde_json::Value =
            serde_json::from_str(&ApiDoc::openapi().to_json().unwrap()).unwrap();
        assert_eq!(document["openapi"].as_str().unwrap().get(..4), Some("3.1."));
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                let operation = &item[method];
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
                assert!(operation["responses"].is_object(), "{method} {path} has no answers");
                described.insert((path.clone(), method.to_uppercase()));
            }
        }
        let served: BTreeSet<(String, String)> = crate::routes::table()
            .iter()
            .flat_map(|route| {
                let path = route.pattern.replace("{*", "{");
                let methods: Vec<_> = route.methods.iter().map(|(method, _)| *method).collect();
                methods.into_iter().map(move |method| (path.clone(), method.to_owned()))
            })
            .collect();
        assert_eq!(described, served);
    }
}
