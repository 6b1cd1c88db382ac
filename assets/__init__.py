"""The Dagster layer: thin assets over ``josh_pipeline.stages``, one module a stage, in the flow's order."""
