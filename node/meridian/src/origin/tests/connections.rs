//! Connections kept, waited for, lost, chosen.

use super::*;

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("o", origin.address)]);
    for _ in 0..20 {
        assert_eq!(house.whole().await.unwrap(), (200, Bytes::from_static(b"ok")));
    }
    assert_eq!(origin.accepted(), 1);
    let counts = &house.origins.counts()[0].2;
    assert_eq!((counts.connections_opened, counts.connections_reused, counts.requests), (1, 19, 20));
    assert!(counts.failures.is_empty());
    assert_eq!(house.origins.health(&house.site)[0].in_flight, 0);
}

#[tokio::test]
async fn a_kept_connection_that_has_died_is_replaced_once() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let origin = Scripted::start(move |number, mut wire| {
        let requests = Arc::clone(&counter);
        async move {
            while wire.head().await.is_some() {
                if requests.fetch_add(1, Ordering::SeqCst) > 0 && number == 0 {
                    return; // read, and closed without a word
                }
                wire.say(OK).await;
            }
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    house.whole().await.unwrap();
    assert_eq!(house.whole().await.unwrap().0, 200);
    assert_eq!((origin.accepted(), requests.load(Ordering::SeqCst)), (2, 3));
    assert_eq!(house.origins.counts()[0].2.retries, 1);
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_twice_unless_it_is_idempotent() {
    let posts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&posts);
    let origin = Scripted::start(move |_, mut wire| {
        let posts = Arc::clone(&counter);
        async move {
            while let Some(head) = wire.head().await {
                if head.starts_with("POST") {
                    posts.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                wire.say(OK).await;
            }
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    for body in [empty_body(), full("pay 5")] {
        house.whole().await.unwrap();
        let error = house.send(request(Method::POST, body)).await.unwrap_err();
        assert!(matches!(error, OriginError::Reset(_)), "{error}");
    }
    assert_eq!(posts.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_post_is_sent_whole_when_the_kept_connection_was_closed_before() {
    let origin = Scripted::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap_or_default();
        if head.starts_with("POST") {
            pause(20).await;
        }
        wire.say(OK).await; // and closed, without saying so
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    for _ in 0..5 {
        house.whole().await.unwrap();
        until("the origin has closed", || origin.open() == 0).await;
        let answer = house.send(request(Method::POST, full("12345"))).await.unwrap();
        answer.response.into_body().collect().await.unwrap();
    }
    assert_eq!(origin.accepted(), 10);
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_us_first() {
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("o", origin.address)]);
    house.whole().await.unwrap();
    assert_eq!(origin.open(), 1);
    let start = clock::instant();
    while origin.open() > 0 {
        assert!(start.elapsed() < Duration::from_secs(7));
        pause(50).await;
    }
    assert!((3_500..6_500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(house.origins.health(&house.site)[0].connections, 0);
}

#[tokio::test]
async fn connections_stay_below_their_number_and_requests_wait_in_line() {
    let origin = Scripted::start(|_, mut wire| async move {
        while wire.head().await.is_some() {
            pause(20).await;
            wire.say(OK).await;
        }
    })
    .await;
    let mut narrow = at("o", origin.address);
    narrow.connections_max = 4;
    let house = House::new(vec![narrow]);
    let answers = join_all((0..40).map(|_| house.whole())).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|(status, _)| *status == 200)));
    assert!(origin.open_max() <= 4, "{}", origin.open_max());
    assert!(origin.accepted() <= 6, "{}", origin.accepted());
}

#[tokio::test]
async fn when_all_connections_hang_the_next_request_is_refused_in_time() {
    let origin = Scripted::start(|_, mut wire| async move {
        wire.rest().await;
    })
    .await;
    let mut narrow = at("o", origin.address);
    narrow.connections_max = 2;
    narrow.deadlines.connect_ms = 200;
    narrow.deadlines.first_byte_ms = 1_000;
    let house = House::new(vec![narrow]);
    let answers = join_all((0..5).map(|_| house.whole())).await;
    let refused = answers.iter().filter(|a| matches!(a, Err(OriginError::TooManyConnections))).count();
    let late = answers.iter().filter(|a| matches!(a, Err(OriginError::FirstByteTimeout))).count();
    assert_eq!((refused, late, origin.open_max()), (3, 2, 2));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused_at_once() {
    let (_held, gone) = deaf();
    let house = House::new(vec![at("o", gone)]);
    for _ in 0..5 {
        let error = house.whole().await.unwrap_err();
        assert!(matches!(error, OriginError::Refused), "an only origin is always tried: {error}");
    }
    let view = &house.origins.health(&house.site)[0];
    assert_eq!((view.state, view.failures, view.in_flight), (OriginState::Down, 5, 0));
    assert!(view.last_error.as_ref().unwrap().contains("refused"));
}

#[tokio::test]
async fn a_request_not_yet_sent_goes_to_another_origin() {
    let (_held, gone) = deaf();
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("gone", gone), at("here", origin.address)]);
    for _ in 0..20 {
        let answer = house.send(request(Method::POST, full("12345"))).await.unwrap();
        assert_eq!(&*answer.origin, "here");
        answer.response.into_body().collect().await.unwrap();
    }
    let views = house.origins.health(&house.site);
    assert_eq!((views[0].state, views[1].state), (OriginState::Down, OriginState::Up));
    assert!(views[0].failures <= 5, "a down origin is left alone but for trials: {}", views[0].failures);
}

#[tokio::test]
async fn addresses_that_no_origin_may_have_are_never_connected_to() {
    for host in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0"] {
        let mut origin = at("o", "127.0.0.1:80".parse().unwrap());
        origin.host = host.into();
        let error = House::new(vec![origin]).whole().await.unwrap_err();
        assert!(matches!(error, OriginError::Forbidden { .. }), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_name_is_resolved_and_a_name_that_does_not_exist_is_said_to() {
    let origin = Scripted::always(OK).await;
    let mut named = at("o", origin.address);
    named.host = "localhost".into();
    assert_eq!(House::new(vec![named]).whole().await.unwrap().0, 200);
    let mut nowhere = at("o", origin.address);
    nowhere.host = "nowhere.invalid".into();
    nowhere.deadlines.connect_ms = 3_000;
    let error = House::new(vec![nowhere]).whole().await.unwrap_err();
    assert!(matches!(error, OriginError::Unresolved { .. } | OriginError::ConnectTimeout), "{error}");
}

#[tokio::test]
async fn the_active_check_takes_an_origin_out_and_back() {
    let sick = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&sick);
    let checked = Scripted::start(move |_, mut wire| {
        let sick = Arc::clone(&switch);
        async move {
            while let Some(head) = wire.head().await {
                let bad = head.starts_with("GET /health ") && sick.load(Ordering::SeqCst) == 1;
                wire.say(if bad { "HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n" } else { OK }).await;
            }
        }
    })
    .await;
    let other = Scripted::always(OK).await;
    let mut first = at("checked", checked.address);
    first.health =
        Some(HealthCheck { path: "/health".into(), interval_ms: 100, timeout_ms: 300, down_after: 3, up_after: 2 });
    let house = House::new(vec![first, at("other", other.address)]);
    let state = || house.origins.health(&house.site)[0].state;
    until("it is down", || state() == OriginState::Down).await;
    assert!(house.origins.health(&house.site)[0].last_error.as_ref().unwrap().contains("503"));
    for _ in 0..10 {
        assert_eq!(&*house.get().await.unwrap().origin, "other");
    }
    sick.store(0, Ordering::SeqCst);
    until("it is up", || state() == OriginState::Up).await;
}

#[tokio::test]
async fn a_reload_keeps_what_has_not_changed() {
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("o", origin.address)]);
    house.whole().await.unwrap();
    house.origins.replace(&config(vec![at("o", origin.address)])).unwrap();
    house.whole().await.unwrap();
    assert_eq!(origin.accepted(), 1);
    let other = Scripted::always("HTTP/1.1 203 Other\r\nContent-Length: 0\r\n\r\n").await;
    house.origins.replace(&config(vec![at("o", other.address)])).unwrap();
    assert_eq!(house.whole().await.unwrap().0, 203);
    until("the old one's connection is closed", || origin.open() == 0).await;
}

#[test]
fn a_connection_opened_on_one_thread_serves_requests_of_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (main, own, other) = (runtime(), runtime(), runtime());
    let stop = Tasks::new().stopping();
    let (origin, house) = main.block_on(async {
        let origin = Scripted::always(OK).await;
        let house = Arc::new(House::new(vec![at("o", origin.address)]));
        (origin, house)
    });
    let (tell, first_done) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let (house_of_own, stop_of_own) = (Arc::clone(&house), stop.clone());
        let stopping = stop.clone();
        scope.spawn(move || main.block_on(stopping.cancelled()));
        scope.spawn(move || {
            own.block_on(async {
                house_of_own.whole().await.unwrap();
                tell.send(()).unwrap();
                stop_of_own.cancelled().await;
            });
        });
        first_done.recv().unwrap();
        for _ in 0..10 {
            assert_eq!(other.block_on(house.whole()).unwrap().1, "ok");
        }
        stop.cancel();
    });
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn stopping_waits_for_responses_under_way_and_keeps_nothing_after() {
    let origin = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        pause(200).await;
        wire.say(OK).await;
        wire.rest().await;
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let (answer, stopped) = tokio::join!(house.whole(), async {
        pause(50).await;
        house.tasks.stop(Duration::from_secs(3)).await
    });
    assert_eq!(answer.unwrap().1, "ok");
    assert!(stopped);
    until("the connection is closed", || origin.open() == 0).await;
}
