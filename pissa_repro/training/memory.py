"""What a training holds in the memory of each card, by arithmetic, and whether its cards have to share the weights."""

from pissa_repro import quantizers
from pissa_repro.model.size import Size
from pissa_repro.quantizers import Quantizer
from pissa_repro.runtime.processes import FULL, NONE
from pissa_repro.runtime.specs import TrainSpec

BYTES = {"bfloat16": 2.0, "float32": 4.0}
CODES, SCALES = 0.5, 0.0625  # bytes a weight in 4 bits, and of its part in a float32 scale for 64 weights
TRAINED = 16  # bytes a trained parameter: float32 weight, gradient, and Adam's two moments
BUCKETS = 4  # bytes a trained parameter of DDP's copy of the gradients, in float32
ROOM = 0.8  # of a card that weights and what trains may take: the rest is for activations
WHOLE = 3  # blocks that each of the cards that share the weights has whole at a time


def packs(quant: str) -> bool:
    """Whether a base is kept in few bits in training, and not dequantized."""
    packable = quantizers.find(quant).quantizer.packable
    return getattr(packable, "__func__", None) is not Quantizer.packable


def held(size: Size, own: int | None, quant: str, dtype: str, cards: int = 1, shared: bool = False) -> float:
    """Bytes of base and trained parameters on each card of a training, without activations.

    own: parameters of an adapter, which are never shared; None where all of the model is trained. shared: whether the
    cards share the weights; each then has some blocks whole, what is in no block, also its gradients, and the scales of
    codes. What trains and is not shared is in the buckets by which gradients are averaged, too.
    """
    whole, at_once = TRAINED + (BUCKETS if cards > 1 else 0), WHOLE / max(1, size.blocks)
    if own is None:
        if not shared:
            return whole * size.parameters
        return TRAINED * size.parameters / cards + 4 * (at_once * size.inside + 2 * size.outside())
    packed = size.linear() if packs(quant) else 0
    outside = BYTES[dtype] * size.outside()
    inside = BYTES[dtype] * (size.inside - packed) + CODES * packed
    base = (outside + inside) / cards + outside + at_once * inside if shared else outside + inside
    return base + SCALES * packed + whole * own


def shares(whole: float, card: float) -> bool:
    """Whether `sharding: auto` shares weights of so many bytes among cards of so many."""
    return whole > ROOM * card


def chosen(size: Size, spec: TrainSpec, cards: int, card: int) -> tuple[str, str]:
    """What `sharding: auto` is for a training on `cards` cards, of which the smallest has `card` bytes, and why.

    An adapter's parameters are counted as if all matrices of the layers had factors where its targets are no names.
    """
    own, dtype = None, spec["settings"]["dtype"]
    if spec["init"] is not None:
        named = spec["init"]["target_modules"]
        own = size.factors(spec["init"]["rank"], named if isinstance(named, list) else None)
    whole, each = (held(size, own, spec["quant"], dtype, cards, shared) / 1e9 for shared in (False, True))
    way = FULL if shares(whole, card / 1e9) else NONE
    said = (
        f"sharding: {way}. Not shared, the weights and what trains take {whole:.3g} GB of each card, shared {each:.3g} "
        f"GB; the smallest has {card / 1e9:.3g} GB, of which {ROOM:.0%} are for them."
    )
    return way, said + (" It will hardly fit." if shares(each if way == FULL else 0, card / 1e9) else "")
