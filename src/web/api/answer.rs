//! The parts that all answers share: entity tags, `Weir-Result`, pages with `next`, dry runs.

use std::time::Duration;

use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::catalog::error::ChangeError;
use crate::catalog::page::{Page, PageRequest};
use crate::catalog::put::{Change, Precondition, Put, PutResult};
use crate::catalog::{Catalog, Tx};
use crate::web::auth::encode_query;
use crate::web::error::ApiResult;
use crate::web::extract::{Conditions, Json, etag};
use crate::web::params;
use crate::web::problem::{Code, Problem};

/// What a `PUT`, `PATCH` or `DELETE` did.
pub const RESULT: HeaderName = HeaderName::from_static("weir-result");

/// How long a change waits for a revision that the client has seen and this process has not.
const VIEW_WAIT: Duration = Duration::from_secs(1);

/// Query of a change.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChangeQuery {
    /// Say what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Query of a list without filters.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Items on a page, 1 to 1000.
    #[param(default = 100)]
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

impl ListQuery {
    /// The page asked for.
    pub fn page(&self) -> ApiResult<PageRequest> {
        page_request(self.limit, self.cursor.as_deref())
    }
}

/// The page that `limit` and `cursor` ask for.
pub fn page_request(limit: Option<usize>, cursor: Option<&str>) -> ApiResult<PageRequest> {
    if limit.is_some_and(|limit| !(1..=PageRequest::LIMIT_MAX).contains(&limit)) {
        let detail = format!("`limit` takes a number from 1 to {}.", PageRequest::LIMIT_MAX);
        return Err(Problem::new(Code::MalformedQuery, detail));
    }
    Ok(PageRequest::new(limit, cursor)?)
}

/// A part of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Cursor of the next page; `null` on the last one.
    pub next: Option<String>,
}

/// Answers a page of a list, with `Link: …; rel="next"` if there is another.
pub fn list<T, V: Serialize + From<T>>(page: Page<T>, uri: &Uri) -> Response {
    let link = page.next.as_deref().and_then(|next| next_link(uri, next));
    let mut response =
        Json(List { items: page.items.into_iter().map(V::from).collect(), next: page.next }).into_response();
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// The same address with another cursor.
pub fn next_link(uri: &Uri, cursor: &str) -> Option<HeaderValue> {
    let kept = uri.query().unwrap_or_default().split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && params::decode(name).is_ok_and(|name| name != "cursor")
    });
    let query: String = kept.map(|pair| format!("{pair}&")).collect();
    HeaderValue::try_from(format!("<{}?{query}cursor={}>; rel=\"next\"", uri.path(), encode_query(cursor))).ok()
}

/// A resource as it is, with its entity tag; 304 if the client has it.
pub fn resource<V: Serialize>(body: V, revision: i64, conditions: &Conditions) -> Response {
    let tag = [(header::ETAG, etag(revision))];
    if conditions.not_modified(revision) {
        return (StatusCode::NOT_MODIFIED, tag).into_response();
    }
    (tag, Json(body)).into_response()
}

/// What a dry run says.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"dry_run": true, "result": "updated", "changes": [
    {"path": "/partitions", "from": 6, "to": 12, "risk": "disruptive", "why": "keys map to other partitions from now on"}]}))]
pub struct DryRun {
    pub dry_run: bool,
    /// `created`, `updated`, `unchanged` or `deleted`.
    pub result: &'static str,
    pub changes: Vec<Change>,
}

/// Answers what would have happened.
pub fn dry_run(result: &'static str, changes: Vec<Change>) -> Response {
    let header = [(RESULT, HeaderValue::from_static(result))];
    (header, Json(DryRun { dry_run: true, result, changes })).into_response()
}

/// Answers a resource that a `PUT` made, changed or left as it was.
pub fn ensured<V: Serialize>(body: V, result: PutResult, revision: i64, location: &str) -> Response {
    let headers = [(header::ETAG, etag(revision)), (RESULT, HeaderValue::from_static(result.as_str()))];
    let created = result == PutResult::Created;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, headers, Json(body)).into_response();
    if let (true, Ok(location)) = (created, HeaderValue::try_from(location)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Answers a part of a resource, which has no entity tag of its own.
pub fn done<V: Serialize>(body: V, result: PutResult) -> Response {
    let status = if result == PutResult::Created { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(RESULT, HeaderValue::from_static(result.as_str()))], Json(body)).into_response()
}

/// Commits a `PUT` and answers it, or drops it and says what it would have done.
pub async fn finish<T, V: Serialize>(
    tx: Tx,
    put: Put<T>,
    query: ChangeQuery,
    revision: impl FnOnce(&T) -> i64 + Send,
    view: impl FnOnce(T) -> V + Send,
    location: String,
) -> ApiResult<Response>
where
    T: Send,
{
    if query.dry_run {
        return Ok(dry_run(put.result.as_str(), put.changes));
    }
    tx.commit().await?;
    let revision = revision(&put.value);
    Ok(ensured(view(put.value), put.result, revision, &location))
}

/// Commits a removal and answers 204, or drops it and says that it would have been done.
pub async fn finish_removal(tx: Tx, query: ChangeQuery) -> ApiResult<Response> {
    if query.dry_run {
        return Ok(dry_run("deleted", Vec::new()));
    }
    tx.commit().await?;
    Ok((StatusCode::NO_CONTENT, [(RESULT, HeaderValue::from_static("deleted"))]).into_response())
}

/// `If-Match` and `If-None-Match` as the catalog takes them.
pub fn precondition(conditions: &Conditions) -> ApiResult<Precondition> {
    if conditions.create_only() {
        return Ok(Precondition::IfNoneMatchAny);
    }
    if conditions.change_only() {
        return Ok(Precondition::IfMatchAny);
    }
    Ok(conditions.revision()?.map_or(Precondition::None, Precondition::IfMatch))
}

/// Waits (at most a second) until the view shows the revision that the client names: another instance may have made it.
pub async fn caught_up(catalog: &Catalog, conditions: &Conditions) -> ApiResult<()> {
    if let Some(named) = conditions.revision()? {
        // A revision that never was is answered by the precondition.
        let _ = tokio::time::timeout(VIEW_WAIT, catalog.refreshed(named)).await;
    }
    Ok(())
}

/// The precondition of a change that was computed from a revision that was read: that revision. A client that names another one
/// has not seen what the change starts from.
pub fn on_read(conditions: &Conditions, read: i64) -> ApiResult<Precondition> {
    match precondition(conditions)? {
        Precondition::IfNoneMatchAny => Ok(Precondition::IfNoneMatchAny),
        Precondition::IfMatch(named) if named != read => {
            Err(ChangeError::PreconditionFailed { current: Some(read) }.into())
        }
        Precondition::None | Precondition::IfMatchAny | Precondition::IfMatch(_) => Ok(Precondition::IfMatch(read)),
    }
}

/// Applies a JSON merge patch (RFC 7396) to the writable form of a resource and reads the outcome strictly.
pub fn merge_patch<P: Serialize + serde::de::DeserializeOwned>(current: &P, patch: &serde_json::Value) -> ApiResult<P> {
    if !patch.is_object() {
        return Err(Problem::new(Code::ValidationFailed, "A merge patch is a JSON object."));
    }
    let mut value = serde_json::to_value(current).map_err(|e| crate::web::error::internal(&e))?;
    merge(&mut value, patch);
    let merged = serde_json::to_vec(&value).map_err(|e| crate::web::error::internal(&e))?;
    crate::web::extract::parse_json(&merged)
}

/// `null` removes, objects merge, everything else replaces. The depth is bounded by that of the parsed body.
fn merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
    let serde_json::Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::Value::Object(serde_json::Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (name, value) in fields {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(serde_json::Value::Null), value);
        }
    }
}

/// Filters `label=key=value`.
pub fn label_filter(label: Option<&str>) -> ApiResult<Option<(String, String)>> {
    let Some(text) = label else { return Ok(None) };
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Problem::new(Code::MalformedQuery, "`label` takes KEY=VALUE, such as `label=domain=sales`."))?;
    Ok(Some((key.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequestParts as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_follows_the_rfc() {
        for (target, patch, outcome) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [1]}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut value = target;
            merge(&mut value, &patch);
            assert_eq!(value, outcome);
        }
    }

    #[tokio::test]
    async fn a_change_of_what_was_read_takes_no_other_revision_for_it() {
        let on_read = async |tag: &str, read| {
            let request = axum::http::Request::patch("/").header(header::IF_MATCH, tag).body(()).unwrap();
            let conditions = Conditions::from_request_parts(&mut request.into_parts().0, &()).await.unwrap();
            on_read(&conditions, read)
        };
        assert_eq!(on_read("\"r7\"", 7).await.unwrap(), Precondition::IfMatch(7));
        assert_eq!(on_read("*", 7).await.unwrap(), Precondition::IfMatch(7));
        // The view may be behind what the client has seen: the database's state would match, what was merged would not.
        for tag in ["\"r8\"", "\"r6\""] {
            let refused = on_read(tag, 7).await.unwrap_err();
            assert_eq!(refused.code, Code::PreconditionFailed, "{tag}");
        }
    }

    #[test]
    fn the_next_link_keeps_the_filters_and_replaces_the_cursor() {
        let uri: Uri = "/v1/topics?q=a%26b&cursor=old&limit=2".parse().unwrap();
        let link = next_link(&uri, "bmV3").unwrap();
        assert_eq!(link, "</v1/topics?q=a%26b&limit=2&cursor=bmV3>; rel=\"next\"");
    }
}
