//! The demo's company: the teams, applications, topics and grants of an airport.
//!
//! Everything is made by the person who would make it, through the same authoriser and with the same audit rows as from
//! the portal, and everything is an ensure: a second run changes nothing.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog::access::{
    Actor, Administer, AppTarget, ManageTeam, Principal, PutApp, PutTeam, PutTopic, SharePrefix, ShareTopic,
    TopicTarget,
};
use crate::catalog::error::{CatalogError, ChangeError, Denied};
use crate::catalog::model::{AppSpec, Classification, Cleanup, Operation, Secret, TeamRole, TeamSpec, TopicSpec, User};
use crate::catalog::page::PageRequest;
use crate::catalog::put::Precondition;
use crate::names::{AppName, Email, NameError, TeamName, TopicName, TopicPrefix};

/// The person the demo signs people in as: administrator, and maintainer of flight operations.
pub const SIGN_IN_AS: &str = "ada@airport.example";

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The company could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CompanyError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("the account {0} is missing")]
    NoAccount(Email),
}

struct TeamRow {
    name: &'static str,
    description: &'static str,
    maintainer: &'static str,
    member: &'static str,
}

const PEOPLE: &[(&str, &str)] = &[
    (SIGN_IN_AS, "Ada Okafor"),
    ("grace@airport.example", "Grace Lindqvist"),
    ("katherine@airport.example", "Katherine Moreau"),
    ("hedy@airport.example", "Hedy Tanaka"),
];

const TEAMS: &[TeamRow] = &[
    TeamRow {
        name: "flight-operations",
        description: "Runs the departures of EWR, JFK and LGA.",
        maintainer: SIGN_IN_AS,
        member: "katherine@airport.example",
    },
    TeamRow {
        name: "weather-service",
        description: "Observes the weather at the three airports.",
        maintainer: "grace@airport.example",
        member: "hedy@airport.example",
    },
    TeamRow {
        name: "reference-data",
        description: "Keeps the airlines, airports and planes that everybody refers to.",
        maintainer: "hedy@airport.example",
        member: "grace@airport.example",
    },
    TeamRow {
        name: "passenger-services",
        description: "Tells passengers what they need to know.",
        maintainer: "katherine@airport.example",
        member: SIGN_IN_AS,
    },
];

struct AppRow {
    name: &'static str,
    team: &'static str,
    by: &'static str,
    owners: &'static [&'static str],
    description: &'static str,
}

const APPS: &[AppRow] = &[
    AppRow {
        name: "departure-control",
        team: "flight-operations",
        by: SIGN_IN_AS,
        owners: &[SIGN_IN_AS, "katherine@airport.example"],
        description: "Records every departure as it happens.",
    },
    AppRow {
        name: "weather-station",
        team: "weather-service",
        by: "grace@airport.example",
        owners: &["grace@airport.example", "hedy@airport.example"],
        description: "Hourly observations from the field.",
    },
    AppRow {
        name: "registry",
        team: "reference-data",
        by: "hedy@airport.example",
        owners: &["hedy@airport.example"],
        description: "The golden copy of airlines, airports and planes.",
    },
    AppRow {
        name: "departure-board",
        team: "passenger-services",
        by: "katherine@airport.example",
        owners: &["katherine@airport.example", SIGN_IN_AS],
        description: "The big screen in the hall.",
    },
    AppRow {
        name: DELAY_ALERTS,
        team: "passenger-services",
        by: "katherine@airport.example",
        owners: &["katherine@airport.example", SIGN_IN_AS],
        description: "Reads departures and tells passengers of long delays.",
    },
];

/// The application that reads one topic and writes another.
pub const DELAY_ALERTS: &str = "delay-alerts";
/// One record a departure.
pub const DEPARTURES: &str = "flights.departures";
/// One record an hourly observation.
pub const WEATHER: &str = "flights.weather";
/// One record a long delay or cancellation, derived from [`DEPARTURES`].
pub const DELAYS: &str = "flights.delays";
/// Carrier codes, compacted.
pub const AIRLINES: &str = "flights.airlines";
/// Airports, compacted.
pub const AIRPORTS: &str = "flights.airports";
/// Planes, compacted.
pub const PLANES: &str = "flights.planes";

struct TopicRow {
    name: &'static str,
    app: &'static str,
    by: &'static str,
    partitions: u32,
    retention_days: Option<i64>,
    classification: Classification,
    description: &'static str,
}

const TOPICS: &[TopicRow] = &[
    TopicRow {
        name: DEPARTURES,
        app: "departure-control",
        by: SIGN_IN_AS,
        partitions: 6,
        retention_days: Some(30),
        classification: Classification::Internal,
        description: "One event for every **departure** from EWR, JFK and LGA, when the flight leaves or is cancelled.\n\n\
            * Key: carrier and flight number (`UA1545`), so one flight stays in order.\n\
            * `departure_delay_min` is negative for an early departure and missing when `cancelled`.\n\
            * Times are UTC; distances are miles.\n\n\
            Join `carrier` with `flights.airlines`, `destination` with `flights.airports`, `tail_number` with `flights.planes`.",
    },
    TopicRow {
        name: WEATHER,
        app: "weather-station",
        by: "grace@airport.example",
        partitions: 3,
        retention_days: Some(30),
        classification: Classification::Public,
        description: "Hourly **observations** at the three airports, keyed by airport. A value that the station did not report is `null`.",
    },
    TopicRow {
        name: DELAYS,
        app: DELAY_ALERTS,
        by: "katherine@airport.example",
        partitions: 3,
        retention_days: Some(7),
        classification: Classification::Internal,
        description: "Departures that are **an hour or more late, or cancelled**: computed from `flights.departures` as they happen.",
    },
    TopicRow {
        name: AIRLINES,
        app: "registry",
        by: "hedy@airport.example",
        partitions: 1,
        retention_days: None,
        classification: Classification::Public,
        description: "Airlines by carrier code. Compacted: the last record of a code is the airline.",
    },
    TopicRow {
        name: AIRPORTS,
        app: "registry",
        by: "hedy@airport.example",
        partitions: 1,
        retention_days: None,
        classification: Classification::Public,
        description: "Airports by FAA code, with place and time zone. Compacted.",
    },
    TopicRow {
        name: PLANES,
        app: "registry",
        by: "hedy@airport.example",
        partitions: 3,
        retention_days: None,
        classification: Classification::Internal,
        description: "Planes by tail number: maker, model, seats. Compacted.",
    },
];

/// Who may consume which topic: (topic, owner of the topic's team, application).
const CONSUMERS: &[(&str, &str, &str)] = &[
    (DEPARTURES, SIGN_IN_AS, "departure-board"),
    (DEPARTURES, SIGN_IN_AS, DELAY_ALERTS),
    (WEATHER, "grace@airport.example", "departure-control"),
    (WEATHER, "grace@airport.example", "departure-board"),
    (DELAYS, "katherine@airport.example", "departure-control"),
];

/// Who may consume everything of an owner under a prefix: (owner, by, prefix, application).
const PREFIX_CONSUMERS: &[(&str, &str, &str, &str)] = &[
    ("registry", "hedy@airport.example", "flights.", "departure-control"),
    ("registry", "hedy@airport.example", "flights.", "departure-board"),
];

/// Makes the company, or what is missing of it. Returns the password of [`SIGN_IN_AS`] if the account is new.
pub async fn ensure(catalog: &Catalog) -> Result<Option<Secret>, CompanyError> {
    let password = people(catalog).await?;
    for row in TEAMS {
        team(catalog, row).await?;
    }
    for row in APPS {
        application(catalog, row).await?;
    }
    for row in TOPICS {
        topic(catalog, row).await?;
    }
    for (topic, by, app) in CONSUMERS {
        let actor = person(catalog, by).await?;
        let grant = catalog.authorize::<ShareTopic>(&actor, &topic.parse::<TopicName>()?)?;
        let mut tx = catalog.begin(&actor).await?;
        tx.put_access(&grant, &app.parse()?, &[Operation::Consume], None, Precondition::None).await?;
        tx.commit().await?;
    }
    for (owner, by, prefix, app) in PREFIX_CONSUMERS {
        let actor = person(catalog, by).await?;
        let grant = catalog.authorize::<SharePrefix>(&actor, &owner.parse::<AppName>()?)?;
        let mut tx = catalog.begin(&actor).await?;
        let prefix = prefix.parse::<TopicPrefix>()?;
        tx.put_prefix_access(&grant, &prefix, &app.parse()?, &[Operation::Consume], None, Precondition::None).await?;
        tx.commit().await?;
    }
    Ok(password)
}

/// The demo's application as an actor, without a token: it runs inside this process.
pub fn application_actor(catalog: &Catalog, name: &str) -> Result<Arc<Actor>, CompanyError> {
    let name = name.parse::<AppName>()?;
    let system = Actor::system();
    let read = catalog.authorize::<crate::catalog::access::ReadCatalog>(&system, &())?;
    let app = catalog.app(&read, &name)?;
    let principal = Principal::App { id: app.id, name, team: app.team_id };
    Ok(Arc::new(Actor { principal, ..Actor::clone(&system) }))
}

async fn account(catalog: &Catalog, email: &Email) -> Result<Option<User>, CompanyError> {
    let admin = catalog.authorize::<Administer>(&Actor::system(), &())?;
    let page = catalog.users(&admin, Some(email.as_str()), &PageRequest::first(10)).await?;
    Ok(page.items.into_iter().find(|user| user.email == *email))
}

async fn person(catalog: &Catalog, email: &str) -> Result<Arc<Actor>, CompanyError> {
    let email = email.parse::<Email>()?;
    let user = account(catalog, &email).await?.ok_or(CompanyError::NoAccount(email))?;
    let principal = Principal::User { id: user.id, email: user.email, admin: user.admin };
    Ok(Arc::new(Actor { principal, ..Actor::clone(&Actor::system()) }))
}

async fn people(catalog: &Catalog) -> Result<Option<Secret>, CompanyError> {
    let mut password = None;
    let admin = catalog.authorize::<Administer>(&Actor::system(), &())?;
    for (email, name) in PEOPLE {
        let address = email.parse::<Email>()?;
        if account(catalog, &address).await?.is_none() {
            let (_, secret) = catalog.create_user(&admin, &address, name, *email == SIGN_IN_AS, None).await?;
            if *email == SIGN_IN_AS {
                password = secret;
            }
        }
    }
    Ok(password)
}

async fn team(catalog: &Catalog, row: &TeamRow) -> Result<(), CompanyError> {
    let actor = person(catalog, row.maintainer).await?;
    let name = row.name.parse::<TeamName>()?;
    let grant = catalog.authorize::<PutTeam>(&actor, &name)?;
    let mut tx = catalog.begin(&actor).await?;
    tx.put_team(&grant, &TeamSpec { description: row.description.to_owned() }, Precondition::None).await?;
    tx.commit().await?;
    let grant = catalog.authorize::<ManageTeam>(&actor, &name)?;
    let mut tx = catalog.begin(&actor).await?;
    tx.set_member(&grant, &row.member.parse()?, TeamRole::Member).await?;
    tx.commit().await?;
    Ok(())
}

async fn application(catalog: &Catalog, row: &AppRow) -> Result<(), CompanyError> {
    let actor = person(catalog, row.by).await?;
    let target = AppTarget { name: row.name.parse()?, team: row.team.parse()? };
    let grant = catalog.authorize::<PutApp>(&actor, &target)?;
    let spec = AppSpec {
        description: row.description.to_owned(),
        owners: row.owners.iter().map(|owner| owner.parse()).collect::<Result<_, _>>()?,
        repository: Some(format!("https://git.airport.example/{}/{}", row.team, row.name)),
        runbook: Some(format!("https://wiki.airport.example/runbooks/{}", row.name)),
        contacts: [("chat".to_owned(), format!("#{}", row.team))].into(),
        ..AppSpec::new(target.team.clone())
    };
    let mut tx = catalog.begin(&actor).await?;
    tx.put_app(&grant, &spec, Precondition::None).await?;
    tx.commit().await?;
    Ok(())
}

async fn topic(catalog: &Catalog, row: &TopicRow) -> Result<(), CompanyError> {
    let actor = person(catalog, row.by).await?;
    let target = TopicTarget { name: row.name.parse()?, app: row.app.parse()? };
    let grant = catalog.authorize::<PutTopic>(&actor, &target)?;
    let spec = TopicSpec {
        description: row.description.to_owned(),
        classification: row.classification,
        partitions: row.partitions,
        retention_ms: row.retention_days.map(|days| days * DAY_MS),
        cleanup: if row.retention_days.is_some() { Cleanup::Delete } else { Cleanup::Compact },
        labels: [("domain".to_owned(), "flights".to_owned())].into(),
        ..TopicSpec::new(target.app.clone())
    };
    let mut tx = catalog.begin(&actor).await?;
    tx.put_topic(&grant, &spec, Precondition::None).await?;
    tx.commit().await?;
    Ok(())
}
