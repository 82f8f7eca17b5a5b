//! The founding of a fresh cluster, as an operator would do it: wait until the hosts know each
//! other, stage them all, look at the plan, commit it, and wait until every router agrees.

use std::time::{Duration, Instant};

use dynamo_core::limits::MEMBERS_MAX;
use dynamo_core::membership::member::MemberStatus;
use dynamo_core::wire::membership::{
    CLUSTER_PATH, COMMIT_PATH, ClusterDocument, MemberView, PLAN_PATH, PlanDocument, STAGE_PATH,
    StageRequest,
};
use dynamo_core::wire::ring::{RING_PATH, RingSnapshot};
use reqwest::header::IF_MATCH;
use serde::de::DeserializeOwned;

use crate::dev::args::Service;
use crate::dev::layout::{Place, node_name};
use crate::dev::ready::{POLL, http};
use crate::dev::security::Access;

/// Time that a fresh cluster has to come together.
const PATIENCE: Duration = Duration::from_secs(60);

/// Founds the cluster of the hosts in `places`, and waits until the router of each of them sees
/// every founder as a holder. Where it has been founded before, there is nothing to do: who is a
/// member by now is for its operator to say.
///
/// # Errors
/// What is missing, when the patience is over.
pub(super) async fn found(places: &[Place], founders: u16, access: &Access) -> Result<(), String> {
    let http = http(access.api_key.as_deref(), access.ca_file.as_deref())?;
    let deadline = Instant::now() + PATIENCE;
    let names: Vec<String> = (1..=founders).map(node_name).collect();
    let of = |service: Service| {
        places
            .iter()
            .filter(move |place| place.service == service && place.host <= founders)
            .map(|place| format!("{}://{}", access.scheme(), place.listen))
    };
    // An administrator asks a router: agents may believe nobody but hosts of the cluster.
    let Some(router) = of(Service::Router).next() else { return Ok(()) };
    // The founding is tried until it is done: storage nodes report their stores when they can, and
    // a plan may be out of date by the time it is committed.
    loop {
        match try_to_found(&http, &router, &names).await {
            Ok(Founding::Done) => break,
            Ok(Founding::Before) => return Ok(()),
            Err(reason) if Instant::now() >= deadline => return Err(reason),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
    for router in of(Service::Router) {
        loop {
            match sees_all(&http, &router, &names).await {
                Ok(()) => break,
                Err(reason) if Instant::now() >= deadline => return Err(reason),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
    Ok(())
}

/// When a cluster was founded.
enum Founding {
    /// Just now.
    Done,
    /// In an earlier life of its processes.
    Before,
}

async fn try_to_found(
    http: &reqwest::Client,
    router: &str,
    names: &[String],
) -> Result<Founding, String> {
    let cluster: ClusterDocument = get(http, &format!("{router}{CLUSTER_PATH}")).await?;
    if cluster.cluster.is_some() {
        return Ok(Founding::Before);
    }
    let complete = |member: &&MemberView| {
        member.status == MemberStatus::Candidate && member.addresses.storage.is_some()
    };
    let known = |name: &&String| {
        cluster.members.iter().filter(complete).any(|member| member.name == **name)
    };
    if let Some(missing) = names.iter().find(|name| !known(name)) {
        return Err(format!("{missing} is not known to the other hosts yet"));
    }
    debug_assert!(names.len() <= MEMBERS_MAX, "a development cluster is small");
    let stage = format!("{router}{STAGE_PATH}");
    answered(http.delete(&stage).send().await).await?;
    for name in names {
        let join = StageRequest::Join { node: name.clone(), zone: None, weight: None };
        answered(http.post(&stage).json(&join).send().await).await?;
    }
    let plan: PlanDocument = get(http, &format!("{router}{PLAN_PATH}")).await?;
    if let Some(refusal) = plan.refusals.first() {
        return Err(format!("the founding is refused: {}", refusal.detail));
    }
    let commit =
        http.post(format!("{router}{COMMIT_PATH}")).header(IF_MATCH, format!("\"{}\"", plan.plan));
    answered(commit.send().await).await.map(|_| Founding::Done)
}

/// Whether a router has a ring in which every founder owns and holds partitions.
async fn sees_all(http: &reqwest::Client, router: &str, names: &[String]) -> Result<(), String> {
    let ring: RingSnapshot = get(http, &format!("{router}{RING_PATH}")).await?;
    let missing = names.iter().find(|name| {
        let node = ring.nodes.iter().find(|node| node.name == **name);
        !node.is_some_and(|node| {
            node.status == MemberStatus::Member
                && node.holds.as_ref().is_some_and(|held| !held.is_empty())
        })
    });
    match missing {
        Some(name) => Err(format!("the router at {router} does not see {name} hold data yet")),
        None => Ok(()),
    }
}

async fn get<T: DeserializeOwned>(http: &reqwest::Client, url: &str) -> Result<T, String> {
    let body = answered(http.get(url).send().await).await?;
    serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))
}

async fn answered(sent: reqwest::Result<reqwest::Response>) -> Result<Vec<u8>, String> {
    let response = sent.map_err(|error| error.to_string())?;
    let (status, url) = (response.status(), response.url().clone());
    let body = response.bytes().await.map_err(|error| error.to_string())?;
    if status.is_success() {
        return Ok(body.to_vec());
    }
    Err(format!("{url}: {status}: {}", String::from_utf8_lossy(&body)))
}
