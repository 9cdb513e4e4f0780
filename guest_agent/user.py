# SPDX-License-Identifier: Apache-2.0
"""The user a hook runs as: looked up once, and become for good."""

from __future__ import annotations

import ctypes
import os
import pwd
from dataclasses import dataclass

from guest_agent.errors import HookError

_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True)
class User:
    """One user of this machine with all the groups it is in."""

    name: str
    uid: int
    gid: int
    groups: list[int]
    home: str

    def environment(self) -> dict[str, str]:
        """What a program of this user expects."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def find_user(name: str) -> User:
    """The user of that name; HookError, which fails the task, when there is none or the agent may not become it."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise HookError(f"run_as: there is no user {name!r} on this machine", 126) from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise HookError(f"run_as: the agent does not run as root, it cannot become {name!r}", 126)
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def become(user: User) -> None:
    """Be that user from now on, real, effective and saved, with no way back: not even a setuid program is one."""
    if os.geteuid() == 0:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_NO_NEW_PRIVS): {os.strerror(number)}")
