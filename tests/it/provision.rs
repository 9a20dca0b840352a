//! From what the catalog wants to what the engine has.

use std::time::Duration;

use weir::broker::engine::{Engine as _, FetchError};
use weir::broker::memory::MemoryEngine;
use weir::catalog::access::{Actor, Grant, ManageTopic};
use weir::catalog::put::Precondition;
use weir::clock::{ManualClock, Timestamp};
use weir::names::{Offset, TopicPartition};
use weir::provision::Provisioner;

use crate::harness::Weir;

const START: Timestamp = Timestamp(1_790_000_000_000);

#[tokio::test]
async fn an_engine_that_lost_everything_gets_every_topic_again() {
    let weir = Weir::start().await;
    let orders = weir.topic("orders").await;
    let refunds = weir.topic("refunds").await;
    let empty = std::sync::Arc::new(MemoryEngine::new(std::sync::Arc::new(ManualClock::at(START))));
    let provision = Provisioner::new(empty.clone(), weir.catalog().clone());
    provision.reconcile().await.unwrap();
    provision.reconcile().await.unwrap();
    for topic in [orders, refunds] {
        let last = TopicPartition { topic: topic.id, partition: topic.partitions - 1 };
        assert_eq!(empty.bounds(last).unwrap().end, Offset(0));
    }
}

#[tokio::test]
async fn records_go_when_the_topic_is_purged_and_not_when_it_is_deleted() {
    let clock = ManualClock::at(START);
    let weir = Weir::with().clock(&clock).start().await;
    let topic = weir.topic("orders").await;
    let at = TopicPartition { topic: topic.id, partition: 0 };
    let engine = weir.app().engine().clone();
    let provision = Provisioner::new(engine.clone(), weir.catalog().clone());

    let grant: Grant<ManageTopic> = weir.catalog().authorize(&Actor::system(), &topic.name).unwrap();
    let mut tx = weir.catalog().begin(&Actor::system()).await.unwrap();
    tx.delete_topic(&grant, Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    provision.reconcile().await.unwrap();
    assert!(engine.bounds(at).is_ok(), "it can be restored");

    clock.advance(Duration::from_secs(31 * 24 * 60 * 60));
    provision.reconcile().await.unwrap();
    assert_eq!(engine.bounds(at), Err(FetchError::UnknownPartition(at)));
    provision.reconcile().await.unwrap();
    provision.ensure(&topic).await.unwrap();
    assert!(engine.bounds(at).is_err(), "an old view of the catalog does not bring it back");
}
