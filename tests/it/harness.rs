//! The vocabulary of the tests: a running Weir, the people at it, their teams, applications, topics and tokens.
//!
//! ```ignore
//! let weir = Weir::start().await;
//! let ada = weir.person("ada").await;                    // an account with a personal token
//! let team = weir.team("payments", &ada).await;          // ada is its maintainer
//! let topic = weir.topic("orders").await;                // of the application "checkout" of the team "payments"
//! let app = weir.application("shipping").await;
//! weir.allow(&app, &topic, &[Operation::Consume]).await;
//! let shipping = weir.token(&app, &[Scope::RecordsConsume]).await;
//! shipping.get("/v1/topics/orders/records").await.status(200).json();
//! ```
//!
//! Everything made here goes through the catalog, not through HTTP, so that a test of one route does not depend on others.

mod answer;
mod events;

use std::sync::Arc;

use tempfile::TempDir;
use weir::app::{App, Deps};
use weir::broker::engine::Engine;
use weir::catalog::Catalog;
use weir::catalog::access::{
    Action, Actor, Administer, Grant, ManageAppTokens, ManageTeam, PutApp, PutTeam, PutTopic, ShareTopic,
};
use weir::catalog::access::{AppTarget, TopicTarget};
use weir::catalog::model::{AppSpec, Operation, Scope, TeamRole, TeamSpec, TokenSpec, Topic, TopicSpec};
use weir::catalog::put::Precondition;
use weir::clock::{Clock, ManualClock, SystemClock};
use weir::config::{Config, Options};
use weir::embedded_postgres::testing::{self, TestDatabase};
use weir::names::{AppName, Email, TeamName, TopicName};

pub use answer::{Answer, Caller, client_builder};
pub use events::{Event, Events};

/// A running Weir with a database and a data directory of its own.
pub struct Weir {
    app: App,
    anonymous: Caller,
    clock: Arc<dyn Clock>,
    data_dir: Arc<TempDir>,
    database: Arc<TestDatabase>,
}

/// How a Weir is to be started.
#[derive(Default)]
pub struct Setup {
    clock: Option<ManualClock>,
    engine: Option<Arc<dyn Engine>>,
    options: Options,
}

impl Setup {
    /// With a clock that stands still.
    pub fn clock(mut self, clock: &ManualClock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// With another engine than the embedded one.
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// With other options than the defaults.
    pub fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    pub async fn start(self) -> Weir {
        let database = Arc::new(testing::database(&weir::MIGRATOR).await);
        let data_dir = Arc::new(TempDir::new().unwrap());
        self.start_on(data_dir, database).await
    }

    async fn start_on(self, data_dir: Arc<TempDir>, database: Arc<TestDatabase>) -> Weir {
        let mut options = self.options;
        options.data_dir = Some(data_dir.path().to_owned());
        options.listen.get_or_insert_with(|| "127.0.0.1:0".parse().unwrap());
        options.database.url = Some(database.url().parse().unwrap());
        let clock: Arc<dyn Clock> = match self.clock {
            Some(clock) => Arc::new(clock),
            None => Arc::new(SystemClock),
        };
        let deps = Deps { clock: Arc::clone(&clock), engine: self.engine, accept_loss: None };
        let app = App::start_with(Config::from_options(options).unwrap(), deps).await.unwrap();
        let anonymous = Caller::anonymous(app.url());
        Weir { app, anonymous, clock, data_dir, database }
    }
}

impl Weir {
    /// Starts one with the defaults.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// Starts one that differs from the defaults.
    pub fn with() -> Setup {
        Setup::default()
    }

    /// Stops it and starts it again on the same database and data directory. The address changes.
    pub async fn restart(self) -> Self {
        let Self { app, data_dir, database, .. } = self;
        app.shutdown().await;
        Setup::default().start_on(data_dir, database).await
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.app.shutdown().await;
    }

    /// The application under test.
    pub fn app(&self) -> &App {
        &self.app
    }

    pub fn catalog(&self) -> &Catalog {
        self.app.catalog()
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.app.url())
    }

    /// Somebody without a credential.
    pub fn anonymous(&self) -> &Caller {
        &self.anonymous
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.anonymous.get(path).await
    }

    /// The administrator, `admin@example.com`.
    pub async fn admin(&self) -> Person {
        self.account("admin", true).await
    }

    /// Somebody with an account, `NAME@example.com`, in no team.
    pub async fn person(&self, name: &str) -> Person {
        self.account(name, false).await
    }

    async fn account(&self, name: &str, admin: bool) -> Person {
        let email: Email = format!("{name}@example.com").parse().unwrap();
        let grant: Grant<Administer> = self.system(&());
        let password = format!("the long passphrase of {name}");
        let made = self.catalog().create_user(&grant, &email, name, admin, Some(password.clone())).await;
        let (user, _) = made.unwrap();
        let scopes = Scope::ALL.iter().copied().filter(|scope| admin || *scope != Scope::Admin).collect();
        let made = self.catalog().create_token_for(&grant, &email, &token_spec(scopes)).await;
        let (_, token) = made.unwrap();
        let caller = self.anonymous.with_token(token.expose());
        Person { id: user.id, email, password, caller }
    }

    /// A team; the person is its maintainer.
    pub async fn team(&self, name: &str, maintainer: &Person) -> TeamName {
        let name = self.ensure_team(name).await;
        self.join(&name, maintainer, TeamRole::Maintainer).await;
        name
    }

    /// Makes somebody a member of a team.
    pub async fn join(&self, team: &TeamName, person: &Person, role: TeamRole) {
        let grant: Grant<ManageTeam> = self.system(team);
        let mut tx = self.catalog().begin(&Actor::system()).await.unwrap();
        tx.set_member(&grant, &person.email, role).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// An application of the team "payments".
    pub async fn application(&self, name: &str) -> AppName {
        let team = self.ensure_team("payments").await;
        self.application_of(&team, name).await
    }

    /// An application of a team.
    pub async fn application_of(&self, team: &TeamName, name: &str) -> AppName {
        let name: AppName = name.parse().unwrap();
        if self.catalog().view().app(&name).is_some() {
            return name;
        }
        let grant: Grant<PutApp> = self.system(&AppTarget { name: name.clone(), team: team.clone() });
        let mut tx = self.catalog().begin(&Actor::system()).await.unwrap();
        tx.put_app(&grant, &AppSpec::new(team.clone()), Precondition::None).await.unwrap();
        tx.commit().await.unwrap();
        name
    }

    /// A topic of the application "checkout" of the team "payments".
    pub async fn topic(&self, name: &str) -> Arc<Topic> {
        let app = self.application("checkout").await;
        self.topic_of(&app, name).await
    }

    /// A topic of an application, with the defaults.
    pub async fn topic_of(&self, app: &AppName, name: &str) -> Arc<Topic> {
        self.topic_with(app, name, |_| {}).await
    }

    /// A topic of an application, with other values than the defaults.
    pub async fn topic_with(&self, app: &AppName, name: &str, change: impl FnOnce(&mut TopicSpec)) -> Arc<Topic> {
        let name: TopicName = name.parse().unwrap();
        let grant: Grant<PutTopic> = self.system(&TopicTarget { name: name.clone(), app: app.clone() });
        let mut spec = TopicSpec::new(app.clone());
        change(&mut spec);
        let mut tx = self.catalog().begin(&Actor::system()).await.unwrap();
        let topic = tx.put_topic(&grant, &spec, Precondition::None).await.unwrap().value;
        tx.commit().await.unwrap();
        self.app.engine().ensure_topic(&weir::provision::spec_of(&topic)).await.unwrap();
        Arc::new(topic)
    }

    /// Gives an application rights on a topic of another.
    pub async fn allow(&self, app: &AppName, topic: &Topic, operations: &[Operation]) {
        let grant: Grant<ShareTopic> = self.system(&topic.name);
        let mut tx = self.catalog().begin(&Actor::system()).await.unwrap();
        tx.put_access(&grant, app, operations, None, Precondition::None).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Somebody who calls with a new token of an application.
    pub async fn token(&self, app: &AppName, scopes: &[Scope]) -> Caller {
        self.token_with(app, token_spec(scopes.to_vec())).await
    }

    /// The same with patterns or an expiry.
    pub async fn token_with(&self, app: &AppName, spec: TokenSpec) -> Caller {
        let grant: Grant<ManageAppTokens> = self.system(app);
        let mut tx = self.catalog().begin(&Actor::system()).await.unwrap();
        let (_, secret) = tx.create_app_token(&grant, &spec).await.unwrap();
        tx.commit().await.unwrap();
        self.anonymous.with_token(secret.expose())
    }

    /// What time it is for this Weir.
    pub fn now(&self) -> time::OffsetDateTime {
        self.clock.now_datetime()
    }

    async fn ensure_team(&self, name: &str) -> TeamName {
        let name: TeamName = name.parse().unwrap();
        if self.catalog().view().team(&name).is_none() {
            let grant: Grant<PutTeam> = self.system(&name);
            let mut tx = self.catalog().begin(&Actor::system()).await.unwrap();
            tx.put_team(&grant, &TeamSpec::default(), Precondition::None).await.unwrap();
            tx.commit().await.unwrap();
        }
        name
    }

    /// What the operator at the command line may do: everything.
    fn system<A: Action>(&self, target: &A::Target) -> Grant<A> {
        self.catalog().authorize(&Actor::system(), target).unwrap()
    }
}

/// A token for everything that the scopes allow.
pub fn token_spec(scopes: Vec<Scope>) -> TokenSpec {
    TokenSpec { name: "test".to_owned(), scopes, topics: Vec::new(), expires_at: None }
}

/// Somebody with an account. Calls with a personal token; [`Person::at_the_portal`] calls with a session.
pub struct Person {
    pub id: weir::names::UserId,
    pub email: Email,
    pub password: String,
    caller: Caller,
}

impl Person {
    /// The same person with the cookie of a new session.
    pub async fn at_the_portal(&self, weir: &Weir) -> Caller {
        let from = weir::catalog::Origin::default();
        let signed_in = weir.catalog().sign_in(self.email.as_str(), self.password.clone(), &from).await.unwrap();
        self.caller.with_session(signed_in.secret.expose())
    }
}

impl std::ops::Deref for Person {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.caller
    }
}
