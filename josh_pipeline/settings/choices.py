"""Settings whose class is found by a name that stands in them."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from josh_pipeline.core.environment import Section
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.faults import faults_in, passed_on
from josh_pipeline.core.named import from_anywhere

S = TypeVar("S", bound=Section)


def validated_by_name(find: Callable[[str], type[S]], key: str, name: str, value: dict[str, Any]) -> S:
    """Validate settings by the class that a name of theirs finds; faults keep their places below it."""
    try:
        model = find(name)
    except UserError as fault:
        raise passed_on([((key,), str(fault).rstrip("."))]) from None
    try:
        return model.model_validate(value | {key: from_anywhere(name)})
    except ValidationError as fault:
        raise passed_on(faults_in(fault, model)) from None
