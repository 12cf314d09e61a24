"""Inputs to start from: texts that were once handled wrongly, and words that occur in attacks."""

import json
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
WORDS: Final = [
    b'"alg":"none"', b'"zip":"DEF"', b'"p2c":99999999', b'"crit":["exp"]', b'"b64":false', b'"kid":"../x"',
    b"\xff", b"\0", b".", b"=", b"{", b"[", b"1e999", b"NaN", b'\\ud800', b'"exp":-1', b"1" * 40, b"\r\n",
]  # fmt: skip


def known(name: str) -> list[bytes]:
    """Return the corpus of this target, Latin-1 texts, as bytes."""
    path = CORPUS / f"{name}.json"
    if not path.exists():
        return []
    return [text.encode("latin-1") for text in json.loads(path.read_text(encoding="utf-8")).values()]
