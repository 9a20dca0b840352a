//! Tokens: what they open, and how they end.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::catalog::access::{OwnTokens, Produce};
use crate::catalog::error::{Denied, Kind, MissingScope};
use crate::catalog::model::Token;
use crate::clock::Clock as _;

async fn own_token(world: &World, actor: &Arc<Actor>, spec: &TokenSpec) -> Result<(Token, Secret), ChangeError> {
    let grant = world.catalog.authorize::<OwnTokens>(actor, &())?;
    let mut tx = world.catalog.begin(actor).await?;
    let made = tx.create_own_token(&grant, spec).await?;
    tx.commit().await?;
    Ok(made)
}

#[tokio::test]
async fn a_token_opens_what_its_scopes_and_patterns_cover() {
    let (world, ada, _) = World::company().await;
    world.topic(&ada, "checkout", "refunds").await;
    let spec = TokenSpec { scopes: vec![Scope::RecordsProduce], topics: vec!["ord*".to_owned()], ..every_scope() };
    let checkout = world.actor(&world.token(&ada, "checkout", &spec).await.unwrap()).unwrap();
    assert!(world.catalog.authorize::<Produce>(&checkout, &name("orders")).is_ok());
    let missing = |denied: Denied| match denied {
        Denied::InsufficientScope { missing } => missing,
        other => panic!("{other:?}"),
    };
    let refunds = world.catalog.authorize::<Produce>(&checkout, &name("refunds")).unwrap_err();
    assert_eq!(missing(refunds), MissingScope::Topic(name("refunds")));
    let consume = world.catalog.authorize::<Consume>(&checkout, &name("orders")).unwrap_err();
    assert_eq!(missing(consume), MissingScope::Scope(Scope::RecordsConsume));
    let read = world.catalog.authorize::<ReadCatalog>(&checkout, &()).unwrap_err();
    assert_eq!(missing(read), MissingScope::Scope(Scope::CatalogRead));
}

#[tokio::test]
async fn an_ended_token_says_how_it_ended_also_to_streams_that_hold_it() {
    let (world, ada, _) = World::company().await;
    let end = world.catalog.now() + time::Duration::HOUR;
    let brief = world.token(&ada, "checkout", &TokenSpec { expires_at: Some(end), ..every_scope() }).await.unwrap();
    let lasting = world.token(&ada, "checkout", &every_scope()).await.unwrap();
    let (stream, other) = (world.actor(&brief).unwrap(), world.actor(&lasting).unwrap());
    let orders = name("orders");
    assert!(world.catalog.authorize::<Consume>(&stream, &orders).is_ok());
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.actor(&brief).unwrap_err(), AuthError::Expired { at: end });
    assert!(matches!(
        world.catalog.authorize::<Consume>(&stream, &orders),
        Err(Denied::Credential(AuthError::Expired { .. }))
    ));

    let second = world.second().await;
    let grant = world.catalog.authorize::<ManageAppTokens>(&ada, &name("checkout")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    tx.revoke_app_token(&grant, other.token.as_ref().unwrap().id).await.unwrap();
    let revision = tx.commit().await.unwrap();
    assert_eq!(world.actor(&lasting).unwrap_err(), AuthError::Revoked);
    let seen = tokio::time::timeout(Duration::from_secs(5), second.refreshed(revision)).await;
    seen.expect("other instances learn of it");
    assert_eq!(second.authenticate_token(lasting.expose(), None).unwrap_err(), AuthError::Revoked);
    assert_eq!(second.authorize::<Consume>(&other, &orders).unwrap_err(), Denied::Credential(AuthError::Revoked));
}

#[tokio::test]
async fn a_suspended_application_is_refused_until_it_is_resumed() {
    let (world, ada, _) = World::company().await;
    let secret = world.token(&ada, "checkout", &every_scope()).await.unwrap();
    let stream = world.actor(&secret).unwrap();
    world.suspend(&ada, "checkout").await;
    let app = name("checkout");
    assert_eq!(world.actor(&secret).unwrap_err(), AuthError::AppSuspended { app });
    assert!(matches!(world.catalog.authorize::<Consume>(&stream, &name("orders")), Err(Denied::AppSuspended { .. })));
    let grant = world.catalog.authorize::<ManageApp>(&ada, &name("checkout")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    tx.resume_app(&grant).await.unwrap();
    tx.commit().await.unwrap();
    assert!(world.actor(&secret).is_ok());
}

#[tokio::test]
async fn rotation_gives_the_same_rights_anew_and_the_old_token_an_end() {
    let (world, ada, _) = World::company().await;
    let end = world.catalog.now() + time::Duration::days(90);
    let old = world.token(&ada, "checkout", &TokenSpec { expires_at: Some(end), ..every_scope() }).await.unwrap();
    let id = world.actor(&old).unwrap().token.as_ref().unwrap().id;
    world.clock.advance(Duration::from_secs(80 * 24 * 3600));
    let grant = world.catalog.authorize::<ManageAppTokens>(&ada, &name("checkout")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let (token, new) = tx.rotate_app_token(&grant, id, Duration::from_secs(3600)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        token.scopes,
        every_scope().scopes.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    assert_eq!(token.expires_at, Some(world.clock.now_datetime() + time::Duration::days(90)));
    assert!(world.actor(&old).is_ok() && world.actor(&new).is_ok(), "both, for a while");
    world.clock.advance(Duration::from_secs(3600));
    assert!(world.actor(&old).is_err() && world.actor(&new).is_ok());
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let again = tx.rotate_app_token(&grant, id, Duration::ZERO).await;
    assert!(matches!(again, Err(ChangeError::Conflict { .. })));
}

#[tokio::test]
async fn a_token_gives_no_more_than_its_maker_has() {
    let (world, ada, bob) = World::company().await;
    let maker = TokenSpec { scopes: vec![Scope::TokensWrite, Scope::CatalogRead], ..every_scope() };
    let (_, secret) = own_token(&world, &ada, &maker).await.unwrap();
    let by_token = world.actor(&secret).unwrap();
    let wider = own_token(&world, &by_token, &every_scope()).await;
    assert!(matches!(wider, Err(ChangeError::Denied(Denied::InsufficientScope { .. }))), "{wider:?}");
    assert!(own_token(&world, &by_token, &maker).await.is_ok());

    let strong = world.token(&ada, "checkout", &every_scope()).await.unwrap();
    let strong = world.actor(&strong).unwrap().token.as_ref().unwrap().id;
    let grant = world.catalog.authorize::<ManageAppTokens>(&by_token, &name("checkout")).unwrap();
    let mut tx = world.catalog.begin(&by_token).await.unwrap();
    let stolen = tx.rotate_app_token(&grant, strong, Duration::ZERO).await;
    assert!(matches!(stolen, Err(ChangeError::Denied(Denied::InsufficientScope { .. }))), "{stolen:?}");
    drop(tx);

    for scope in [Scope::Admin, Scope::MetricsRead] {
        let refused = own_token(&world, &ada, &TokenSpec { scopes: vec![scope], ..every_scope() }).await;
        assert!(matches!(refused, Err(ChangeError::Denied(Denied::Forbidden { .. }))), "{scope}: {refused:?}");
    }
    assert!(world.token(&bob, "checkout", &every_scope()).await.is_err(), "not one's application");
    let root = world.person("root").await;
    assert!(own_token(&world, &root, &TokenSpec { scopes: vec![Scope::Admin], ..every_scope() }).await.is_ok());
    let app_admin = world.token(&root, "checkout", &TokenSpec { scopes: vec![Scope::Admin], ..every_scope() }).await;
    assert!(matches!(app_admin, Err(ChangeError::Invalid { .. })), "{app_admin:?}");
}

#[tokio::test]
async fn wishes_for_tokens_are_checked() {
    let (world, ada, _) = World::company().await;
    let past = world.catalog.now() - time::Duration::SECOND;
    for (spec, field) in [
        (TokenSpec { name: " ".to_owned(), ..every_scope() }, "/name"),
        (TokenSpec { scopes: Vec::new(), ..every_scope() }, "/scopes"),
        (TokenSpec { topics: vec!["orders".to_owned(), "a*b".to_owned()], ..every_scope() }, "/topics/0"),
        (TokenSpec { expires_at: Some(past), ..every_scope() }, "/expires_at"),
    ] {
        match world.token(&ada, "checkout", &spec).await {
            Err(ChangeError::Invalid { pointer, .. }) => assert_eq!(pointer, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_last_use_is_known_after_a_while_and_ended_tokens_stay_listed() {
    let (world, ada, _) = World::company().await;
    let secret = world.token(&ada, "checkout", &every_scope()).await.unwrap();
    let from = IpAddr::from([192, 0, 2, 7]);
    let parts = world.catalog.authenticate_token(secret.expose(), Some(from)).unwrap();
    let used_at = world.catalog.now();
    world.catalog.close().await;
    let second = world.second().await;
    let grant = second.authorize::<ManageAppTokens>(&ada, &name("checkout")).unwrap();
    let listed = second.tokens_of_app(&grant).await.unwrap();
    assert_eq!(listed[0].last_used_at, Some(used_at));
    assert_eq!(listed[0].last_used_address.as_deref(), Some("192.0.2.7"));
    assert!(secret.expose().starts_with(&listed[0].prefix));

    let mut tx = second.begin(&ada).await.unwrap();
    tx.revoke_app_token(&grant, parts.token.id).await.unwrap();
    tx.commit().await.unwrap();
    assert!(second.tokens_of_app(&grant).await.unwrap()[0].revoked_at.is_some());
    world.clock.advance(Duration::from_secs(31 * 24 * 3600));
    assert_eq!(second.tokens_of_app(&grant).await.unwrap(), []);
    let mut tx = second.begin(&ada).await.unwrap();
    let unknown = tx.revoke_app_token(&grant, crate::names::TokenId::new()).await;
    assert!(matches!(unknown, Err(ChangeError::NotFound { kind: Kind::Token, .. })));
}

#[tokio::test]
async fn secrets_are_nowhere_in_the_database() {
    let (world, ada, _) = World::company().await;
    let token = world.token(&ada, "checkout", &every_scope()).await.unwrap();
    let cookie = world.catalog.sign_in("ada@example.com", PASSWORD.to_owned(), &Origin::default()).await.unwrap();
    let mut conn = <sqlx::PgConnection as sqlx::Connection>::connect(world.db.url()).await.unwrap();
    let everything = "SELECT query_to_xml('SELECT * FROM ' || quote_ident(tablename), true, false, '')::text
                      FROM pg_tables WHERE schemaname = 'public'";
    let tables: Vec<String> = sqlx::query_scalar(everything).fetch_all(&mut conn).await.unwrap();
    let dump = tables.concat();
    assert!(dump.contains("ada@example.com") && dump.contains("checkout"));
    for secret in [token.expose(), cookie.secret.expose(), PASSWORD] {
        assert!(!dump.contains(secret));
    }
}
