use super::*;

const SECOND: u64 = 1000;

struct Watch(MockContext);

impl Watch {
    fn new() -> Self {
        Self(MockContext::new().with_publish_grants(["alerts"]))
    }

    fn send(&mut self, message: Message) -> Vec<Change> {
        let handled = self.0.handle::<UptimeWatch>(message);
        handled.result.unwrap();
        let parse = |publication: &Publication| serde_json::from_slice(&publication.body).unwrap();
        handled.publications.iter().map(parse).collect()
    }

    fn report(&mut self, at_ms: u64, body: &str) -> Vec<Change> {
        self.send(Message::new("report").with_body("application/json", body).with_time_ms(at_ms))
    }

    fn look(&mut self, at_ms: u64) -> Vec<Change> {
        self.send(Message::tick("look", at_ms))
    }
}

fn change(service: &str, up: bool, at_ms: u64, reason: &str) -> Change {
    Change { service: service.into(), up, at_ms, reason: reason.into() }
}

#[test]
fn silence_is_told_once() {
    let mut watch = Watch::new();
    assert_eq!(watch.report(0, r#"{"service": "shop"}"#), []);
    assert_eq!(watch.report(30 * SECOND, r#"{"service": "mail"}"#), []);
    assert_eq!(watch.look(60 * SECOND), []);
    assert_eq!(watch.look(61 * SECOND), [change("shop", false, 61 * SECOND, "silent for 61 s")]);
    assert_eq!(watch.look(62 * SECOND), []);
    assert_eq!(
        watch.report(63 * SECOND, r#"{"service": "shop"}"#),
        [change("shop", true, 63 * SECOND, "it says so")]
    );
}

#[test]
fn what_a_service_says_is_told_when_it_changes() {
    let mut watch = Watch::new();
    assert_eq!(watch.report(0, r#"{"service": "shop", "up": true}"#), []);
    let down = watch.report(1, r#"{"service": "shop", "up": false}"#);
    assert_eq!(down, [change("shop", false, 1, "it says so")]);
    assert_eq!(watch.report(2, r#"{"service": "shop", "up": false}"#), []);
    assert_eq!(watch.look(600 * SECOND), []); // down it is already
    assert_eq!(watch.report(601 * SECOND, r#"{"service": "new", "up": false}"#).len(), 1);
}

#[test]
fn the_operator_says_how_long_is_silent() {
    let mut watch = Watch(MockContext::new().with_setting("silent_after_seconds", &5));
    watch.report(0, r#"{"service": "shop"}"#);
    assert_eq!(watch.look(6 * SECOND).len(), 1);
}

#[test]
fn changes_of_a_service_stay_in_order() {
    let mut watch = Watch::new();
    watch.report(0, r#"{"service": "shop", "up": false}"#);
    let [publication] = watch.0.publications() else { panic!("one publication") };
    assert_eq!((publication.solution.as_str(), publication.source.as_str()), ("alerts", "changes"));
    assert_eq!(publication.key.as_deref(), Some("shop"));
}

#[test]
fn a_report_names_its_service() {
    for body in [r#"{"up": true}"#, r#"{"service": ""}"#] {
        let message = Message::new("report").with_body("application/json", body);
        let handled = MockContext::new().handle::<UptimeWatch>(message);
        assert!(matches!(handled.failure(), Failure::Reject(reason) if reason.contains("service")));
    }
}
