"""The JOSH search: a tree of agent turns, pruned by a sparse reward, and what is harvested from it."""
