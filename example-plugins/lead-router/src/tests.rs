use serde_json::{Value, json};

use super::*;

fn mock() -> MockContext {
    MockContext::new()
        .with_setting("crm_url", "https://crm.example/")
        .with_outbox_grants(["setting:crm_url"])
}

fn lead(name: &str, email: &str, country: &str) -> Message {
    Message::new("form").with_json(&json!({ "name": name, "email": email, "country": country }))
}

#[test]
fn a_lead_is_counted_and_forwarded() {
    let mut mock = mock().with_state("leads/dach", &6);
    let handled = mock.handle::<LeadRouter>(lead(" Ada ", "ada@example.org", "at"));
    assert_eq!(handled.reply().status, 201);
    assert_eq!(handled.reply_json::<Value>(), json!({ "territory": "dach", "number": 7 }));
    assert_eq!(mock.state::<u64>("leads/dach"), Some(7));

    let [request] = &handled.requests[..] else { panic!("one request") };
    assert_eq!(
        (request.method.as_str(), request.url.as_str()),
        ("POST", "https://crm.example/leads")
    );
    assert_eq!(request.order.as_deref(), Some("crm"));
    assert_eq!(
        serde_json::from_slice::<Value>(&request.body).unwrap(),
        json!({ "name": "Ada", "email": "ada@example.org", "country": "AT", "territory": "dach", "number": 7 })
    );
}

#[test]
fn a_browser_sends_a_form() {
    let message = Message::new("form").with_body(
        "application/x-www-form-urlencoded",
        "name=Ada+L%C3%B6w&email=ada%40example.org&country=se",
    );
    let handled = mock().handle::<LeadRouter>(message);
    assert_eq!(handled.reply_json::<Value>(), json!({ "territory": "nordics", "number": 1 }));
}

#[test]
fn the_operator_draws_the_territories() {
    let mut mock = mock().with_setting("territories", &json!({ "AT": "alps" }));
    for (country, territory) in [("AT", "alps"), ("DE", "dach"), ("BR", "rest-of-world")] {
        let handled = mock.handle::<LeadRouter>(lead("Ada", "ada@example.org", country));
        assert_eq!(handled.reply_json::<Value>()["territory"], territory);
    }
}

#[test]
fn a_bad_lead_is_rejected_and_names_the_field() {
    for (message, field) in [
        (lead(" ", "ada@example.org", "AT"), "name:"),
        (lead(&"a".repeat(201), "ada@example.org", "AT"), "name:"),
        (lead("Ada", "ada", "AT"), "email:"),
        (lead("Ada", "@example.org", "AT"), "email:"),
        (lead("Ada", "ada@example", "AT"), "email:"),
        (lead("Ada", "ada@example..org", "AT"), "email:"),
        (lead("Ada", "a da@example.org", "AT"), "email:"),
        (lead("Ada", "ada@example.org", "Austria"), "country:"),
        (Message::new("form").with_json(&json!({ "name": "Ada" })), "missing field `email`"),
    ] {
        let mut mock = mock();
        let handled = mock.handle::<LeadRouter>(message);
        let failure = handled.failure();
        assert!(matches!(failure, Failure::Reject(reason) if reason.contains(field)), "{failure}");
        assert!(mock.all_state().is_empty() && mock.requests().is_empty());
    }
}

#[test]
fn without_a_crm_the_lead_waits_for_the_operator() {
    let handled = MockContext::new().handle::<LeadRouter>(lead("Ada", "ada@example.org", "AT"));
    let failure = handled.failure();
    assert!(matches!(failure, Failure::Other(reason) if reason.contains("tandem settings set")));
}
