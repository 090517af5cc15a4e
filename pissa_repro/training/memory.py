"""What a training holds in the memory of each card, by arithmetic, and whether its cards have to share the weights."""

from pissa_repro import quantizers
from pissa_repro.model.size import Size
from pissa_repro.quantizers import Quantizer
from pissa_repro.runtime.processes import FULL, NONE
from pissa_repro.runtime.specs import TrainSpec

BYTES = {"bfloat16": 2.0, "float32": 4.0}
PACKED = 0.5625  # bytes a weight in 4 bits, with a float32 scale for 64 weights
TRAINED = 16  # bytes a trained parameter: float32 weight, gradient, and Adam's two moments
BUCKETS = 4  # bytes a trained parameter of DDP's copy of the gradients, in float32
ROOM = 0.8  # of a card that a model which is not shared may take: the rest is for activations, and blocks being used


def packs(quant: str) -> bool:
    """Whether a base is kept in few bits in training, and not dequantized."""
    packable = quantizers.find(quant).quantizer.packable
    return getattr(packable, "__func__", None) is not Quantizer.packable


def held(size: Size, own: int | None, quant: str, dtype: str, cards: int = 1, shared: bool = False) -> float:
    """Bytes of base and trained parameters on each card of a training, without activations.

    own: parameters of an adapter, which are never shared; None where all of the model is trained. shared: whether the
    cards share the weights. What trains and is not shared is in the buckets by which gradients are averaged, too.
    """
    parts = cards if shared else 1
    whole = TRAINED + (BUCKETS if cards > 1 else 0)
    if own is None:
        return (TRAINED if shared else whole) * size.parameters / parts
    packed = size.linear() if packs(quant) else 0
    return (BYTES[dtype] * (size.parameters - packed) + PACKED * packed) / parts + whole * own


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
