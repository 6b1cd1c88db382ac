"""How an agent writes: one module a format, one interface (``base``)."""
