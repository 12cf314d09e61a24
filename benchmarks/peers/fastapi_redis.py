"""The peer with the usual token check: FastAPI, uvicorn, PyJWT (ES256), and a denylist in Redis.

It is a fast one of its kind: uvloop and httptools, no access log, an asynchronous Redis client, one worker.
Run it as `python -m benchmarks.peers.fastapi_redis REDIS_URL`; it prints its port and a good token as JSON.
"""

import asyncio
import json
import secrets
import socket
import sys
import time
from typing import Annotated, Any, Final

import jwt
import redis.asyncio
import uvicorn
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from benchmarks.peers import FASTAPI_PATH, FASTAPI_SUBJECT

_ISSUER: Final = "https://issuer.example"
_AUDIENCE: Final = "orders"
_LIFETIME: Final = 3600
_BEARER: Final = HTTPBearer()
Bearer = Annotated[HTTPAuthorizationCredentials, Depends(_BEARER)]


def build(key: ec.EllipticCurvePrivateKey, denylist: "redis.asyncio.Redis") -> FastAPI:
    """Return the application."""
    app = FastAPI()
    public = key.public_key()

    @app.get(FASTAPI_PATH)
    async def verify(bearer: Bearer) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                bearer.credentials, public, algorithms=["ES256"], audience=_AUDIENCE, issuer=_ISSUER
            )
        except jwt.InvalidTokenError as error:
            raise HTTPException(status_code=401) from error
        if await denylist.exists(f"deny:{claims['jti']}"):
            raise HTTPException(status_code=401)
        return claims

    return app


def _token(key: ec.EllipticCurvePrivateKey) -> str:
    now = int(time.time())
    claims = {
        "iss": _ISSUER,
        "sub": FASTAPI_SUBJECT,
        "aud": _AUDIENCE,
        "client_id": FASTAPI_SUBJECT,
        "scope": "orders.read",
        "iat": now,
        "exp": now + _LIFETIME,
        "jti": secrets.token_urlsafe(16),
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"typ": "at+jwt", "kid": "benchmark"})


async def _serve(redis_url: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    denylist = redis.asyncio.Redis.from_url(redis_url)
    config = uvicorn.Config(build(key, denylist), access_log=False, log_level="warning")
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        port = listener.getsockname()[1]
        print(json.dumps({"port": port, "token": _token(key)}), flush=True)
        await uvicorn.Server(config).serve([listener])
    await denylist.aclose()


def main() -> None:
    """Serve until the process is terminated."""
    [redis_url] = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(redis_url))


if __name__ == "__main__":
    main()
