"""Settings of training, by method; see ``josh_pipeline.training.methods``."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from josh_pipeline.core.environment import Section
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.named import named_class
from josh_pipeline.settings.choices import validated_by_name


class LoraSettings(Section):
    """The adapter, on all seven projections; `lora: null` trains all weights of the model instead, in float32."""

    r: int = Field(16, ge=1, description="Rank.")
    alpha: int = Field(32, ge=1, description="Scale; the update is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the adapter's inputs dropped in training.")


class TrainingBase(Section):
    """What all methods share; a method's own settings subclass it. See ``josh_pipeline.training.methods``."""

    method: str = Field(description="Which method, by its name.")
    epochs: int = Field(2, ge=1, description="Passes over the rows.")
    learning_rate: float = Field(3e-4, gt=0, description="Peak learning rate.")
    batch_size: int = Field(4, ge=1, description="Rows a device and step.")
    accumulation: int = Field(1, ge=1, description="Steps whose gradients are summed.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps.")
    weight_decay: float = Field(0.0, ge=0, description="Of AdamW.")
    max_tokens: int = Field(1024, ge=16, description="Rows longer than this are refused.")
    optimizer: Literal["adamw_torch", "adamw_8bit"] = Field(
        "adamw_torch", description="'adamw_8bit' keeps its state in 8 bits; it needs bitsandbytes."
    )
    start: Literal["base", "previous"] = Field("previous", description="Weights training starts from.")
    packed: bool = Field(
        True, description="Compute prefixes that rows share once; false: TRL's own trainers, row by row."
    )
    processes: int = Field(
        1, ge=0, description="Processes that train, one a GPU; 0 trains in the pipeline's own process."
    )
    threads: int = Field(0, ge=0, description="CPU threads of a process; 0 lets torch choose.")
    gradient_checkpointing: bool = Field(False, description="Less memory for a third more time.")
    lora: LoraSettings | None = Field(
        LoraSettings(), description="The adapter; null trains all weights, which wants a lower learning_rate."
    )


OF_ALL_METHODS = TrainingBase.model_fields.keys() - {"method", "learning_rate", "batch_size", "accumulation"}
"""Training settings that keep their meaning under another method."""


class ReferenceSettings(TrainingBase):
    """What methods share that hold the policy to a reference."""

    beta: float = Field(0.1, gt=0, description="Pull towards the reference.")
    reference: Literal["base", "previous"] = Field("base", description="Policy that it is held to.")

    @model_validator(mode="after")
    def _second_copy_needs_packing(self) -> Self:
        if self.lora is None and not self.packed:
            raise ValueError(
                "without an adapter TRL's trainers would hold the reference as a second model: set training.packed to "
                "true, where it is scored before the training"
            )
        return self


class SftSettings(TrainingBase):
    """Supervised fine-tuning on golden paths."""

    method: Literal["sft"] = Field("sft", description="Learns from golden conversations.")


class KtoSettings(ReferenceSettings):
    """KTO on single assistant messages."""

    method: Literal["kto"] = Field("kto", description="Learns from single labelled messages.")
    batch_size: int = Field(16, ge=2, description="At least 2: the KL term needs a neighbour.")
    desirable_weight: float = Field(1.0, gt=0, description="Of the loss of desirable messages.")
    undesirable_weight: float = Field(1.0, gt=0, description="Of the loss of undesirable messages.")
    sft_weight: float = Field(1.0, ge=0, description="Of an SFT term on the desirable messages.")

    @model_validator(mode="after")
    def _sft_term_needs_packing(self) -> Self:
        if self.sft_weight and not self.packed:
            raise ValueError("TRL's KTO has no SFT term: set training.sft_weight to 0, or packed to true")
        return self


class DpoSettings(ReferenceSettings):
    """DPO on pairs that share a prompt."""

    method: Literal["dpo"] = Field("dpo", description="Learns from pairs after the same prompt.")
    batch_size: int = Field(16, ge=1, description="Pairs a device and step.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate.")
    sft_weight: float = Field(1.0, ge=0, description="Of an SFT term on the chosen messages.")


class SrpgSettings(ReferenceSettings):
    """Segment-relative policy gradient on sampled messages."""

    method: Literal["srpg"] = Field("srpg", description="Learns from sampled messages, by how their branches fared.")
    epochs: int = Field(1, ge=1, description="Passes over the rows.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate.")
    batch_size: int = Field(16, ge=1, description="Messages a device and step.")
    epsilon: float = Field(0.2, gt=0, lt=1, description="How far a token's probability may fall before it is clipped.")
    epsilon_high: float = Field(0.2, gt=0, description="How far it may rise.")
    beta: float = Field(0.0, ge=0, description="Pull towards the reference; 0 needs none.")
    scale: Literal["none", "std"] = Field(
        "none", description="Divide advantages by the deviation of their segment's returns, or leave them."
    )


METHODS = {
    "sft": "josh_pipeline.training.methods:Sft",
    "kto": "josh_pipeline.training.methods:Kto",
    "dpo": "josh_pipeline.training.methods:Dpo",
    "srpg": "josh_pipeline.training.methods:Srpg",
}
"""Name to module and class."""
METHOD_GROUP = "josh.methods"
"""The entry-point group in which a package names its training methods."""
BUILT_IN_SETTINGS: dict[str, type[TrainingBase]] = {
    "sft": SftSettings,
    "kto": KtoSettings,
    "dpo": DpoSettings,
    "srpg": SrpgSettings,
}


def _method_settings(name: str) -> type[TrainingBase]:
    """Find the class of a method's settings.

    Raises:
        UserError: there is no such method.
    """
    if name in BUILT_IN_SETTINGS:
        return BUILT_IN_SETTINGS[name]
    method = named_class(name, "training method", METHODS, METHOD_GROUP)
    found = getattr(method, "Settings", None)
    if not (isinstance(found, type) and issubclass(found, TrainingBase)):
        raise UserError(
            f"{method.__name__} is no training method: name a class that subclasses "
            "josh_pipeline.training.methods.Method."
        )
    return found


def _of_its_method(value: Any, union: ValidatorFunctionWrapHandler) -> TrainingBase:
    """Validate the settings of a training method by the class that its name finds."""
    if isinstance(value, TrainingBase):
        return value
    if isinstance(value, dict) and isinstance(name := value.get("method"), str):
        return validated_by_name(_method_settings, "method", name, value)
    validated: TrainingBase = union(value)
    return validated


TrainingSettings = Annotated[
    SerializeAsAny[Annotated[SftSettings | KtoSettings | DpoSettings | SrpgSettings, Field(discriminator="method")]],
    WrapValidator(_of_its_method),
]
"""Settings of a built-in method, or of one's own by its class."""
AnyTrainingSettings = Annotated[
    SerializeAsAny[TrainingBase], BeforeValidator(TypeAdapter(TrainingSettings).validate_python)
]
"""The same, for code that is to know of no method."""
