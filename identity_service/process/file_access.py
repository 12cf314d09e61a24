"""Describes, for operators, the kind of a file and the users that may open it. The module opens no file."""

import os
import stat
from pathlib import Path
from typing import Final

MOUNT_ADVICE: Final = (
    "for a Secret that Kubernetes mounts set `defaultMode: 0440` of the volume and `fsGroup` in the "
    "securityContext of the pod"
)
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def irregular(file: os.stat_result) -> str:
    """Return the kind of a file, such as `a directory`; empty for a regular file."""
    if stat.S_ISREG(file.st_mode):
        return ""
    return _KINDS.get(stat.S_IFMT(file.st_mode), "something else")


def others_may_read(file: os.stat_result) -> bool:
    """Return whether users other than root and this process may read or write the file.

    A file of root that a group of this process may only read counts as safe: the kubelet mounts Secrets like
    this, with a group (`fsGroup`) that belongs to the pod alone.
    """
    group = file.st_mode & stat.S_IRWXG
    if file.st_mode & stat.S_IRWXO:
        return True
    is_mounted = file.st_uid == 0 and file.st_gid != 0 and file.st_gid in (os.getegid(), *os.getgroups())
    return bool(group) and not (is_mounted and group == stat.S_IRGRP)


def permissions_of(path: Path) -> str:
    """Return a clause with the owner and mode of a file, and the user and groups of this process.

    It is empty if they cannot be read, such as in a directory that this process may not enter.
    """
    try:
        file = path.stat()
    except OSError:
        return ""
    groups = " ".join(map(str, sorted({os.getegid(), *os.getgroups()})))
    return (
        f"it belongs to uid {file.st_uid}, gid {file.st_gid} with mode {stat.S_IMODE(file.st_mode):04o}, "
        f"and this process runs as uid {os.geteuid()} with the groups {groups}"
    )


def why_unread(error: OSError, path: Path) -> str:
    """Return why the file of a secret cannot be read, and for a missing permission also how to grant it."""
    if not isinstance(error, PermissionError):
        return str(error.strerror)
    permissions = permissions_of(path)
    said = f"{error.strerror}{f': {permissions}' if permissions else ''}"
    return f"{said}. Give it to that user, or {MOUNT_ADVICE}"


def may_read_and_write(path: Path) -> bool:
    """Return whether this process may read and write the file or directory at this moment."""
    return os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def is_read_only(path: Path) -> bool:
    """Return whether the file system at the path is mounted read-only; False if that cannot be found out."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
