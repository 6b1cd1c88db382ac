"""The store of a home: one DuckDB file, one table a noun, rows superseded by generations."""
