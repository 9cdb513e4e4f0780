# SPDX-License-Identifier: Apache-2.0
"""Group: what agents ask all the time, taken together: facts loaded and changes written by set, one commit for all.

A group looks (ids, without locks), locks the workflows (all at once, by id), loads the facts, lets each turn's use case
decide on them in the order of arrival, and writes what has changed, one statement for each table and kind of change.
"""
