"""What settings ask of the machine, and of classes that they name: refused before anything is played."""

import importlib.util

from josh_pipeline.core.errors import UserError
from josh_pipeline.policies.models import local_folder
from josh_pipeline.policies.vllm_engine import require_vllm
from josh_pipeline.policies.weights import require
from josh_pipeline.settings import Settings
from josh_pipeline.training.methods import Method, method_class, without_trainer


def require_runnable(settings: Settings) -> None:
    """Refuse settings of the loop that would fail hours later. An endpoint asks for no model of this machine.

    Raises:
        UserError: the model's folder, vLLM, bitsandbytes, a GPU, a trainer or a tracker is missing.
    """
    policy, training, tracker = settings.policy, settings.training, settings.tracking.kind
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        raise UserError(
            f"tracking.kind {tracker} needs the package {tracker}, which is not installed: "
            f"run pip install {tracker} in this environment, or set tracking.kind to none."
        )
    if policy.endpoint is not None:
        return
    require(policy.quantization)
    local_folder(policy.model)
    if policy.backend == "vllm":
        require_vllm()
    if training.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "training.optimizer adamw_8bit needs bitsandbytes, which is not installed: "
            "run make gpu on a machine with a GPU, or set training.optimizer to adamw_torch."
        )
    if not training.packed and method_class(training.method).trl is Method.trl:
        raise without_trainer(training.method)
