"""``python -m josh_pipeline.cli``."""

import sys

from josh_pipeline.cli.main import main

sys.exit(main())
