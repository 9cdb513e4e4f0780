# SPDX-License-Identifier: Apache-2.0
"""Sphinx: how the pages of this folder are built."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

extensions = ["oslo_config.sphinxext"]
project = "heat-workflow"
copyright = "the heat-workflow developers"
html_theme = "alabaster"
exclude_patterns = ["**/generated"]
