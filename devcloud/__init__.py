# SPDX-License-Identifier: Apache-2.0
"""A real Keystone, a real Heat and our API on one machine, for the demo and the tests."""
