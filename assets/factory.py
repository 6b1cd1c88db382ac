"""Assets, made from what the stages declare; and the audit, which is of no stage."""

import inspect
from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.pages import PAGES_OF, judged, sample, table
from assets.resources import JoshResource
from josh_pipeline.audit.text import not_holding, standing
from josh_pipeline.audit.whole import audit_home, store_digest
from josh_pipeline.stages import promotion
from josh_pipeline.stages.registry import BY_NAME
from josh_pipeline.stages.stage import Made, Stage
from josh_pipeline.store.schema import columns

ITERATIONS = dg.DynamicPartitionsDefinition(name="iteration")
"""Zero-padded keys. ``000`` holds the base policy's evaluation only: the 'before' of ``001``."""

LOOP_POOL = "loop"
"""One run of the loop at a time: an iteration needs what the one before promoted."""

OWNERS = ["team:josh"]


def asset_of(stage: Stage) -> dg.AssetsDefinition:
    """Return the asset that makes a stage; in the graph it hangs below the stages that it reads."""
    partitioned = stage.of_iterations

    @dg.asset(
        name=stage.asset,
        group_name="iteration" if partitioned else "environment",
        partitions_def=ITERATIONS if partitioned else None,
        pool=LOOP_POOL if partitioned else None,
        kinds=set(stage.kinds),
        owners=OWNERS,
        deps=[dg.AssetKey(BY_NAME[name].asset) for name in stage.inputs],
        check_specs=[
            dg.AssetCheckSpec(
                check.name,
                asset=stage.asset,
                blocking=check.blocking,
                partitions_def=ITERATIONS if partitioned else None,
                description=check.about,
            )
            for check in stage.checks
        ],
        metadata=_definition_metadata(stage),
        description=f"{stage.about} Tables {', '.join(f'`{name}`' for name in tables_of(stage))}.",
    )
    def made(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        iteration = context.partition_key if partitioned else None
        with josh.step(context) as step:
            done = stage.run(step, iteration)
            scope = iteration or done.generation.scope
            shown = sample(step, stage.sample, [scope]) if stage.sample else {}
            pages = PAGES_OF[stage.name](step, scope) if stage.name in PAGES_OF else {}
        open_iteration(context, done)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(done.version),
            metadata=together(
                pages,
                _place(stage),
                {"dagster/partition_row_count" if partitioned else "dagster/row_count": done.rows},
                {"generation": done.generation.number},
                done.facts,
                {name: table(rows) for name, rows in done.tables.items() if rows},
                shown,
            ),
            check_results=[judged(check, done.verdicts[check.name]) for check in stage.checks],
        )

    return made


def together(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Put parts of metadata into one.

    Raises:
        ValueError: two parts have a key in common, and one would hide the other.
    """
    found: dict[str, Any] = {}
    for part in parts:
        if twice := sorted(found.keys() & part.keys()):
            raise ValueError(f"Two parts of the metadata are called {twice}: give one another name.")
        found |= part
    return found


def open_iteration(context: dg.AssetExecutionContext, made: Made) -> None:
    """Add the partition that a stage opened, and report the policy that was written for it."""
    if made.opens is None:
        return
    context.instance.add_dynamic_partitions(str(ITERATIONS.name), [made.opens])
    if made.opened_policy is not None:
        context.log_event(
            dg.AssetMaterialization(
                BY_NAME["policy"].asset,
                partition=made.opens,
                description=f"Promoted by iteration {context.partition_key}.",
                tags={"dagster/data_version": made.opened_policy},
                metadata={"policy digest": made.opened_policy, "promoted by": context.partition_key},
            )
        )


def tables_of(stage: Stage) -> tuple[str, ...]:
    """Return a stage's tables, with those of the trees or conversations that it lists."""
    return (*stage.tables, *(stage.members.content if stage.members else ()))


def _definition_metadata(stage: Stage) -> dict[str, Any]:
    """Return where the rows lie, their columns, and the function that makes them."""
    schema = [
        dg.TableColumn(
            f"{name}.{column.name}",
            column.type,
            description=column.about or None,
            constraints=dg.TableColumnConstraints(nullable=not column.required),
        )
        for name in tables_of(stage)
        for column in columns()[name]
    ]
    code = dg.LocalFileCodeReference(
        file_path=inspect.getfile(stage.make), line_number=inspect.getsourcelines(stage.make)[1]
    )
    return {
        **_place(stage),
        "dagster/column_schema": dg.TableSchema(schema),
        "dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[code]),
    }


def _place(stage: Stage) -> dict[str, Any]:
    """Return where a stage's first table lies, and which columns of others its columns were made from."""
    owners = {name: one.asset for one in BY_NAME.values() for name in tables_of(one)}
    lineage = {
        column: [
            dg.TableColumnDep(asset_key=dg.AssetKey(owners[source.split(".")[0]]), column_name=source)
            for source in sources
        ]
        for column, sources in stage.origins.items()
    }
    found: dict[str, Any] = {"dagster/table_name": f"josh.duckdb: {next(iter(stage.tables))}"}
    return found | ({"dagster/column_lineage": dg.TableColumnLineage(lineage)} if lineage else {})


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
        for finding in sorted(found.findings, key=lambda one: one.status != "broken")[:SHOWN_FINDINGS]
    ]
    metadata: dict[str, Any] = {
        "broken links": len(broken),
        "digest of the store": store_digest(known),
        "generations": table(generations),
        **{f"checked: {what}": number for what, number in found.checked.items()},
    }
    sentence = f"{not_holding(len(broken))}; the first: {broken[0].message}" if broken else "Every link holds."
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
