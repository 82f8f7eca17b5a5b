//! The web console: pages for people, part of the binary. They ask the same API as everyone else,
//! so nothing here knows what they show.
//!
//! The policy that is sent along lets them load and ask nothing but this router, and be part of no
//! other page.

use std::sync::OnceLock;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use service_kit::http::error::{ErrorCode, Problem};
use sha2::{Digest, Sha256};

use crate::api::call::Call;
use crate::request::conditions::{ReadVerdict, on_read, parse};
use crate::state::App;

/// What pages of the console may load: what comes from here. `data:` and everything inline are
/// left out, so that no text that a client stored can become part of a page.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; object-src 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The page itself.
const INDEX: &str = "index.html";

macro_rules! files {
    ($($kind:ident: $($name:literal),+;)+) => {
        /// Name, type and content of every file.
        const FILES: &[(&str, &str, &[u8])] = &[$($(
            ($name, $kind, include_bytes!(concat!("../assets/console/", $name))),
        )+)+];
    };
}

files! {
    HTML: "index.html";
    CSS: "base.css", "parts.css";
    SVG: "icon.svg";
    SCRIPT: "main.js", "api.js", "charts.js", "cluster.js", "dialog.js", "dom.js", "format.js",
        "keys.js", "membership.js", "movement.js", "nodes.js", "overview.js", "plan.js", "poll.js",
        "ring.js", "status.js";
}

/// A file as it is sent.
#[derive(Debug)]
struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
    /// Its entity tag without quotes.
    tag: String,
}

fn asset(name: &str) -> Option<&'static Asset> {
    static ASSETS: OnceLock<Vec<Asset>> = OnceLock::new();
    let assets = ASSETS.get_or_init(|| {
        let asset = |(name, kind, content): &(&'static str, &'static str, &'static [u8])| Asset {
            name,
            kind,
            content,
            tag: Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
        };
        FILES.iter().map(asset).collect()
    });
    assets.iter().find(|asset| asset.name == name)
}

/// `/console`: relative addresses in the page need the slash.
pub async fn door(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = call.no_parameters().map(|()| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("console/"));
        response
    });
    call.conclude(result)
}

/// `/console/`.
pub async fn index(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = file(&call, INDEX);
    call.conclude(result)
}

/// `/console/{file}`.
pub async fn by_name(
    State(app): State<App>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = file(&call, &name);
    call.conclude(result)
}

fn file(call: &Call<'_>, name: &str) -> Result<Response, Problem> {
    call.no_parameters()?;
    let found = asset(name)
        .ok_or_else(|| Problem::new(ErrorCode::NotFound, "the console has no such file"))?;
    let condition = parse(call.headers())?;
    let known = on_read(condition.as_ref(), Some(&found.tag)) == ReadVerdict::NotModified;
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(Bytes::from_static(found.content)))
    };
    describe(response.headers_mut(), found);
    Ok(response)
}

fn describe(head: &mut HeaderMap, asset: &Asset) {
    head.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    head.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    head.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    head.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    head.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Always asked again: another router may have another version.
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Sixteen hexadecimal digits are a valid header.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", asset.tag)) {
        head.insert(ETAG, tag);
    }
}
