//! Who may do what, as a table over one small company. No database: rights are a function of the view.
//!
//! Team `payments`: ada (maintainer), max (member); application `checkout` with topics `orders` (company) and `secrets`
//! (team). Team `shipping`: bob (maintainer); application `parcels`, which may consume `orders` and produce to `secrets`.
//! eve is in no team, root is an administrator, old is disabled.

use std::collections::BTreeMap;

use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;
use crate::catalog::View;
use crate::catalog::access::{
    self, Action, AuditSight, JoinTeam, ManageTopic, OwnAccount, OwnTokens, Principal, Produce, ReadAudit, ReadMetrics,
    SharePrefix, ShareTopic, TokenUse,
};
use crate::catalog::entity::{Delta, Entity, GrantAbout, GrantRow, Member, TokenRow};
use crate::catalog::error::{Denied, Kind, MissingScope, Required};
use crate::catalog::model::{
    AccessGrant, AppState, Application, GrantTarget, Membership, Operation, Team, Token, TokenHolder, User, Visibility,
};
use crate::catalog::rights::{any_pattern, pattern_within};
use crate::names::{AppId, AppName, GrantId, TeamId, TokenId, TopicId, UserId};

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-22 12:00 UTC);

struct Company {
    view: View,
    users: BTreeMap<&'static str, UserId>,
    teams: BTreeMap<&'static str, TeamId>,
    apps: BTreeMap<&'static str, AppId>,
}

impl Company {
    fn new() -> Self {
        let users = ["ada", "max", "bob", "eve", "root", "old"].map(|who| (who, UserId::new())).into();
        let teams = ["payments", "shipping"].map(|team| (team, TeamId::new())).into();
        let apps = ["checkout", "parcels"].map(|app| (app, AppId::new())).into();
        let mut company = Self { view: View::default(), users, teams, apps };
        let rows = company.rows();
        company.view = View::default().apply(Delta { revision: 1, whole: true, rows, gone: Vec::new() });
        company
    }

    fn rows(&self) -> Vec<Entity> {
        let mut rows: Vec<_> = self.users.keys().map(|who| Entity::User(self.user(who))).collect();
        rows.extend(self.teams.iter().map(|(team, id)| Entity::Team(team_row(team, *id))));
        for (team, who, role) in [
            ("payments", "ada", TeamRole::Maintainer),
            ("payments", "max", TeamRole::Member),
            ("payments", "old", TeamRole::Maintainer),
            ("shipping", "bob", TeamRole::Maintainer),
        ] {
            let user = self.user(who);
            let membership = Membership { user: user.id, email: user.email, name: user.name, role, since: NOW };
            rows.push(Entity::Member(Member { id: uuid::Uuid::now_v7(), team: self.teams[team], membership }));
        }
        rows.extend(
            [("checkout", "payments"), ("parcels", "shipping")].map(|(app, team)| Entity::App(self.app(app, team))),
        );
        let (orders, secrets) = (self.topic("orders", Visibility::Company), self.topic("secrets", Visibility::Team));
        rows.push(self.grant(&orders, Operation::Consume));
        rows.push(self.grant(&secrets, Operation::Produce));
        rows.extend([Entity::Topic(orders), Entity::Topic(secrets)]);
        rows
    }

    fn user(&self, who: &str) -> User {
        User {
            id: self.users[who],
            email: name(&format!("{who}@example.com")),
            name: who.to_owned(),
            admin: who == "root",
            disabled: who == "old",
            created_at: NOW,
            last_login_at: None,
        }
    }

    fn app(&self, app: &str, team: &str) -> Application {
        Application {
            id: self.apps[app],
            name: name(app),
            team: name(team),
            team_id: self.teams[team],
            description: String::new(),
            owners: Vec::new(),
            contacts: BTreeMap::new(),
            repository: None,
            runbook: None,
            labels: BTreeMap::new(),
            state: AppState::Active,
            created_at: NOW,
            updated_at: NOW,
            revision: 1,
        }
    }

    fn topic(&self, topic: &str, visibility: Visibility) -> Topic {
        let spec = TopicSpec::new(name("checkout"));
        Topic {
            id: TopicId::new(),
            name: name(topic),
            app: spec.app,
            app_id: self.apps["checkout"],
            team: name("payments"),
            team_id: self.teams["payments"],
            description: spec.description,
            classification: spec.classification,
            visibility,
            partitions: spec.partitions,
            retention_ms: spec.retention_ms,
            retention_bytes: spec.retention_bytes,
            cleanup: spec.cleanup,
            labels: spec.labels,
            state: crate::catalog::model::TopicState::Active,
            deleted_at: None,
            purge_after: None,
            created_at: NOW,
            updated_at: NOW,
            revision: 1,
        }
    }

    fn grant(&self, topic: &Topic, operation: Operation) -> Entity {
        let grant = AccessGrant {
            id: GrantId::new(),
            app: name("parcels"),
            app_id: self.apps["parcels"],
            target: GrantTarget::Topic(topic.name.clone()),
            operations: vec![operation],
            expires_at: None,
            granted_by: "ada".to_owned(),
            since: NOW,
            revision: 1,
        };
        Entity::Grant(GrantRow { about: GrantAbout::Topic(topic.id), grant })
    }

    /// Somebody with a portal session, or an application (whose token has every scope that an application can have).
    fn actor(&mut self, who: &str) -> Arc<Actor> {
        match self.users.get(who) {
            Some(id) => Arc::new(Actor {
                principal: Principal::User {
                    id: *id,
                    email: name(&format!("{who}@example.com")),
                    admin: who == "root",
                },
                token: None,
                address: None,
                request_id: None,
            }),
            None if who == "system" => Actor::system(),
            None => {
                let scopes = Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin).collect();
                let team = if who == "checkout" { "payments" } else { "shipping" };
                let (id, team) = (self.apps[who], self.teams[team]);
                self.with_token(Principal::App { id, name: name(who), team }, scopes, &[])
            }
        }
    }

    fn with_token(&mut self, principal: Principal, scopes: Vec<Scope>, topics: &[&str]) -> Arc<Actor> {
        let id = TokenId::new();
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        let holder = match &principal {
            Principal::User { id, email, .. } => TokenHolder::User { id: *id, email: email.clone() },
            Principal::App { id, name, .. } => TokenHolder::App { id: *id, name: name.clone() },
            Principal::System => unreachable!("the system has no token"),
        };
        let token = Token {
            id,
            holder,
            name: "t".to_owned(),
            prefix: String::new(),
            scopes: scopes.clone(),
            topics: topics.clone(),
            created_by: String::new(),
            created_at: NOW,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            last_used_address: None,
        };
        let row = Entity::Token(TokenRow { hash: rand_hash(id), token });
        self.view = self.view.apply(Delta { revision: 2, rows: vec![row], ..Delta::default() });
        let token = Some(Arc::new(TokenUse { id, name: "t".to_owned(), scopes, topics, expires_at: None }));
        Arc::new(Actor { principal, token, address: None, request_id: None })
    }

    fn ask<A: Action>(&self, actor: &Arc<Actor>, target: &A::Target) -> Result<A::Resource, Denied> {
        access::authorize::<A>(&self.view, actor, NOW, target).map(|grant| grant.resource().clone())
    }
}

fn rand_hash(id: TokenId) -> [u8; 32] {
    crate::catalog::secret::hash(&id.to_string())
}

fn team_row(team: &str, id: TeamId) -> Team {
    let description = String::new();
    Team { id, name: name(team), description, created_at: NOW, revision: 1, members: 0, applications: 0 }
}

/// yes, the kinds of no: hidden, a right missing, the credential does not hold.
fn verdict<T>(result: Result<T, Denied>) -> &'static str {
    match result {
        Ok(_) => "yes",
        Err(Denied::NotFound { .. }) => "hidden",
        Err(Denied::Forbidden { required: Required::Person, .. }) => "person",
        Err(Denied::Forbidden { .. }) => "no",
        Err(Denied::InsufficientScope { .. }) => "scope",
        Err(Denied::Credential(_)) => "ended",
        Err(Denied::AppSuspended { .. } | Denied::TopicDeleted { .. }) => "off",
    }
}

const WHO: [&str; 9] = ["ada", "max", "bob", "eve", "root", "old", "checkout", "parcels", "system"];

fn row(company: &mut Company, ask: impl Fn(&Company, &Arc<Actor>) -> &'static str) -> [&'static str; 9] {
    WHO.map(|who| {
        let actor = company.actor(who);
        ask(company, &actor)
    })
}

#[test]
fn rights_follow_the_table() {
    let mut company = Company::new();
    macro_rules! table {
        ($($action:ident $target:expr => $expected:expr;)*) => {$(
            let got = row(&mut company, |company, actor| verdict(company.ask::<$action>(actor, &$target)));
            let expected: Vec<&str> = $expected.split_whitespace().collect();
            assert_eq!(got.as_slice(), expected.as_slice(), "{} {} of {WHO:?}", stringify!($action), stringify!($target));
        )*};
    }
    table! {
        // who:                            ada    max    bob    eve    root old   checkout parcels system
        Produce name("orders")          => "yes    yes    no     no     yes  ended yes      no      yes";
        Consume name("orders")          => "yes    yes    yes    no     yes  ended yes      yes     yes";
        Produce name("secrets")         => "yes    yes    yes    hidden yes  ended yes      yes     yes";
        Consume name("secrets")         => "yes    yes    no     hidden yes  ended yes      no      yes";
        Consume name("nothing")         => "hidden hidden hidden hidden hidden ended hidden hidden  hidden";
        ManageTopic name("orders")      => "yes    yes    no     no     yes  ended yes      no      yes";
        ManageTopic name("secrets")     => "yes    yes    no     hidden yes  ended yes      no      yes";
        ShareTopic name("orders")       => "yes    yes    no     no     yes  ended yes      no      yes";
        SharePrefix name("checkout")    => "yes    yes    no     no     yes  ended yes      no      yes";
        ManageApp name("checkout")      => "yes    yes    no     no     yes  ended person   person  yes";
        ManageAppTokens name("checkout")=> "yes    yes    no     no     yes  ended yes      no      yes";
        ManageApp name("nothing")       => "hidden hidden hidden hidden hidden ended hidden hidden  hidden";
        PutTeam name("payments")        => "yes    no     no     no     yes  ended person   person  yes";
        PutTeam name("newcomers")       => "yes    yes    yes    yes    yes  ended person   person  yes";
        ManageTeam name("payments")     => "yes    no     no     no     yes  ended no       no      yes";
        JoinTeam name("payments")       => "yes    yes    yes    yes    yes  ended person   person  person";
        OwnTokens ()                    => "yes    yes    yes    yes    yes  ended person   person  person";
        OwnAccount ()                   => "yes    yes    yes    yes    yes  ended person   person  person";
        ReadCatalog ()                  => "yes    yes    yes    yes    yes  ended yes      yes     yes";
        ReadAudit ()                    => "yes    yes    yes    yes    yes  ended yes      yes     yes";
        ReadMetrics ()                  => "no     no     no     no     yes  ended yes      yes     yes";
        Administer ()                   => "no     no     no     no     yes  ended no       no      yes";
        PutTopic TopicTarget { name: name("orders"), app: name("checkout") }
                                        => "yes    yes    no     no     yes  ended yes      no      yes";
        PutTopic TopicTarget { name: name("newer"), app: name("checkout") }
                                        => "yes    yes    no     no     yes  ended yes      no      yes";
        PutTopic TopicTarget { name: name("orders"), app: name("parcels") }
                                        => "no     no     no     no     yes  ended no       no      yes";
        PutApp AppTarget { name: name("checkout"), team: name("payments") }
                                        => "yes    yes    no     no     yes  ended yes      no      yes";
        PutApp AppTarget { name: name("newer"), team: name("payments") }
                                        => "yes    yes    no     no     yes  ended person   person  yes";
        PutApp AppTarget { name: name("checkout"), team: name("shipping") }
                                        => "no     no     no     no     yes  ended no       no      yes";
    }
}

#[test]
fn a_refusal_says_what_would_have_been_needed() {
    let mut company = Company::new();
    let parcels = company.actor("parcels");
    let required = Required::Operation { topic: name("orders"), operation: Operation::Produce };
    let app = Some(name::<AppName>("parcels"));
    assert_eq!(company.ask::<Produce>(&parcels, &name("orders")), Err(Denied::Forbidden { required, app }));
    let eve = company.actor("eve");
    let hidden = Denied::NotFound { kind: Kind::Topic, name: "secrets".to_owned() };
    assert_eq!(company.ask::<Produce>(&eve, &name("secrets")), Err(hidden));
    let required = Required::Maintainer { team: name("payments") };
    assert_eq!(
        company.ask::<ManageTeam>(&eve, &name("payments")).map(drop),
        Err(Denied::Forbidden { required, app: None })
    );
}

#[test]
fn everybody_reads_the_part_of_the_audit_that_is_his() {
    let mut company = Company::new();
    let max = company.actor("max");
    let sight = AuditSight::Person { user: company.users["max"], teams: vec![company.teams["payments"]] };
    assert_eq!(company.ask::<ReadAudit>(&max, &()), Ok(sight));
    let parcels = company.actor("parcels");
    assert_eq!(company.ask::<ReadAudit>(&parcels, &()), Ok(AuditSight::App(company.apps["parcels"])));
    let root = company.actor("root");
    assert_eq!(company.ask::<ReadAudit>(&root, &()), Ok(AuditSight::Everything));
}

#[test]
fn an_administrators_token_has_the_power_only_with_the_scope() {
    let mut company = Company::new();
    let root = Principal::User { id: company.users["root"], email: name("root@example.com"), admin: true };
    let plain = company.with_token(root.clone(), vec![Scope::RecordsConsume], &[]);
    assert_eq!(verdict(company.ask::<Consume>(&plain, &name("orders"))), "no");
    assert_eq!(verdict(company.ask::<Consume>(&plain, &name("secrets"))), "hidden");
    assert_eq!(verdict(company.ask::<Administer>(&plain, &())), "scope");
    let full = company.with_token(root, vec![Scope::Admin], &[]);
    assert_eq!(verdict(company.ask::<Consume>(&full, &name("secrets"))), "yes");
    assert_eq!(verdict(company.ask::<OwnAccount>(&full, &())), "person", "a token never changes the password");
    // Scopes that an administrator's power does not hang on do not help others.
    let eve = Principal::User { id: company.users["eve"], email: name("eve@example.com"), admin: true };
    let pretender = company.with_token(eve, vec![Scope::Admin], &[]);
    assert_eq!(verdict(company.ask::<Administer>(&pretender, &())), "no", "the view knows who is one");
}

#[test]
fn a_persons_token_shows_metrics_only_while_the_person_is_an_administrator() {
    let mut company = Company::new();
    let root = Principal::User { id: company.users["root"], email: name("root@example.com"), admin: true };
    let by_root = company.with_token(root, vec![Scope::MetricsRead], &[]);
    assert_eq!(verdict(company.ask::<ReadMetrics>(&by_root, &())), "yes");
    // Ada was one when the token was made.
    let ada = Principal::User { id: company.users["ada"], email: name("ada@example.com"), admin: true };
    for scope in [Scope::MetricsRead, Scope::Admin] {
        let by_ada = company.with_token(ada.clone(), vec![scope], &[]);
        assert_eq!(verdict(company.ask::<ReadMetrics>(&by_ada, &())), "no");
    }
}

#[test]
fn an_application_that_was_made_anew_under_an_old_name_is_another() {
    let mut company = Company::new();
    let old = Principal::App { id: AppId::new(), name: name("checkout"), team: company.teams["payments"] };
    let actor = company.with_token(old, vec![Scope::RecordsConsume], &[]);
    assert_eq!(verdict(company.ask::<Consume>(&actor, &name("orders"))), "ended");
}

fn some_scopes() -> impl Strategy<Value = Vec<Scope>> {
    proptest::sample::subsequence(Scope::ALL.to_vec(), 0..=Scope::ALL.len())
}

fn pattern() -> impl Strategy<Value = String> {
    proptest::string::string_regex(r"[ab.]{0,4}\*?").unwrap()
}

proptest! {
    /// What a token allows, the principal's session allows: a token only takes away.
    #[test]
    fn a_token_never_adds_a_right(
        who in proptest::sample::select(vec!["ada", "max", "bob", "eve", "root"]),
        scopes in some_scopes(),
        topics in proptest::collection::vec(pattern(), 0..3),
        topic in proptest::sample::select(vec!["orders", "secrets"]),
    ) {
        let mut company = Company::new();
        let session = company.actor(who);
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        let by_token = company.with_token(session.principal.clone(), scopes.clone(), &topics);
        let consume = company.ask::<Consume>(&by_token, &name(topic));
        prop_assert!(consume.is_err() || company.ask::<Consume>(&session, &name(topic)).is_ok());
        if consume.is_ok() {
            prop_assert!(scopes.contains(&Scope::RecordsConsume) || scopes.contains(&Scope::Admin));
            prop_assert!(topics.is_empty() || any_pattern(&topics.iter().map(ToString::to_string).collect::<Vec<_>>(), topic));
        }
        if let Err(Denied::InsufficientScope { missing: MissingScope::Scope(scope) }) = consume {
            prop_assert_eq!(scope, Scope::RecordsConsume);
        }
        prop_assert!(company.ask::<Administer>(&by_token, &()).is_err() || who == "root");
    }

    /// A pattern that is within others covers no name that they do not cover.
    #[test]
    fn a_narrower_pattern_covers_nothing_more(
        narrow in pattern(),
        wide in proptest::collection::vec(pattern(), 1..4),
        topic in "[ab.]{0,6}",
    ) {
        if pattern_within(&narrow, &wide) && any_pattern(&[narrow], &topic) {
            prop_assert!(any_pattern(&wide, &topic));
        }
    }
}
