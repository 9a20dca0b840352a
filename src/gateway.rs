//! The data path: the only place where rights and records meet.
//!
//! Every way in takes a [`Grant`](crate::catalog::access::Grant), which only the catalog can make (invariant I5), and ends
//! in the engine, which knows nothing of people. REST, streams, the portal and later faces all go through here.

pub mod cursor;
pub mod end;
mod feed;
mod in_turn;
pub mod locate;
pub mod places;
pub mod position;
pub mod produce;
pub mod read;
pub mod streams;
pub mod subscribe;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use self::end::EndReason;
pub use self::feed::Records;
pub use self::locate::{Gap, LocateError, OnGap};
pub use self::position::Position;
pub use self::produce::{Idempotency, ProduceError, ProduceOptions, Produced};
pub use self::read::{Page, ReadRecord, ReadRequest, RecordError};
pub use self::subscribe::{End, Event, SessionUse, SubscribeError, SubscribeRequest, Subscription};

use self::in_turn::InTurn;
use self::places::{Place, Places, TopicPlaces};
use self::streams::{STREAMS_MAX, STREAMS_PER_TENANT_MAX, StreamPermit, Streams, TooManyStreams};
use crate::broker::engine::{Bounds, Engine, FetchError, Tenant};
use crate::catalog::Catalog;
use crate::catalog::access::{Actor, Principal};
use crate::catalog::model::Topic;
use crate::clock::Clock;
use crate::names::{Offset, TopicPartition};

/// Reads and writes records for those who may. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    engine: Arc<dyn Engine>,
    catalog: Catalog,
    clock: Arc<dyn Clock>,
    in_turn: Arc<InTurn>,
    streams: Streams,
    /// Partitions that pages are being read from, over all callers.
    reading: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway between this catalog and this engine.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, catalog: Catalog, clock: Arc<dyn Clock>) -> Self {
        let streams = Streams::new(STREAMS_MAX, STREAMS_PER_TENANT_MAX);
        let reading = Arc::new(Semaphore::new(read::READING_MAX));
        Self { engine, catalog, clock, in_turn: Arc::default(), streams, reading }
    }

    /// Open streams, to count and bound them.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// A place among the open streams, for a long request that is no subscription.
    pub fn stream_permit(&self, actor: &Actor) -> Result<StreamPermit, TooManyStreams> {
        self.streams.permit(tenant_of(actor))
    }

    /// The readable range of each partition of a topic. For descriptions: it shows how much there is, not what.
    pub fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, FetchError> {
        let of = |partition| self.engine.bounds(TopicPartition { topic: topic.id, partition });
        (0..topic.partitions).map(of).collect()
    }

    /// Bytes kept for a topic.
    #[must_use]
    pub fn stored_bytes(&self, topic: &Topic) -> u64 {
        self.engine.stored_bytes(topic.id)
    }

    /// The place right after what was written, and the end of the other partitions.
    pub fn after(&self, topic: &Arc<Topic>, produced: &Produced) -> Result<Places, FetchError> {
        let place = |partition| {
            let runs = produced.appended.iter().filter(|run| run.to.partition == partition);
            let last = runs.map(|run| Offset(run.first.0 + i64::from(run.count))).max();
            let end = || self.engine.bounds(TopicPartition { topic: topic.id, partition }).map(|bounds| bounds.end);
            Ok(Place { partition, next: last.map_or_else(end, Ok)? })
        };
        let partitions = (0..topic.partitions).map(place).collect::<Result<_, FetchError>>()?;
        Ok(Places { topics: vec![TopicPlaces::new(Arc::clone(topic), partitions)] })
    }
}

/// Who is billed and scheduled: the application, or the person.
fn tenant_of(actor: &Actor) -> Tenant {
    match &actor.principal {
        Principal::User { id, .. } => Tenant(id.0),
        Principal::App { id, .. } => Tenant(id.0),
        Principal::System => Tenant(uuid::Uuid::nil()),
    }
}
