"""heat-workflow: ordered software configuration for OpenStack Heat."""
