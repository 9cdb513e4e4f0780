# SPDX-License-Identifier: Apache-2.0
"""Plugin directory: what Heat's plugin_dirs option names; it holds nothing but the one-line plugin module."""
