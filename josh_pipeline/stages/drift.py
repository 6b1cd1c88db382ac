"""How far what an iteration made has drifted from the foundation, measured once a policy."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from josh_pipeline.core.content import canonical_json
from josh_pipeline.evaluation.drift import Drift, measure_drift, reading_digest
from josh_pipeline.stages.playing import weights
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.stage import Step
from josh_pipeline.store.warehouse import Warehouse

NO_WEIGHTS = "The weights of an endpoint's model are not here."
DRIFT_SCHEMA: dict[str, Any] = {
    "drift": pl.Float64, "low": pl.Float64, "high": pl.Float64, "texts": pl.Int64, "tokens": pl.Int64,
    "by_kind": pl.String, "reason": pl.String,
}  # fmt: skip


def drift_record(step: Step, row: PolicyRow, policy_digest: str, adapter_path: str | None) -> dict[str, Any]:
    """Return a policy's row of table ``drifts``, measuring what the store does not know.

    Args:
        row: of the iteration; it names the base.
        policy_digest, adapter_path: of the policy.
    """
    base = step.written("base_models", step.require("cold_start", row.base_scope))[0]
    about = {
        "policy_digest": policy_digest,
        "foundation_digest": base["foundation_digest"],
        "texts_digest": reading_digest(step.settings.policy.quantization),
    }
    known = _known(step.warehouse, about)
    if known is None:
        known = _measured(step, row, base, policy_digest, adapter_path)
    return about | known | {"max_drift": step.settings.evaluation.max_drift}


def _known(warehouse: Warehouse, about: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what was measured of the same policy, in any iteration."""
    found = warehouse.rows(
        f"SELECT {', '.join(DRIFT_SCHEMA)} FROM drifts WHERE policy_digest = $policy_digest "
        "AND foundation_digest = $foundation_digest AND texts_digest = $texts_digest LIMIT 1",
        about,
    )
    return found[0] if found else None


def _measured(
    step: Step, row: PolicyRow, base: Mapping[str, Any], policy_digest: str, adapter_path: str | None
) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(DRIFT_SCHEMA)
    policy = weights(step.home, row.base_path, adapter_path, policy_digest)
    if policy is None:
        return empty | {"reason": NO_WEIGHTS}
    found = measure_drift(
        policy, step.home.absolute(base["foundation_path"]), step.progress, step.settings.policy.quantization
    )
    record = asdict(found)
    return empty | {"drift": record.pop("mean"), **record, "by_kind": canonical_json(found.by_kind)}


def drift_frame(record: Mapping[str, Any]) -> pl.DataFrame:
    """Return a row of table ``drifts`` as a frame."""
    return pl.DataFrame([record], schema_overrides=DRIFT_SCHEMA)


def drift_of(record: Mapping[str, Any]) -> Drift | None:
    """Read a row of table ``drifts``; None where there was nothing to measure."""
    if record["drift"] is None:
        return None
    return Drift(
        mean=record["drift"],
        low=record["low"],
        high=record["high"],
        texts=record["texts"],
        tokens=record["tokens"],
        by_kind=json.loads(record["by_kind"]),
    )
