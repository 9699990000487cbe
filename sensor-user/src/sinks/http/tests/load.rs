//! Many clients at once, and slow ones: each kind of work has bounds of its own.

use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn scrapes_pass_what_others_wait_for() {
    let server = server(Duration::from_secs(1));
    let app = App::new(Arc::clone(&server.shared));
    let _request = app.requests.enter().await.unwrap();
    let _question = app.questions.enter().await.unwrap();
    let render = {
        let app = app.clone();
        move || unread(&app.unread_scrapes, app.metrics.render(Format::Prometheus).into())
    };
    let scraped = timeout(PATIENCE / 2, app.scrapes.get(Format::Prometheus, render)).await;
    assert!(scraped.expect("waits for nobody").unwrap().starts_with(b"# HELP"));
}

#[tokio::test]
async fn scrapes_that_wait_share_the_next_rendering() {
    let scrapes = Arc::new(Scrapes::new(MAX_SCRAPES));
    let (go, wait) = mpsc::channel();
    let first = tokio::spawn({
        let scrapes = Arc::clone(&scrapes);
        let slow = move || {
            wait.recv().unwrap();
            Ok(Bytes::from_static(b"first"))
        };
        async move { scrapes.get(Format::Prometheus, slow).await }
    });
    tokio::task::yield_now().await;
    let rendered = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let others: Vec<_> = (1..MAX_SCRAPES)
        .map(|_| {
            let (scrapes, rendered) = (Arc::clone(&scrapes), Arc::clone(&rendered));
            let render = move || {
                rendered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(Bytes::from_static(b"second"))
            };
            tokio::spawn(async move { scrapes.get(Format::Prometheus, render).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let beyond = scrapes.get(Format::Prometheus, || Ok(Bytes::new())).await;
    assert!(beyond.is_err(), "more wait than there is room for");
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), "first");
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), "second", "began before it was asked for");
    }
    assert_eq!(rendered.load(std::sync::atomic::Ordering::Relaxed), 1);
    let alone = scrapes.get(Format::Prometheus, || Ok(Bytes::from_static(b"third"))).await;
    assert_eq!(alone.unwrap(), "third", "nothing old is kept");
}

#[tokio::test]
async fn what_waits_is_bounded_in_number() {
    let queue = Arc::new(Queue::new(2, PATIENCE));
    let running = queue.enter().await.unwrap();
    let waits = || {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { queue.enter().await.is_ok() })
    };
    let waiting = [waits(), waits()];
    tokio::task::yield_now().await;
    let refused = timeout(PATIENCE / 2, queue.enter()).await.expect("does not wait");
    assert_eq!(refused.unwrap_err().into_response().status(), 503);
    drop(running);
    for one in waiting {
        assert!(one.await.unwrap());
    }
    // A client that leaves gives its place back.
    let _running = queue.enter().await.unwrap();
    let left = waits();
    tokio::task::yield_now().await;
    left.abort();
    assert!(left.await.is_err());
    let _waiting = [waits(), waits()];
    tokio::task::yield_now().await;
    assert!(timeout(PATIENCE / 2, queue.enter()).await.expect("does not wait").is_err());
}

/// Its turn is free again, although the work asked for would never end by itself.
#[tokio::test]
async fn a_question_ends_with_its_client() {
    let server = server(Duration::from_secs(1));
    let app = App::new(Arc::clone(&server.shared));
    let (started, has_started) = mpsc::channel();
    let asked = tokio::spawn({
        let app = app.clone();
        async move {
            let work = move |app: &App, patience: &Patience| {
                started.send(()).unwrap();
                while !patience.is_over() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                app.answer("text/plain", Vec::new())
            };
            app.ask_ledger(work).await
        }
    });
    tokio::task::spawn_blocking(move || has_started.recv().unwrap()).await.unwrap();
    asked.abort();
    let _turn = timeout(PATIENCE / 2, app.questions.enter()).await.expect("free").unwrap();
}

/// Nothing of an answer fits: the client takes none of it.
#[tokio::test]
async fn a_client_that_takes_no_answer_is_left() {
    let server = server(Duration::from_secs(1));
    let (client, stream) = tokio::io::duplex(64);
    let (mut reader, mut writer) = tokio::io::split(client);
    let (_stop, stopped) = watch::channel(false);
    let web = Arc::new(Web::new(Settings::default()));
    let app = App::new(Arc::clone(&server.shared));
    let served = tokio::spawn(serve_stream(stream, app, web, stopped));
    writer.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    timeout(SILENCE * 3, served).await.expect("left").unwrap();
    reader.read_to_end(&mut Vec::new()).await.ok();
}
