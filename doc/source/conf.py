# SPDX-License-Identifier: Apache-2.0
"""Sphinx: how the pages of this folder are built."""

project = "heat-workflow"
copyright = "the heat-workflow developers"
html_theme = "alabaster"
exclude_patterns: list[str] = []
