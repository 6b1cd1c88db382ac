"""Who talks: messages, the agents' output formats, and the simulated users."""
