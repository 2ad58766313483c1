//! A port that stays a test's own, whoever listens there in between.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// Held by a socket that is bound and never listens: while nobody else does, connections are refused, and the system
/// gives the port to nobody who asks for any. Who names it can listen there.
#[derive(Debug)]
pub struct Port {
    pub address: SocketAddr,
    _held: Socket,
}

impl Port {
    pub fn reserve() -> Self {
        let reserve = || -> std::io::Result<Self> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
            let address = socket.local_addr()?.as_socket().expect("it is an IP socket");
            Ok(Self { address, _held: socket })
        };
        reserve().expect("there is a free port")
    }
}
