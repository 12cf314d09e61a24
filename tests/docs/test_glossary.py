"""Words that the glossary rules out, in the column `not` of its tables: no code and no page contains one."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
GLOSSARY: Final = ROOT / "docs" / "glossary.md"
FOLDERS: Final = (
    "benchmarks",
    "clients/python",
    "deploy",
    "docs",
    "examples",
    "identity_service",
    "protos",
    "tests",
)
PAGES: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "pyproject.toml", ".ci/run")
SUFFIXES: Final = {
    ".css",
    ".go",
    ".html",
    ".java",
    ".js",
    ".json",
    ".jsonl",
    ".lua",
    ".md",
    ".mjs",
    ".proto",
    ".py",
    ".sh",
    ".sql",
    ".svg",
    ".toml",
    ".yaml",
    ".yml",
}
GENERATED: Final = ROOT / "clients" / "python" / "identityapi"
EXEMPT: Final = {
    r"service[ _-]?accounts?": "an identity of Kubernetes, Google Cloud or AWS",
    r"accounts\.google\.com": "the issuer of Google",
    r"minimum_account_to_track": "a field of Envoy's configuration",
    r"journal[ _]mode": "a pragma of SQLite",
    r'(?:table|from|into) "?beats|["`]beats["`]': "a table of SQLite, with heartbeats of version 0.1.0, too",
    r':beat:|"beat": "string"': "a key in Redis, with heartbeats of version 0.1.0, too",
}
"""Patterns of phrases in which such a word is allowed, each with the reason."""


def replaced_words(glossary: str) -> list[str]:
    """Return the words in the column `not` of all tables."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", glossary, re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
        assert header[-1] == "not", header
        found += [word.strip() for *_, cell in rows for word in cell.split(",") if word.strip()]
    return sorted(set(found))


def occurrences(text: str, words: list[str]) -> list[str]:
    """Return the occurrences of these words and their plurals in a text, also within identifiers."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    for phrase in EXEMPT:
        separated = re.sub(phrase, " ", separated, flags=re.IGNORECASE)
    one_of = "|".join(word.replace(" ", r"[\s_-]+") for word in words)
    return re.findall(rf"(?<![A-Za-z])(?:{one_of})s?(?![A-Za-z])", separated, re.IGNORECASE)


def sources() -> list[Path]:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    skipped = (GLOSSARY, Path(__file__))
    return [
        path
        for path in [*files, *(ROOT / page for page in PAGES)]
        if path not in skipped and not path.is_relative_to(GENERATED) and "node_modules" not in path.parts
    ]


def test_no_file_contains_a_word_that_the_glossary_replaces() -> None:
    words = replaced_words(GLOSSARY.read_text(encoding="utf-8"))
    found = {
        str(path.relative_to(ROOT)): occurrences(f"{path.name} {path.read_text(encoding='utf-8')}", words)
        for path in sources()
    }

    assert {path: words for path, words in found.items() if words} == {}


def test_the_glossary_uses_no_word_that_it_replaces() -> None:
    glossary = GLOSSARY.read_text(encoding="utf-8")
    defined = re.sub(r"\|[^|\n]*\|$", "|", glossary, flags=re.MULTILINE)

    assert occurrences(defined, replaced_words(glossary)) == []


def test_every_table_of_the_glossary_is_read() -> None:
    assert {"account", "beat", "owed", "put back"} <= set(
        replaced_words(GLOSSARY.read_text(encoding="utf-8"))
    )


def test_a_replaced_word_is_found_in_text_and_in_identifiers() -> None:
    text = (
        "accountable account. class NewsDesk: put_back(accounts), putBack, serviceAccountName, put\n  back, "
        "HTTPAccount"
    )

    assert occurrences(text, ["account", "news", "put back"]) == [
        "account",
        "News",
        "put_back",
        "accounts",
        "put Back",
        "put\n  back",
        "Account",
    ]
