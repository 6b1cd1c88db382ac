"""A class of one's own as an environment: its public methods are the tools, its fields the world."""
