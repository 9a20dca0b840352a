//! API tokens: made once, shown once, kept as SHA-256.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::access::{Administer, Grant, ManageAppTokens, OwnTokens, Principal, TokenActorParts, TokenUse};
use super::error::{AuthError, CatalogError, ChangeError, Denied, Kind, MissingScope};
use super::grants::whole_micros;
use super::model::{AppState, Application, Scope, Secret, Token, TokenHolder, TokenSpec};
use super::secret::{self, TokenKind};
use super::tx::Line;
use super::{Catalog, Tx, limits, load, rights};
use crate::names::{AppId, AppName, Email, TeamId, TokenId, TopicName, UserId};

/// Most living tokens of one holder.
const LIVING_MAX: i64 = 100;
/// Most topic patterns of a token.
const PATTERNS_MAX: usize = 100;
/// Longest overlap of an old token with the new one.
const OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Catalog {
    /// Who holds the token. From the snapshot, in constant work; notes the use for "last used".
    pub fn authenticate_token(&self, text: &str, from: Option<IpAddr>) -> Result<TokenActorParts, AuthError> {
        if !secret::is_token(text) {
            return Err(AuthError::Unknown);
        }
        let view = self.inner.view.load();
        let entry = view.token_by_hash(&secret::hash(text)).ok_or(AuthError::Unknown)?;
        let now = self.now();
        rights::token_holds(&entry.row.token, now)?;
        let principal = match &entry.row.token.holder {
            TokenHolder::App { name, .. } => {
                let app = view.app(name).ok_or(AuthError::Unknown)?;
                if app.state == AppState::Suspended {
                    return Err(AuthError::AppSuspended { app: name.clone() });
                }
                Principal::App { id: app.id, name: name.clone(), team: app.team_id }
            }
            TokenHolder::User { id, .. } => {
                let user = rights::person(&view, *id)?;
                Principal::User { id: *id, email: user.email.clone(), admin: user.admin }
            }
        };
        if entry.is_worth_noting(now) {
            self.inner.uses.note(entry.row.token.id, now, from);
        }
        Ok(TokenActorParts { principal, token: Arc::clone(&entry.usable) })
    }

    /// An application's tokens, newest first; revoked and expired ones for 30 days.
    pub async fn tokens_of_app(&self, grant: &Grant<ManageAppTokens>) -> Result<Vec<Token>, CatalogError> {
        let app = grant.resource().id.0;
        let ids = sqlx::query_scalar!("SELECT id FROM tokens WHERE app_id = $1", app).fetch_all(self.pool()).await?;
        self.tokens_by_id(&ids).await
    }

    /// A person's tokens, newest first; revoked and expired ones for 30 days.
    pub async fn tokens_of_user(&self, grant: &Grant<OwnTokens>) -> Result<Vec<Token>, CatalogError> {
        let user = grant.resource().0;
        let ids = sqlx::query_scalar!("SELECT id FROM tokens WHERE user_id = $1", user).fetch_all(self.pool()).await?;
        self.tokens_by_id(&ids).await
    }

    async fn tokens_by_id(&self, ids: &[uuid::Uuid]) -> Result<Vec<Token>, CatalogError> {
        let mut conn = self.pool().acquire().await?;
        let rows = load::tokens(&mut conn, Some(ids), self.now() - load::ENDED_TOKENS_KEPT).await?;
        let mut tokens: Vec<_> = rows.into_iter().map(|row| row.token).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.id));
        Ok(tokens)
    }
}

impl Tx {
    /// Makes a token for an application, with no more rights than the actor's own credential.
    pub async fn create_app_token(
        &mut self,
        grant: &Grant<ManageAppTokens>,
        spec: &TokenSpec,
    ) -> Result<(Token, Secret), ChangeError> {
        let holder = Holder::app(grant.resource());
        let spec = self.checked(&holder, spec)?;
        self.insert_token(&holder, &spec, "token.create").await
    }

    /// Makes a personal token.
    pub async fn create_own_token(
        &mut self,
        grant: &Grant<OwnTokens>,
        spec: &TokenSpec,
    ) -> Result<(Token, Secret), ChangeError> {
        let holder = self.own(grant);
        let spec = self.checked(&holder, spec)?;
        self.insert_token(&holder, &spec, "token.create").await
    }

    /// A personal token for somebody else, whose rights bound it wherever it is used.
    pub(super) async fn create_token_of(
        &mut self,
        user: UserId,
        email: &Email,
        spec: &TokenSpec,
    ) -> Result<(Token, Secret), ChangeError> {
        let holder = Holder::User { id: user, label: email.to_string() };
        let spec = self.checked(&holder, spec)?;
        self.insert_token(&holder, &spec, "token.create").await
    }

    /// A new token with the same rights; the old one ends after the overlap.
    pub async fn rotate_app_token(
        &mut self,
        grant: &Grant<ManageAppTokens>,
        id: TokenId,
        overlap: Duration,
    ) -> Result<(Token, Secret), ChangeError> {
        self.rotate(&Holder::app(grant.resource()), id, overlap).await
    }

    /// A new personal token with the same rights; the old one ends after the overlap.
    pub async fn rotate_own_token(
        &mut self,
        grant: &Grant<OwnTokens>,
        id: TokenId,
        overlap: Duration,
    ) -> Result<(Token, Secret), ChangeError> {
        let holder = self.own(grant);
        self.rotate(&holder, id, overlap).await
    }

    /// Ends a token now; its open streams end within a second.
    pub async fn revoke_app_token(
        &mut self,
        grant: &Grant<ManageAppTokens>,
        id: TokenId,
    ) -> Result<Token, ChangeError> {
        self.revoke(&Holder::app(grant.resource()), id).await
    }

    /// Ends a personal token now.
    pub async fn revoke_own_token(&mut self, grant: &Grant<OwnTokens>, id: TokenId) -> Result<Token, ChangeError> {
        let holder = self.own(grant);
        self.revoke(&holder, id).await
    }

    fn own(&self, grant: &Grant<OwnTokens>) -> Holder {
        Holder::User { id: *grant.resource(), label: self.actor.label().to_owned() }
    }

    /// Checks a wish against the rules and against what the actor's own credential can do.
    fn checked(&self, holder: &Holder, spec: &TokenSpec) -> Result<TokenSpec, ChangeError> {
        let mut spec = spec.clone();
        spec.scopes.sort_unstable();
        spec.scopes.dedup();
        spec.topics.sort();
        spec.topics.dedup();
        spec.expires_at = spec.expires_at.map(whole_micros);
        limits::name("/name", &spec.name)?;
        well_formed(holder, &spec, self.now)?;
        let instance_wide = spec.scopes.iter().any(|scope| matches!(scope, Scope::Admin | Scope::MetricsRead));
        if instance_wide {
            self.catalog().authorize::<Administer>(&self.actor, &())?;
        }
        if let Some(own) = &self.actor.token {
            within(own, &spec)?;
        }
        Ok(spec)
    }

    async fn insert_token(
        &mut self,
        holder: &Holder,
        spec: &TokenSpec,
        action: &'static str,
    ) -> Result<(Token, Secret), ChangeError> {
        self.has_room(holder).await?;
        let id = TokenId::new();
        let secret = secret::new_token(holder.kind());
        let (now, revision) = (self.now, self.revision);
        let actor = Arc::clone(&self.actor);
        let scopes: Vec<String> = spec.scopes.iter().map(ToString::to_string).collect();
        sqlx::query!(
            "INSERT INTO tokens (id, hash, app_id, user_id, name, prefix, scopes, topics, created_by, created_at, expires_at, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            id.0,
            &secret::hash(secret.expose()),
            holder.app_id(),
            holder.user_id(),
            spec.name,
            secret::shown_prefix(holder.kind(), &secret),
            &scopes,
            &spec.topics,
            actor.label(),
            now,
            spec.expires_at,
            revision
        )
        .execute(self.conn())
        .await?;
        let token = self.token_row(id).await?;
        self.audit_token(action, holder, &token, None, Some(line(&token))).await?;
        Ok((token, secret))
    }

    async fn has_room(&mut self, holder: &Holder) -> Result<(), ChangeError> {
        let now = self.now;
        let living = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM tokens WHERE (app_id = $1 OR user_id = $2)
               AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)"#,
            holder.app_id(),
            holder.user_id(),
            now
        )
        .fetch_one(self.conn())
        .await?;
        if living < LIVING_MAX {
            return Ok(());
        }
        let detail =
            format!("there are {living} living tokens already, which is the most; revoke those that are not used");
        Err(ChangeError::Conflict { detail })
    }

    async fn rotate(
        &mut self,
        holder: &Holder,
        id: TokenId,
        overlap: Duration,
    ) -> Result<(Token, Secret), ChangeError> {
        if overlap > OVERLAP_MAX {
            return Err(ChangeError::invalid("/overlap", "is at most 30d"));
        }
        let old = self.held(holder, id).await?;
        if rights::token_holds(&old, self.now).is_err() {
            return Err(ChangeError::Conflict { detail: "the token has ended already; make a new one".to_owned() });
        }
        // The same length of life again, but not beyond the end of the token that asks for it.
        let lifetime = old.expires_at.map(|end| self.now + (end - old.created_at));
        let bound = self.actor.token.as_ref().and_then(|token| token.expires_at);
        let expires_at = [lifetime, bound].into_iter().flatten().min();
        let spec =
            TokenSpec { name: old.name.clone(), scopes: old.scopes.clone(), topics: old.topics.clone(), expires_at };
        let spec = self.checked(holder, &spec)?;
        let (new, secret) = self.insert_token(holder, &spec, "token.rotate").await?;
        let end = self.now + overlap;
        let end = old.expires_at.map_or(end, |own_end| own_end.min(end));
        let revision = self.revision;
        sqlx::query!(
            "UPDATE tokens SET expires_at = $2, rotated_to = $3, revision = $4 WHERE id = $1",
            old.id.0,
            end,
            new.id.0,
            revision
        )
        .execute(self.conn())
        .await?;
        Ok((new, secret))
    }

    async fn revoke(&mut self, holder: &Holder, id: TokenId) -> Result<Token, ChangeError> {
        let before = self.held(holder, id).await?;
        if before.revoked_at.is_some() {
            return Ok(before);
        }
        let (now, revision) = (self.now, self.revision);
        sqlx::query!("UPDATE tokens SET revoked_at = $2, revision = $3 WHERE id = $1", id.0, now, revision)
            .execute(self.conn())
            .await?;
        let token = self.token_row(id).await?;
        self.audit_token("token.revoke", holder, &token, Some(line(&before)), None).await?;
        Ok(token)
    }

    /// The holder's token of that identifier.
    async fn held(&mut self, holder: &Holder, id: TokenId) -> Result<Token, ChangeError> {
        let found = sqlx::query_scalar!(
            "SELECT id FROM tokens WHERE id = $1 AND (app_id = $2 OR user_id = $3)",
            id.0,
            holder.app_id(),
            holder.user_id()
        )
        .fetch_optional(self.conn())
        .await?;
        if found.is_none() {
            return Err(ChangeError::missing(Kind::Token, id));
        }
        Ok(self.token_row(id).await?)
    }

    async fn token_row(&mut self, id: TokenId) -> Result<Token, CatalogError> {
        let rows = load::tokens(self.conn(), Some(&[id.0]), OffsetDateTime::UNIX_EPOCH).await?;
        Ok(load::the_only(rows)?.token)
    }

    async fn audit_token(
        &mut self,
        action: &'static str,
        holder: &Holder,
        token: &Token,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<(), CatalogError> {
        let line = match holder {
            Holder::App { id, name, team } => {
                let resource = format!("app/{name}/token/{}", token.id);
                Line { action, resource, team: Some(*team), app: Some((*id, name)), before, after }
            }
            Holder::User { label, .. } => {
                let resource = format!("user/{label}/token/{}", token.id);
                Line { action, resource, team: None, app: None, before, after }
            }
        };
        self.audit(line).await
    }
}

/// Whose token is made.
enum Holder {
    App { id: AppId, name: AppName, team: TeamId },
    User { id: UserId, label: String },
}

impl Holder {
    fn app(app: &Application) -> Self {
        Self::App { id: app.id, name: app.name.clone(), team: app.team_id }
    }

    fn kind(&self) -> TokenKind {
        match self {
            Self::App { .. } => TokenKind::App,
            Self::User { .. } => TokenKind::Personal,
        }
    }

    fn app_id(&self) -> Option<uuid::Uuid> {
        match self {
            Self::App { id, .. } => Some(id.0),
            Self::User { .. } => None,
        }
    }

    fn user_id(&self) -> Option<uuid::Uuid> {
        match self {
            Self::App { .. } => None,
            Self::User { id, .. } => Some(id.0),
        }
    }
}

fn well_formed(holder: &Holder, spec: &TokenSpec, now: OffsetDateTime) -> Result<(), ChangeError> {
    if spec.scopes.is_empty() {
        return Err(ChangeError::invalid("/scopes", "names at least one scope"));
    }
    if matches!(holder, Holder::App { .. }) && spec.scopes.contains(&Scope::Admin) {
        return Err(ChangeError::invalid("/scopes", "an application cannot be an administrator"));
    }
    if spec.topics.len() > PATTERNS_MAX {
        return Err(ChangeError::invalid("/topics", format!("has at most {PATTERNS_MAX} patterns")));
    }
    for (at, pattern) in spec.topics.iter().enumerate() {
        let beginning = pattern.strip_suffix('*').unwrap_or(pattern);
        let any = pattern == "*";
        if !any && beginning.parse::<TopicName>().is_err() {
            let detail = "is the name of a topic, or the beginning of names followed by one '*'";
            return Err(ChangeError::invalid(format!("/topics/{at}"), detail));
        }
    }
    if spec.expires_at.is_some_and(|end| end <= now) {
        return Err(ChangeError::invalid("/expires_at", "is in the future"));
    }
    Ok(())
}

/// A token makes no token that can do more, or longer, than itself.
fn within(own: &TokenUse, spec: &TokenSpec) -> Result<(), ChangeError> {
    let covers = |scope: &Scope| own.scopes.contains(scope) || own.scopes.contains(&Scope::Admin);
    if let Some(scope) = spec.scopes.iter().find(|scope| !covers(scope)) {
        return Err(Denied::InsufficientScope { missing: MissingScope::Scope(*scope) }.into());
    }
    let wider = match spec.topics.as_slice() {
        [] => (!own.topics.is_empty()).then_some("*"),
        topics => topics.iter().map(String::as_str).find(|topic| !rights::pattern_within(topic, &own.topics)),
    };
    if let Some(wider) = wider {
        let detail =
            format!("{wider} is more than the topics of the token that asks for it: {}", own.topics.join(", "));
        return Err(ChangeError::invalid("/topics", detail));
    }
    if let Some(end) = own.expires_at
        && spec.expires_at.is_none_or(|wanted| wanted > end)
    {
        return Err(ChangeError::invalid(
            "/expires_at",
            format!("is not after {end}, the end of the token that asks for it"),
        ));
    }
    Ok(())
}

fn line(token: &Token) -> Value {
    serde_json::json!({ "name": token.name, "prefix": token.prefix, "scopes": token.scopes, "topics": token.topics })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(scopes: &[Scope], topics: &[&str], expires_at: Option<OffsetDateTime>) -> TokenUse {
        TokenUse {
            id: TokenId::new(),
            name: "own".to_owned(),
            scopes: scopes.to_vec(),
            topics: topics.iter().map(ToString::to_string).collect(),
            expires_at,
        }
    }

    fn spec(scopes: &[Scope], topics: &[&str], expires_at: Option<OffsetDateTime>) -> TokenSpec {
        let own = own(scopes, topics, expires_at);
        TokenSpec { name: own.name, scopes: own.scopes, topics: own.topics, expires_at }
    }

    #[test]
    fn a_token_mints_nothing_stronger_than_itself() {
        let end = time::macros::datetime!(2027-01-01 0:00 UTC);
        let (produce, consume) = (Scope::RecordsProduce, Scope::RecordsConsume);
        let mine = own(&[produce, Scope::TokensWrite], &["orders*", "audit"], Some(end));
        for good in [
            spec(&[produce], &["orders*"], Some(end)),
            spec(&[produce], &["orders.eu*", "orders", "audit"], Some(end - time::Duration::DAY)),
        ] {
            assert!(within(&mine, &good).is_ok(), "{good:?}");
        }
        for bad in [
            spec(&[produce, consume], &["orders"], Some(end)),
            spec(&[produce], &[], Some(end)),
            spec(&[produce], &["*"], Some(end)),
            spec(&[produce], &["audit*"], Some(end)),
            spec(&[produce], &["order*"], Some(end)),
            spec(&[produce], &["orders"], None),
            spec(&[produce], &["orders"], Some(end + time::Duration::SECOND)),
        ] {
            assert!(within(&mine, &bad).is_err(), "{bad:?}");
        }
        assert!(within(&own(&[Scope::Admin], &[], None), &spec(&[consume], &[], None)).is_ok());
    }
}
