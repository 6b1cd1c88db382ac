"""The command that ToolWOZ brings. ``josh`` imports this at every start, so it is light."""

from josh_pipeline.core.command import HOME, JSON, Command, argument

COMMANDS = (
    Command(
        "solvability",
        "josh_pipeline.environments.toolwoz.solvability:command",
        "count what an oracle can solve under both semantics, and what each repair changes",
        "josh solvability --corpus MULTIWOZ2.1.zip --json",
        (
            argument(
                "--corpus",
                metavar="PATH-or-URL",
                default="sample",
                help="'sample' (built in), or a folder, zip or URL of MultiWOZ (default: sample)",
            ),
            JSON,
            HOME,
        ),
    ),
)
