"""Reads the RFCs' examples from `../shared/vectors`, or from the folder that IDENTITY_VECTORS names."""

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[3]
VECTORS: Final = Path(os.environ.get("IDENTITY_VECTORS", ROOT.parent / "shared" / "vectors"))
needs_vectors: Final = pytest.mark.skipif(
    not VECTORS.is_dir(), reason="no vectors: put them beside the checkout or name them in IDENTITY_VECTORS"
)


def vector(path: str) -> Any:
    return json.loads((VECTORS / path).read_text(encoding="utf-8"))
