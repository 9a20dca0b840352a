//! Sends the demo's events: reference data and a first day at once, then departures and weather live, at a chosen speed.
//!
//! How far the replay has come is read from the topic itself, so that a restart goes on where the last run stopped. After
//! the last event of the week it begins again with the first.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::company::{self, CompanyError};
use super::dataset::{Dataset, Event};
use crate::broker::engine::FetchError;
use crate::broker::record::{Record, ValueKind};
use crate::catalog::Catalog;
use crate::catalog::access::{Actor, Consume, Produce, ReadCatalog};
use crate::catalog::error::Denied;
use crate::clock::{Clock, Timestamp};
use crate::gateway::{
    self, Gateway, Idempotency, Position, ProduceError, ProduceOptions, SubscribeError, SubscribeRequest,
};
use crate::names::{NameError, TopicName};

/// Minutes of delay from which passengers are told.
const LONG_DELAY_MIN: f64 = 60.0;
/// How much of the week is there at once on the first run, in the data's time.
const BACKLOG: time::Duration = time::Duration::hours(24);
/// Records in one produce of the backlog.
const BACKLOG_BATCH_RECORDS: usize = 500;
/// How far the derived topic looks back when it starts; its idempotency keys keep repeats out.
const CATCH_UP: Duration = Duration::from_secs(3600);

/// The replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Company(#[from] CompanyError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
}

/// An event and the topic it goes to.
struct Step<'a> {
    topic: &'static str,
    at: OffsetDateTime,
    event: &'a Event,
}

/// See the module's text.
pub struct Replay {
    catalog: Catalog,
    gateway: Gateway,
    clock: Arc<dyn Clock>,
    data: Dataset,
    speed: f64,
}

impl Replay {
    /// A replay in which one second lasts `speed` seconds of the data.
    #[must_use]
    pub fn new(catalog: Catalog, gateway: Gateway, clock: Arc<dyn Clock>, data: Dataset, speed: f64) -> Self {
        Self { catalog, gateway, clock, data, speed }
    }

    /// Sends what should be there before anybody looks. Topics that hold records are left alone.
    pub async fn prepare(&self) -> Result<(), ReplayError> {
        for (topic, app, events) in [
            (company::AIRLINES, "registry", &self.data.airlines),
            (company::AIRPORTS, "registry", &self.data.airports),
            (company::PLANES, "registry", &self.data.planes),
        ] {
            if self.sent(topic)? == 0 {
                let actor = company::application_actor(&self.catalog, app)?;
                let records: Vec<Record> = events.iter().map(|event| record(event, None)).collect();
                self.send_all(&actor, topic, records).await?;
            }
        }
        if self.sent(company::DEPARTURES)? == 0 {
            self.send_backlog().await?;
        }
        Ok(())
    }

    /// Sends events as their time comes, until stopped.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), ReplayError> {
        let steps = self.steps();
        let mut next = self.position(&steps)?;
        loop {
            let Some(first) = steps.get(next) else {
                next = 0;
                continue;
            };
            let (began, data_began) = (Instant::now(), first.at);
            for step in &steps[next..] {
                let due = began + (step.at - data_began).unsigned_abs().div_f64(self.speed);
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep_until(due) => {}
                }
                let actor = company::application_actor(&self.catalog, app_of(step.topic))?;
                self.send_all(&actor, step.topic, vec![record(step.event, None)]).await?;
            }
            next = 0;
        }
    }

    /// Reads departures as `delay-alerts` would and writes what passengers should know, until stopped.
    pub async fn watch_delays(&self, stop: &CancellationToken) -> Result<(), ReplayError> {
        let actor = company::application_actor(&self.catalog, company::DELAY_ALERTS)?;
        while !stop.is_cancelled() {
            let from = match self.sent(company::DELAYS)? {
                0 => Position::Earliest,
                _ => Position::Ago(CATCH_UP),
            };
            let consume = self.catalog.authorize::<Consume>(&actor, &company::DEPARTURES.parse::<TopicName>()?)?;
            let mut departures = self.gateway.subscribe(SubscribeRequest::new(consume, from), stop).await?;
            loop {
                match departures.next().await {
                    gateway::Event::Records(records) => self.send_delays(&actor, &records).await?,
                    gateway::Event::End(_) => break,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn send_delays(&self, actor: &Arc<Actor>, records: &gateway::Records) -> Result<(), ReplayError> {
        for (_, departure) in records.iter() {
            let Some(delay) = departure.value.and_then(long_delay) else { continue };
            let source = format!("{}:{}", records.partition, departure.offset);
            let produce = self.catalog.authorize::<Produce>(actor, &company::DELAYS.parse::<TopicName>()?)?;
            let record = Record {
                key: departure.key.map(bytes::Bytes::copy_from_slice),
                value: Some(delay.into()),
                timestamp: Some(departure.timestamp),
                ..Record::default()
            };
            let request = Sha256::digest(source.as_bytes()).into();
            let idempotency = Some(Idempotency { key: source, request });
            let options = ProduceOptions { idempotency, ..ProduceOptions::default() };
            self.gateway.produce(&produce, vec![record], ValueKind::Json, options).await?;
        }
        Ok(())
    }

    /// Departures and weather in the order of their time.
    fn steps(&self) -> Vec<Step<'_>> {
        let departures = timed(company::DEPARTURES, &self.data.departures);
        let mut steps: Vec<Step<'_>> = departures.chain(timed(company::WEATHER, &self.data.weather)).collect();
        steps.sort_by_key(|step| step.at);
        steps
    }

    /// The step after the last one that was sent.
    fn position(&self, steps: &[Step<'_>]) -> Result<usize, ReplayError> {
        let departures = self.data.departures.len().max(1);
        let sent = usize::try_from(self.sent(company::DEPARTURES)?).unwrap_or(0) % departures;
        let mut seen = 0;
        let next = steps.iter().position(|step| {
            seen += usize::from(step.topic == company::DEPARTURES);
            seen > sent
        });
        Ok(next.unwrap_or(0))
    }

    /// The first day, with times as if it had been replayed at this speed up to now.
    async fn send_backlog(&self) -> Result<(), ReplayError> {
        let steps = self.steps();
        let Some(until) = steps.first().map(|step| step.at + BACKLOG) else { return Ok(()) };
        let now = self.clock.now();
        for topic in [company::DEPARTURES, company::WEATHER] {
            let day = steps.iter().filter(|step| step.topic == topic && step.at < until);
            let records: Vec<Record> = day
                .map(|step| {
                    let ago = (until - step.at).unsigned_abs().div_f64(self.speed).as_millis();
                    let at = Timestamp(now.0 - i64::try_from(ago).unwrap_or(0));
                    record(step.event, Some(at))
                })
                .collect();
            let actor = company::application_actor(&self.catalog, app_of(topic))?;
            self.send_all(&actor, topic, records).await?;
        }
        Ok(())
    }

    async fn send_all(&self, actor: &Arc<Actor>, topic: &str, records: Vec<Record>) -> Result<(), ReplayError> {
        let topic = topic.parse::<TopicName>()?;
        for part in records.chunks(BACKLOG_BATCH_RECORDS) {
            let grant = self.catalog.authorize::<Produce>(actor, &topic)?;
            self.gateway.produce(&grant, part.to_vec(), ValueKind::Json, ProduceOptions::default()).await?;
        }
        Ok(())
    }

    /// Records ever written to the topic.
    fn sent(&self, topic: &str) -> Result<i64, ReplayError> {
        let read = self.catalog.authorize::<ReadCatalog>(&Actor::system(), &())?;
        let topic = self.catalog.topic(&read, &topic.parse()?)?;
        Ok(self.gateway.bounds(&topic)?.iter().map(|bounds| bounds.end.0).sum())
    }
}

fn timed<'a>(topic: &'static str, events: &'a [Event]) -> impl Iterator<Item = Step<'a>> {
    events.iter().filter_map(move |event| event.at.map(|at| Step { topic, at, event }))
}

fn app_of(topic: &str) -> &'static str {
    if topic == company::WEATHER { "weather-station" } else { "departure-control" }
}

fn record(event: &Event, timestamp: Option<Timestamp>) -> Record {
    Record {
        key: Some(event.key.clone().into()),
        value: Some(event.value.clone().into()),
        timestamp,
        ..Record::default()
    }
}

/// What a departure tells that passengers care about.
#[derive(Deserialize)]
struct Departed<'a> {
    flight: &'a str,
    origin: &'a str,
    destination: &'a str,
    scheduled: &'a str,
    cancelled: bool,
    departure_delay_min: Option<f64>,
}

/// What passengers are told.
#[derive(Serialize)]
struct Alert<'a> {
    flight: &'a str,
    status: &'static str,
    delay_min: Option<f64>,
    origin: &'a str,
    destination: &'a str,
    scheduled: &'a str,
}

/// What to tell passengers about a departure, if anything.
fn long_delay(departure: &[u8]) -> Option<String> {
    let departed: Departed<'_> = serde_json::from_slice(departure).ok()?;
    let late = departed.departure_delay_min.is_some_and(|minutes| minutes >= LONG_DELAY_MIN);
    let alert = Alert {
        flight: departed.flight,
        status: if departed.cancelled { "cancelled" } else { "delayed" },
        delay_min: departed.departure_delay_min,
        origin: departed.origin,
        destination: departed.destination,
        scheduled: departed.scheduled,
    };
    (departed.cancelled || late).then(|| serde_json::to_string(&alert).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passengers_are_told_of_an_hours_delay_and_of_a_cancellation_only() {
        let told = |what: &str| {
            let text = format!(r#"{{"flight":"AA1","origin":"JFK","destination":"MIA","scheduled":"x",{what}}}"#);
            long_delay(text.as_bytes()).map(|alert| alert.contains("cancelled"))
        };
        assert_eq!(told(r#""cancelled":false,"departure_delay_min":59.0"#), None);
        assert_eq!(told(r#""cancelled":false,"departure_delay_min":60.0"#), Some(false));
        assert_eq!(told(r#""cancelled":true"#), Some(true));
        assert_eq!(long_delay(b"no JSON"), None);
    }
}
