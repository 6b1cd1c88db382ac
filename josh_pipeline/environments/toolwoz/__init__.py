"""ToolWOZ: MultiWOZ dialogues turned into goals over search_* and book_* tools."""
