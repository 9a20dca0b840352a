//! Accounts, sessions, set-up, and how people come into teams.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::catalog::access::{JoinTeam, OwnAccount};
use crate::catalog::error::{Denied, Kind, Required, SignInError};
use crate::catalog::page::PageRequest;
use crate::catalog::{Replay, StoredAnswer};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn sign_in(world: &World, email: &str, password: &str) -> Result<Secret, SignInError> {
    let signed_in = world.catalog.sign_in(email, password.to_owned(), &Origin::default()).await?;
    Ok(signed_in.secret)
}

#[tokio::test]
async fn the_set_up_link_makes_one_administrator_and_then_nothing() {
    let world = World::new().await;
    let catalog = &world.catalog;
    assert!(catalog.setup_needed().await.unwrap());
    let link = catalog.setup_link().await.unwrap().unwrap();
    let other = catalog.setup_link().await.unwrap().unwrap();
    let setup = async |link: &str, email: &str, password: &str| {
        catalog.setup(link, email, "Root", password.to_owned(), &Origin::default()).await
    };
    assert!(matches!(setup("guessed", "r@x.y", PASSWORD).await, Err(ChangeError::NotFound { .. })));
    assert!(matches!(setup(link.expose(), "r@x.y", "short").await, Err(ChangeError::Invalid { .. })));
    assert!(catalog.setup_link_valid(link.expose()).await.unwrap());
    let root = setup(link.expose(), "r@x.y", PASSWORD).await.unwrap();
    assert!(root.user.admin);
    assert!(catalog.session(root.secret.expose()).await.unwrap().is_some());
    assert!(!catalog.setup_needed().await.unwrap());
    assert_eq!(catalog.setup_link().await.unwrap(), None);
    for used in [&link, &other] {
        assert!(!catalog.setup_link_valid(used.expose()).await.unwrap());
        assert!(matches!(setup(used.expose(), "s@x.y", PASSWORD).await, Err(ChangeError::NotFound { .. })));
    }
}

#[tokio::test]
async fn signing_in_needs_the_right_password_and_says_no_more() {
    let world = World::new().await;
    world.person("ada").await;
    assert!(sign_in(&world, "ADA@example.com", PASSWORD).await.is_ok());
    for (email, password) in [("ada@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("not an address", "x")] {
        assert!(matches!(sign_in(&world, email, password).await, Err(SignInError::Wrong)), "{email}");
    }
}

#[tokio::test]
async fn guessing_passwords_is_throttled_even_for_the_right_one() {
    let world = World::new().await;
    world.person("ada").await;
    let from = Origin { address: Some(IpAddr::from([192, 0, 2, 1])), ..Origin::default() };
    let attempt = async |password: &str| world.catalog.sign_in("ada@example.com", password.to_owned(), &from).await;
    for _ in 0..10 {
        assert!(matches!(attempt("wrong").await, Err(SignInError::Wrong)));
    }
    let disguised = world.catalog.sign_in(" ADA@Example.com ", PASSWORD.to_owned(), &from).await;
    assert!(matches!(disguised, Err(SignInError::Throttled { .. })), "the same account in another guise");
    match attempt(PASSWORD).await {
        Err(SignInError::Throttled { retry_after }) => assert!(retry_after > Duration::ZERO),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_ends_when_idle_when_old_and_when_told_to() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let catalog = &world.catalog;
    let holds = async |cookie: &Secret| catalog.session(cookie.expose()).await.unwrap().is_some();
    let one = sign_in(&world, "ada@example.com", PASSWORD).await.unwrap();
    let two = sign_in(&world, "ada@example.com", PASSWORD).await.unwrap();
    assert_ne!(one, two, "every sign-in has its own secret");
    assert!(!holds(&crate::catalog::secret::new_secret()).await);

    world.clock.advance(29 * DAY);
    assert!(holds(&one).await, "used within thirty days");
    world.clock.advance(29 * DAY);
    assert!(holds(&one).await && !holds(&two).await, "the other was idle for too long");
    world.clock.advance(29 * DAY);
    assert!(holds(&one).await);
    world.clock.advance(4 * DAY);
    assert!(!holds(&one).await, "ninety days are the most");

    let grant = catalog.authorize::<OwnAccount>(&ada, &()).unwrap();
    let here = sign_in(&world, "ada@example.com", PASSWORD).await.unwrap();
    let there = sign_in(&world, "ada@example.com", PASSWORD).await.unwrap();
    assert_eq!(catalog.sessions(&grant).await.unwrap().len(), 2);
    let (this, _) = catalog.session(here.expose()).await.unwrap().unwrap();
    assert_eq!(catalog.sign_out_everywhere(&grant, Some(this.id)).await.unwrap(), 3, "two of them had ended anyway");
    assert!(holds(&here).await && !holds(&there).await);
    catalog.sign_out(here.expose()).await.unwrap();
    assert!(!holds(&here).await);
}

#[tokio::test]
async fn changing_the_password_ends_every_other_session() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let catalog = &world.catalog;
    let old = sign_in(&world, "ada@example.com", PASSWORD).await.unwrap();
    let grant = catalog.authorize::<OwnAccount>(&ada, &()).unwrap();
    let change = async |present: &str, new: &str| {
        catalog.change_password(&grant, present.to_owned(), new.to_owned(), &Origin::default()).await
    };
    let wrong = change("wrong", "another long password").await;
    assert!(matches!(wrong, Err(ChangeError::Invalid { pointer, .. }) if pointer == "/present"));
    assert!(matches!(change(PASSWORD, "ada@example.com").await, Err(ChangeError::Invalid { .. })));
    let new = change(PASSWORD, "another long password").await.unwrap();
    assert!(catalog.session(old.expose()).await.unwrap().is_none());
    assert!(catalog.session(new.secret.expose()).await.unwrap().is_some());
    assert!(matches!(sign_in(&world, "ada@example.com", PASSWORD).await, Err(SignInError::Wrong)));
}

#[tokio::test]
async fn a_disabled_account_loses_sessions_tokens_and_rights_at_once() {
    let world = World::new().await;
    let (root, ada) = (world.person("root").await, world.person("ada").await);
    let admin = world.catalog.authorize::<Administer>(&root, &()).unwrap();
    let cookie = sign_in(&world, "ada@example.com", PASSWORD).await.unwrap();
    let spec = TokenSpec { scopes: vec![Scope::CatalogRead], ..every_scope() };
    let (_, token) = world.catalog.create_token_for(&admin, &name("ada@example.com"), &spec).await.unwrap();
    assert!(world.actor(&token).is_ok());
    world.catalog.set_disabled(&admin, ada.user().unwrap(), true).await.unwrap();
    assert!(world.catalog.session(cookie.expose()).await.unwrap().is_none());
    assert_eq!(world.actor(&token).unwrap_err(), AuthError::Disabled);
    assert!(matches!(world.catalog.authorize::<ReadCatalog>(&ada, &()), Err(Denied::Credential(AuthError::Disabled))));
    assert!(matches!(sign_in(&world, "ada@example.com", PASSWORD).await, Err(SignInError::Disabled)));
    let last = world.catalog.set_admin(&admin, root.user().unwrap(), false).await;
    assert!(matches!(last, Err(ChangeError::Conflict { .. })), "somebody must be able to undo this");
}

#[tokio::test]
async fn the_command_line_makes_accounts_and_new_passwords() {
    let world = World::new().await;
    let system = world.catalog.authorize::<Administer>(&Actor::system(), &()).unwrap();
    let email = name("ops@example.com");
    let (user, password) = world.catalog.create_user(&system, &email, "Ops", true, None).await.unwrap();
    assert!(user.admin);
    let password = password.unwrap();
    let cookie = sign_in(&world, "ops@example.com", password.expose()).await.unwrap();
    let again = world.catalog.create_user(&system, &email, "Ops", true, None).await;
    assert!(matches!(again, Err(ChangeError::NameTaken { kind: Kind::User, .. })));
    let new = world.catalog.reset_password(&system, &email, None).await.unwrap().unwrap();
    assert!(world.catalog.session(cookie.expose()).await.unwrap().is_none());
    assert!(matches!(sign_in(&world, "ops@example.com", password.expose()).await, Err(SignInError::Wrong)));
    assert!(sign_in(&world, "ops@example.com", new.expose()).await.is_ok());

    let found = world.catalog.users(&system, Some("OPS"), &PageRequest::default()).await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert!(found.items[0].last_login_at.is_some());
    assert_eq!(world.catalog.users(&system, Some("%"), &PageRequest::default()).await.unwrap().items, []);
}

#[tokio::test]
async fn who_makes_a_team_maintains_it_and_it_always_has_a_maintainer() {
    let (world, ada, bob) = World::company().await;
    assert!(matches!(
        world.catalog.authorize::<ManageTeam>(&bob, &name("payments")),
        Err(Denied::Forbidden { required: Required::Maintainer { .. }, .. })
    ));
    let grant = world.catalog.authorize::<ManageTeam>(&ada, &name("payments")).unwrap();
    let leave = world.catalog.authorize::<JoinTeam>(&ada, &name("payments")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    for refused in [
        tx.leave_team(&leave).await,
        tx.remove_member(&grant, &name("ada@example.com")).await,
        tx.set_member(&grant, &name("ada@example.com"), TeamRole::Member).await.map(drop),
    ] {
        assert!(matches!(refused, Err(ChangeError::Conflict { .. })), "{refused:?}");
    }
    let stranger = tx.set_member(&grant, &name("nobody@example.com"), TeamRole::Member).await;
    assert!(matches!(stranger, Err(ChangeError::NotFound { kind: Kind::User, .. })));
    tx.set_member(&grant, &name("bob@example.com"), TeamRole::Maintainer).await.unwrap();
    tx.leave_team(&leave).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!world.consumes(&ada, "orders"), "who has left has no rights");
    assert!(world.catalog.authorize::<ManageTeam>(&bob, &name("payments")).is_ok());
    let teams = world.catalog.teams_of(&bob);
    let roles: Vec<_> = teams.iter().map(|(team, role)| (team.name.as_str(), *role)).collect();
    assert_eq!(roles, [("payments", TeamRole::Maintainer), ("shipping", TeamRole::Maintainer)]);
}

#[tokio::test]
async fn anybody_may_ask_to_join_and_a_maintainer_decides() {
    let (world, ada, bob) = World::company().await;
    let ask = world.catalog.authorize::<JoinTeam>(&bob, &name("payments")).unwrap();
    let decide = world.catalog.authorize::<ManageTeam>(&ada, &name("payments")).unwrap();
    let asks = async || {
        let mut tx = world.catalog.begin(&bob).await.unwrap();
        tx.request_to_join(&ask, "I ship what you sell").await.unwrap();
        tx.commit().await.unwrap();
    };
    let decides = async |admit: bool| {
        let mut tx = world.catalog.begin(&ada).await.unwrap();
        tx.decide_join(&decide, &name("bob@example.com"), admit).await?;
        tx.commit().await.map_err(ChangeError::from)
    };
    assert!(matches!(decides(true).await, Err(ChangeError::NotFound { kind: Kind::JoinRequest, .. })));
    asks().await;
    let waiting = world.catalog.join_requests(&decide).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].message.as_str()), (1, "I ship what you sell"));
    assert_eq!(world.catalog.own_join_requests(bob.user().unwrap()).await.unwrap(), waiting);
    decides(false).await.unwrap();
    assert!(!world.consumes(&bob, "orders"));
    asks().await;
    decides(true).await.unwrap();
    assert!(world.consumes(&bob, "orders"));
    assert_eq!(world.catalog.join_requests(&decide).await.unwrap(), []);
}

#[tokio::test]
async fn an_invitation_of_an_account_makes_no_other_and_attempts_are_throttled() {
    let (world, ada, _) = World::company().await;
    let grant = world.catalog.authorize::<ManageTeam>(&ada, &name("payments")).unwrap();
    let mut tx = world.catalog.begin(&ada).await.unwrap();
    let (_, link) = tx.invite(&grant, &name("bob@example.com"), TeamRole::Member).await.unwrap();
    tx.commit().await.unwrap();
    let register = async || {
        // The password is not even looked at.
        let password = "short".to_owned();
        world.catalog.register_by_invitation(link.expose(), "Bob", password, &Origin::default()).await
    };
    for _ in 0..10 {
        assert!(matches!(register().await, Err(ChangeError::NameTaken { kind: Kind::User, .. })));
    }
    assert!(matches!(register().await, Err(ChangeError::Throttled { .. })));
}

#[tokio::test]
async fn an_invitation_works_once_for_the_invited_address_only() {
    let (world, ada, bob) = World::company().await;
    let grant = world.catalog.authorize::<ManageTeam>(&ada, &name("payments")).unwrap();
    let invite = async |email: &str, role| {
        let mut tx = world.catalog.begin(&ada).await.unwrap();
        let (_, link) = tx.invite(&grant, &name(email), role).await.unwrap();
        tx.commit().await.unwrap();
        link
    };
    let catalog = &world.catalog;
    let first = invite("eve@example.com", TeamRole::Member).await;
    let link = invite("eve@example.com", TeamRole::Maintainer).await;
    assert_eq!(catalog.invitation(first.expose()).await.unwrap(), None, "replaced");
    let shown = catalog.invitation(link.expose()).await.unwrap().unwrap();
    assert_eq!((shown.role, shown.has_account), (TeamRole::Maintainer, false));
    assert!(matches!(catalog.accept_invitation(&bob, link.expose()).await, Err(ChangeError::Conflict { .. })));
    let eve =
        catalog.register_by_invitation(link.expose(), "Eve", PASSWORD.to_owned(), &Origin::default()).await.unwrap();
    let eve = Catalog::actor_of(&eve.user, &Origin::default());
    assert!(catalog.authorize::<ManageTeam>(&eve, &name("payments")).is_ok());
    assert!(matches!(catalog.accept_invitation(&eve, link.expose()).await, Err(ChangeError::NotFound { .. })));

    let for_bob = invite("bob@example.com", TeamRole::Member).await;
    assert_eq!(catalog.accept_invitation(&bob, for_bob.expose()).await.unwrap(), name("payments"));
    let late = invite("zoe@example.com", TeamRole::Member).await;
    world.clock.advance(15 * DAY);
    assert_eq!(catalog.invitation(late.expose()).await.unwrap(), None);
    let refused = catalog.register_by_invitation(late.expose(), "Zoe", PASSWORD.to_owned(), &Origin::default()).await;
    assert!(matches!(refused, Err(ChangeError::NotFound { kind: Kind::Invitation, .. })));
}

#[tokio::test]
async fn an_idempotency_key_names_one_request() {
    let world = World::new().await;
    let catalog = &world.catalog;
    let (key, body, other) = ([1; 32], [2; 32], [3; 32]);
    assert_eq!(catalog.idempotency_claim(key, body).await.unwrap(), Replay::New);
    assert_eq!(catalog.idempotency_claim(key, body).await.unwrap(), Replay::InProgress);
    assert_eq!(catalog.idempotency_claim(key, other).await.unwrap(), Replay::Reused);
    catalog.idempotency_forget(key).await.unwrap();
    assert_eq!(catalog.idempotency_claim(key, body).await.unwrap(), Replay::New);
    let headers = vec![("etag".to_owned(), "\"r1\"".to_owned())];
    let answer = StoredAnswer { status: 201, headers, body: b"{}".to_vec(), secret_of: None };
    catalog.idempotency_store(key, &answer).await.unwrap();
    assert_eq!(catalog.idempotency_claim(key, body).await.unwrap(), Replay::Answer(answer));
    world.clock.advance(DAY);
    assert_eq!(catalog.idempotency_claim(key, other).await.unwrap(), Replay::New, "forgotten after a day");
    world.clock.advance(Duration::from_secs(121));
    assert_eq!(catalog.idempotency_claim(key, other).await.unwrap(), Replay::New, "the first request has died");
}
