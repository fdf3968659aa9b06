"""What `make bench` measures, one file each: how to start it, what it does per command, what to install for it."""

from __future__ import annotations

from peers import direct, envoy, haproxy, pipe, shunt, twemproxy
from peers.launch import Peer

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        direct.PEER,
        pipe.PEER,
        haproxy.PEER,
        twemproxy.PEER,
        envoy.PEER,
        pipe.AGAIN,
        *shunt.VARIANTS,
    )
}
