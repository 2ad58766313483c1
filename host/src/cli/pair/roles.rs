//! `tandem pair status`, `switchover`, `promote` and `rotate`.

use std::time::Duration;

use crate::{
    cli::{
        exit::Failure,
        node_client::{Call, NodeClient},
        output::{Output, Style},
    },
    control::wire::{Lack, Pair, Promote, Rotated, Switched},
};

/// Longer than the node itself waits.
const PATIENCE: Duration = Duration::from_mins(1);

pub async fn status(node: &NodeClient, output: Output) -> Result<(), Failure> {
    let answer = node.call(Call::get(["pair"])).await?;
    if output.is_json() {
        return output.line(String::from_utf8_lossy(&answer.body));
    }
    let pair: Pair = node.decode(&answer)?;
    lines(&pair, output).into_iter().try_for_each(|line| output.line(line))
}

fn server(is_main: bool) -> &'static str {
    if is_main { "main server" } else { "failover server" }
}

fn lines(pair: &Pair, output: Output) -> Vec<String> {
    let Pair { node, role, epoch, head, .. } = pair;
    let mut lines = vec![format!(
        "this node   {node} ({}), {role} in epoch {epoch}, frame {head}",
        server(pair.is_main)
    )];
    match &pair.peer {
        None => lines.push("other node  never heard since this node started".to_owned()),
        Some(peer) => {
            let link = if peer.linked {
                "linked".to_owned()
            } else {
                format!("not heard for {}", heard(peer.heard_ms_ago))
            };
            let at = peer.hooks.as_deref().unwrap_or("?");
            lines.push(format!(
                "other node  {} ({}), {} in epoch {}, {link}, web hooks at {at}",
                peer.node,
                server(peer.is_main),
                peer.role,
                peer.epoch
            ));
        }
    }
    if let Some(sync) = &pair.sync {
        let told = match sync.as_str() {
            "both" => output.paint(Style::Good, "in sync: receipts are on two disks"),
            "joining" => "the other node is almost in sync".to_owned(),
            "shrinking" => {
                "the other node is silent: receipts wait until that is recorded".to_owned()
            }
            _ => output.paint(Style::Bad, "alone: receipts are on one disk"),
        };
        let lag = pair.peer_has.map_or_else(String::new, |has| {
            format!(", {} frames behind", head.saturating_sub(has))
        });
        lines.push(format!("sync        {told}{lag}"));
    }
    if let Some(standby) = &pair.standby {
        let components = standby.components.len();
        lines.push(if standby.ready {
            let ready = output.paint(Style::Good, "ready to take over");
            format!("standby     {ready}; {components} components verified and compiled")
        } else {
            format!("standby     {}", output.paint(Style::Bad, "not ready to take over"))
        });
        let lacks = standby.lacks.iter().map(|Lack { why, remedy, .. }| (why, remedy));
        lines.extend(lacks.map(|(why, remedy)| format!("not ready   {why}; {remedy}")));
    }
    if let Some(record) = &pair.record {
        lines.push(format!(
            "record      epoch {}, primary {}, in sync {}",
            record.epoch,
            record.owner,
            record.in_sync.join(" and ")
        ));
    }
    lines.push(format!("witness     {}", pair.witness));
    lines.push(format!("policy      {}", pair.policy));
    lines.extend(pair.warnings.iter().map(|warning| format!("warning     {warning}")));
    lines
}

fn heard(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        _ => crate::cli::quantity::span_s(ms / 1_000),
    }
}

pub async fn switch_over(node: &NodeClient, output: Output) -> Result<(), Failure> {
    let call = Call::post(["pair", "switchover"]).timeout(PATIENCE);
    tell(&node.read(call).await?, "the other node is primary now", output)
}

pub async fn promote(node: &NodeClient, force: bool, output: Output) -> Result<(), Failure> {
    let call = Call::post(["pair", "promote"]).json(&Promote { force }).timeout(PATIENCE);
    tell(&node.read(call).await?, "this node is primary now", output)
}

pub async fn rotate(node: &NodeClient, output: Output) -> Result<(), Failure> {
    let rotated = node.read(Call::post(["pair", "rotate"]).timeout(PATIENCE * 2)).await?;
    if output.is_json() {
        return output.json(&rotated);
    }
    let Rotated { before, key, took_ms } = rotated;
    output.line(format_args!("this node's key is {key} now; it took {took_ms} ms"))?;
    output.line(format_args!("the one before, {before}, is refused"))
}

fn tell(switched: &Switched, what: &str, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(switched);
    }
    let Switched { epoch, took_ms } = switched;
    output.line(format_args!("{what}, in epoch {epoch}; it took {took_ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::Format,
        control::wire::{Peer, Record, Standby},
    };

    #[test]
    fn a_pair_in_words() {
        let pair = Pair {
            node: "aaaa".into(),
            role: "primary".into(),
            is_main: true,
            epoch: 3,
            sync: Some("both".into()),
            handing_over: false,
            head: 12,
            peer_has: Some(10),
            record: Some(Record {
                epoch: 3,
                owner: "aaaa".into(),
                in_sync: vec!["aaaa".into(), "bbbb".into()],
                version: 1,
            }),
            witness: "answers".into(),
            policy: "it takes over".into(),
            peer: Some(Peer {
                node: "bbbb".into(),
                role: "standby".into(),
                epoch: 3,
                is_main: false,
                linked: false,
                heard_ms_ago: 700,
                hooks: Some("10.0.0.2:7400".into()),
                program: None,
            }),
            standby: Some(Standby {
                node: "bbbb".into(),
                ready: false,
                lacks: vec![Lack {
                    what: "disk".into(),
                    why: "the disk is full".into(),
                    remedy: "make room".into(),
                }],
                components: Vec::new(),
            }),
            clock_ahead_ms: Some(3),
            warnings: vec!["Look out.".into()],
        };
        let expected = "\
this node   aaaa (main server), primary in epoch 3, frame 12
other node  bbbb (failover server), standby in epoch 3, not heard for 700 ms, web hooks at 10.0.0.2:7400
sync        in sync: receipts are on two disks, 2 frames behind
standby     not ready to take over
not ready   the disk is full; make room
record      epoch 3, primary aaaa, in sync aaaa and bbbb
witness     answers
policy      it takes over
warning     Look out.";
        assert_eq!(lines(&pair, Output::new(Format::Text)).join("\n"), expected);
    }
}
