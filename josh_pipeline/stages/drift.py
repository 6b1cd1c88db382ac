"""How far what an iteration made has drifted from the foundation, measured once a policy."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from josh_pipeline.core.content import canonical_json
from josh_pipeline.evaluation.drift import Drift, measure_drift, reading_digest
from josh_pipeline.stages.playing import weights
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.stage import Step
from josh_pipeline.store.warehouse import Warehouse

NO_WEIGHTS = "The weights of an endpoint's model are not here."
MEASURED = ("drift", "low", "high", "texts", "tokens", "by_kind", "reason")


def drift_record(step: Step, policy: PolicyRow) -> dict[str, Any]:
    """Return a policy's row of table ``drifts``, measuring what the store does not know."""
    base = step.warehouse.written("base_models", step.require("cold_start", policy.base_scope))[0]
    about = {
        "policy_digest": policy.policy_digest,
        "foundation_digest": base["foundation_digest"],
        "texts_digest": reading_digest(step.settings.policy.quantization),
    }
    known = _known(step.warehouse, about)
    if known is None:
        known = dict.fromkeys(MEASURED) | _measured(step, policy, base["foundation_path"])
    return about | known | {"max_drift": step.settings.evaluation.max_drift}


def _known(warehouse: Warehouse, about: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what was measured of the same policy, in any iteration."""
    found = warehouse.rows(
        f"SELECT {', '.join(MEASURED)} FROM drifts WHERE policy_digest = $policy_digest "
        "AND foundation_digest = $foundation_digest AND texts_digest = $texts_digest LIMIT 1",
        about,
    )
    return found[0] if found else None


def _measured(step: Step, policy: PolicyRow, foundation: str) -> dict[str, Any]:
    files = weights(step.home, policy)
    if files is None:
        return {"reason": NO_WEIGHTS}
    found = measure_drift(files, step.home.absolute(foundation), step.progress, step.settings.policy.quantization)
    record = asdict(found)
    return {"drift": record.pop("mean"), **record, "by_kind": canonical_json(found.by_kind)}


def drift_of(record: Mapping[str, Any]) -> Drift | None:
    """Read a row of table ``drifts``; None where there was nothing to measure."""
    if record["drift"] is None:
        return None
    same = {name: record[name] for name in ("low", "high", "texts", "tokens")}
    return Drift(mean=record["drift"], by_kind=json.loads(record["by_kind"]), **same)
