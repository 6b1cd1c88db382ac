"""The commands of `josh` that read a corpus and print lines; the command line only parses for them."""
