"""The reference of all settings is what the classes say, and every setting says something."""

import runpy
from pathlib import Path

from josh_pipeline.environments.toolwoz.settings import ToolWozSettings
from josh_pipeline.settings import Settings
from josh_pipeline.settings.training import BUILT_IN_SETTINGS

DOCS = Path(__file__).parent.parent / "docs"


def test_the_reference_is_what_its_script_writes() -> None:
    page = runpy.run_path(str(DOCS / "settings.py"))["page"]
    assert (DOCS / "settings.md").read_text() == page(), "run python docs/settings.py"


def test_it_has_every_setting_with_default_bounds_meaning_and_what_profiles_have() -> None:
    text = (DOCS / "settings.md").read_text()
    assert "| `beam_size` | `8` | whole number at least 1 | Branches that are alive at once in a tree. |  |" in text
    assert "sft: `0.0003`; kto: `0.0003`; dpo: `0.0001`" in text and "paper: `5e-07`" in text
    for model in (Settings, ToolWozSettings, *BUILT_IN_SETTINGS.values()):
        for name in model.model_fields.keys() - {"profile"}:
            assert f"| `{name}` |" in text or f"\n## {name}\n" in text or f".{name}\n" in text, name
    assert "| None |" not in text, "every setting has a description"
