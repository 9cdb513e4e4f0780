# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: every claim about speed, measured beside something that runs on the same machine in the same minutes."""
