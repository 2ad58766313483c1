//! `tandem send`: a message to a web hook, as any program would send it.

use std::{fs, io::Read, path::Path, time::Duration};

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::control::wire::Receipt;

use super::{
    exit::{Exit, Failure},
    node_client::{Answer, Call, NodeClient},
    output::Output,
    quantity::parse_span,
    target::NodeArgs,
};

/// Says which messages are handled in order.
pub const KEY: HeaderName = HeaderName::from_static("tandem-key");
/// What the node may take beyond the time that the sender waits.
const SLACK: Duration = Duration::from_secs(10);

/// Send a message to a solution's web hook
///
/// Prints the receipt: from then on the message survives a crash. With --wait it prints the solution's reply instead, if
/// that comes in time. The content type is guessed from the file's name, or from whether the body is JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem send lead-router form --file lead.json --wait
  tandem send order-totals orders --body '{\"lines\": []}' --key customer-17
  curl -s https://example.com/feed.xml | tandem send feeds items --file - --wait=30s")]
pub struct Args {
    /// The solution
    solution: String,

    /// Its source, of kind webhook
    source: String,

    /// The body, from a file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    file: Option<String>,

    /// The body, as it is here
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,

    /// Do not guess the content type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,

    /// A header of the message; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Messages with the same key are handled in order
    #[arg(long, value_name = "KEY")]
    key: Option<HeaderValue>,

    /// Wait for the solution's reply [as in --wait=30s; 10s without a time]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "10s")]
    wait: Option<Duration>,

    #[command(flatten)]
    node: NodeArgs,
}

#[cfg(test)]
impl Args {
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let node = args.node.client()?;
    let (body, content_type) = body(&args)?;
    let mut call = Call::hook(&args.solution, &args.source).body(body);
    for (name, value) in args.headers {
        call = call.header(name, value);
    }
    if let Some(key) = args.key {
        call = call.header(KEY, key);
    }
    if let Some(kind) = content_type {
        let kind = HeaderValue::try_from(kind)
            .map_err(|_| Failure::usage("--content-type is no content type"))?;
        call = call.header(CONTENT_TYPE, kind);
    }
    if let Some(wait) = args.wait {
        call = call.query("wait", Some(format!("{}ms", wait.as_millis()))).timeout(wait + SLACK);
    }
    let answer = node.ask(call).await?;
    show(&node, &answer, output)
}

/// A receipt, a reply of the solution, or a refusal of the node.
fn show(node: &NodeClient, answer: &Answer, output: Output) -> Result<(), Failure> {
    // A receipt says so; a solution that replies 202 has other JSON, or none.
    if answer.status.as_u16() == 202
        && let Ok(receipt) = serde_json::from_slice::<Receipt>(&answer.body)
    {
        return if output.is_json() { output.json(&receipt) } else { output.line(line(&receipt)) };
    }
    if answer.problem().is_some() {
        return Err(node.refusal(answer).into());
    }
    if output.is_json() {
        output.json(&serde_json::json!({
            "status": answer.status.as_u16(),
            "content_type": answer.content_type(),
            "body": String::from_utf8_lossy(&answer.body),
        }))?;
    } else {
        output.note(format_args!("the solution replied {}", answer.status.as_u16()));
        output.bytes(&answer.body)?;
    }
    if answer.status.is_client_error() || answer.status.is_server_error() {
        return Err(Failure::said(Exit::Failed));
    }
    Ok(())
}

fn line(receipt: &Receipt) -> String {
    let disks = if receipt.durability == 1 { "1 disk" } else { "2 disks" };
    format!("{}  kept on {disks} (epoch {}, seq {})", receipt.id, receipt.epoch, receipt.seq)
}

/// The body's bytes and its content type, if either is known.
fn body(args: &Args) -> Result<(Vec<u8>, Option<String>), Failure> {
    let (bytes, guessed) = match (&args.file, &args.body) {
        (Some(dash), _) if dash == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|e| Failure::failed("file", format!("cannot read standard input: {e}")))?;
            let kind = kind_of_bytes(&bytes);
            (bytes, Some(kind))
        }
        (Some(file), _) => {
            let path = Path::new(file);
            let bytes = fs::read(path).map_err(|e| Failure::file("read", path, &e))?;
            let kind = kind_of_name(path).unwrap_or_else(|| kind_of_bytes(&bytes));
            (bytes, Some(kind))
        }
        (None, Some(text)) => {
            let bytes = text.clone().into_bytes();
            let kind = kind_of_bytes(&bytes);
            (bytes, Some(kind))
        }
        (None, None) => (Vec::new(), None),
    };
    let of_header = args.headers.iter().any(|(name, _)| *name == CONTENT_TYPE);
    let kind = args.content_type.clone().or(guessed.filter(|_| !of_header).map(Into::into));
    Ok((bytes, kind))
}

fn kind_of_name(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "json" => "application/json",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "xml" => "application/xml",
        "csv" => "text/csv",
        "txt" | "log" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "eml" => "message/rfc822",
        "pdf" => "application/pdf",
        _ => return None,
    })
}

fn kind_of_bytes(bytes: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        "application/json"
    } else if std::str::from_utf8(bytes).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is no header's name"))?;
    let value = value.trim().parse().map_err(|_| format!("`{value}` is no header's value"))?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_guessed() {
        for (name, kind) in [
            ("a.json", Some("application/json")),
            ("A.CSV", Some("text/csv")),
            ("a.bin", None),
            ("Makefile", None),
        ] {
            assert_eq!(kind_of_name(Path::new(name)), kind, "{name}");
        }
        assert_eq!(kind_of_bytes(b" {\"a\": 1}"), "application/json");
        assert_eq!(kind_of_bytes("grüß".as_bytes()), "text/plain; charset=utf-8");
        assert_eq!(kind_of_bytes(&[0xff, 0]), "application/octet-stream");
    }

    #[test]
    fn headers_are_read_strictly() {
        let (name, value) = parse_header("X-Shop = a=b").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-shop", "a=b"));
        for bad in ["x", "a b=c", "x=\u{7f}"] {
            assert!(parse_header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_receipt_is_one_line() {
        let receipt = Receipt { id: "0190".into(), epoch: 1, seq: 7, durability: 2 };
        assert_eq!(line(&receipt), "0190  kept on 2 disks (epoch 1, seq 7)");
    }
}
