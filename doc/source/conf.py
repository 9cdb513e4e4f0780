# SPDX-License-Identifier: Apache-2.0
"""Sphinx: how the pages of this folder are built."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from doc.ext import promises, resource_pages, writing  # noqa: E402

writing.write(HERE / "contributor" / "generated", promises.pages())
writing.write(HERE / "user" / "types", resource_pages.pages())

extensions = ["oslo_config.sphinxext"]
project = "heat-workflow"
copyright = "the heat-workflow developers"
html_theme = "alabaster"
exclude_patterns = ["**/generated"]
