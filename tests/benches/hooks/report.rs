//! Figures as a Markdown table.

use std::time::Duration;

use crate::{OURS, Round, load::Load};

pub fn legend() {
    println!("The last three columns: `{OURS}` divided by the row.");
}

pub fn print(load: Load, rows: &[(&str, Round)]) {
    if rows.is_empty() {
        return;
    }
    let Load { connections, messages } = load;
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    println!(
        "\n{connections} connection{}, {messages} message{} in a request\n",
        plural(connections),
        plural(messages)
    );
    println!(
        "| | accepted/s | handled/s | p50 ms | p99 ms | ours ÷ it: accepted | handled | p50 |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    let ours = rows.iter().find(|(name, _)| *name == OURS).map(|(_, round)| *round);
    for (name, round) in rows {
        let Round { accepted, handled, p50, p99 } = *round;
        let ratio = |of: fn(&Round) -> f64| match &ours {
            Some(ours) if *name != OURS => format!("{:.2}", of(ours) / of(round)),
            _ => String::new(),
        };
        println!(
            "| {name} | {} | {} | {:.2} | {:.2} | {} | {} | {} |",
            whole(accepted),
            whole(handled),
            ms(p50),
            ms(p99),
            ratio(|round| round.accepted),
            ratio(|round| round.handled),
            ratio(|round| ms(round.p50)),
        );
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// With a comma at each thousand.
fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
