"""JOSH self-training of tool-calling dialogue agents: the library, free of any orchestration framework."""
