"""The audit of a home, or of what one iteration descends from."""

from collections.abc import Callable, Mapping

from josh_pipeline.audit.context import Audit, Context, Reading
from josh_pipeline.audit.rows import check_generation, check_rows, check_strays, current_findings
from josh_pipeline.audit.searched import check_preferences, check_rollouts
from josh_pipeline.audit.sources import check_base, check_corpus, check_goals, check_policy
from josh_pipeline.audit.trained import check_adapter, check_benchmark, check_evaluation, check_promotion
from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import History, Written, ancestors, history
from josh_pipeline.store.warehouse import Generation

CHECKS: Mapping[str, Callable[[Context, Written], None]] = {
    "corpus": check_corpus,
    "goals": check_goals,
    "cold_start": check_base,
    "policy": check_policy,
    "rollouts": check_rollouts,
    "preferences": check_preferences,
    "adapter": check_adapter,
    "evaluation": check_evaluation,
    "promotion": check_promotion,
    "benchmark": check_benchmark,
}
"""Stage to what computes its rows anew; labels are computed with the trees that they are of."""


def audit_home(home: Home, iteration: str | None, progress: Progress) -> tuple[Audit, History, set[Generation]]:
    """Check every link of a home's lineage.

    Args:
        iteration: check only what its current generations descend from; None for all.

    Returns:
        The audit, every generation of the store, and those that were looked at.

    Raises:
        UserError: the store holds nothing of that iteration.
    """
    warehouse = home.warehouse()
    with Reading(warehouse) as reading:
        known = history(warehouse)
        context = Context(home, warehouse, known, Audit(), reading)
        _check(context, iteration, progress)
    return context.audit, known, context.chosen


def _check(context: Context, iteration: str | None, progress: Progress) -> None:
    known = context.known
    roots = [g for g, written in known.items() if written.current and iteration in (None, g.scope)]
    if not roots:
        what = "Nothing" if iteration is None else f"Nothing of iteration {iteration}"
        raise UserError(f"{what} is in this home yet: run josh iterate first.")
    descended = ancestors(known, roots)
    context.chosen = set(known) if iteration is None else descended & known.keys()
    progress.start("Rows", None)
    check_rows(context, whole=iteration is None)
    if iteration is None:
        check_strays(context)
    else:
        # What is current decides on what is looked at, so a mark that was moved must not hide itself.
        for generation, written in known.items():
            if generation.scope == iteration and generation not in context.chosen:
                context.audit.findings += current_findings(known, written)
    progress.finish("Rows")
    progress.start("Links", len(context.chosen))
    for generation, written in known.items():
        if generation in context.chosen:
            check_generation(context, written)
            # What nothing current descends from is held to its digests alone.
            if generation in descended and not written.removed and generation.stage in CHECKS:
                _computed_anew(context, written)
            context.reading.let_others_in()
            progress.advance("Links")
    progress.finish("Links")


def _computed_anew(context: Context, written: Written) -> None:
    """Run a stage's check; what was altered may be such that nothing can be computed from it."""
    try:
        CHECKS[written.generation.stage](context, written)
    except Exception as fault:
        message = f"Its rows cannot be computed anew from what is stored ({type(fault).__name__}: {fault})."
        context.broken(written.name, message)


def store_digest(known: History) -> str:
    """Return one digest of all generations of a store: worth keeping outside the home."""
    return content_id("store", sorted([written.name, written.digest] for written in known.values()))
