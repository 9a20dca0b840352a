//! The catalog against a real PostgreSQL.

mod access;
mod ledger;
mod outage;
mod people;
mod tokens;
mod topics;

use std::sync::Arc;

use super::access::{
    Actor, Administer, AppTarget, Consume, Grant, ManageApp, ManageAppTokens, ManageTeam, PutApp, PutTeam, PutTopic,
    ReadCatalog, TopicTarget,
};
use super::error::{AuthError, ChangeError};
use super::model::{AppSpec, Scope, Secret, TeamRole, TeamSpec, TokenSpec, Topic, TopicSpec};
use super::put::{Precondition, Put};
use super::{Catalog, CatalogOptions, Origin};
use crate::clock::{ManualClock, Timestamp};
use crate::embedded_postgres::testing::{TestDatabase, database};

const PASSWORD: &str = "correct horse battery";

/// A catalog of its own, with words for what tests do.
struct World {
    catalog: Catalog,
    clock: ManualClock,
    db: TestDatabase,
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

impl World {
    async fn new() -> Self {
        let db = database(&crate::MIGRATOR).await;
        let clock = ManualClock::at(Timestamp(1_795_000_000_000));
        let catalog = Catalog::connect(CatalogOptions::new(db.url()), Arc::new(clock.clone())).await.unwrap();
        Self { catalog, clock, db }
    }

    async fn second(&self) -> Catalog {
        Catalog::connect(CatalogOptions::new(self.db.url()), Arc::new(self.clock.clone())).await.unwrap()
    }

    /// An account and the actor of its portal session.
    async fn person(&self, who: &str) -> Arc<Actor> {
        let system = self.catalog.authorize::<Administer>(&Actor::system(), &()).unwrap();
        let email = name(&format!("{who}@example.com"));
        let (user, _) =
            self.catalog.create_user(&system, &email, who, who == "root", Some(PASSWORD.to_owned())).await.unwrap();
        Catalog::actor_of(&user, &Origin::default())
    }

    async fn team(&self, actor: &Arc<Actor>, team: &str) {
        let grant = self.catalog.authorize::<PutTeam>(actor, &name(team)).unwrap();
        let mut tx = self.catalog.begin(actor).await.unwrap();
        tx.put_team(&grant, &TeamSpec::default(), Precondition::None).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn join(&self, maintainer: &Arc<Actor>, team: &str, who: &Arc<Actor>, role: TeamRole) {
        let grant = self.catalog.authorize::<ManageTeam>(maintainer, &name(team)).unwrap();
        let mut tx = self.catalog.begin(maintainer).await.unwrap();
        tx.set_member(&grant, &name(who.label()), role).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn app(&self, actor: &Arc<Actor>, team: &str, app: &str) {
        let target = AppTarget { name: name(app), team: name(team) };
        let grant = self.catalog.authorize::<PutApp>(actor, &target).unwrap();
        let mut tx = self.catalog.begin(actor).await.unwrap();
        tx.put_app(&grant, &AppSpec::new(name(team)), Precondition::None).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn put_topic(&self, actor: &Arc<Actor>, topic: &str, spec: &TopicSpec) -> Result<Put<Topic>, ChangeError> {
        let target = TopicTarget { name: name(topic), app: spec.app.clone() };
        let grant = self.catalog.authorize::<PutTopic>(actor, &target)?;
        let mut tx = self.catalog.begin(actor).await?;
        let put = tx.put_topic(&grant, spec, Precondition::None).await?;
        tx.commit().await?;
        Ok(put)
    }

    async fn topic(&self, actor: &Arc<Actor>, app: &str, topic: &str) {
        self.put_topic(actor, topic, &TopicSpec::new(name(app))).await.unwrap();
    }

    async fn token(&self, actor: &Arc<Actor>, app: &str, spec: &TokenSpec) -> Result<Secret, ChangeError> {
        let grant = self.catalog.authorize::<ManageAppTokens>(actor, &name(app))?;
        let mut tx = self.catalog.begin(actor).await?;
        let (_, secret) = tx.create_app_token(&grant, spec).await?;
        tx.commit().await?;
        Ok(secret)
    }

    fn reads(&self, actor: &Arc<Actor>) -> Grant<ReadCatalog> {
        self.catalog.authorize(actor, &()).unwrap()
    }

    async fn suspend(&self, actor: &Arc<Actor>, app: &str) {
        let grant = self.catalog.authorize::<ManageApp>(actor, &name(app)).unwrap();
        let mut tx = self.catalog.begin(actor).await.unwrap();
        tx.suspend_app(&grant, "rogue").await.unwrap();
        tx.commit().await.unwrap();
    }

    fn consumes(&self, actor: &Arc<Actor>, topic: &str) -> bool {
        self.catalog.authorize::<Consume>(actor, &name(topic)).is_ok()
    }

    fn actor(&self, secret: &Secret) -> Result<Arc<Actor>, AuthError> {
        let parts = self.catalog.authenticate_token(secret.expose(), None)?;
        let (principal, token) = (parts.principal, Some(parts.token));
        Ok(Arc::new(Actor { principal, token, address: None, request_id: None }))
    }

    /// Ada of payments with checkout and its topic orders; bob of shipping with its application parcels.
    async fn company() -> (Self, Arc<Actor>, Arc<Actor>) {
        let world = Self::new().await;
        let (ada, bob) = (world.person("ada").await, world.person("bob").await);
        world.team(&ada, "payments").await;
        world.app(&ada, "payments", "checkout").await;
        world.topic(&ada, "checkout", "orders").await;
        world.team(&bob, "shipping").await;
        world.app(&bob, "shipping", "parcels").await;
        (world, ada, bob)
    }
}

fn every_scope() -> TokenSpec {
    let scopes =
        [Scope::CatalogRead, Scope::RecordsProduce, Scope::RecordsConsume, Scope::TopicsWrite, Scope::AccessWrite];
    TokenSpec { name: "all".to_owned(), scopes: scopes.to_vec(), topics: Vec::new(), expires_at: None }
}
