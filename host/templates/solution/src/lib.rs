//! Greets whoever sends a message, and counts the greetings.

use serde::Deserialize;
use tandem_sdk::prelude::*;

tandem_sdk::solution!(Greeter);

struct Greeter;

#[derive(Deserialize)]
struct Guest {
    name: String,
}

impl Solution for Greeter {
    fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
        let Guest { name } = message.json()?; // what is no guest is rejected, with the reason
        if name.trim().is_empty() {
            return Err(Failure::reject("name: it is empty"));
        }
        let key = format!("visits/{name}");
        let count_up = |visits: Option<u64>| visits.unwrap_or(0) + 1;
        let visits = ctx.state().update(&key, count_up)?;
        ctx.info(format_args!("visit {visits} of {name}"));
        let greeting = format!("Hello {name}, visit {visits}\n");
        Ok(Some(Reply::text(greeting)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(body: &str) -> Message {
        Message::new("web").with_body("application/json", body)
    }

    #[test]
    fn visits_are_counted() {
        let mut mock = MockContext::new().with_state("visits/Ada", &1);
        let handled = mock.handle::<Greeter>(guest(r#"{"name": "Ada"}"#));
        assert_eq!(handled.reply_text(), "Hello Ada, visit 2\n");
        assert_eq!(mock.state::<u64>("visits/Ada"), Some(2));
    }

    #[test]
    fn nobody_is_rejected() {
        let mut mock = MockContext::new();
        let handled = mock.handle::<Greeter>(guest(r#"{"name": ""}"#));
        assert_eq!(handled.failure(), &Failure::reject("name: it is empty"));
        assert!(mock.all_state().is_empty());
    }
}
