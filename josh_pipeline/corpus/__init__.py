"""MultiWOZ archives become dialogues and databases; a built-in sample corpus has the same format."""
