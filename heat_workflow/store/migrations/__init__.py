# SPDX-License-Identifier: Apache-2.0
"""Migrations: how a database gets from one revision of the schema to the next."""
