# SPDX-License-Identifier: Apache-2.0
"""Harness: real PostgreSQL and MariaDB servers, each in a directory of its own on a free loopback port."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psycopg
import pymysql
import sqlalchemy as sa

from tests.harness.servers import free_port


class DatabaseServer(Protocol):
    """A server that tests may kill and start again."""

    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...
    def new_database(self, name: str) -> str:
        """The SQLAlchemy URL of a fresh, empty database."""


class _Server:
    """What both have in common: a directory, a port, a user that is not root, a process."""

    account: str
    gentle: signal.Signals

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="heat-workflow-db-"))
        self.port = free_port()
        self.user = self.account if os.geteuid() == 0 else getpass.getuser()
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.account)
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        self.log = self.directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, user=self._as(), cwd=self.directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command[0]}: {done.stdout[-1000:]} {done.stderr[-1000:]}"

    def _as(self) -> str | None:
        return self.account if os.geteuid() == 0 else None

    def _spawn(self, *command: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, user=self._as(), cwd=self.directory, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def answers(self) -> bool:
        raise NotImplementedError

    def end(self, sig: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(sig)
            self._process.wait(60)
        self._process = None

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def remove(self) -> None:
        self.end(self.gentle)
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgreSql(_Server):
    account = "postgres"
    gentle = signal.SIGINT  # ends sessions too

    def __init__(self) -> None:
        super().__init__()
        self._bin = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self._run(
            str(self._bin / "initdb"), "-D", "data", "-A", "trust", "-U", "tester", "-E", "UTF8", "--locale=C.UTF-8"
        )

    def start(self) -> None:
        options = ["-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self._spawn(str(self._bin / "postgres"), "-D", "data", *options, "-c", "max_connections=200")

    def answers(self) -> bool:
        with contextlib.suppress(psycopg.Error), self._connect():
            return True
        return False

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=tester dbname=postgres", autocommit=True)

    def new_database(self, name: str) -> str:
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/{name}"


class MariaDb(_Server):
    account = "mysql"
    gentle = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        # A server that starts removes the temporary tables of all others from a directory that they share.
        places = [f"--datadir={self.directory}/data", f"--tmpdir={self.directory}"]
        self._options = ["--no-defaults", *places, f"--port={self.port}"]
        self._options += [f"--socket={self.directory}/socket", "--bind-address=127.0.0.1"]
        self._run("mariadb-install-db", "--no-defaults", *places, "--skip-test-db")

    def start(self) -> None:
        binary = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        durable = ["--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1", "--max-connections=200"]
        self._spawn(binary, *self._options, *durable, "--skip-grant-tables", "--skip-networking=0")

    def answers(self) -> bool:
        with contextlib.suppress(pymysql.Error):
            self._connect().close()
            return True
        return False

    def _connect(self) -> pymysql.Connection:
        return pymysql.connect(host="127.0.0.1", port=self.port, user="tester")

    def new_database(self, name: str) -> str:
        connection = self._connect()
        connection.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        connection.close()
        return f"mysql+pymysql://tester@127.0.0.1:{self.port}/{name}?charset=utf8mb4"


@contextlib.contextmanager
def running(kind: type[PostgreSql] | type[MariaDb]) -> Iterator[PostgreSql | MariaDb]:
    """A server for the time of the block; its directory goes with it."""
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def backend(url: str) -> str:
    return sa.make_url(url).get_backend_name()
