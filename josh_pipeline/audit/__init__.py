"""The audit: every link from corpus to adapter held against what it should be."""
