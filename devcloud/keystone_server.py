# SPDX-License-Identifier: Apache-2.0
"""Keystone server: one process that makes its database if need be, seeds it, serves it."""

import os
import sys
from pathlib import Path

from oslo_service import backend

# ruff: noqa: E402 -- before anything else of OpenStack is imported, or eventlet would be loaded.
backend.init_backend(backend.BackendType.THREADING)

import keystone.conf
from keystone.common import fernet_utils
from keystone.common.sql import upgrades
from keystone.server.flask.core import initialize_application

from devcloud.keystone_seed import seed
from devcloud.settings import load_settings
from devcloud.sqlite import create_database, is_complete, mark_complete, take_write_lock_late
from devcloud.warm_up import warm_up
from devcloud.wsgi import serve

CONF = keystone.conf.CONF
THREADS = 16


def main(directory: Path) -> None:
    """Serve the Keystone of the cloud in the directory; a database that is there is used as it is."""
    take_write_lock_late()
    # Keystone reads the command line by itself.
    del sys.argv[1:]
    settings = load_settings(directory)
    database = directory / "keystone.sqlite"
    is_new = not is_complete(database)

    def prepare() -> None:
        _ensure_keys()
        if is_new:
            create_database(database, upgrades.offline_sync_database_to_version)

    application = initialize_application("public", prepare, [str(directory / "keystone.conf")])
    if is_new:
        seed(settings)
        mark_complete(database)
    warm_up(application, settings)
    serve(application, settings.keystone_port, THREADS)


def _ensure_keys() -> None:
    for group in ("fernet_tokens", "credential"):
        repository = CONF[group].key_repository
        if not os.path.isdir(repository):
            keys = fernet_utils.FernetUtils(repository, 3, group)
            keys.create_key_directory()
            keys.initialize_key_repository()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
