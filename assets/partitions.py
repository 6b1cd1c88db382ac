"""The iterations of the loop, as partitions."""

import dagster as dg

ITERATIONS = dg.DynamicPartitionsDefinition(name="iteration")
"""Zero-padded keys. ``000`` holds the base policy's evaluation only: the 'before' of ``001``."""

LOOP_POOL = "loop"
"""One run of the loop at a time: an iteration needs what the one before promoted."""

OWNERS = ["team:josh"]
