//! Whether the node at the other end is the other node of this pair, and one that this program can speak with.

use super::Hearing;
use crate::{
    model::pair::talk::{Heard, Hello, PROTOCOLS, Said, common_protocol},
    replication::{About, Seen, Session, SessionError},
};

/// The number of [`Said::Hello`].
const HELLO: u32 = 0;

impl Hearing {
    /// The other node introduces itself.
    pub(super) async fn welcome(&self, hello: Box<Hello>) -> Result<(), SessionError> {
        if let Err(why) = self.check(&hello) {
            self.session.notices.set(About::Other, &format!("There is no pair: {why}."));
            self.refuse(&why).await;
            return Err(SessionError::Foreign(why));
        }
        self.session.notices.clear(About::Other);
        tracing::debug!(
            program = hello.program,
            frames = hello.frames,
            protocol = common_protocol(PROTOCOLS, hello.protocols),
            "the other node introduced itself"
        );
        self.session.store.agree_on_frames(hello.frames);
        self.report(Heard::Hello(hello.clone())).await;
        let Session { seen, from, .. } = &self.session;
        seen.send_replace(Some(Seen { hello: (*hello).clone(), from: *from }));
        self.introduce.send_replace(Some(*hello));
        Ok(())
    }

    /// Tells the other node that there can be no link.
    pub(super) async fn refuse(&self, why: &str) {
        self.say.send(Said::Refused(why.to_owned())).await.ok();
        // Long enough to be sent.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    /// What was said has no meaning here: perhaps it is a greeting in a protocol that this program does not speak.
    pub(super) async fn refuse_garbled(
        &self,
        payload: &[u8],
        error: postcard::Error,
    ) -> Result<(), SessionError> {
        match postcard::take_from_bytes::<(u32, (u16, u16))>(payload) {
            Ok(((HELLO, protocols), _)) if common_protocol(PROTOCOLS, protocols).is_none() => {
                let why = foreign(protocols, "a program that does not say its version");
                self.session.notices.set(About::Other, &format!("There is no pair: {why}."));
                self.refuse(&why).await;
                Err(SessionError::Foreign(why))
            }
            _ => Err(error.into()),
        }
    }

    /// Whether the other is the other node of this pair.
    pub(super) fn check(&self, hello: &Hello) -> Result<(), String> {
        let own = &self.session.own;
        if common_protocol(PROTOCOLS, hello.protocols).is_none() {
            return Err(foreign(hello.protocols, &hello.program));
        }
        if hello.pair != own.pair {
            return Err(format!("it belongs to pair {}, this node to {}", hello.pair, own.pair));
        }
        if hello.store == own.store {
            return Err(format!(
                "both have the store {}: one is a copy of the other; move the copy's folder away, and it gets its rows \
                 from the other node",
                own.store
            ));
        }
        if hello.is_main == own.is_main {
            let which = if own.is_main { "both are" } else { "neither is" };
            return Err(format!(
                "{which} the main server: set `main = true` in [pair] of just one"
            ));
        }
        let used = self.session.store.frame_version();
        if hello.frames < used {
            return Err(format!(
                "its program {} takes frames up to version {}, and this node's store has frames of version {used}; upgrade \
                 the other node",
                hello.program, hello.frames,
            ));
        }
        Ok(())
    }
}

/// Why there is no link with a program that speaks none of our protocols.
fn foreign(theirs: (u16, u16), program: &str) -> String {
    let (ours, program_here) = (PROTOCOLS, env!("CARGO_PKG_VERSION"));
    format!(
        "it speaks protocol {} to {}, this node {} to {}; upgrade the older one ({program} and {program_here})",
        theirs.0, theirs.1, ours.0, ours.1,
    )
}
