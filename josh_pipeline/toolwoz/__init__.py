"""ToolWOZ: goals over search_* and book_* tools, the world they are played in, and its sparse reward."""
