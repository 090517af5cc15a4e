"""LoRA-Pro (arXiv 2407.18242): steps of A and B that move s B A as nearly as they can along AdamW's step of W.

Steps G of A and H of B change the weight by s (B G + H A), the equivalent gradient. LoRA-Pro takes the G and H that
bring it nearest to the gradient of W, which follow from LoRA's own gradients, and of these the nearest to LoRA's
gradients. With AdamW the moments are those of the equivalent gradient, (out, in) for each module: as much memory as the
optimizer of full fine-tuning takes for these modules. Seen of the paper: its abstract; both forms are derived, and
tests hold them to be the nearest.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pissa_repro.methods import Matrix, Modules, Parts, Training, lora

if TYPE_CHECKING:
    import torch

DISPLAY, QUANTIZED_DISPLAY = "LoRA-Pro", "QLoRA-Pro"
RANDOM = lora.RANDOM
LOOK = 15
_ZERO = 1e-10  # eigenvalues of B^T B below this share of the largest are the rounding of a float32 B

start = lora.start


class Gram(NamedTuple):
    """F^T F of a factor F (n, k): eigenvalues (k,), eigenvectors (k, k) and pseudo-inverse (k, k), float64.

    LoRA's B is zero at the start, so that the inverses have to be pseudo-inverses.
    """

    values: Matrix
    vectors: Matrix
    inverse: Matrix

    @classmethod
    def of(cls, factor: Matrix) -> "Gram":
        """Decompose F^T F. factor: F (n, k), float32."""
        import torch

        wide = factor.double()
        values, vectors = torch.linalg.eigh(wide.mT @ wide)
        inverse = torch.where(values > _ZERO * values[-1], 1 / values, 0)
        return cls(values, vectors, (vectors * inverse) @ vectors.mT)


class Steps:
    """The steps of one pair (A, B) that follow from gradients, as long as A and B stay as they are."""

    def __init__(self, parts: Parts):
        """parts: A (k, in) and B (out, k), float32, and the scaling s; the core is the identity."""
        self.a, self.b, self.scaling = parts.A, parts.B, parts.scaling
        self.of_a, self.of_b = Gram.of(parts.A.mT), Gram.of(parts.B)

    def closest(self, grad_a: Matrix, grad_b: Matrix) -> tuple[Matrix, Matrix]:
        """G (k, in) and H (out, k), the closest ones with X = 0, from LoRA's gradients of A and B, float32.

        s (B G + H A) is then as near to the gradient of W as any G and H can bring it.
        """
        square = self.scaling**2
        to_a = (self.of_b.inverse / square).to(grad_a) @ grad_a
        inside = (self.of_b.inverse @ (self.b.mT @ grad_b).double()).to(grad_b)  # what B G makes already
        return to_a, (grad_b - self.b @ inside) @ (self.of_a.inverse / square).to(grad_b)

    def equivalent(self, grad_a: Matrix, grad_b: Matrix) -> Matrix:
        """s (B G + H A) (out, in): what the closest steps do to the weight. No X changes it."""
        to_a, to_b = self.closest(grad_a, grad_b)
        return (self.b @ to_a).addmm_(to_b, self.a).mul_(self.scaling)

    def balanced(self, grad_a: Matrix, grad_b: Matrix) -> tuple[Matrix, Matrix]:
        """G + X A and H - B X with the X that brings them nearest to LoRA's gradients.

        It solves the Sylvester equation B^T B X + X A A^T = -G A^T.
        """
        to_a, to_b = self.closest(grad_a, grad_b)
        right = self.of_b.vectors.mT @ (to_a @ self.a.mT).double() @ self.of_a.vectors
        sums = self.of_b.values[:, None] + self.of_a.values
        solved = right.div_(sums.clamp(min=_ZERO * sums[-1, -1])).neg_()
        x = (self.of_b.vectors @ solved @ self.of_a.vectors.mT).to(to_a)
        return to_a.addmm_(x, self.a), to_b.addmm_(self.b, x, alpha=-1)


class Pro(Training):
    """AdamW of the equivalent gradient, whose step is brought back to A and B."""

    def optimizer(
        self, modules: Modules, groups: list[dict[str, Any]], adam: Mapping[str, Any]
    ) -> "torch.optim.Optimizer":
        """AdamW, but for the pairs of A and B; its moments of a pair belong to B."""
        import torch

        class ProAdamW(torch.optim.AdamW):
            """torch's for what is not in a pair, such as a trained bias."""

            def step(self, closure: Any = None) -> Any:
                """Move the pairs that have gradients, then the rest."""
                loss = closure() if closure else None
                group_of = {parameter: group for group in self.param_groups for parameter in group["params"]}
                with torch.no_grad():
                    for parts in modules.values():
                        if parts.A.grad is not None and parts.B.grad is not None:
                            _move(parts, self.state[parts.B], group_of)
                            parts.A.grad = parts.B.grad = None  # torch's AdamW goes by them
                super().step()
                return loss

        return ProAdamW(groups, **adam)


TRAINING = Pro


def _move(parts: Parts, state: dict[str, Any], group_of: Mapping[Matrix, dict[str, Any]]) -> None:
    """One step of A and B. state: moments of the equivalent gradient (out, in) and their count, as AdamW names them."""
    assert parts.A.grad is not None and parts.B.grad is not None
    steps = Steps(parts)
    full = _adam(steps.equivalent(parts.A.grad, parts.B.grad), state, group_of[parts.B])
    # the LoRA gradients of a loss whose gradient of W is AdamW's step
    ways = steps.balanced((parts.B.mT @ full).mul_(parts.scaling), (full @ parts.A.mT).mul_(parts.scaling))
    for part, way in zip((parts.A, parts.B), ways, strict=True):
        group = group_of[part]
        part.mul_(1 - group["lr"] * group["weight_decay"]).sub_(way, alpha=group["lr"])


def _adam(gradient: Matrix, state: dict[str, Any], group: Mapping[str, Any]) -> Matrix:
    """Adam's step (out, in) without the learning rate; the moments in `state` take the gradient in."""
    import torch

    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["step"] += 1
    (beta1, beta2), count = group["betas"], state["step"].item()
    state["exp_avg"].lerp_(gradient, 1 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    size = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt_().add_(group["eps"])
    return state["exp_avg"].div(size).div_(1 - beta1**count)
