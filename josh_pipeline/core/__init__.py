"""What every room speaks: messages, calls, the world and its environment, ids, errors, progress."""
