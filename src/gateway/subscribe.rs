//! A stream of records that keeps asking whether it still may.
//!
//! Pulled, never pushed: the face that sends asks for the next event when it can send it. Rights are checked when the
//! subscription opens, on every change of the catalog, each minute, and when the token or a grant runs out; the portal
//! session that it belongs to is looked up more often, because its end is no change of the catalog.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::end::EndReason;
use super::feed::{Fed, Feed, FeedOptions, Records};
use super::locate::{Gap, LocateError, Locator, OnGap, Reach};
use super::places::Places;
use super::position::Position;
use super::streams::{StreamPermit, TooManyStreams};
use super::{Gateway, tenant_of};
use crate::broker::engine::FetchError;
use crate::catalog::access::{Actor, Consume, Grant};
use crate::catalog::model::{Secret, Topic};
use crate::names::{Offset, TopicName, TopicPartition};

/// How long a stream lasts, give or take [`LIFETIME_SPREAD`].
const LIFETIME: Duration = Duration::from_secs(3600);
/// So that streams that began together do not end together.
const LIFETIME_SPREAD: f64 = 0.1;
/// Rights are checked at least so often.
const REAUTHORISE_EVERY: Duration = Duration::from_secs(60);
/// The session is looked up again so often, so that signing out and a new password end the stream.
const SESSION_CHECK_EVERY: Duration = Duration::from_secs(15);
/// Longest wait for that look; without an answer the stream goes on, since rights are checked from the view all the same.
const SESSION_CHECK_MAX: Duration = Duration::from_secs(5);
/// Progress that shows no record is reported at least so often.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// A client that comes back waits at least so long, and at most three times as long.
const RETRY_MS: u64 = 500;
/// A stream that misses partitions looks again after so long: they may still be being made.
const NOT_READY_RETRY: Duration = Duration::from_millis(250);

/// What to subscribe to.
#[derive(Debug)]
pub struct SubscribeRequest {
    /// Topics, each with the right to read it; all of one actor.
    pub grants: Vec<Grant<Consume>>,
    /// Beginnings of topic names: readable topics that match join the stream when they appear.
    pub prefixes: Vec<String>,
    /// Only these partitions.
    pub partitions: Option<Vec<u32>>,
    /// Where to begin.
    pub from: Position,
    /// Where to stop.
    pub to: Option<Position>,
    /// What to do about records that are gone.
    pub on_gap: OnGap,
    /// Stop after so many records.
    pub limit: Option<u64>,
    /// Only records with exactly this key.
    pub key: Option<Bytes>,
    /// At most so many records in a second, for people.
    pub rate_max: Option<u32>,
    /// The portal session that the stream belongs to.
    pub session: Option<SessionUse>,
}

/// A portal session that something was opened with, and ends with.
#[derive(Debug, Clone)]
pub struct SessionUse {
    /// When it ends at the latest.
    pub until: OffsetDateTime,
    /// What its cookie holds.
    pub secret: Secret,
}

impl SubscribeRequest {
    /// Everything from a position on, for one topic.
    #[must_use]
    pub fn new(grant: Grant<Consume>, from: Position) -> Self {
        Self {
            grants: vec![grant],
            prefixes: Vec::new(),
            partitions: None,
            from,
            to: None,
            on_gap: OnGap::Skip,
            limit: None,
            key: None,
            rate_max: None,
            session: None,
        }
    }
}

/// Why a subscription does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The position.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The limit of open streams.
    #[error(transparent)]
    TooManyStreams(#[from] TooManyStreams),
}

/// What a subscription yields.
#[derive(Debug)]
pub enum Event {
    /// First of all.
    Open,
    /// Records, at least one; [`Subscription::places`] is right after them.
    Records(Records),
    /// Records that are gone; the stream goes on after them.
    Gap(Gap),
    /// The position has moved without records to show for it.
    Checkpoint,
    /// `skipped` of `shown + skipped` records were left out, because the rate was exceeded.
    Sampled {
        /// Given.
        shown: u32,
        /// Left out.
        skipped: u64,
    },
    /// The topics of the stream have changed.
    Topics(Vec<TopicName>),
    /// Last of all.
    End(End),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// When to connect again; `None`: not.
    pub retry_after: Option<Duration>,
}

impl End {
    /// An end with a retry time that differs from stream to stream.
    #[must_use]
    pub fn new(reason: EndReason) -> Self {
        let spread = || Duration::from_millis(rand::rng().random_range(RETRY_MS..3 * RETRY_MS));
        Self { reason, retry_after: reason.reconnect().then(spread) }
    }
}

/// See the module's text.
pub struct Subscription {
    gateway: Gateway,
    id: String,
    actor: Arc<Actor>,
    names: Vec<TopicName>,
    prefixes: Vec<String>,
    partitions: Option<Vec<u32>>,
    feed: Feed,
    pending: VecDeque<Event>,
    on_gap: OnGap,
    changes: watch::Receiver<i64>,
    ends_at: Instant,
    lifetime: Duration,
    reauthorise_at: Instant,
    checkpoint_at: Option<Instant>,
    /// Records were looked at that are not for this stream, and there may be more.
    scanning: bool,
    session: Option<SessionUse>,
    session_check_at: Option<Instant>,
    /// One timer and one shutdown listener for the life of the stream, instead of one per wait.
    timer: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping: CancellationToken,
    end: Option<End>,
    _permit: StreamPermit,
}

impl Gateway {
    /// Opens a stream. `shutdown` ends it when the process stops.
    pub async fn subscribe(
        &self,
        request: SubscribeRequest,
        shutdown: &CancellationToken,
    ) -> Result<Subscription, SubscribeError> {
        let Some(first) = request.grants.first() else {
            return Err(LocateError::Invalid("there is no topic to read".to_owned()).into());
        };
        let actor = Arc::clone(first.actor());
        let permit = self.streams.permit(tenant_of(&actor))?;
        // Before the rights are used: a change in between is then seen.
        let changes = self.catalog.changes();
        let topics: Vec<Arc<Topic>> = request.grants.iter().map(|grant| Arc::clone(grant.resource())).collect();
        let names = topics.iter().map(|topic| topic.name.clone()).collect();
        let chosen = request.partitions.as_deref();
        let locator = Locator { engine: &*self.engine, clock: &*self.clock };
        let until = match &request.to {
            None => None,
            Some(to) => Some(until(&locator, &topics, chosen, to).await?),
        };
        let (places, gaps) = locator.locate(&topics, chosen, &request.from, request.on_gap).await?;
        let options = FeedOptions { until, limit: request.limit, key: request.key, rate_max: request.rate_max };
        let feed = Feed::new(Arc::clone(&self.engine), places, options, request.on_gap);
        let spread = rand::rng().random_range(1.0 - LIFETIME_SPREAD..1.0 + LIFETIME_SPREAD);
        let lifetime = LIFETIME.mul_f64(spread);
        let now = Instant::now();
        let mut pending = VecDeque::from([Event::Open]);
        pending.extend(gaps.into_iter().map(Event::Gap));
        let mut subscription = Subscription {
            gateway: self.clone(),
            id: format!("str_{}", uuid::Uuid::now_v7().simple()),
            actor,
            names,
            prefixes: request.prefixes,
            partitions: request.partitions,
            feed,
            pending,
            on_gap: request.on_gap,
            changes,
            ends_at: now + lifetime,
            lifetime,
            reauthorise_at: now,
            checkpoint_at: None,
            scanning: false,
            session_check_at: request.session.as_ref().map(|_| now + SESSION_CHECK_EVERY),
            session: request.session,
            timer: Box::pin(tokio::time::sleep(REAUTHORISE_EVERY)),
            shutdown: Box::pin(shutdown.clone().cancelled_owned()),
            stopping: shutdown.clone(),
            end: None,
            _permit: permit,
        };
        subscription.plan_reauthorisation(&topics);
        Ok(subscription)
    }
}

impl Subscription {
    /// `str_…`, for logs and support.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Next offset to read, everywhere.
    #[must_use]
    pub fn places(&self) -> &Places {
        self.feed.places()
    }

    /// Records that exist and were not yielded yet.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.feed.behind()
    }

    /// After which it will end with [`EndReason::MaxLifetime`].
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The next event if there is one without waiting. After [`Event::End`] it yields the same end again.
    pub async fn ready(&mut self) -> Option<Event> {
        if let Some(event) = self.pending.pop_front() {
            return Some(event);
        }
        if let Some(end) = self.end {
            return Some(Event::End(end));
        }
        if let Some(event) = self.check() {
            return Some(event);
        }
        if self.session_check_at.is_some_and(|due| Instant::now() >= due) {
            // Boxed: a stream's future would else have room for a query all its life.
            if let Some(event) = Box::pin(self.check_session()).await {
                return Some(event);
            }
        }
        match self.feed.poll().await {
            Ok(Fed::Records(records)) => {
                self.checkpoint_at = None;
                Some(Event::Records(records))
            }
            Ok(Fed::Gap(_)) if self.on_gap == OnGap::Fail => Some(self.finish(EndReason::CursorExpired)),
            Ok(Fed::Gap(gap)) => Some(Event::Gap(gap)),
            Ok(Fed::Sampled { shown, skipped }) => Some(Event::Sampled { shown, skipped }),
            Ok(Fed::ReachedUntil) => Some(self.finish(EndReason::ReachedTo)),
            Ok(Fed::ReachedLimit) => Some(self.finish(EndReason::ReachedLimit)),
            Ok(Fed::Scanned) => {
                self.scanning = true;
                self.checkpoint()
            }
            Ok(Fed::Nothing) => self.checkpoint(),
            Err(error) => self.failed(&error),
        }
    }

    /// Waits until [`Self::ready`] may have something. Cancel-safe.
    pub async fn wait(&mut self) {
        if std::mem::take(&mut self.scanning) {
            // A search through all that is kept must not keep others from running, nor itself from noticing its end.
            tokio::task::yield_now().await;
            return;
        }
        let now = Instant::now();
        let checks = [Some(self.reauthorise_at), self.session_check_at];
        let due = [Some(self.ends_at), self.checkpoint_at, self.feed.due()].into_iter().chain(checks);
        let due = due.flatten().min().unwrap_or(now + REAUTHORISE_EVERY);
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        if self.stopping.is_cancelled() {
            return;
        }
        tokio::select! {
            () = self.feed.changed() => {}
            _ = self.changes.changed() => self.reauthorise_at = now,
            () = self.timer.as_mut() => {}
            () = self.shutdown.as_mut() => {}
        }
    }

    /// The next event, waiting for it. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready().await {
                return event;
            }
            self.wait().await;
        }
    }

    /// Puts records back that were not sent, so that [`Self::places`] stands before them. For a stream that ends there.
    pub fn unread(&mut self, records: &Records) {
        self.feed.unread(records);
    }

    /// Ends it for a reason the face has found.
    pub fn finish(&mut self, reason: EndReason) -> Event {
        let end = End::new(reason);
        self.end = Some(end);
        Event::End(end)
    }

    /// Lifetime, shutdown and rights.
    fn check(&mut self) -> Option<Event> {
        if self.stopping.is_cancelled() {
            return Some(self.finish(EndReason::Draining));
        }
        let now = Instant::now();
        if now >= self.ends_at {
            return Some(self.finish(EndReason::MaxLifetime));
        }
        if now < self.reauthorise_at && !self.changes.has_changed().unwrap_or(false) {
            return None;
        }
        self.changes.mark_unchanged();
        self.reauthorise()
    }

    /// Whether the session is still there.
    async fn check_session(&mut self) -> Option<Event> {
        let secret = self.session.as_ref()?.secret.expose();
        let found = tokio::time::timeout(SESSION_CHECK_MAX, self.gateway.catalog.session(secret)).await;
        self.session_check_at = Some(Instant::now() + SESSION_CHECK_EVERY);
        matches!(found, Ok(Ok(None))).then(|| self.finish(EndReason::SessionExpired))
    }

    fn reauthorise(&mut self) -> Option<Event> {
        if self.session.as_ref().is_some_and(|session| self.gateway.clock.now_datetime() >= session.until) {
            return Some(self.finish(EndReason::SessionExpired));
        }
        let mut topics = Vec::with_capacity(self.names.len());
        for name in &self.names {
            match self.gateway.catalog.authorize::<Consume>(&self.actor, name) {
                Ok(grant) => topics.push(Arc::clone(grant.resource())),
                // A topic that came by its prefix may go again; the credential may not.
                Err(denied) if self.by_prefix(name) && !ends_all(&denied) => {}
                Err(denied) => return Some(self.finish(EndReason::from(&denied))),
            }
        }
        let known = &self.feed.places().topics;
        let recreated = |topic: &Arc<Topic>| known.iter().any(|k| k.topic.name == topic.name && k.topic.id != topic.id);
        if topics.iter().any(recreated) {
            return Some(self.finish(EndReason::TopicRecreated));
        }
        self.join_new(&mut topics);
        self.plan_reauthorisation(&topics);
        let names: Vec<TopicName> = topics.iter().map(|topic| topic.name.clone()).collect();
        let different = names != self.names;
        self.names.clone_from(&names);
        self.feed.set_topics(&topics, self.partitions.as_deref());
        if self.feed.incomplete() {
            self.reauthorise_at = self.reauthorise_at.min(Instant::now() + NOT_READY_RETRY);
        }
        different.then_some(Event::Topics(names))
    }

    fn by_prefix(&self, name: &TopicName) -> bool {
        self.prefixes.iter().any(|prefix| name.as_str().starts_with(prefix.as_str()))
    }

    /// Adds readable topics that match a prefix and are not in the stream yet, as far as the bounds of a reader allow.
    fn join_new(&self, topics: &mut Vec<Arc<Topic>>) {
        if self.prefixes.is_empty() {
            return;
        }
        let view = self.gateway.catalog.view();
        let with = |reach: Reach, topic: &Topic| {
            reach.and(&topic.name, usize::try_from(topic.partitions).unwrap_or(usize::MAX))
        };
        let mut reach = topics.iter().fold(Reach::default(), |reach, topic| with(reach, topic));
        for topic in view.topics() {
            if !self.by_prefix(&topic.name) || self.names.contains(&topic.name) {
                continue;
            }
            let further = with(reach, topic);
            if further.check().is_err() {
                return;
            }
            if let Ok(grant) = self.gateway.catalog.authorize::<Consume>(&self.actor, &topic.name) {
                reach = further;
                topics.push(Arc::clone(grant.resource()));
            }
        }
    }

    /// Next check: in a minute, or when the token, the session or a grant on one of the topics runs out.
    fn plan_reauthorisation(&mut self, topics: &[Arc<Topic>]) {
        let now = self.gateway.clock.now_datetime();
        let view = self.gateway.catalog.view();
        let grants = topics.iter().flat_map(|topic| view.grants_on(topic).filter_map(|grant| grant.expires_at));
        let token = self.actor.token.as_ref().and_then(|token| token.expires_at);
        let next = grants
            .chain(token)
            .chain(self.session.as_ref().map(|session| session.until))
            .filter(|moment| *moment > now)
            .min();
        let left = next.map_or(REAUTHORISE_EVERY, |moment| {
            // One millisecond more, so that the moment is over when it is looked at.
            Duration::try_from(moment - now).unwrap_or_default() + Duration::from_millis(1)
        });
        self.reauthorise_at = Instant::now() + left.min(REAUTHORISE_EVERY);
    }

    /// Tells progress that no record shows: at once when the end is reached for the first time, then now and then.
    fn checkpoint(&mut self) -> Option<Event> {
        if self.feed.take_moved_unseen() && self.checkpoint_at.is_none() {
            self.checkpoint_at = Some(Instant::now() + CHECKPOINT_EVERY);
        }
        if self.checkpoint_at.is_some_and(|due| Instant::now() >= due) {
            self.checkpoint_at = None;
            return Some(Event::Checkpoint);
        }
        None
    }

    fn failed(&mut self, error: &FetchError) -> Option<Event> {
        match error {
            FetchError::Stopped => Some(self.finish(EndReason::Draining)),
            FetchError::Damaged { at } => {
                tracing::error!(stream = self.id, %at, "a stream met damaged records");
                Some(self.finish(EndReason::Damaged))
            }
            // Deleted, or not made yet: the catalog knows which, at the next check.
            FetchError::UnknownPartition(_) | FetchError::OutOfRange(_) => {
                self.reauthorise_at = self.reauthorise_at.min(Instant::now() + NOT_READY_RETRY);
                None
            }
        }
    }
}

/// Whether a refusal is about the caller rather than about one topic.
fn ends_all(denied: &crate::catalog::error::Denied) -> bool {
    use crate::catalog::error::Denied;
    matches!(denied, Denied::AppSuspended { .. } | Denied::Credential(_))
}

async fn until(
    locator: &Locator<'_>,
    topics: &[Arc<Topic>],
    chosen: Option<&[u32]>,
    to: &Position,
) -> Result<HashMap<TopicPartition, Offset>, LocateError> {
    let places = locator.locate_end(topics, chosen, to).await?;
    Ok(places.slots().map(|slot| (places.address(slot), places.place(slot).next)).collect())
}
