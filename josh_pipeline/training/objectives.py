"""The losses of KTO, DPO and the policy gradient from log-probabilities, as TRL 1.16 computes them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from josh_pipeline.settings.training import DpoSettings, KtoSettings, SrpgSettings

Metrics = dict[str, tuple[Tensor, Tensor]]
"""Names as TRL logs them; each a sum over rows and how many rows it is over."""


def kto_loss(
    policy: Tensor,
    reference: Tensor,
    desirable: Tensor,
    lengths: Tensor,
    settings: KtoSettings,
    mean_of_processes: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Metrics]:
    """Return the loss of n rows, and what is logged.

    Args:
        policy, reference: log-probabilities of the n completions, and then of the n mismatched ones
            from which the KL term is estimated, (2n,).
        desirable: labels, (n,).
        lengths: tokens of each completion, (n,).
        mean_of_processes: averages the KL term over the processes of a training.
    """
    ratios, mismatched = (policy - reference).chunk(2)
    kl = mean_of_processes(mismatched.detach().mean()).clamp(min=0)
    # Equation 7 of arXiv 2402.01306: what is gained over the KL term, or lost under it.
    gains = torch.where(desirable, ratios - kl, kl - ratios)
    weights = torch.where(desirable, settings.desirable_weight, settings.undesirable_weight)
    loss = (weights * (1 - functional.sigmoid(settings.beta * gains))).mean()
    rewards, scores = settings.beta * ratios.detach(), policy.detach().chunk(2)[0]
    metrics = {"kl": (kl, torch.ones_like(kl))}
    for side, chosen in (("chosen", desirable), ("rejected", ~desirable)):
        metrics[f"rewards/{side}"] = (rewards[chosen].sum(), chosen.sum())
        metrics[f"logps/{side}"] = (scores[chosen].sum(), chosen.sum())
    return _with_sft(loss, metrics, policy.chunk(2)[0][desirable], lengths[desirable], settings.sft_weight)


def dpo_loss(policy: Tensor, reference: Tensor, lengths: Tensor, settings: DpoSettings) -> tuple[Tensor, Metrics]:
    """Return the loss of n pairs, and what is logged.

    Args:
        policy, reference: log-probabilities of the n chosen completions, and then of the n rejected
            ones, (2n,).
        lengths: tokens of each chosen completion, (n,).
    """
    chosen, rejected = (policy - reference).chunk(2)
    loss = -functional.logsigmoid(settings.beta * (chosen - rejected)).mean()
    margins = (chosen - rejected).detach()
    pairs = torch.tensor(len(margins), device=margins.device)
    metrics = {
        "rewards/accuracies": ((margins > 0).sum(), pairs),
        "rewards/margins": (settings.beta * margins.sum(), pairs),
    }
    for side, ratios, scores in zip(("chosen", "rejected"), (chosen, rejected), policy.detach().chunk(2), strict=True):
        metrics[f"rewards/{side}"] = (settings.beta * ratios.detach().sum(), pairs)
        metrics[f"logps/{side}"] = (scores.sum(), pairs)
    return _with_sft(loss, metrics, policy.chunk(2)[0], lengths, settings.sft_weight)


def clipped_loss(
    policy: Tensor, sampled: Tensor, advantages: Tensor, reference: Tensor | None, settings: SrpgSettings
) -> tuple[Tensor, Metrics]:
    """Return the sum of GRPO's loss over n tokens, and what is logged.

    Args:
        policy, sampled, reference: log-probabilities of the tokens now, when they were sampled, and under the
            reference policy, if any, (n,).
        advantages: of the message that each token belongs to, (n,).
    """
    ratios = (policy - sampled).exp()
    clipped = ratios.clamp(1 - settings.epsilon, 1 + settings.epsilon_high)
    losses = -torch.min(ratios * advantages, clipped * advantages)
    tokens = torch.tensor(len(losses), device=losses.device)
    over = (ratios < 1 - settings.epsilon) & (advantages < 0) | (ratios > 1 + settings.epsilon_high) & (advantages > 0)
    metrics = {"importance_ratio": (ratios.detach().sum(), tokens), "clip_ratio/region_mean": (over.sum(), tokens)}
    if reference is not None:
        log_ratios = reference - policy
        kl = log_ratios.exp() - log_ratios - 1
        # With the ratio its gradient is that of the reverse KL (arXiv 2512.02556).
        losses = losses + settings.beta * ratios * kl
        metrics["kl"] = (kl.detach().sum(), tokens)
    return losses.sum(), metrics


def _with_sft(loss: Tensor, metrics: Metrics, scores: Tensor, lengths: Tensor, weight: float) -> tuple[Tensor, Metrics]:
    """Add the mean cross entropy over the tokens of the completions that are to be learned."""
    if not weight:
        return loss, metrics
    metrics["nll"] = (-scores.detach().sum(), lengths.sum())
    return loss - weight * scores.sum() / lengths.sum().clamp(min=1), metrics
