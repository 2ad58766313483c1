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
    for status in [503, 201, 200] {
        assert_eq!(book.receive("/leads", Some("k"), LEAD, later).status, status);
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
        assert_eq!(book.receive("/leads", Some("k"), LEAD, later).status, status);
    }
    assert_eq!((book.figures.leads, book.figures.answers_lost), (1, 1));
}

#[test]
fn a_missing_key_and_a_borrowed_key_are_told() {
    let now = Instant::now();
    let mut book = book(now);
    assert_eq!(book.receive("/leads", None, LEAD, now).status, 422);
    assert_eq!(book.receive("/leads", Some("k"), LEAD, now).status, 201);
    assert_eq!(book.receive("/leads", Some("k"), b"other", now).status, 422);
    assert_eq!(book.figures.wrong, 2);
}

#[tokio::test]
async fn it_answers_by_real_http() {
    let receiver = Receiver::start().await.unwrap();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<Full<Bytes>>();
    let request = Request::post(format!("http://{}/leads", receiver.address()))
        .header("Idempotency-Key", "a-0")
        .body(Full::new(Bytes::from_static(LEAD)))
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(receiver.received().leads, [7]);
}
