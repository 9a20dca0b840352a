//! The demo company: what `weir demo` makes is there, moves, and survives a second start.

use crate::harness::Weir;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_company_has_people_topics_grants_and_live_departures() {
    let weir = Weir::start().await;
    let password = weir.app().start_demo(3600.0).await.unwrap();
    assert!(password.is_some(), "a new account comes with a password");
    let admin = weir.admin().await;

    let topics = admin.get("/v1/topics?q=flights").await.status(200).json();
    let names: Vec<&str> = topics["items"].as_array().unwrap().iter().filter_map(|t| t["name"].as_str()).collect();
    for name in ["airlines", "airports", "delays", "departures", "planes", "weather"] {
        assert!(names.contains(&format!("flights.{name}").as_str()), "{name} is missing in {names:?}");
    }
    let grants = admin.get("/v1/topics/flights.departures/access").await.status(200).text();
    assert!(grants.contains("delay-alerts") && grants.contains("departure-board"), "{grants}");

    let airlines = admin.get("/v1/topics/flights.airlines/records?from=earliest&limit=100").await.status(200);
    let airlines = airlines.json();
    assert_eq!(airlines["records"].as_array().unwrap().len(), 16);

    let mut live = admin.events("/v1/topics/flights.departures/records?format=sse&from=latest").await;
    let departure = live.record().await;
    assert!(departure.json()["value"]["flight"].is_string(), "{departure:?}");

    let mut delays = admin.events("/v1/topics/flights.delays/records?format=sse&from=earliest").await;
    let delay = delays.record().await;
    assert!(["delayed", "cancelled"].contains(&delay.json()["value"]["status"].as_str().unwrap()), "{delay:?}");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_of_the_demo_makes_nothing_twice() {
    let weir = Weir::start().await;
    weir.app().start_demo(1.0).await.unwrap();
    let admin = weir.admin().await;
    let count = |page: serde_json::Value| page["records"].as_array().unwrap().len();
    let before = admin.get("/v1/topics/flights.planes/records?from=earliest&limit=1000").await.json();
    let weir = weir.restart().await;
    let again = weir.app().start_demo(1.0).await.unwrap();
    assert!(again.is_none(), "the account was there already");
    let admin = weir.anonymous().with_token(admin.secret());
    let after = admin.get("/v1/topics/flights.planes/records?from=earliest&limit=1000").await.json();
    assert_eq!(count(before), count(after));
    weir.stop().await;
}
