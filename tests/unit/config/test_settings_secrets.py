"""The secrets in the settings: their sources, and that no output shows them."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from identity_service.composition.opening import open_sealer
from identity_service.config.sources import load_settings
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.secret import Secret
from identity_service.jose.sealing import Sealer
from identity_service.settings import Settings
from tests.patience import PATIENCE

SECRET = "a secret that no message may show, ever"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "url",
    [f"redis://u:{SECRET}", f"redis://h:{SECRET}/0", f"redis://[{SECRET}", f"postgres://u:{SECRET}@h/d"],
)
def test_a_store_that_cannot_be_is_refused_without_its_password(url: str) -> None:
    """The library's error quotes the part of the URL that it takes for the port: perhaps the password."""
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


OWN_GROUP, FOREIGN_GROUP = 2000, 2001


@pytest.mark.parametrize(
    ("owner", "group", "mode", "accepted"),
    [
        (0, OWN_GROUP, 0o440, True),
        (0, OWN_GROUP, 0o640, True),
        (0, OWN_GROUP, 0o444, False),
        (0, OWN_GROUP, 0o460, False),
        (0, FOREIGN_GROUP, 0o440, False),
        (0, 0, 0o440, False),
        (1000, OWN_GROUP, 0o440, False),
    ],
)
def test_a_secret_that_the_kubelet_mounts_for_the_pod_s_group_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, group: int, mode: int, accepted: bool
) -> None:
    """The file belongs to root and the group of `fsGroup`, and is reached by two symbolic links."""
    data = tmp_path / "..2026_11_29"
    data.mkdir()
    (data / "master.key").write_text(f"{SECRET}\n")
    (tmp_path / "..data").symlink_to(data)
    (tmp_path / "master.key").symlink_to(tmp_path / "..data" / "master.key")
    mounted = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, group, 1, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda *_, **__: mounted)
    monkeypatch.setattr(os, "getgroups", lambda: [0, OWN_GROUP])

    settings = Settings(master_key_file=tmp_path / "master.key")

    if accepted:
        assert settings.read_master_key().reveal() == SECRET
    else:
        with pytest.raises(
            ConfigurationError, match=r"other users may read .* `fsGroup` in the securityContext"
        ):
            settings.read_master_key()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a named pipe"),
        (Path.mkdir, "a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
    ids=["pipe", "directory", "device"],
)
def test_a_master_key_file_that_is_no_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], None], kind: str
) -> None:
    """Reading a pipe would wait for a writer, and reading a device such as `/dev/zero` would never end."""
    path = tmp_path / "master.key"
    make(path)

    with pytest.raises(ConfigurationError, match=f"^master_key_file: {path} is {kind}; name a regular file"):
        Settings(master_key_file=path).read_master_key()


def test_a_master_key_file_that_this_user_may_not_read_is_reported_with_its_owner_and_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet mounts a Secret of mode 0400 for root alone unless `fsGroup` is set."""
    file = tmp_path / "master.key"
    file.write_text(SECRET)
    file.chmod(0o400)

    def read_text(path: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", read_text)

    with pytest.raises(ConfigurationError) as error:
        Settings(master_key_file=file).read_master_key()

    said = str(error.value)
    owner = file.stat()
    assert f"cannot read {file}: Permission denied: it belongs to uid {owner.st_uid}, gid " in said
    assert f"with mode 0400, and this process runs as uid {os.geteuid()} with the groups " in said
    assert "`defaultMode: 0440` of the volume and `fsGroup`" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another group")
def test_a_process_of_the_pod_s_group_reads_the_mounted_secret(reachable: Path) -> None:
    file = reachable / "master.key"
    file.write_text(SECRET)
    os.chown(file, 0, OWN_GROUP)
    file.chmod(0o440)
    program = f"""
import os
from pathlib import Path
os.setgroups([{OWN_GROUP}]); os.setgid(65534)
from identity_service.settings import Settings
os.setuid(65534)
print(len(Settings(master_key_file=Path({str(file)!r})).read_master_key().reveal()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout == f"{len(SECRET)}\n", done.stderr


@pytest.mark.parametrize("written", [f"{SECRET}\n", f"{SECRET}\r\n", f" {SECRET} "])
def test_a_master_key_is_the_same_from_a_variable_and_from_a_file(tmp_path: Path, written: str) -> None:
    file = tmp_path / "master.key"
    file.write_bytes(written.encode())
    file.chmod(0o600)
    from_file = Settings(master_key_file=file)
    from_variable = load_settings(environ={"IDENTITY_MASTER_KEY": written}).settings

    assert from_variable.read_master_key() == from_file.read_master_key() == Secret(SECRET)
    assert open_sealer(from_variable).open(open_sealer(from_file).seal("s", "k"), "k") == "s"


def test_a_store_of_a_version_that_took_the_line_break_as_a_part_still_opens() -> None:
    settings = load_settings(environ={"IDENTITY_MASTER_KEY": f"{SECRET}\n"}).settings
    sealed_before = Sealer(Secret(f"{SECRET}\n")).seal("s", "k")

    sealer = open_sealer(settings)

    assert sealer.open(sealed_before, "k") == "s"
    assert not sealer.is_current(sealed_before), "`identity key rewrap` seals it anew"


def test_a_master_key_file_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    """`openssl rand 32` without `-base64` makes such a file."""
    file = tmp_path / "master.key"
    file.write_bytes(b"\xff\xfe" * 16)
    file.chmod(0o600)

    with pytest.raises(ConfigurationError, match="is not a text file"):
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
def test_a_store_is_shown_without_any_text_that_may_be_its_password(url: str, shown: str) -> None:
    settings = Settings(store=url)

    assert settings.masked()["store"] == shown
    assert "hun" not in repr(settings)
