//! What is held back, and what is not.

use super::*;

#[tokio::test]
async fn a_burst_beyond_the_limit_waits_a_little_and_is_served() {
    let origin = Scripted::start(|_, mut wire| async move {
        while wire.head().await.is_some() {
            pause(20).await;
            wire.say(OK).await;
        }
    })
    .await;
    let mut few = at("o", origin.address);
    few.concurrency_max = 5;
    let house = House::new(vec![few]);
    let answers = join_all((0..50).map(|_| house.whole())).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(origin.open_max() <= 5, "{}", origin.open_max());
}

#[tokio::test]
async fn who_gives_up_gives_its_place_back() {
    let origin = Scripted::start(|_, mut wire| async move {
        drop(wire.rest().await);
    })
    .await;
    let mut one = at("o", origin.address);
    one.concurrency_max = 1;
    let house = House::new(vec![one]);
    for _ in 0..5 {
        let given_up = tokio::time::timeout(Duration::from_millis(50), house.whole()).await;
        assert!(given_up.is_err(), "it hangs at the origin, not before it: {given_up:?}");
    }
    assert!(house.origins.views()[0].2.refused.is_empty());
    assert_eq!(house.origins.busy()[0].1, 0, "the site's seats are given back too");
}

#[tokio::test]
async fn a_breaker_that_is_off_lets_everything_through() {
    let (_held, gone) = deaf();
    let mut always = at("o", gone);
    always.breaker_percent = None;
    let house = House::new(vec![always, at("other", gone)]);
    for _ in 0..50 {
        drop(house.whole().await);
    }
    let views = house.origins.views();
    assert!(views[0].1.failures >= 45 && views[0].1.breaker == "closed", "{views:?}");
    assert!(views[1].1.failures <= 6 && views[1].1.breaker != "closed", "{views:?}");
}

#[tokio::test]
async fn a_broken_body_counts_and_an_upload_that_breaks_off_does_not() {
    let origin = Scripted::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap_or_default();
        if head.starts_with("POST") {
            drop(wire.rest().await);
        }
        wire.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    for _ in 0..100 {
        let error = house.send(request(Method::POST, pieces(vec![Err("gone")]))).await.unwrap_err();
        assert!(matches!(error, OriginError::UploadBroken(_)), "{error}");
    }
    assert_eq!(house.origins.views()[0].1.breaker, "closed", "clients cannot open it");
    for _ in 0..10 {
        assert!(house.whole().await.is_err());
    }
    assert_eq!(house.origins.views()[0].1.breaker, "open", "half of what was asked broke off");
}

#[tokio::test]
async fn a_site_keeps_its_busy_seats_and_its_budget_over_a_reload() {
    let origin = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        wire.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
        wire.rest().await;
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let answer = house.get().await.unwrap();
    assert_eq!(house.origins.busy()[0].1, 1, "until the body is over");
    house.origins.replace(&config(vec![at("o", origin.address)])).unwrap();
    assert_eq!(house.origins.busy()[0].1, 1);
    drop(answer);
    assert_eq!(house.origins.busy()[0].1, 0);
}
