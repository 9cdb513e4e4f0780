# SPDX-License-Identifier: Apache-2.0
"""Sphinx: how the API reference is built."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from doc.ext import operations, writing  # noqa: E402

writing.write(HERE / "generated", operations.pages())

project = "heat-workflow tasks API"
copyright = "the heat-workflow developers"
html_theme = "alabaster"
exclude_patterns = ["generated"]
