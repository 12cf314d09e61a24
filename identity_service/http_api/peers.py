"""The address of a client, as use cases and limits take it."""

from identity_service.transport.limits import Peers


def peer_of(client: tuple[str, int] | None) -> str:
    """Return host:port; empty if the client has no network address."""
    if client is None:
        return ""
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def counted_address(peers: Peers, peer: str) -> str:
    """Return the address under which a peer counts; empty if it is exempt."""
    return peers.address_of(f"ipv{6 if peer.startswith('[') else 4}:{peer}" if peer else "unix:")
