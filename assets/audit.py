"""Asset ``audit``: every link of the home's lineage, checked on demand."""

from typing import Any

import dagster as dg

from assets.factory import OWNERS
from assets.pages import table
from assets.resources import JoshResource
from josh_pipeline.audit.text import standing
from josh_pipeline.audit.whole import audit_home, store_digest
from josh_pipeline.stages import promotion

SHOWN_FINDINGS = 50


@dg.asset(
    group_name="audit",
    kinds={"duckdb"},
    owners=OWNERS,
    deps=[dg.AssetKey(promotion.STAGE.asset)],
    check_specs=[
        dg.AssetCheckSpec(
            "lineage_holds",
            asset="audit",
            description="No row, file or table was altered since a run wrote it, and everything that can be "
            "computed anew (ids, goals, labels, training rows, digests) is what is stored.",
        )
    ],
    description="Every link from corpus to adapter: each row held to its seal, each generation to what it "
    "was made from, ids and labels and training rows computed anew, adapters held to their manifests. What a "
    "rerun has replaced is `superseded`, never broken. `josh audit` prints the same.",
)
def audit(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Audit the home."""
    with josh.step(context) as step:
        found, known, _ = audit_home(step.home, None, step.progress)
    broken = found.of("broken")
    wrong = {finding.where for finding in broken}
    generations = [
        {
            "generation": written.name,
            "status": standing(found, written, wrong),
            "digest": written.digest,
            "run": written.run_id,
        }
        for written in known.values()
    ]
    findings = [
        {"status": finding.status, "where": finding.where, "what": finding.message}
        for finding in [*broken, *(one for one in found.findings if one.status != "broken")][:SHOWN_FINDINGS]
    ]
    metadata: dict[str, Any] = {
        "broken links": len(broken),
        "digest of the store": store_digest(known),
        "generations": table(generations),
        **{f"checked: {what}": number for what, number in found.checked.items()},
    }
    sentence = (
        f"{len(broken)} links do not hold; the first: {broken[0].message}" if broken else "Every link holds."
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(store_digest(known)),
        metadata=metadata | ({"findings": table(findings)} if findings else {}),
        check_results=[
            dg.AssetCheckResult(
                check_name="lineage_holds",
                passed=found.sound,
                description=sentence,
                metadata={"broken links": len(broken)},
            )
        ],
    )
