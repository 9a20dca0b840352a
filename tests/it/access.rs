//! Who may do what: every operation of the API's description x nobody, a stranger, a stranger's application, a member, the
//! owning application, a maintainer, an administrator. An operation without a row fails, so does a row without its operation.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use weir::catalog::access::{Actor, Administer};
use weir::catalog::model::{Operation, Scope, TeamRole, Visibility};

use crate::harness::{Answer, Caller, Person, Weir, token_spec};

/// An identifier that nothing has.
const NO_ID: &str = "019a2f7e-0000-7000-8000-00000000dead";

/// One request and what each caller gets: nobody, stranger, stranger's application, member, owning application, maintainer,
/// administrator.
struct Row {
    operation: &'static str,
    method: Method,
    /// `{n}` is the caller's number, for requests that can be done once.
    path: String,
    body: Value,
    expected: [u16; 7],
    /// People call with a portal session instead of a token.
    at_the_portal: bool,
}

fn row(operation: &'static str, request: &str, body: Value, expected: [u16; 7]) -> Row {
    let (method, path) = request.split_once(' ').unwrap();
    let path = path.replace("{none}", NO_ID);
    Row { operation, method: method.parse().unwrap(), path, body, expected, at_the_portal: false }
}

/// Everybody who has a credential.
const SIGNED_IN: [u16; 7] = [401, 200, 200, 200, 200, 200, 200];
/// People who maintain the team, and administrators.
const MAINTAINERS: [u16; 7] = [401, 403, 403, 403, 403, 200, 200];
/// The team's people and the application itself.
const TEAM: [u16; 7] = [401, 403, 403, 200, 200, 200, 200];
/// The team's people.
const PEOPLE_OF_TEAM: [u16; 7] = [401, 403, 403, 200, 403, 200, 200];
const ADMINS: [u16; 7] = [401, 403, 403, 403, 403, 403, 200];
const PEOPLE: [u16; 7] = [401, 200, 403, 200, 403, 200, 200];

/// The same callers, another status for those who may.
fn may(expected: [u16; 7], status: u16) -> [u16; 7] {
    expected.map(|code| if code == 200 { status } else { code })
}

fn rows() -> Vec<Row> {
    let none = || Value::Null;
    let mut rows = vec![
        row("status", "GET /v1/status", none(), [200; 7]),
        row("whoami", "GET /v1/whoami", none(), SIGNED_IN),
        // Teams.
        row("listTeams", "GET /v1/teams", none(), SIGNED_IN),
        row("getTeam", "GET /v1/teams/payments", none(), SIGNED_IN),
        row("putTeam", "PUT /v1/teams/payments?dry_run=true", json!({}), MAINTAINERS),
        row("putTeam", "PUT /v1/teams/new-one?dry_run=true", json!({}), PEOPLE),
        row("patchTeam", "PATCH /v1/teams/payments?dry_run=true", json!({"description": "x"}), MAINTAINERS),
        row("deleteTeam", "DELETE /v1/teams/payments?dry_run=true", none(), may(MAINTAINERS, 409)),
        row("listMembers", "GET /v1/teams/payments/members", none(), SIGNED_IN),
        row(
            "putMember",
            "PUT /v1/teams/payments/members/cat@example.com?dry_run=true",
            json!({"role": "member"}),
            MAINTAINERS,
        ),
        row("deleteMember", "DELETE /v1/teams/payments/members/cat@example.com?dry_run=true", none(), MAINTAINERS),
        row("listJoinRequests", "GET /v1/teams/payments/join-requests", none(), MAINTAINERS),
        row("requestToJoin", "POST /v1/teams/open/join-requests", json!({}), may(PEOPLE, 201)),
        row(
            "approveJoinRequest",
            "POST /v1/teams/payments/join-requests/nobody@example.com/approve",
            none(),
            may(MAINTAINERS, 404),
        ),
        row(
            "rejectJoinRequest",
            "POST /v1/teams/payments/join-requests/nobody@example.com/reject",
            none(),
            may(MAINTAINERS, 404),
        ),
        row("listInvitations", "GET /v1/teams/payments/invitations", none(), MAINTAINERS),
        row(
            "invite",
            "POST /v1/teams/payments/invitations",
            json!({"email": "new{n}@example.com"}),
            may(MAINTAINERS, 201),
        ),
        row(
            "withdrawInvitation",
            "DELETE /v1/teams/payments/invitations/{none}?dry_run=true",
            none(),
            may(MAINTAINERS, 404),
        ),
        row("acceptInvitation", "POST /v1/invitations/accept", json!({"secret": "wrong"}), may(PEOPLE, 404)),
        // Applications.
        row("listApps", "GET /v1/apps", none(), SIGNED_IN),
        row("getApp", "GET /v1/apps/checkout", none(), SIGNED_IN),
        row("putApp", "PUT /v1/apps/checkout?dry_run=true", json!({"team": "payments"}), TEAM),
        row("putApp", "PUT /v1/apps/new-one?dry_run=true", json!({"team": "payments"}), PEOPLE_OF_TEAM),
        row("patchApp", "PATCH /v1/apps/checkout?dry_run=true", json!({"description": "x"}), TEAM),
        row("deleteApp", "DELETE /v1/apps/checkout?dry_run=true", none(), may(PEOPLE_OF_TEAM, 409)),
        row("suspendApp", "POST /v1/apps/idle{n}/suspend", json!({"reason": "test"}), PEOPLE_OF_TEAM),
        row("resumeApp", "POST /v1/apps/idle{n}/resume", none(), PEOPLE_OF_TEAM),
        // Topics.
        row("listTopics", "GET /v1/topics", none(), SIGNED_IN),
        row("getTopic", "GET /v1/topics/orders", none(), SIGNED_IN),
        row("getTopic", "GET /v1/topics/hidden", none(), [401, 404, 404, 200, 200, 200, 200]),
        row("putTopic", "PUT /v1/topics/orders?dry_run=true", json!({"app": "checkout"}), TEAM),
        row("putTopic", "PUT /v1/topics/new-one?dry_run=true", json!({"app": "checkout"}), TEAM),
        row("patchTopic", "PATCH /v1/topics/orders?dry_run=true", json!({"description": "x"}), TEAM),
        row("deleteTopic", "DELETE /v1/topics/orders?dry_run=true", none(), TEAM),
        row("deleteTopic", "DELETE /v1/topics/hidden?dry_run=true", none(), [401, 404, 404, 200, 200, 200, 200]),
        row("restoreTopic", "POST /v1/topics/gone{n}/restore", none(), TEAM),
        row("purgeTopic", "POST /v1/topics/past{n}/purge", none(), may(TEAM, 204)),
        row("listPartitions", "GET /v1/topics/orders/partitions", none(), SIGNED_IN),
        // Access.
        row("listTopicAccess", "GET /v1/topics/orders/access", none(), SIGNED_IN),
        row("putAccess", "PUT /v1/topics/orders/access/outsider?dry_run=true", json!({"role": "consumer"}), TEAM),
        row("deleteAccess", "DELETE /v1/topics/shared/access/outsider?dry_run=true", none(), TEAM),
        row("listAppAccess", "GET /v1/apps/checkout/access", none(), SIGNED_IN),
        row("listPrefixes", "GET /v1/apps/checkout/prefixes", none(), SIGNED_IN),
        row(
            "putPrefixAccess",
            "PUT /v1/apps/checkout/prefixes/ord/access/outsider?dry_run=true",
            json!({"role": "consumer"}),
            TEAM,
        ),
        row(
            "deletePrefixAccess",
            "DELETE /v1/apps/checkout/prefixes/ord/access/outsider?dry_run=true",
            none(),
            may(TEAM, 404),
        ),
        row(
            "checkAccess",
            "POST /v1/access/check",
            json!({"app": "outsider", "topic": "orders", "action": "consume"}),
            SIGNED_IN,
        ),
        // Tokens.
        row("listAppTokens", "GET /v1/apps/checkout/tokens", none(), TEAM),
        row(
            "createAppToken",
            "POST /v1/apps/checkout/tokens",
            json!({"name": "t", "scopes": ["tokens:write"]}),
            may(TEAM, 201),
        ),
        row("rotateAppToken", "POST /v1/apps/checkout/tokens/{none}/rotate", none(), may(TEAM, 404)),
        row("revokeAppToken", "DELETE /v1/apps/checkout/tokens/{none}?dry_run=true", none(), may(TEAM, 404)),
        row("listOwnTokens", "GET /v1/me/tokens", none(), PEOPLE),
        row("createOwnToken", "POST /v1/me/tokens", json!({"name": "t", "scopes": ["tokens:write"]}), may(PEOPLE, 201)),
        row("rotateOwnToken", "POST /v1/me/tokens/{none}/rotate", none(), may(PEOPLE, 404)),
        row("revokeOwnToken", "DELETE /v1/me/tokens/{none}?dry_run=true", none(), may(PEOPLE, 404)),
        // Audit and accounts.
        row("listAudit", "GET /v1/audit", none(), SIGNED_IN),
        row("listUsers", "GET /v1/users", none(), ADMINS),
        row("createUser", "POST /v1/users", json!({"email": "made@example.com"}), may(ADMINS, 201)),
        row("patchUser", "PATCH /v1/users/{none}", json!({"disabled": true}), may(ADMINS, 404)),
        row("resetPassword", "POST /v1/users/{none}/reset-password", none(), may(ADMINS, 404)),
        // Records.
        row("produceRecords", "POST /v1/topics/shared/records", json!({"n": 1}), may(TEAM, 201)),
        row("produceRecords", "POST /v1/topics/hidden/records", json!({"n": 1}), [401, 404, 404, 201, 201, 201, 201]),
        row("readRecords", "GET /v1/topics/orders/records", none(), TEAM),
        row("readRecords", "GET /v1/topics/shared/records", none(), SIGNED_IN),
        row("readRecords", "GET /v1/topics/hidden/records", none(), [401, 404, 404, 200, 200, 200, 200]),
        row("readTopics", "GET /v1/records?topics=shared", none(), SIGNED_IN),
        row("getRecord", "GET /v1/topics/orders/partitions/0/records/99", none(), may(TEAM, 416)),
        // By token nobody reaches the account itself.
        row("listSessions", "GET /v1/me/sessions", none(), [401, 403, 403, 403, 403, 403, 403]),
        row("endSession", "DELETE /v1/me/sessions/{none}", none(), [401, 403, 403, 403, 403, 403, 403]),
    ];
    for (operation, request, expected) in [
        ("listSessions", "GET /v1/me/sessions", PEOPLE),
        ("endSession", "DELETE /v1/me/sessions/{none}", may(PEOPLE, 404)),
        ("getTopic", "GET /v1/topics/hidden", [401, 404, 404, 200, 200, 200, 200]),
    ] {
        rows.push(Row { at_the_portal: true, ..row(operation, request, none(), expected) });
    }
    rows
}

struct World {
    weir: Weir,
    /// By token, in the order of [`Row::expected`].
    callers: [Caller; 7],
    /// People by session.
    sessions: [Caller; 7],
    maintainer: Person,
}

impl World {
    async fn new() -> Self {
        let weir = Weir::start().await;
        let (admin, stranger, member, cat) =
            (weir.admin().await, weir.person("sue").await, weir.person("ben").await, weir.person("cat").await);
        let maintainer = weir.person("mia").await;
        let payments = weir.team("payments", &maintainer).await;
        weir.join(&payments, &member, TeamRole::Member).await;
        weir.join(&payments, &cat, TeamRole::Member).await;
        let sales = weir.team("sales", &stranger).await;
        weir.team("open", &weir.person("zoe").await).await;
        let (checkout, outsider) = (weir.application("checkout").await, weir.application_of(&sales, "outsider").await);
        weir.topic("orders").await;
        weir.topic_with(&checkout, "hidden", |spec| spec.visibility = Visibility::Team).await;
        let shared = weir.topic("shared").await;
        weir.allow(&outsider, &shared, &[Operation::Consume]).await;
        for n in 0..7 {
            weir.application(&format!("idle{n}")).await;
            for name in [format!("gone{n}"), format!("past{n}")] {
                weir.topic(&name).await;
                admin.delete(&format!("/v1/topics/{name}")).await.status(202);
            }
        }
        let all: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin).collect();
        let (own, foreign) = (weir.token(&checkout, &all).await, weir.token(&outsider, &all).await);
        let nobody = weir.anonymous().clone();
        let callers =
            [&nobody, &stranger, &foreign, &member, &own, &maintainer, &admin].map(|caller: &Caller| caller.clone());
        let mut sessions = callers.clone();
        for (at, person) in [(1, &stranger), (3, &member), (5, &maintainer), (6, &admin)] {
            sessions[at] = person.at_the_portal(&weir).await;
        }
        Self { weir, callers, sessions, maintainer }
    }

    async fn ask(&self, caller: &Caller, row: &Row, n: usize) -> Answer {
        let number = n.to_string();
        let request = caller.request(row.method.clone(), &row.path.replace("{n}", &number));
        match &row.body {
            Value::Null => caller.send(request).await,
            body => {
                let text = body.to_string().replace("{n}", &number);
                caller.send(request.header("content-type", "application/json").body(text)).await
            }
        }
    }

    /// The operations of the description: identifier and scope.
    async fn operations(&self) -> Vec<(String, Option<String>)> {
        let document = self.weir.get("/openapi.json").await.status(200).json();
        let items = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
        let described = items.filter(|operation| operation["operationId"].is_string()).map(|operation| {
            let scope = operation["security"][0]["token"][0].as_str().map(str::to_owned);
            (operation["operationId"].as_str().unwrap().to_owned(), scope)
        });
        described.collect()
    }
}

#[tokio::test]
async fn everybody_may_do_what_the_table_says_and_nothing_else() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for row in rows() {
        let callers = if row.at_the_portal { &world.sessions } else { &world.callers };
        for (n, caller) in callers.iter().enumerate() {
            let answer = world.ask(caller, &row, n).await;
            if answer.code != row.expected[n] {
                wrong.push(format!(
                    "{} {} as caller {n}: {} instead of {}: {}",
                    row.method,
                    row.path,
                    answer.code,
                    row.expected[n],
                    answer.text()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_operation_of_the_description_has_a_row() {
    let world = World::new().await;
    let described: BTreeSet<String> = world.operations().await.into_iter().map(|(id, _)| id).collect();
    let tested: BTreeSet<String> = rows().iter().map(|row| row.operation.to_owned()).collect();
    assert_eq!(tested, described);
}

#[tokio::test]
async fn a_token_without_the_documented_scope_is_refused_by_every_operation() {
    let world = World::new().await;
    let catalog = world.weir.catalog();
    let grant = catalog.authorize::<Administer>(&Actor::system(), &()).unwrap();
    let mut wrong = Vec::new();
    for (operation, scope) in world.operations().await {
        // Its scope shows with a true invitation only: see `api_teams`.
        if operation == "acceptInvitation" {
            continue;
        }
        let Some(scope) = scope.and_then(|scope| scope.parse::<Scope>().ok()).filter(|scope| *scope != Scope::Admin)
        else {
            continue;
        };
        let others = Scope::ALL.iter().copied().filter(|other| *other != scope && *other != Scope::Admin).collect();
        let (_, secret) = catalog.create_token_for(&grant, &world.maintainer.email, &token_spec(others)).await.unwrap();
        let caller = world.weir.anonymous().with_token(secret.expose());
        let table = rows();
        let Some(row) = table.iter().find(|row| row.operation == operation && !matches!(row.expected[5], 401 | 403))
        else {
            continue;
        };
        let answer = world.ask(&caller, row, 5).await;
        let body = answer.json();
        if answer.code != 403 || body["required"]["scope"] != scope.as_str() {
            wrong.push(format!("{operation} without {scope}: {} {body}", answer.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
