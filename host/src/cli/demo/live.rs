//! How the demo is shown: events one below the other, and on a terminal below them how everything stands, drawn in place.

use std::{fmt::Write as _, io::IsTerminal};

use tokio::time::Instant;

use crate::control::wire;

use super::{
    super::{
        exit::Failure,
        output::{Output, Style, one_line},
    },
    receiver::Figures as Received,
    servers::Seen,
    tally::Figures,
};

#[derive(Debug)]
pub struct View {
    output: Output,
    begun: Instant,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Only the end is data; what happens is told on standard error.
    Json,
    /// How things stand is said each second, in a line.
    Lines { said_s: u64 },
    /// Lines that were drawn and are to be drawn over.
    Picture { drawn: usize },
}

/// How everything stands.
#[derive(Debug)]
pub struct Picture<'a> {
    pub seen: &'a Seen,
    /// Receipts in the last second.
    pub rate: usize,
    pub sent: Figures,
    pub received: Received,
}

impl View {
    pub fn new(output: Output) -> Self {
        let kind = if output.is_json() {
            Kind::Json
        } else if std::io::stdout().is_terminal() {
            Kind::Picture { drawn: 0 }
        } else {
            Kind::Lines { said_s: 0 }
        };
        Self { output, begun: Instant::now(), kind }
    }

    /// What stays. It stands above the picture.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        match &mut self.kind {
            Kind::Json => {
                self.output.note(text);
                Ok(())
            }
            Kind::Lines { .. } => self.output.line(text),
            Kind::Picture { drawn } => {
                let text = format!("{}{text}\n", erase(*drawn));
                *drawn = 0;
                self.output.bytes(text.as_bytes())
            }
        }
    }

    /// Something that happened, with its time.
    pub fn event(&mut self, style: Style, text: &str) -> Result<(), Failure> {
        let at = self.output.paint(Style::Faint, &self.elapsed());
        self.line(&format!("{at}  {}", self.output.paint(style, text)))
    }

    /// From now on times are counted.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
    }

    pub fn show(&mut self, picture: &Picture) -> Result<(), Failure> {
        let elapsed_s = self.begun.elapsed().as_secs();
        match &mut self.kind {
            Kind::Lines { said_s } if *said_s < elapsed_s => {
                *said_s = elapsed_s;
                self.output.line(format!("{}  {}", self.elapsed(), picture.line()))
            }
            Kind::Json | Kind::Lines { .. } => Ok(()),
            Kind::Picture { drawn } => {
                let lines = picture.lines(self.output);
                let mut text = erase(*drawn);
                for line in &lines {
                    writeln!(text, "{line}").expect("a String takes all");
                }
                *drawn = lines.len();
                self.output.bytes(text.as_bytes())
            }
        }
    }

    /// The picture goes, what happened stays.
    pub fn end(&mut self) -> Result<(), Failure> {
        let Kind::Picture { drawn } = &mut self.kind else { return Ok(()) };
        let text = erase(std::mem::take(drawn));
        self.output.bytes(text.as_bytes())
    }

    fn elapsed(&self) -> String {
        format!("{:>5.1} s", self.begun.elapsed().as_secs_f64())
    }
}

/// Moves up over what was drawn, and clears it.
fn erase(drawn: usize) -> String {
    if drawn == 0 { String::new() } else { format!("\x1b[{drawn}A\x1b[J") }
}

impl Picture<'_> {
    /// For a pipe, a log or an error.
    pub fn line(&self) -> String {
        let Figures { receipts, on_two_disks, on_one_disk, .. } = self.sent;
        let of = |node: Option<&wire::Pair>| node.map_or("gone".to_owned(), standing);
        format!(
            "main: {}; failover: {}; {receipts} receipts, {} a second, {on_two_disks} on two \
             disks, {on_one_disk} on one; {} leads at the CRM",
            of(self.seen.main.as_ref()),
            of(self.seen.failover.as_ref()),
            self.rate,
            self.received.leads,
        )
    }

    /// For a person.
    fn lines(&self, output: Output) -> Vec<String> {
        let Figures { sent, receipts, on_two_disks, on_one_disk, failed_tries } = self.sent;
        let head = |text: &str| output.paint(Style::Head, &format!("  {text:<17}"));
        let server = |name: &str, node: Option<&wire::Pair>| {
            let (mark, style, text) = match node {
                Some(node) if node.role == "primary" => ("●", Style::Good, standing(node)),
                Some(node) => ("○", Style::Plain, standing(node)),
                None => ("✗", Style::Bad, "gone".to_owned()),
            };
            format!("{}{}", head(name), output.paint(style, &one_line(&format!("{mark} {text}"))))
        };
        vec![
            String::new(),
            server("main server", self.seen.main.as_ref()),
            server("failover server", self.seen.failover.as_ref()),
            format!(
                "{}{sent} messages, {failed_tries} tries failed and were repeated",
                head("sent")
            ),
            format!(
                "{}{receipts}, {} a second; {on_two_disks} on two disks, {on_one_disk} on one",
                head("receipts"),
                self.rate
            ),
            format!(
                "{}{} leads, {} requests repeated",
                head("CRM"),
                self.received.leads,
                self.received.tried_again
            ),
        ]
    }
}

/// `primary, epoch 1, in sync`.
fn standing(node: &wire::Pair) -> String {
    let sync = match node.sync.as_deref() {
        None => String::new(),
        Some("both") => ", in sync".to_owned(),
        Some(other) => format!(", {other}"),
    };
    let going = if node.handing_over { ", handing over" } else { "" };
    format!("{}, epoch {}{sync}{going}", node.role, node.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Colour, Format};

    fn node(role: &str, sync: Option<&str>) -> wire::Pair {
        let node = serde_json::json!({
            "node": "a", "role": role, "is_main": true, "epoch": 2, "sync": sync, "handing_over": false, "head": 7,
            "peer_has": null, "record": null, "witness": "answers", "policy": "", "peer": null, "warnings": [],
        });
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_picture_and_a_line() {
        let output = Output { format: Format::Text, colour: Colour::Off };
        let acting = Seen { main: None, failover: Some(node("primary", Some("alone"))) };
        let sent = Figures {
            sent: 320,
            receipts: 318,
            on_two_disks: 300,
            on_one_disk: 18,
            failed_tries: 9,
        };
        let received = Received { leads: 170, tried_again: 2, ..Received::default() };
        let picture = Picture { seen: &acting, rate: 40, sent, received };
        insta::assert_snapshot!(picture.lines(output).join("\n"), @"

        main server      ✗ gone
        failover server  ● primary, epoch 2, alone
        sent             320 messages, 9 tries failed and were repeated
        receipts         318, 40 a second; 300 on two disks, 18 on one
        CRM              170 leads, 2 requests repeated
        ");
        insta::assert_snapshot!(picture.line(), @"main: gone; failover: primary, epoch 2, alone; 318 receipts, 40 a second, 300 on two disks, 18 on one; 170 leads at the CRM");
        let both = Seen {
            main: Some(node("primary", Some("both"))),
            failover: Some(node("standby", None)),
        };
        insta::assert_snapshot!(Picture { seen: &both, ..picture }.line(), @"main: primary, epoch 2, in sync; failover: standby, epoch 2; 318 receipts, 40 a second, 300 on two disks, 18 on one; 170 leads at the CRM");
    }
}
