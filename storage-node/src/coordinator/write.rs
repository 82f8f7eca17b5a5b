//! Puts and deletes as clients send them: the context is verified, a condition is checked against
//! what a read quorum knows, and a delete without context first looks at what it deletes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::record::{Content, Record, Value};
use dynamo_core::conditions::check_condition;
use dynamo_core::id::PutId;
use dynamo_core::params::Durability;
use dynamo_core::quorum::WriteGoal;
use dynamo_core::replica::PutCommand;
use dynamo_core::versions::{put_view, read_context, read_view, version_set_etag};
use dynamo_core::wire::coordinate::{
    Condition, ContentDto, Evidence, PutAnswer, PutMessage, VersionsView,
};
use dynamo_core::wire::headers::CONTEXT;
use http::header::ETAG;
use service_kit::http::error::{ErrorCode, Problem};

use super::get::{GetNeeds, gather};
use super::put::{PutNeeds, write};
use super::refusal::{context_problem, context_too_long, get_problem, put_problem, with_header};
use super::request::{Request, parameter};
use crate::metrics::RequestEnd;
use crate::node::Node;

/// Answers a client's put or delete. `body` has the bytes of the value.
///
/// # Errors
/// The problem to answer with.
pub async fn put(
    node: &Arc<Node>,
    request: &Arc<Request>,
    message: PutMessage,
    body: Bytes,
) -> Result<(PutAnswer, Vec<Bytes>), Problem> {
    let is_delete = matches!(message.content, ContentDto::Tombstone);
    let result = answer(node, request, message, body).await;
    let end = result.as_ref().map_or_else(RequestEnd::of, |_| RequestEnd::Ok);
    let seconds = node.clock.mono().since(request.started).as_secs_f64();
    let metrics = &node.metrics.coordinator;
    let kind = if is_delete { &metrics.delete } else { &metrics.put };
    kind.of(end).observe(seconds);
    result
}

async fn answer(
    node: &Arc<Node>,
    request: &Arc<Request>,
    message: PutMessage,
    body: Bytes,
) -> Result<(PutAnswer, Vec<Bytes>), Problem> {
    let w = request.w(message.w);
    let needs = PutNeeds {
        w: WriteGoal::resolve(w, request.props.n).map_err(|e| parameter("w", &e))?,
        pw: request.strict("pw", message.pw, request.props.pw)?,
        durability: message.durability.unwrap_or(request.props.durability),
    };
    let content = content(node, request, message.content, body)?;
    let context = message
        .context
        .as_deref()
        .map(|header| node.contexts.decode(&request.object, header).map_err(context_problem))
        .transpose()?;
    if let Some(condition) = &message.condition {
        let seen = look(node, request, request.r(None)?).await?;
        check(node, request, condition, &seen, message.put_id)?;
    }
    let context = match (&content, context) {
        (Content::Tombstone, None) => {
            let seen = look(node, request, needs.w.count()).await?;
            let Some(context) = seen_alive(node, &seen) else {
                return nothing_to_delete(node, request, &seen, needs);
            };
            Some(context)
        }
        (_, context) => context,
    };
    let command = PutCommand {
        put_id: message.put_id,
        context: context.clone(),
        content,
        reconciliation: request.props.reconciliation,
    };
    let (outcome, minted) = write(node, request, needs, command)
        .await
        .map_err(|failure| put_problem(node, request, &failure))?;
    let metrics = &node.metrics.coordinator;
    metrics.acks.observe(f64::from(outcome.acks));
    if outcome.hinted > 0 {
        metrics.fallbacks_used.inc();
    }
    let now = node.clock.wall();
    let token = |context: &_| node.token(&request.object, context);
    let (versions, values) =
        put_view(&minted, context.as_ref(), now, message.return_body, node.me, token)
            .map_err(|error| context_too_long(&error))?;
    let evidence = Evidence {
        acks: outcome.acks,
        asked: outcome.asked,
        primaries: outcome.primaries,
        n: outcome.n,
        hinted: outcome.hinted,
        coordinator: node.me,
        durability: needs.durability,
    };
    Ok((PutAnswer { versions, evidence, replayed: minted.replayed }, values))
}

/// The content of a message, within its limits: clients may talk to a coordinator directly.
fn content(
    node: &Node,
    request: &Request,
    dto: ContentDto,
    body: Bytes,
) -> Result<Content, Problem> {
    let ContentDto::Value { len, content_type, meta, expires_at } = dto else {
        if body.is_empty() {
            return Ok(Content::Tombstone);
        }
        return Err(Problem::new(ErrorCode::BadFrame, "a delete has no bytes"));
    };
    if len != body.len() {
        return Err(Problem::new(ErrorCode::BadFrame, "the value is not as long as announced"));
    }
    if len > node.value_bytes_max {
        let detail = format!("a value has at most {} bytes", node.value_bytes_max);
        return Err(Problem::new(ErrorCode::PayloadTooLarge, detail));
    }
    // A bucket's time to live is for values that have none of their own.
    let ttl = Duration::from_secs(request.props.ttl_s);
    let default = (!ttl.is_zero()).then(|| node.clock.wall().plus(ttl));
    let expires_at = expires_at.or(default);
    let value = Value { bytes: body, content_type, meta, expires_at };
    if value.is_within_limits() {
        return Ok(Content::Value(value));
    }
    Err(Problem::new(ErrorCode::HeaderTooLarge, "content type or metadata too long"))
}

/// What the coordinator sees of the object. Absence need not be confirmed: these writes act on
/// what is seen, and must be possible while primaries are away.
async fn look(node: &Arc<Node>, request: &Arc<Request>, r: u8) -> Result<Record, Problem> {
    let needs = GetNeeds { r, pr: 0, notfound_ok: true, explain: false };
    let seen = gather(node, request, needs).await.map_err(|failure| get_problem(&failure))?;
    Ok(seen.record)
}

fn check(
    node: &Node,
    request: &Request,
    condition: &Condition,
    seen: &Record,
    put_id: PutId,
) -> Result<(), Problem> {
    let now = node.clock.wall();
    let applied = node.store.applied_put(put_id, &request.object);
    check_condition(condition, seen, put_id, applied, now).map_err(|failed| {
        let mut problem = Problem::new(ErrorCode::PreconditionFailed, failed.to_string());
        if let Some(etag) = version_set_etag(seen, now) {
            problem = with_header(problem, ETAG.as_str(), &format!("\"{etag}\""));
        }
        let context = read_context(seen, Some(node.me));
        if let Some(Ok(token)) = context.map(|c| node.token(&request.object, &c)) {
            problem = with_header(problem, CONTEXT, &token);
        }
        problem
    })
}

/// The context of what is seen, where anything of it is alive.
fn seen_alive(node: &Node, seen: &Record) -> Option<CausalContext> {
    let alive = !seen.visible(node.clock.wall()).is_empty();
    read_context(seen, None).filter(|_| alive)
}

/// A delete of what is absent or deleted already has nothing to do.
fn nothing_to_delete(
    node: &Node,
    request: &Request,
    seen: &Record,
    needs: PutNeeds,
) -> Result<(PutAnswer, Vec<Bytes>), Problem> {
    let token = |context: &_| node.token(&request.object, context);
    let (versions, _): (VersionsView, _) =
        read_view(seen, node.clock.wall(), false, Some(node.me), token)
            .map_err(|error| context_too_long(&error))?;
    let asked = needs.w.count();
    let evidence = Evidence {
        acks: asked,
        asked,
        primaries: 0,
        n: request.props.n,
        hinted: 0,
        coordinator: node.me,
        durability: Durability::Fsync,
    };
    Ok((PutAnswer { versions, evidence, replayed: false }, Vec::new()))
}
