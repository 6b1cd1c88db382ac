"""What each step of the pipeline does to a home: read tables, call the library, write tables.

No orchestrator here: a step is a function, and the assets of Dagster call it.
"""
