//! Revision, audit and view belong together.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use super::*;
use crate::catalog::access::ReadAudit;
use crate::catalog::error::Kind;
use crate::catalog::model::AuditEntry;
use crate::catalog::page::PageRequest;
use crate::catalog::put::PutResult;
use crate::catalog::{AuditQuery, load};

async fn audit(world: &World, actor: &Arc<Actor>, query: &AuditQuery) -> Vec<AuditEntry> {
    let grant = world.catalog.authorize::<ReadAudit>(actor, &()).unwrap();
    world.catalog.audit(&grant, query, &PageRequest::first(1000)).await.unwrap().items
}

#[tokio::test]
async fn a_change_without_its_audit_row_cannot_be_committed() {
    let (world, ..) = World::company().await;
    let mut conn = PgConnection::connect(world.db.url()).await.unwrap();
    let tables = [
        "users",
        "teams",
        "team_members",
        "applications",
        "topics",
        "access_grants",
        "tokens",
        "join_requests",
        "invitations",
        "purged_topics",
    ];
    let guarded: Vec<String> = sqlx::query_scalar(
        "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%\\_audited' AND tgdeferrable",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(guarded.iter().map(String::as_str).collect::<HashSet<_>>(), HashSet::from(tables));
    for change in [
        "UPDATE topics SET description = 'changed'",
        "UPDATE users SET admin = true",
        "DELETE FROM team_members",
        "INSERT INTO teams SELECT gen_random_uuid(), 'sneaky', '', now(), 0",
    ] {
        let mut tx = conn.begin().await.unwrap();
        sqlx::query(change).execute(&mut *tx).await.unwrap();
        let refused = tx.commit().await.unwrap_err();
        let refused = refused.into_database_error().unwrap();
        assert_eq!(refused.constraint(), Some("catalog_change_is_audited"), "{change}");
    }
    // Nor with the audit row of somebody else's transaction under the same revision.
    let mut tx = conn.begin().await.unwrap();
    sqlx::query("UPDATE catalog_revision SET value = value + 1").execute(&mut *tx).await.unwrap();
    sqlx::query("DELETE FROM team_members").execute(&mut *tx).await.unwrap();
    assert!(tx.commit().await.is_err());
}

#[tokio::test]
async fn the_audit_can_only_be_added_to() {
    let (world, ..) = World::company().await;
    let mut conn = PgConnection::connect(world.db.url()).await.unwrap();
    for change in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"] {
        assert!(sqlx::query(change).execute(&mut conn).await.is_err(), "{change}");
    }
}

#[tokio::test]
async fn every_change_says_who_did_what_with_before_and_after() {
    let (world, ada, bob) = World::company().await;
    let mut spec = TopicSpec::new(name("checkout"));
    spec.partitions = 6;
    world.put_topic(&ada, "orders", &spec).await.unwrap();
    let root = world.person("root").await;

    let query = AuditQuery { resource: Some("topic/orders".to_owned()), ..AuditQuery::default() };
    let lines = audit(&world, &root, &query).await;
    let actions: Vec<_> = lines.iter().map(|line| (line.action.as_str(), line.actor.as_str())).collect();
    assert_eq!(actions, [("topic.update", "ada@example.com"), ("topic.create", "ada@example.com")]);
    assert_eq!(lines[0].before.as_ref().unwrap()["partitions"], 3);
    assert_eq!(lines[0].after.as_ref().unwrap()["partitions"], 6);

    let topics = AuditQuery { action: Some("topic.*".to_owned()), ..AuditQuery::default() };
    assert_eq!(audit(&world, &root, &topics).await.len(), 2);
    assert_eq!(audit(&world, &ada, &topics).await.len(), 2, "the owner sees what happens to his own");
    assert_eq!(audit(&world, &bob, &topics).await.len(), 0, "others do not");
    let of_app = AuditQuery { app: Some(name("checkout")), ..AuditQuery::default() };
    assert_eq!(audit(&world, &root, &of_app).await.len(), 3, "the application and its topic");
}

#[tokio::test]
async fn looking_at_records_is_audited_and_neither_moves_the_revision_nor_waits_for_a_writer() {
    let (world, ada, _) = World::company().await;
    let grant = world.catalog.authorize::<Consume>(&ada, &name("orders")).unwrap();
    let before = world.catalog.view().revision();
    let mut conn = PgConnection::connect(world.db.url()).await.unwrap();
    let writer = world.catalog.begin(&ada).await.unwrap();
    world.catalog.record_view(&grant, "earliest", 7).await.unwrap();
    drop(writer);
    assert_eq!(load::revision(&mut conn).await.unwrap(), before);
    let query = AuditQuery { action: Some("records.viewed".to_owned()), ..AuditQuery::default() };
    let lines = audit(&world, &ada, &query).await;
    assert_eq!((lines.len(), lines[0].resource.as_str()), (1, "topic/orders"));
    assert_eq!(lines[0].after, Some(serde_json::json!({"from": "earliest", "count": 7})));
}

#[tokio::test]
async fn a_dry_run_and_a_put_of_the_same_change_nothing() {
    let (world, ada, _) = World::company().await;
    let before = world.catalog.view().revision();
    let target = TopicTarget { name: name("orders"), app: name("checkout") };
    let grant = world.catalog.authorize::<PutTopic>(&ada, &target).unwrap();
    let mut wanted = TopicSpec::new(name("checkout"));

    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let put = tx.put_topic(&grant, &wanted, Precondition::None).await.unwrap();
    assert_eq!(put.result, PutResult::Unchanged);
    assert_eq!(tx.commit().await.unwrap(), before);

    wanted.partitions = 12;
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let put = tx.put_topic(&grant, &wanted, Precondition::None).await.unwrap();
    assert_eq!((put.result, put.changes.len()), (PutResult::Updated, 1));
    drop(tx);

    let again = world.second().await;
    assert_eq!(again.view().revision(), before);
    assert_eq!(again.view().topic(&name("orders")).unwrap().partitions, 3);
}

#[tokio::test]
async fn one_of_two_instances_gets_a_name_and_revisions_are_in_the_order_of_the_audit() {
    let (world, ada, bob) = World::company().await;
    let second = world.second().await;
    let mut tasks = Vec::new();
    for n in 0..20 {
        for (catalog, actor, app) in [(&world.catalog, &ada, "checkout"), (&second, &bob, "parcels")] {
            let (catalog, actor) = (catalog.clone(), Arc::clone(actor));
            let spec = TopicSpec::new(name(app));
            tasks.push(tokio::spawn(async move {
                let target = TopicTarget { name: name(&format!("shared-{n}")), app: spec.app.clone() };
                let grant = catalog.authorize::<PutTopic>(&actor, &target).map_err(ChangeError::from)?;
                let mut tx = catalog.begin(&actor).await?;
                tx.put_topic(&grant, &spec, Precondition::None).await?;
                Ok::<_, ChangeError>(tx.commit().await?)
            }));
        }
    }
    let mut revisions = Vec::new();
    let mut taken = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(revision) => revisions.push(revision),
            Err(ChangeError::NameTaken { kind: Kind::Topic, .. }) => taken += 1,
            // The view was faster: it knew of the other's topic when the right was asked for.
            Err(ChangeError::Denied(_)) => taken += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((revisions.len(), taken), (20, 20));
    assert_eq!(revisions.iter().collect::<HashSet<_>>().len(), 20, "no revision is given twice");

    let mut conn = PgConnection::connect(world.db.url()).await.unwrap();
    let in_order: Vec<i64> =
        sqlx::query_scalar("SELECT revision FROM audit ORDER BY id").fetch_all(&mut conn).await.unwrap();
    assert!(in_order.is_sorted(), "{in_order:?}");

    let last = revisions.iter().copied().max().unwrap();
    for catalog in [&world.catalog, &second] {
        catalog.refreshed(last).await;
        assert_eq!(catalog.view().topics().len(), 21);
    }
}

#[tokio::test]
async fn another_instance_shows_a_change_soon_and_even_without_a_notification() {
    let (world, ada, _) = World::company().await;
    let second = world.second().await;
    world.topic(&ada, "checkout", "refunds").await;
    let revision = world.catalog.view().revision();
    tokio::time::timeout(Duration::from_secs(5), second.refreshed(revision)).await.expect("notified");
    assert!(second.view().topic(&name("refunds")).is_some());

    // A change by hand, with its audit row, and nobody told.
    let mut conn = PgConnection::connect(world.db.url()).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    for step in [
        "UPDATE catalog_revision SET value = value + 1",
        "UPDATE topics SET description = 'by hand', revision = (SELECT value FROM catalog_revision) WHERE name = 'refunds'",
        "INSERT INTO audit (revision, at, actor, action, resource)
         SELECT value, now(), 'dba', 'topic.update', 'topic/refunds' FROM catalog_revision",
    ] {
        sqlx::query(step).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), second.refreshed(revision + 1)).await.expect("polled");
    assert_eq!(second.view().topic(&name("refunds")).unwrap().description, "by hand");
}

#[tokio::test]
async fn following_the_changes_leads_to_the_same_view_as_loading_everything() {
    let (world, ada, bob) = World::company().await;
    let secret = world.token(&bob, "parcels", &every_scope()).await.unwrap();
    world.join(&ada, "payments", &bob, TeamRole::Member).await;
    world.suspend(&bob, "parcels").await;
    world.topic(&ada, "checkout", "refunds").await;
    let fresh = world.second().await.view();
    let followed = world.catalog.view();
    assert_eq!(format!("{:#?}", Sorted(&followed)), format!("{:#?}", Sorted(&fresh)));
    assert!(world.catalog.authenticate_token(secret.expose(), None).is_err());
}

/// What a view shows, in an order that does not depend on how it was made.
struct Sorted<'a>(&'a crate::catalog::View);

impl std::fmt::Debug for Sorted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let view = self.0;
        let members: Vec<_> = view.teams().map(|team| view.members(team.id).collect::<Vec<_>>()).collect();
        let rows = (
            view.revision(),
            view.teams().collect::<Vec<_>>(),
            view.apps().collect::<Vec<_>>(),
            view.topics().collect::<Vec<_>>(),
        );
        write!(f, "{rows:#?} {members:#?}")
    }
}

#[tokio::test]
async fn migrations_go_up_down_and_up_again() {
    let world = World::new().await;
    let mut conn = PgConnection::connect(world.db.url()).await.unwrap();
    world.catalog.close().await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'";
    let count = async |conn: &mut PgConnection| sqlx::query_scalar::<_, i64>(tables).fetch_one(conn).await.unwrap();
    let before = count(&mut conn).await;
    crate::MIGRATOR.undo(&mut conn, 0).await.unwrap();
    assert_eq!(count(&mut conn).await, 0);
    let functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace";
    assert_eq!(sqlx::query_scalar::<_, i64>(functions).fetch_one(&mut conn).await.unwrap(), 0);
    crate::MIGRATOR.run(&mut conn).await.unwrap();
    assert_eq!(count(&mut conn).await, before);
    assert_eq!(load::revision(&mut conn).await.unwrap(), 0);
}
