"""Assets, made from what the stages declare; and the audit, which is of no stage."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from assets.pages import PAGES_OF, judged, linked, sample, table
from assets.resources import JoshResource
from josh_pipeline.audit.text import not_holding, standing
from josh_pipeline.audit.whole import audit_home, store_digest
from josh_pipeline.stages import cold_start, promotion
from josh_pipeline.stages.registry import BY_NAME
from josh_pipeline.stages.stage import BASELINE_ASSET, Check, Made, RefusedError, Stage, Step
from josh_pipeline.store.schema import columns

ITERATIONS = dg.DynamicPartitionsDefinition(name="iteration")
"""Zero-padded keys, each added when the iteration is run: what has not been begun is not missing."""

LOOP_POOL = "loop"
"""One run of the loop at a time: an iteration needs what the one before promoted."""

OWNERS = ["team:josh"]

SETTLING = (cold_start.STAGE, promotion.STAGE)
"""Schedule, sensor and josh iterate go on with the settings of a run that came here, not with those of other reruns."""


def asset_of(stage: Stage) -> dg.AssetsDefinition:
    """Return the asset that makes a stage; in the graph it hangs below the stages that it reads."""
    partitions = partitions_of(stage)
    before = [BASELINE_ASSET] if any(BY_NAME[name].in_baseline for name in stage.earlier) else []

    @dg.asset(
        name=stage.asset,
        group_name="environment" if not partitions else "iteration" if stage.in_loop else "benchmark",
        partitions_def=partitions,
        pool=LOOP_POOL if partitions else None,
        kinds=set(stage.kinds),
        owners=OWNERS,
        deps=[*(BY_NAME[name].asset for name in stage.inputs), *before],
        check_specs=[check_spec(check, stage.asset, partitions) for check in stage.checks],
        metadata=_definition_metadata(stage),
        description=f"{stage.about} Tables {', '.join(f'`{name}`' for name in tables_of(stage))}.",
    )
    def made(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        iteration = context.partition_key if partitions else None
        with josh.step(context) as step:
            with refusals_shown(context, stage):
                done = stage.run(step, iteration)
            if stage in SETTLING:
                step.home.remember_settings(step.settings)
            scope = iteration or done.generation.scope
            shown = sample(step, stage.sample, [scope]) if stage.sample else {}
            found = told(stage, step, done, scope)
        report_renewed(context, done, scope)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(done.version),
            metadata=together(
                found,
                {"dagster/table_name": _place(stage)},
                {"dagster/partition_row_count" if partitions else "dagster/row_count": done.rows},
                {"generation": done.generation.number},
                shown,
            ),
            check_results=[judged(check, done.verdicts[check.name]) for check in stage.checks],
        )

    return made


@contextmanager
def refusals_shown(context: dg.AssetExecutionContext, stage: Stage) -> Iterator[None]:
    """Let a check show as failed whose stage wrote nothing because of it."""
    try:
        yield
    except RefusedError as fault:
        check = next(one for one in stage.checks if one.name == fault.check)
        result = judged(check, fault.verdict)
        context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=context.asset_key,
                check_name=check.name,
                passed=False,
                metadata=result.metadata,
                severity=result.severity,
                description=result.description,
                blocking=check.blocking,
            )
        )
        raise


def partitions_of(stage: Stage) -> dg.DynamicPartitionsDefinition | None:
    """Return the iterations of the loop, or those after which a stage outside of the loop was run; else None."""
    if not stage.of_iterations:
        return None
    return ITERATIONS if stage.in_loop else dg.DynamicPartitionsDefinition(name=f"{stage.asset}_iteration")


def check_spec(check: Check, asset: str, partitions: dg.PartitionsDefinition[str] | None = None) -> dg.AssetCheckSpec:
    """Return a check of an asset as Dagster declares it."""
    return dg.AssetCheckSpec(
        check.name, asset=asset, blocking=check.blocking, partitions_def=partitions, description=check.about
    )


def told(stage: Stage, step: Step, done: Made, scope: str) -> dict[str, Any]:
    """Return what a stage tells people: figures and links, facts and tables."""
    pages = PAGES_OF[stage.name](step, scope) if stage.name in PAGES_OF else {}
    facts = {name: linked(value) for name, value in done.facts.items()}
    return together(pages, facts, {name: table(rows) for name, rows in done.tables.items() if rows})


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


def report_renewed(context: dg.AssetExecutionContext, made: Made, iteration: str) -> None:
    """Report the policy of a later iteration that a promotion wrote anew: another one makes what hangs on it stale."""
    if made.renewed is None:
        return
    later, digest = made.renewed
    context.log_event(
        dg.AssetMaterialization(
            BY_NAME["policy"].asset,
            partition=later,
            description=f"Promoted by iteration {iteration}.",
            tags={"dagster/data_version": digest},
            metadata={"policy digest": digest, "promoted by": iteration},
        )
    )


def tables_of(stage: Stage) -> tuple[str, ...]:
    """Return a stage's tables, with those of the trees or conversations that it lists."""
    return (*stage.tables, *(stage.members.content if stage.members else ()))


def _definition_metadata(stage: Stage) -> dict[str, Any]:
    """Return where the rows lie, their columns and what those are made from, and the function that makes them."""
    schema = [
        dg.TableColumn(
            f"{name}.{column.name}",
            column.type,
            description="; ".join(filter(None, (column.about, _made_from(stage, f"{name}.{column.name}")))) or None,
            constraints=dg.TableColumnConstraints(nullable=not column.required),
        )
        for name in tables_of(stage)
        for column in columns()[name]
    ]
    code = dg.LocalFileCodeReference(
        file_path=inspect.getfile(stage.make), line_number=inspect.getsourcelines(stage.make)[1]
    )
    return {
        "dagster/table_name": _place(stage),
        "dagster/column_schema": dg.TableSchema(schema),
        "dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[code]),
    }


def _place(stage: Stage) -> str:
    """Say where a stage's first table lies."""
    return f"josh.duckdb: {next(iter(stage.tables))}"


def _made_from(stage: Stage, column: str) -> str:
    """Say from which columns of other stages a column is made: Dagster's own column lineage is shown as JSON."""
    owners = {name: one.asset for one in BY_NAME.values() for name in tables_of(one)}
    sources = [f"`{source}` ({owners[source.split('.')[0]]})" for source in stage.origins.get(column, ())]
    return f"made from {' and '.join(sources)}" if sources else ""


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
