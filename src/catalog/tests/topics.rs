//! The life of teams, applications and topics.

use std::time::Duration;

use super::*;
use crate::catalog::access::{ManageTopic, Produce, SharePrefix, ShareTopic};
use crate::catalog::error::{Denied, Kind, MissingScope};
use crate::catalog::model::{GrantTarget, Operation, TopicState, Visibility};
use crate::catalog::page::PageRequest;
use crate::catalog::put::{PutResult, Risk};
use crate::catalog::{AppQuery, TopicQuery};

fn names(world: &World, actor: &Arc<Actor>, query: &TopicQuery) -> Vec<String> {
    let page = world.catalog.topics(&world.reads(actor), query, &PageRequest::default());
    page.items.iter().map(|topic| topic.name.to_string()).collect()
}

#[tokio::test]
async fn a_put_creates_updates_or_leaves_alone_and_names_each_risk() {
    let (world, ada, _) = World::company().await;
    let mut spec = TopicSpec::new(name("checkout"));
    assert_eq!(world.put_topic(&ada, "orders", &spec).await.unwrap().result, PutResult::Unchanged);
    spec.partitions = 12;
    spec.labels.insert("domain".to_owned(), "sales".to_owned());
    let put = world.put_topic(&ada, "orders", &spec).await.unwrap();
    assert_eq!(put.result, PutResult::Updated);
    let risks: Vec<_> = put.changes.iter().map(|change| (change.path.as_str(), change.risk)).collect();
    assert_eq!(risks, [("/partitions", Risk::Disruptive), ("/labels", Risk::Safe)]);
    assert_eq!(put.value.revision, world.catalog.view().revision());
    spec.partitions = 3;
    assert!(matches!(world.put_topic(&ada, "orders", &spec).await, Err(ChangeError::IncompatibleChange { .. })));
}

#[tokio::test]
async fn preconditions_hold_or_the_present_revision_is_told() {
    let (world, ada, _) = World::company().await;
    let present = world.catalog.view().topic(&name("orders")).unwrap().revision;
    let target = TopicTarget { name: name("orders"), app: name("checkout") };
    let grant = world.catalog.authorize::<PutTopic>(&ada, &target).unwrap();
    let mut spec = TopicSpec::new(name("checkout"));
    spec.description = "new".to_owned();
    for (precondition, holds) in [
        (Precondition::IfMatch(present), true),
        (Precondition::IfMatchAny, true),
        (Precondition::IfMatch(present - 1), false),
        (Precondition::IfNoneMatchAny, false),
    ] {
        let mut tx = world.catalog.begin(&ada).await.unwrap();
        match tx.put_topic(&grant, &spec, precondition).await {
            Ok(_) => assert!(holds, "{precondition:?}"),
            Err(ChangeError::PreconditionFailed { current }) => {
                assert!(!holds && current == Some(present), "{precondition:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_deleted_topic_can_be_restored_for_thirty_days_and_keeps_its_name() {
    let (world, ada, bob) = World::company().await;
    let orders = name("orders");
    let delete = async || {
        let grant = world.catalog.authorize::<ManageTopic>(&ada, &orders).unwrap();
        let mut tx = world.catalog.begin(&ada).await.unwrap();
        let topic = tx.delete_topic(&grant, Precondition::None).await.unwrap();
        tx.commit().await.unwrap();
        topic
    };
    let deleted = delete().await;
    assert_eq!(deleted.state, TopicState::Deleted);
    let purge_after = deleted.purge_after.unwrap();
    assert_eq!(
        world.catalog.authorize::<Produce>(&ada, &orders).unwrap_err(),
        Denied::TopicDeleted { topic: orders.clone(), purge_after }
    );
    let put = world.put_topic(&ada, "orders", &TopicSpec::new(name("checkout"))).await;
    assert!(matches!(put, Err(ChangeError::Denied(Denied::TopicDeleted { .. }))), "{put:?}");
    assert!(world.catalog.topic(&world.reads(&ada), &orders).is_ok(), "the owner sees what can be restored");
    assert!(matches!(world.catalog.topic(&world.reads(&bob), &orders), Err(Denied::TopicDeleted { .. })));
    assert_eq!(names(&world, &ada, &TopicQuery::default()), Vec::<String>::new());
    assert_eq!(world.catalog.purge_due().await.unwrap(), 0);

    let grant = world.catalog.authorize::<ManageTopic>(&ada, &orders).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    tx.restore_topic(&grant).await.unwrap();
    tx.commit().await.unwrap();
    assert!(world.catalog.authorize::<Produce>(&ada, &orders).is_ok());

    delete().await;
    world.clock.advance(Duration::from_secs(31 * 24 * 3600));
    // The background work may have been faster.
    assert!(world.catalog.purge_due().await.unwrap() <= 1);
    assert_eq!(world.catalog.purged_topics().await.unwrap(), [deleted.id]);
    assert!(matches!(world.catalog.authorize::<ManageTopic>(&ada, &orders), Err(Denied::NotFound { .. })));
    world.topic(&bob, "parcels", "orders").await;
    assert_ne!(world.catalog.view().topic(&orders).unwrap().id, deleted.id, "another incarnation");
}

#[tokio::test]
async fn purging_now_needs_the_topic_to_be_deleted_first() {
    let (world, ada, _) = World::company().await;
    let grant = world.catalog.authorize::<ManageTopic>(&ada, &name("orders")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    assert!(matches!(tx.purge_topic(&grant).await, Err(ChangeError::Conflict { .. })));
    tx.delete_topic(&grant, Precondition::None).await.unwrap();
    tx.purge_topic(&grant).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.catalog.view().topics().len(), 0);
}

#[tokio::test]
async fn a_hidden_topic_looks_like_none_until_a_grant_shows_it() {
    let (world, ada, bob) = World::company().await;
    let mut spec = TopicSpec::new(name("checkout"));
    spec.visibility = Visibility::Team;
    world.put_topic(&ada, "secrets", &spec).await.unwrap();
    let secrets = name("secrets");
    assert_eq!(names(&world, &ada, &TopicQuery::default()), ["orders", "secrets"]);
    assert_eq!(names(&world, &bob, &TopicQuery::default()), ["orders"]);
    let hidden = Denied::NotFound { kind: Kind::Topic, name: "secrets".to_owned() };
    assert_eq!(world.catalog.topic(&world.reads(&bob), &secrets).unwrap_err(), hidden);
    assert_eq!(world.catalog.authorize::<Consume>(&bob, &secrets).unwrap_err(), hidden);
    let taken = world.put_topic(&bob, "secrets", &TopicSpec::new(name("parcels"))).await;
    assert!(matches!(taken, Err(ChangeError::NameTaken { kind: Kind::Topic, .. })), "{taken:?}");

    let grant = world.catalog.authorize::<ShareTopic>(&ada, &secrets).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    tx.put_access(&grant, &name("parcels"), &[Operation::Consume], None, Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(names(&world, &bob, &TopicQuery::default()), ["orders", "secrets"]);
    assert!(world.consumes(&bob, "secrets"));
}

#[tokio::test]
async fn a_prefix_covers_topics_of_its_owner_also_future_ones() {
    let (world, ada, bob) = World::company().await;
    let prefix = name("orders.");
    let grant = world.catalog.authorize::<SharePrefix>(&ada, &name("checkout")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let parcels = name("parcels");
    let put = tx.put_prefix_access(&grant, &prefix, &parcels, &[Operation::Consume], None, Precondition::None);
    assert_eq!(put.await.unwrap().result, PutResult::Created);
    tx.commit().await.unwrap();
    world.topic(&ada, "checkout", "orders.eu").await;
    world.app(&ada, "payments", "other").await;
    world.topic(&ada, "other", "orders.us").await;
    assert!(world.consumes(&bob, "orders.eu"));
    assert!(!world.consumes(&bob, "orders.us"), "another owner's");
    assert!(!world.consumes(&bob, "orders"), "not the prefix");

    let page = PageRequest::default();
    let of_topic = world.catalog.access_of_topic(&world.reads(&ada), &name("orders.eu"), &page).unwrap();
    assert_eq!(of_topic.items.len(), 1);
    assert_eq!(of_topic.items[0].target, GrantTarget::Prefix { owner: name("checkout"), prefix: prefix.clone() });
    assert_eq!(world.catalog.access_of_app(&world.reads(&bob), &name("parcels"), &page).unwrap().items.len(), 1);
    assert_eq!(world.catalog.prefixes_of_app(&world.reads(&bob), &name("checkout"), &page).unwrap().items.len(), 1);

    let mut tx = world.catalog.begin(&ada).await.unwrap();
    tx.revoke_prefix_access(&grant, &prefix, &name("parcels"), Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!world.consumes(&bob, "orders.eu"));
}

#[tokio::test]
async fn a_token_shares_only_prefixes_that_its_patterns_cover_whole() {
    let (world, ada, _) = World::company().await;
    let spec = TokenSpec { topics: vec!["orders.*".to_owned()], ..every_scope() };
    let checkout = world.actor(&world.token(&ada, "checkout", &spec).await.unwrap()).unwrap();
    let grant = world.catalog.authorize::<SharePrefix>(&checkout, &name("checkout")).unwrap();
    let mut tx = world.catalog.begin(&checkout).await.unwrap();
    let parcels = name("parcels");
    for (prefix, covered) in
        [("o", false), ("orders", false), ("refunds.", false), ("orders.", true), ("orders.eu", true)]
    {
        let outside = |refused: &ChangeError| {
            let missing = MissingScope::Prefix(name(prefix));
            matches!(refused, ChangeError::Denied(denied) if *denied == Denied::InsufficientScope { missing })
        };
        let prefix = name(prefix);
        let put =
            tx.put_prefix_access(&grant, &prefix, &parcels, &[Operation::Consume], None, Precondition::None).await;
        let revoked = tx.revoke_prefix_access(&grant, &prefix, &parcels, Precondition::None).await;
        if covered {
            assert!(put.is_ok() && revoked.is_ok(), "{prefix}");
        } else {
            assert!(put.is_err_and(|e| outside(&e)) && revoked.is_err_and(|e| outside(&e)), "{prefix}");
        }
    }
}

#[tokio::test]
async fn who_may_manage_a_topic_can_neither_take_it_nor_hand_manage_on_nor_prolong_it() {
    let (world, ada, bob) = World::company().await;
    world.app(&bob, "shipping", "returns").await;
    let end = world.catalog.now() + time::Duration::HOUR;
    let put = async |actor: &Arc<Actor>, app: &str, operations: &[Operation], end| {
        let grant = world.catalog.authorize::<ShareTopic>(actor, &name("orders")).unwrap();
        let mut tx = world.catalog.begin(actor).await.unwrap();
        let put = tx.put_access(&grant, &name(app), operations, end, Precondition::None).await;
        tx.commit().await.unwrap();
        put.map(drop)
    };
    let manage = [Operation::Consume, Operation::Manage];
    put(&ada, "parcels", &manage, Some(end)).await.unwrap();

    let later = end + time::Duration::HOUR;
    for (app, end) in [("parcels", Some(later)), ("parcels", None), ("returns", Some(end)), ("returns", None)] {
        let refused = put(&bob, app, &manage, end).await;
        assert!(matches!(refused, Err(ChangeError::Denied(Denied::Forbidden { .. }))), "{app} {end:?}: {refused:?}");
    }
    let taken = world.put_topic(&bob, "orders", &TopicSpec::new(name("parcels"))).await;
    assert!(matches!(taken, Err(ChangeError::Denied(Denied::Forbidden { .. }))), "{taken:?}");

    put(&bob, "returns", &[Operation::Consume], None).await.unwrap();
    let all = [Operation::Produce, Operation::Consume, Operation::Manage];
    put(&bob, "parcels", &all, Some(end)).await.unwrap();
    put(&ada, "parcels", &all, None).await.unwrap();
}

#[tokio::test]
async fn a_prefix_is_shown_to_its_two_sides_and_to_others_once_they_see_a_topic_of_it() {
    let (world, ada, bob) = World::company().await;
    let (eve, root) = (world.person("eve").await, world.person("root").await);
    let grant = world.catalog.authorize::<SharePrefix>(&ada, &name("checkout")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let (prefix, parcels) = (name("merger."), name("parcels"));
    tx.put_prefix_access(&grant, &prefix, &parcels, &[Operation::Produce], None, Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    let shown = |who: &Arc<Actor>| {
        let (reads, page) = (world.reads(who), PageRequest::default());
        let given = world.catalog.prefixes_of_app(&reads, &name("checkout"), &page).unwrap().items.len();
        let held = world.catalog.access_of_app(&reads, &name("parcels"), &page).unwrap().items.len();
        assert_eq!(given, held);
        given
    };
    let mut spec = TopicSpec::new(name("checkout"));
    spec.visibility = Visibility::Team;
    world.put_topic(&ada, "merger.plans", &spec).await.unwrap();
    world.topic(&bob, "parcels", "merger.news").await;
    assert_eq!([&ada, &bob, &root, &eve].map(shown), [1, 1, 1, 0]);
    world.topic(&ada, "checkout", "merger.done").await;
    assert_eq!(shown(&eve), 1);
}

#[tokio::test]
async fn access_is_exactly_what_was_put_last_and_ends_with_its_time() {
    let (world, ada, bob) = World::company().await;
    let grant = world.catalog.authorize::<ShareTopic>(&ada, &name("orders")).unwrap();
    let end = world.catalog.now() + time::Duration::HOUR;
    let put = async |operations: &[Operation], end| {
        let mut tx = world.catalog.begin(&ada).await.unwrap();
        let put = tx.put_access(&grant, &name("parcels"), operations, end, Precondition::None).await;
        tx.commit().await.unwrap();
        put
    };
    assert!(matches!(put(&[], None).await, Err(ChangeError::Invalid { .. })));
    put(&[Operation::Consume, Operation::Produce, Operation::Consume], Some(end)).await.unwrap();
    let again = put(&[Operation::Produce, Operation::Consume], Some(end)).await.unwrap();
    assert_eq!(again.result, PutResult::Unchanged);
    let less = put(&[Operation::Consume], Some(end)).await.unwrap();
    assert_eq!((less.result, less.changes[0].risk), (PutResult::Updated, Risk::Disruptive));
    assert!(world.catalog.authorize::<Produce>(&bob, &name("orders")).is_err());
    assert!(world.consumes(&bob, "orders"));
    world.clock.advance(Duration::from_secs(3600));
    assert!(!world.consumes(&bob, "orders"), "expired");
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    assert!(matches!(
        tx.put_access(&grant, &name("checkout"), &[Operation::Consume], None, Precondition::None).await,
        Err(ChangeError::Conflict { .. })
    ));
    assert!(matches!(
        tx.put_access(&grant, &name("nobody"), &[Operation::Consume], None, Precondition::None).await,
        Err(ChangeError::NotFound { kind: Kind::Application, .. })
    ));
}

#[tokio::test]
async fn what_is_depended_on_cannot_be_deleted() {
    let (world, ada, _) = World::company().await;
    let grant = world.catalog.authorize::<ManageApp>(&ada, &name("checkout")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    match tx.delete_app(&grant, Precondition::None).await {
        Err(ChangeError::NotEmpty { blocking }) => assert_eq!(blocking, ["topic/orders"]),
        other => panic!("{other:?}"),
    }
    let team = world.catalog.authorize::<ManageTeam>(&ada, &name("payments")).unwrap();
    match tx.delete_team(&team, Precondition::None).await {
        Err(ChangeError::NotEmpty { blocking }) => assert_eq!(blocking, ["app/checkout"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn deleting_an_application_ends_its_tokens_and_grants() {
    let (world, ada, bob) = World::company().await;
    let secret = world.token(&bob, "parcels", &every_scope()).await.unwrap();
    let share = world.catalog.authorize::<ShareTopic>(&ada, &name("orders")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    tx.put_access(&share, &name("parcels"), &[Operation::Consume], None, Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    let grant = world.catalog.authorize::<ManageApp>(&bob, &name("parcels")).unwrap();
    let mut tx = world.catalog.begin(&bob).await.unwrap();
    tx.delete_app(&grant, Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.actor(&secret).unwrap_err(), AuthError::Unknown);
    let page = world.catalog.access_of_topic(&world.reads(&ada), &name("orders"), &PageRequest::default()).unwrap();
    assert_eq!(page.items, []);
}

#[tokio::test]
async fn moving_an_application_to_another_team_takes_its_topics_along() {
    let (world, ada, bob) = World::company().await;
    world.join(&bob, "shipping", &ada, TeamRole::Member).await;
    let target = AppTarget { name: name("checkout"), team: name("shipping") };
    let grant = world.catalog.authorize::<PutApp>(&ada, &target).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let put = tx.put_app(&grant, &AppSpec::new(name("shipping")), Precondition::None).await.unwrap();
    assert_eq!(put.changes[0].risk, Risk::Disruptive);
    tx.commit().await.unwrap();
    assert_eq!(world.catalog.view().topic(&name("orders")).unwrap().team, name("shipping"));
    assert!(world.consumes(&bob, "orders"));
    let shipping = world.catalog.team(&world.reads(&bob), &name("shipping")).unwrap();
    assert_eq!((shipping.members, shipping.applications), (2, 2));
}

#[tokio::test]
async fn lists_are_searched_filtered_and_paged() {
    let (world, ada, bob) = World::company().await;
    let mut spec = TopicSpec::new(name("checkout"));
    spec.description = "Money given BACK".to_owned();
    spec.labels.insert("domain".to_owned(), "sales".to_owned());
    world.put_topic(&ada, "refunds", &spec).await.unwrap();
    world.topic(&bob, "parcels", "parcels.sent").await;
    let by = |query: TopicQuery| names(&world, &ada, &query);
    assert_eq!(by(TopicQuery { q: Some("back mon".to_owned()), ..TopicQuery::default() }), ["refunds"]);
    assert_eq!(by(TopicQuery { q: Some("domain=sales".to_owned()), ..TopicQuery::default() }), ["refunds"]);
    assert_eq!(by(TopicQuery { team: Some(name("shipping")), ..TopicQuery::default() }), ["parcels.sent"]);
    assert_eq!(by(TopicQuery { app: Some(name("checkout")), ..TopicQuery::default() }), ["orders", "refunds"]);
    let label = Some(("domain".to_owned(), "sales".to_owned()));
    assert_eq!(by(TopicQuery { label, ..TopicQuery::default() }), ["refunds"]);
    assert_eq!(by(TopicQuery { readable_by: Some(name("parcels")), ..TopicQuery::default() }), ["parcels.sent"]);
    assert_eq!(by(TopicQuery { q: Some("%".to_owned()), ..TopicQuery::default() }), Vec::<String>::new());

    let first = world.catalog.topics(&world.reads(&ada), &TopicQuery::default(), &PageRequest::first(2));
    assert_eq!(first.items.len(), 2);
    let rest = PageRequest::new(Some(2), first.next.as_deref()).unwrap();
    let rest = world.catalog.topics(&world.reads(&ada), &TopicQuery::default(), &rest);
    assert_eq!((rest.items.len(), rest.next), (1, None));
    assert_eq!(rest.items[0].name, name("refunds"));

    let mine = AppQuery { mine: true, ..AppQuery::default() };
    let apps = world.catalog.apps(&world.reads(&bob), &mine, &PageRequest::default());
    assert_eq!(apps.items.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["parcels"]);
}

#[tokio::test]
async fn a_spec_that_cannot_be_is_refused_with_the_field_that_is_wrong() {
    let (world, ada, _) = World::company().await;
    type Spoil = fn(&mut TopicSpec);
    let wrong: [(Spoil, &str); 6] = [
        (|spec| spec.partitions = 0, "/partitions"),
        (|spec| spec.partitions = TopicSpec::PARTITIONS_MAX + 1, "/partitions"),
        (|spec| spec.retention_ms = Some(-1), "/retention/time"),
        (|spec| spec.retention_bytes = Some(0), "/retention/bytes_per_partition"),
        (|spec| spec.description = "x".repeat(20_001), "/description"),
        (|spec| drop(spec.labels.insert("a b".to_owned(), String::new())), "/labels/a b"),
    ];
    for (spoil, field) in wrong {
        let mut spec = TopicSpec::new(name("checkout"));
        spoil(&mut spec);
        match world.put_topic(&ada, "wrong", &spec).await {
            Err(ChangeError::Invalid { pointer, .. }) => assert_eq!(pointer, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let target = AppTarget { name: name("bad"), team: name("payments") };
    let grant = world.catalog.authorize::<PutApp>(&ada, &target).unwrap();
    let mut spec = AppSpec::new(name("payments"));
    spec.runbook = Some("javascript:alert(1)".to_owned());
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let refused = tx.put_app(&grant, &spec, Precondition::None).await;
    assert!(matches!(refused, Err(ChangeError::Invalid { pointer, .. }) if pointer == "/runbook"));
}
