# SPDX-License-Identifier: Apache-2.0
"""The pages can be built, without a warning: every reference leads somewhere, every table is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT


@pytest.mark.parametrize(
    ("tree", "page"), [("doc/source", "admin/configuration.html"), ("api-ref/source", "workflows.html")]
)
def test_a_tree_of_pages_is_built_without_a_warning(tree: str, page: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", tree, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / page).exists()
