//! What the demo shows every second: a picture redrawn in place on a terminal, else a line, or JSON.

use std::{fmt::Write as _, io::IsTerminal};

use super::{
    super::{
        exit::Failure,
        output::{Output, Style, cut, one_line},
        quantity::span_us,
    },
    tally::Picture,
};

#[derive(Debug)]
pub struct View {
    output: Output,
    address: String,
    rate: u32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Json,
    Lines,
    /// Lines that were drawn and are to be drawn over.
    Picture {
        drawn: usize,
    },
}

impl View {
    pub fn new(output: Output, address: &str, rate: u32) -> Self {
        let kind = if output.is_json() {
            Kind::Json
        } else if std::io::stdout().is_terminal() {
            Kind::Picture { drawn: 0 }
        } else {
            Kind::Lines
        };
        Self { output, address: address.to_owned(), rate, kind }
    }

    /// What stays: where it is, and what to try.
    pub fn begin(&self) -> Result<(), Failure> {
        let node = &self.address;
        let lines = [
            String::new(),
            format!(
                "The node is at {node}, with {} messages a second. Ctrl-C ends with an audit.",
                self.rate
            ),
            "In another terminal:".to_owned(),
            format!("  tandem status --node {node} --watch"),
            format!("  tandem messages tail --node {node}"),
            format!("  tandem messages list --status dead --node {node}"),
            String::new(),
        ];
        for line in lines {
            // JSON is the only data of `--json`.
            if self.output.is_json() { self.output.note(line) } else { self.output.line(line)? }
        }
        Ok(())
    }

    pub fn show(&mut self, picture: &Picture) -> Result<(), Failure> {
        match self.kind {
            Kind::Json => self.output.json(picture),
            Kind::Lines => self.output.line(line(picture)),
            Kind::Picture { drawn } => {
                let lines = lines(picture, self.output);
                let mut text = if drawn == 0 { String::new() } else { format!("\x1b[{drawn}A") };
                for line in &lines {
                    writeln!(text, "\x1b[2K{line}").expect("a String takes all");
                }
                // What the picture before had more.
                text.push_str("\x1b[J");
                self.kind = Kind::Picture { drawn: lines.len() };
                self.output.bytes(text.as_bytes())
            }
        }
    }
}

/// For a pipe or a log.
fn line(picture: &Picture) -> String {
    let Picture { elapsed_s, accepted, receiver, .. } = picture;
    let node = picture.node.map_or_else(
        || "the node does not say how it is".to_owned(),
        |node| {
            format!(
                "handled {}, rejected {}, delivered {}, pending {}",
                node.handled, node.rejected, node.delivered, node.deliveries_pending
            )
        },
    );
    format!(
        "{elapsed_s} s: accepted {accepted}, {node}, tried again {}; receipt p50 {}, p99 {}",
        receiver.tried_again,
        span_us(picture.receipt_p50_us),
        span_us(picture.receipt_p99_us)
    )
}

/// For a person.
fn lines(picture: &Picture, output: Output) -> Vec<String> {
    let Picture { accepted, refused, unanswered, receiver, .. } = picture;
    let head = |text: &str| output.paint(Style::Head, &format!("{text:<12}"));
    let mut lines = vec![format!(
        "{}accepted {accepted}   refused {refused}   unanswered {unanswered}",
        head("sent")
    )];
    match picture.node {
        Some(node) => {
            lines.push(format!(
                "{}handled {}   rejected {}   queued {}",
                head("messages"),
                node.handled,
                node.rejected,
                node.queued
            ));
            lines.push(format!(
                "{}delivered {}   pending {}   tried again {}   dead {}",
                head("deliveries"),
                node.delivered,
                node.deliveries_pending,
                receiver.tried_again,
                node.deliveries_dead
            ));
        }
        None => lines.push(output.paint(Style::Warn, "the node does not say how it is")),
    }
    lines.push(format!(
        "{}p50 {}   p99 {}",
        head("receipts"),
        span_us(picture.receipt_p50_us),
        span_us(picture.receipt_p99_us)
    ));
    lines.push(format!(
        "{}{} leads, {} alerts; 503 {} times, answer lost {} times, slow {} times",
        head("CRM"),
        receiver.leads,
        receiver.alerts,
        receiver.refused,
        receiver.answers_lost,
        receiver.slow
    ));
    lines.push(String::new());
    // One line each, on any terminal that is wide enough to work at.
    lines.extend(
        picture.events.iter().map(|event| output.paint(Style::Faint, &cut(&one_line(event), 78))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        demo::{receiver::Figures, tally::NodeFigures},
        output::{Colour, Format},
    };

    fn picture(node: Option<NodeFigures>) -> Picture {
        Picture {
            elapsed_s: 42,
            accepted: 812,
            refused: 0,
            unanswered: 0,
            node,
            receiver: Figures {
                leads: 477,
                alerts: 2,
                tried_again: 9,
                refused: 5,
                ..Figures::default()
            },
            receipt_p50_us: 1_240,
            receipt_p99_us: 4_800,
            events: vec!["  41 s  the CRM refuses lead 477: 503".into()],
        }
    }

    #[test]
    fn a_picture_and_a_line() {
        let node = NodeFigures {
            accepted: 815,
            handled: 809,
            queued: 6,
            rejected: 31,
            delivered: 479,
            deliveries_pending: 2,
            deliveries_dead: 0,
        };
        let output = Output { format: Format::Text, colour: Colour::Off };
        insta::assert_snapshot!(lines(&picture(Some(node)), output).join("\n"), @r#"
        sent        accepted 812   refused 0   unanswered 0
        messages    handled 809   rejected 31   queued 6
        deliveries  delivered 479   pending 2   tried again 9   dead 0
        receipts    p50 1.2 ms   p99 4.8 ms
        CRM         477 leads, 2 alerts; 503 5 times, answer lost 0 times, slow 0 times

          41 s  the CRM refuses lead 477: 503
        "#);
        insta::assert_snapshot!(line(&picture(Some(node))), @r#"42 s: accepted 812, handled 809, rejected 31, delivered 479, pending 2, tried again 9; receipt p50 1.2 ms, p99 4.8 ms"#);
        assert!(line(&picture(None)).contains("the node does not say how it is"));
    }

    #[test]
    fn json_has_one_object_a_second() {
        let text = serde_json::to_string(&picture(None)).unwrap();
        insta::assert_snapshot!(text, @r#"{"elapsed_s":42,"accepted":812,"refused":0,"unanswered":0,"node":null,"receiver":{"requests":0,"leads":477,"alerts":2,"tried_again":9,"refused":5,"answers_lost":0,"slow":0,"wrong":0},"receipt_p50_us":1240,"receipt_p99_us":4800}"#);
    }
}
