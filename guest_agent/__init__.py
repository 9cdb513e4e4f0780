"""The agent in the guest: it pulls tasks, runs them through a hook, and never loses a result."""
