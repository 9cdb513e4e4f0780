# SPDX-License-Identifier: Apache-2.0
"""Statements: every fixed SQL statement of the store, a file for each noun; compiled once per database."""
