"""The secrets among the settings: where they come from, and that nothing shows them."""

import stat
from pathlib import Path

import pytest

from identity_service.domain.errors import ConfigurationError
from identity_service.settings import Settings
from identity_service.settings_sources import load_settings

SECRET = "a secret that no message may show, ever"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "url",
    [f"redis://u:{SECRET}", f"redis://h:{SECRET}/0", f"redis://[{SECRET}", f"postgres://u:{SECRET}@h/d"],
)
def test_a_store_that_cannot_be_is_refused_without_its_password(url: str) -> None:
    """The library's own message quotes what it takes for the port."""
    with pytest.raises(ConfigurationError, match=r"^store: must be") as error:
        load_settings(environ={"IDENTITY_STORE": url})
    assert SECRET not in str(error.value)


def test_the_master_key_comes_from_the_setting_or_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)

    assert Settings(master_key=SECRET).read_master_key().reveal() == SECRET
    assert Settings(master_key_file=file).read_master_key().reveal() == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_master_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "master.key"
    file.write_text(SECRET)
    file.chmod(mode)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        Settings(master_key_file=file).read_master_key()
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_master_key_file_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    """As `openssl rand 32` makes one, without -base64."""
    file = tmp_path / "master.key"
    file.write_bytes(b"\xff\xfe" * 16)
    file.chmod(0o600)

    with pytest.raises(ConfigurationError, match="holds no text"):
        Settings(master_key_file=file).read_master_key()


def test_a_missing_master_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="openssl rand"):
        Settings().read_master_key()
    with pytest.raises(ConfigurationError, match="cannot read"):
        Settings(master_key_file=tmp_path / "missing").read_master_key()


def test_secrets_are_hidden_wherever_settings_are_shown() -> None:
    settings = load_settings(
        environ={"IDENTITY_MASTER_KEY": SECRET, "IDENTITY_STORE": "redis://user:hunter2@127.0.0.1:6379/0"}
    ).settings

    shown = "".join(settings.masked().values()) + repr(settings.master_key) + str(settings.master_key)
    shown += repr(settings) + str(settings)
    assert SECRET not in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a@b/c.db", "sqlite:///a@b/c.db"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://user:hunter2@127.0.0.1:6379/0", "redis://***@127.0.0.1:6379/0"),
        ("rediss://:hunter2@h", "rediss://***@h"),
        ("redis://h/0?password=hunter2", "redis://h/0?***"),
        ("redis://h/0?password=a@hunter2", "redis://***"),
        ("redis://:12/hunter2@h/0", "redis://***"),
        ("redis://:12#hunter2@h/0", "redis://***"),
        ("redis://:12?hunter2@h/0", "redis://***"),
    ],
)
def test_a_store_is_shown_without_what_may_be_its_password(url: str, shown: str) -> None:
    settings = Settings(store=url)

    assert settings.masked()["store"] == shown
    assert "hun" not in repr(settings)
