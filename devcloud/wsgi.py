# SPDX-License-Identifier: Apache-2.0
"""WSGI: serve one application on a loopback port until SIGTERM."""

import os
import signal
from types import FrameType

import waitress

from devcloud.settings import HOST


def serve(application: object, port: int, threads: int) -> None:
    """Answer requests for ever; SIGTERM ends the process at once, as a crash would: its databases are transactional."""
    signal.signal(signal.SIGTERM, _exit)
    waitress.serve(application, host=HOST, port=port, threads=threads, ident=None, clear_untrusted_proxy_headers=True)


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(0)
