"""The address of the other end of a connection, as `Peers` takes it."""


def grpc_peer(client: tuple[str, int] | None) -> str:
    """Return an address of ASGI as gRPC writes it, such as `ipv4:10.0.0.7:5000`."""
    if client is None:
        return "unix:"
    host, port = client
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def endpoint(peer: str) -> str:
    """Return the host:port of a peer as gRPC writes it; empty if it has no network address."""
    kind, _, rest = peer.partition(":")
    return rest if kind != "unix" else ""
