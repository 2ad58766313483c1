//! The mock keeps the contract: all or nothing, key order, and every limit that the WIT names.

use super::*;
use crate::{OutboxError, PublishError, StateError};

const MIB: usize = 1 << 20;

/// Does all that can be kept, then fails as its body says.
struct Everything;

impl Solution for Everything {
    fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
        ctx.state().set("written", &1)?;
        ctx.state().delete("old")?;
        ctx.send(Request::post("https://a.example"))?;
        ctx.publish(Publication::to("other", "in"))?;
        ctx.info("was here");
        match message.text()? {
            "ok" => Ok(Some(Reply::text("done").status(201))),
            "retry" => Err(Failure::retry("busy")),
            text => Err(Failure::reject(text)),
        }
    }
}

fn everything(body: &str) -> (MockContext, Handled) {
    let mut mock = MockContext::new().with_state("old", &0);
    let handled = mock.handle::<Everything>(Message::new("in").with_body("text/plain", body));
    (mock, handled)
}

#[test]
fn success_keeps_all() {
    let (mock, handled) = everything("ok");
    assert_eq!((handled.reply().status, handled.reply_text().as_str()), (201, "done"));
    assert_eq!(mock.all_state(), [("written".to_owned(), b"1".to_vec())].into());
    assert_eq!(mock.requests(), [Request::post("https://a.example")]);
    assert_eq!(mock.publications(), [Publication::to("other", "in")]);
    assert_eq!(
        (mock.requests(), mock.publications()),
        (&*handled.requests, &*handled.publications)
    );
}

#[test]
fn failure_keeps_the_log_only() {
    for body in ["retry", "reject"] {
        let (mock, handled) = everything(body);
        assert!(handled.result.is_err());
        assert_eq!(mock.all_state(), [("old".to_owned(), b"0".to_vec())].into());
        assert!(handled.requests.is_empty() && mock.requests().is_empty());
        assert!(handled.publications.is_empty() && mock.publications().is_empty());
        assert_eq!(handled.log[0].to_string(), "info: was here");
    }
}

#[test]
fn what_a_context_was_asked_outside_of_handling_is_forgotten() {
    let mut mock = MockContext::new();
    mock.context().state().set("stray", &1).unwrap();
    let handled = mock.handle::<Everything>(Message::new("in").with_body("text/plain", "ok"));
    assert_eq!(handled.requests.len(), 1);
    assert_eq!(mock.state::<u8>("stray"), None);
}

#[test]
fn lists_are_in_key_order_across_pages_and_see_own_writes() {
    let mut mock = MockContext::new().with_state("b", &0).with_state("l", &0).with_state("m", &0);
    for n in 0..250 {
        mock = mock.with_state(&format!("k/{n:03}"), &n);
    }
    let state = mock.context().state();
    state.delete("k/099").unwrap();
    state.set("k/100", &-1).unwrap();
    state.set("k/1005", &5).unwrap();
    let listed: Vec<(String, i32)> = state.list("k/").map(Result::unwrap).collect();
    let mut expected: BTreeMap<_, _> = (0..250).map(|n| (format!("k/{n:03}"), n)).collect();
    expected.remove("k/099");
    expected.extend([("k/100".to_owned(), -1), ("k/1005".to_owned(), 5)]);
    assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
    assert_eq!(state.list_bytes("").count(), 253);
    assert_eq!(state.list_bytes("none").count(), 0);
}

#[test]
fn a_list_ends_at_a_value_of_another_type_only_for_its_reader() {
    let mock = MockContext::new().with_state("a", "text").with_state("b", &1);
    let listed: Vec<_> = mock.context().state().list::<u8>("").collect();
    assert!(matches!(&listed[0], Err(StateError::Json { key, .. }) if key == "a"));
    assert!(matches!(&listed[1], Ok((_, 1))));
}

#[test]
fn state_limits() {
    let mock = MockContext::new();
    let state = mock.context().state();
    let key = "k".repeat(512);
    state.set_bytes(&key, &vec![0; MIB]).unwrap();
    for key in ["", &"k".repeat(513)] {
        assert!(matches!(state.get_bytes(key), Err(StateError::InvalidKey(_))));
        assert!(matches!(state.set_bytes(key, b""), Err(StateError::InvalidKey(_))));
        assert!(matches!(state.delete(key), Err(StateError::InvalidKey(_))));
    }
    let too_large = state.set_bytes("k", &vec![0; MIB + 1]).unwrap_err();
    assert!(matches!(too_large, StateError::ValueTooLarge(size) if size == MIB as u64 + 1));
    // Writing one key again does not add up.
    for _ in 0..20 {
        state.set_bytes(&key, &vec![1; MIB]).unwrap();
    }
    let rest: Result<Vec<()>, _> =
        (0..15).map(|n| state.set_bytes(&n.to_string(), &vec![0; MIB])).collect();
    assert!(matches!(rest, Err(StateError::TooMuch(_))));
}

#[test]
fn outbox_limits() {
    let mock = MockContext::new();
    let ctx = mock.context();
    for request in [
        Request::new("TRACE", "https://a.example"),
        Request::get("a.example"),
        Request::get("/path"),
        Request::get(format!("https://a.example/{}", "x".repeat(8 << 10))),
        Request::get("https://a.example").header("X-Upper", "1"),
        Request::get("https://a.example").header("x", "a\r\nb"),
    ] {
        assert!(matches!(ctx.send(request), Err(OutboxError::InvalidRequest(_))));
    }
    let large = Request::post("https://a.example").body(vec![0; 16 * MIB]);
    assert!(matches!(ctx.send(large), Err(OutboxError::TooMuch(_))));
    let keys: std::collections::BTreeSet<_> =
        (0..1000).map(|_| ctx.send(Request::get("https://a.example")).unwrap()).collect();
    assert_eq!(keys.len(), 1000);
    let one_more = ctx.send(Request::get("https://a.example"));
    assert!(matches!(one_more, Err(OutboxError::TooMuch(_))));
}

#[test]
fn publish_limits() {
    let mock = MockContext::new();
    let ctx = mock.context();
    for publication in [
        Publication::to("No Name", "in"),
        Publication::to("other", ""),
        Publication::to("other", "in").key("k".repeat(513)),
        Publication::to("other", "in").header("", "1"),
    ] {
        assert!(matches!(ctx.publish(publication), Err(PublishError::InvalidMessage(_))));
    }
    for _ in 0..1000 {
        ctx.publish(Publication::to("other", "in")).unwrap();
    }
    let one_more = ctx.publish(Publication::to("other", "in"));
    assert!(matches!(one_more, Err(PublishError::TooMuch(_))));
}

#[test]
fn a_refusal_is_the_line_to_add() {
    let mock = MockContext::new().with_outbox_grants([]).with_publish_grants(["alerts"]);
    let ctx = mock.context();
    let denied = ctx.send(Request::get("https://a.example:8443/x")).unwrap_err();
    assert_eq!(denied, OutboxError::Denied("outbox = [\"https://a.example:8443\"]".to_owned()));
    ctx.publish(Publication::to("alerts", "in")).unwrap();
    let denied = ctx.publish(Publication::to("crm", "in")).unwrap_err();
    assert_eq!(denied, PublishError::Denied("publish = [\"crm\"]".to_owned()));
    let failure = Failure::from(denied);
    let text =
        "publishing there is not granted; add to `[grants]` in solution.toml: publish = [\"crm\"]";
    assert_eq!(failure, Failure::other(text));
}

#[test]
fn log_limits() {
    struct Chatty;
    impl Solution for Chatty {
        fn handle(_: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
            ctx.warn("ä".repeat(8 << 10));
            (0..1001).for_each(|n| ctx.debug(n));
            Ok(None)
        }
    }
    let handled = MockContext::new().handle::<Chatty>(Message::new("in"));
    assert_eq!(handled.log[0].text.len(), 8 << 10);
    assert_eq!((handled.log.len(), handled.dropped_lines), (1000, 2));
}

#[test]
fn settings_are_typed() {
    let mock = MockContext::new().with_setting("n", &7).with_setting("url", "https://a.example");
    let ctx = mock.context();
    assert_eq!(ctx.setting::<u8>("n").unwrap(), Some(7));
    assert_eq!(ctx.setting::<u8>("m").unwrap(), None);
    assert_eq!(ctx.setting_json("url").as_deref(), Some("\"https://a.example\""));
    let wrong = ctx.required_setting::<u8>("url").unwrap_err().to_string();
    assert!(
        wrong.starts_with("setting `url` has a value that does not fit: invalid type: string"),
        "{wrong}"
    );
    assert!(wrong.ends_with("run `tandem settings set url VALUE --solution SOLUTION`"), "{wrong}");
}

#[test]
#[should_panic = "a reply's status is 200 to 599: 99"]
fn a_reply_has_a_status() {
    struct Odd;
    impl Solution for Odd {
        fn handle(_: Message, _: &Context) -> Result<Option<Reply>, Failure> {
            Ok(Some(Reply::empty().status(99)))
        }
    }
    MockContext::new().handle::<Odd>(Message::new("in"));
}
