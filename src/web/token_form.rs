//! Tokens as forms and pages know them: for an application's credentials and for a person's own.

use std::time::Duration;

use time::OffsetDateTime;

use super::form::Draft;
use super::page::Frame;
use crate::catalog::model::{Scope, Token, TokenSpec};

/// Scopes an application's token can have, with what they allow.
pub const APP_SCOPES: &[(Scope, &str)] = &[
    (Scope::RecordsProduce, "Send records"),
    (Scope::RecordsConsume, "Read records"),
    (Scope::CatalogRead, "See teams, applications and topics"),
    (Scope::TopicsWrite, "Make and change the application’s topics"),
    (Scope::AccessWrite, "Give others access to them"),
    (Scope::AppsWrite, "Change the application’s description"),
    (Scope::TokensWrite, "Make and revoke its tokens"),
    (Scope::AuditRead, "Read the audit of the application"),
    (Scope::MetricsRead, "Read the instance’s metrics"),
];

/// Scopes a person's token can have.
pub const OWN_SCOPES: &[(Scope, &str)] = &[
    (Scope::RecordsConsume, "Read records you may read"),
    (Scope::RecordsProduce, "Send records where you may"),
    (Scope::CatalogRead, "See teams, applications and topics"),
    (Scope::TopicsWrite, "Make and change topics"),
    (Scope::AppsWrite, "Make and change applications and teams"),
    (Scope::AccessWrite, "Give access to topics"),
    (Scope::TokensWrite, "Make and revoke tokens of applications"),
    (Scope::AuditRead, "Read the audit"),
    (Scope::MetricsRead, "Read the instance’s metrics"),
    (Scope::Admin, "Administer the instance, if you may"),
];

/// Lives a token can be given, in days; `0` is without end.
pub const LIVES_DAYS: &[(u32, &str)] =
    &[(1, "1 day"), (7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "1 year"), (0, "No end")];
const LIFE_DEFAULT_DAYS: &str = "90";
/// A token that ends within this time is worth a look.
pub const SOON: Duration = Duration::from_secs(14 * 86_400);
/// How long the old token lives on when nothing is said, and at most.
const OVERLAP_DEFAULT_H: u64 = 24;
const OVERLAP_MAX_H: u64 = 7 * 24;

/// How a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    Active,
    EndsSoon,
    Expired,
    Revoked,
}

/// How a token stands now.
#[must_use]
pub fn state(token: &Token, now: OffsetDateTime) -> TokenState {
    match (token.revoked_at, token.expires_at) {
        (Some(at), _) if at <= now => TokenState::Revoked,
        (_, Some(at)) if at <= now => TokenState::Expired,
        (Some(at), _) | (None, Some(at)) if at <= now + SOON => TokenState::EndsSoon,
        _ => TokenState::Active,
    }
}

/// A form that asks for what most need: to send and to read, for 90 days.
#[must_use]
pub fn empty() -> Draft {
    Draft::new()
        .with("scope", Scope::RecordsProduce.as_str())
        .with("scope", Scope::RecordsConsume.as_str())
        .with("life", LIFE_DEFAULT_DAYS)
}

/// What the form asks for, as far as it can be understood.
#[must_use]
pub fn spec(form: &mut Draft, now: OffsetDateTime) -> Option<TokenSpec> {
    let name = form.needed("name");
    let chosen: Vec<Result<Scope, String>> = form.values("scope").map(str::parse).collect();
    let mut scopes = Vec::new();
    for scope in chosen {
        match scope {
            Ok(scope) => scopes.push(scope),
            Err(error) => form.wrong("scope", error),
        }
    }
    if scopes.is_empty() {
        form.wrong("scope", "Choose at least one.");
    }
    let topics = form.lines::<String>("topics");
    let days = form.parse_optional::<u32>("life").unwrap_or(0);
    if !LIVES_DAYS.iter().any(|(known, _)| *known == days) {
        form.wrong("life", "Choose one of the list.");
    }
    let expires_at = (days > 0).then(|| now + time::Duration::days(days.into()));
    let name = name?;
    form.sound().then_some(TokenSpec { name, scopes, topics, expires_at })
}

/// How long the old token shall live beside the new one.
#[must_use]
pub fn overlap(form: &Draft) -> Duration {
    let hours = form.text("overlap").and_then(|text| text.parse().ok()).unwrap_or(OVERLAP_DEFAULT_H);
    Duration::from_secs(hours.min(OVERLAP_MAX_H) * 3600)
}

/// When the rotated token ends, in words.
#[must_use]
pub fn ends_in(old: &Token, overlap: Duration) -> String {
    let hours = overlap.as_secs() / 3600;
    let name = &old.name;
    match hours {
        0 => format!("The old token “{name}” no longer works."),
        1 => format!("The old token “{name}” works for one more hour."),
        _ => format!("The old token “{name}” works for {hours} more hours."),
    }
}

/// Who would notice the end of the token.
#[must_use]
pub fn last_use(token: &Token, frame: &Frame) -> Vec<String> {
    vec![match (&token.last_used_at, &token.last_used_address) {
        (None, _) => "It was never used.".to_owned(),
        (Some(at), None) => format!("It was last used {}.", frame.ago(at)),
        (Some(at), Some(address)) => format!("It was last used {} from {address}.", frame.ago(at)),
    }]
}

/// Commands that work as they stand, for what the token may do.
#[must_use]
pub fn commands(token: &Token, secret: &str, base: &str, topic: &str) -> Vec<(&'static str, String)> {
    let topic = token.topics.iter().find(|pattern| !pattern.ends_with('*')).map_or(topic, String::as_str);
    let mut commands = Vec::new();
    if token.scopes.contains(&Scope::RecordsProduce) {
        commands.push((
            "Send a record",
            format!(
                "curl -H 'Authorization: Bearer {secret}' \\\n  -H 'Content-Type: application/json' \\\n  -d '{{\"hello\":\"world\"}}' \\\n  {base}/v1/topics/{topic}/records"
            ),
        ));
    }
    if token.scopes.contains(&Scope::RecordsConsume) {
        commands.push((
            "Watch records arrive",
            format!(
                "curl -N -H 'Authorization: Bearer {secret}' \\\n  -H 'Accept: text/event-stream' \\\n  '{base}/v1/topics/{topic}/records?from=-10'"
            ),
        ));
    }
    commands
        .push(("Check what the token may do", format!("curl -H 'Authorization: Bearer {secret}' {base}/v1/whoami")));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::model::TokenHolder;
    use crate::names::{AppId, TokenId};
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    fn token(expires_at: Option<OffsetDateTime>, revoked_at: Option<OffsetDateTime>) -> Token {
        Token {
            id: TokenId::new(),
            holder: TokenHolder::App { id: AppId::new(), name: "checkout".parse().unwrap() },
            name: "ci".into(),
            prefix: "weir_app_x7Gq".into(),
            scopes: vec![Scope::RecordsProduce],
            topics: vec!["orders.*".into(), "orders".into()],
            created_by: "ada@example.com".into(),
            created_at: NOW,
            expires_at,
            revoked_at,
            last_used_at: None,
            last_used_address: None,
        }
    }

    #[test]
    fn a_token_that_is_rotated_out_works_until_its_end() {
        assert_eq!(state(&token(None, None), NOW), TokenState::Active);
        assert_eq!(state(&token(Some(NOW + time::Duration::days(13)), None), NOW), TokenState::EndsSoon);
        assert_eq!(state(&token(Some(NOW), None), NOW), TokenState::Expired);
        assert_eq!(state(&token(None, Some(NOW)), NOW), TokenState::Revoked);
        assert_eq!(state(&token(None, Some(NOW + time::Duration::hours(1))), NOW), TokenState::EndsSoon);
    }

    #[test]
    fn a_token_needs_a_name_and_a_scope() {
        let mut form = Draft::new().with("life", "90");
        assert_eq!(spec(&mut form, NOW), None);
        assert!(form.error("name").is_some() && form.error("scope").is_some());
        let mut form = empty().with("name", "ci").with("topics", "orders.*\n orders ");
        let spec = spec(&mut form, NOW).unwrap();
        assert_eq!(spec.topics, ["orders.*", "orders"]);
        assert_eq!(spec.expires_at, Some(NOW + time::Duration::days(90)));
    }

    #[test]
    fn the_commands_fit_what_the_token_may_do() {
        let commands = commands(&token(None, None), "weir_app_secret", "http://localhost:8080", "TOPIC");
        assert!(commands[0].1.ends_with("http://localhost:8080/v1/topics/orders/records"));
        assert!(!commands.iter().any(|(title, _)| *title == "Watch records arrive"));
    }

    #[test]
    fn an_overlap_is_bounded() {
        assert_eq!(overlap(&Draft::new()), Duration::from_secs(24 * 3600));
        assert_eq!(overlap(&Draft::new().with("overlap", "0")), Duration::ZERO);
        assert_eq!(overlap(&Draft::new().with("overlap", "99999999")), Duration::from_secs(7 * 24 * 3600));
    }
}
