//! The receiver by itself: what it keeps, what it answers.

use super::*;

const LEAD: &[u8] = b"{\"email\":\"mara+lead-000007@example.com\"}";

fn book(now: Instant) -> Book {
    Book { seen: BTreeMap::new(), mishaps: Mishaps::new(now), figures: Figures::default() }
}

#[test]
fn nothing_is_kept_twice_whatever_goes_wrong() {
    for (known, mishap, status, keep) in [
        (Known::New, None, 201, true),
        (Known::New, Some(Mishap::Refuse), 503, false),
        (Known::New, Some(Mishap::LoseAnswer), 503, true),
        (Known::New, Some(Mishap::Slow), 201, true),
        (Known::Refused, None, 201, true),
        (Known::Same, None, 200, false),
        (Known::Other, None, 422, false),
    ] {
        let verdict = decide(known, mishap);
        assert_eq!((verdict.status, verdict.keep), (status, keep), "{known:?} {mishap:?}");
    }
}

#[test]
fn a_refused_lead_is_kept_at_the_second_try() {
    let start = Instant::now();
    let mut book = book(start);
    let later = start + Duration::from_secs(3);
    let (verdict, event) = book.receive("/leads", Some("k"), LEAD, later);
    assert_eq!((verdict.status, event.unwrap().as_str()), (503, "the CRM refuses lead 7: 503"));
    for status in [201, 200] {
        assert_eq!(book.receive("/leads", Some("k"), LEAD, later).0.status, status);
    }
    assert_eq!((book.figures.leads, book.figures.tried_again, book.figures.refused), (1, 2, 1));
}

#[test]
fn a_lost_answer_does_not_double_the_lead() {
    let start = Instant::now();
    let mut book = book(start);
    book.mishaps.0[0].1 += Duration::from_mins(1);
    let later = start + Duration::from_secs(6);
    for status in [503, 200] {
        assert_eq!(book.receive("/leads", Some("k"), LEAD, later).0.status, status);
    }
    assert_eq!((book.figures.leads, book.figures.answers_lost), (1, 1));
}

#[test]
fn a_missing_key_and_a_borrowed_key_are_told() {
    let now = Instant::now();
    let mut book = book(now);
    assert_eq!(book.receive("/leads", None, LEAD, now).0.status, 422);
    assert_eq!(book.receive("/leads", Some("k"), LEAD, now).0.status, 201);
    assert_eq!(book.receive("/leads", Some("k"), b"other", now).0.status, 422);
    assert_eq!(book.figures.wrong, 2);
}

#[tokio::test]
async fn it_answers_by_real_http_and_shows_alerts() {
    let (events, mut heard) = mpsc::channel(4);
    let receiver = Receiver::start(events).await.unwrap();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<Full<Bytes>>();
    let body = r#"{"service":"mail","up":false,"at_ms":1,"reason":"silent for 16 s"}"#;
    let request = Request::post(format!("http://{}/alerts", receiver.address()))
        .header("Idempotency-Key", "a-0")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(heard.recv().await.unwrap(), "alert: mail is down: silent for 16 s");
    assert_eq!(receiver.received().figures.alerts, 1);
    assert!(receiver.received().leads.is_empty());
}
