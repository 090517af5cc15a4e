"""Methods that break a promise: {name: (the check of promises.CHECKS that catches it, its start, what else it says)}.

Each is right but for that. RIGHT holds the methods that they are made from, which pass every check.
"""

PLAIN = "return Start(Vh[:k], zeros(len(U), k))"  # as LoRA: B is zero
SPLIT = "root = (S[:k] / s).sqrt()\n    a, b = root[:, None] * Vh[:k], U[:, :k] * root\n    "
TAKEN, LARGEST = f"{SPLIT}return Start(a, b, offset='start')", "TAKES = 'the r largest singular triples of W'\n"
CORE = "return Start(Vh[:k], U[:, :k].contiguous(), core=zeros(k), trained=('core',))"
HELD = "return Start(Vh[:k], zeros(len(U), k), trained=('B',))"
DRAWN = "return Start(torch.randn(k, Vh.shape[1]{}), zeros(len(U), k))"
GENERATOR = ", generator=setting.generator"
OTHER, SEES = "RANDOM = True\n", "STATISTICS = {'covariance': {'rows': 6}}\n"
PRINCIPAL = "setting.spectrum.principal(k)"


def entries(formula):
    """The function `entries` of a file."""
    return f'\n\ndef entries(out, into, rank, options):\n    """Counted."""\n    return {formula}\n'


def hooks(*bodies):
    """The class of a file's hooks, of (name and parameters, body)."""
    made = "".join(f"\n    def {name}:\n        {body}\n" for name, body in bodies)
    return f"\n\nfrom pissa_repro.methods import Training\n\n\nclass Hooks(Training):{made}\n\nTRAINING = Hooks\n"


def each(name, body):
    """The hook `adjust` or `settle` that does this for the parts of every module."""
    return f"{name}(self, modules, step, steps)", f"for parts in modules.values():\n            {body}"


SUM = each("adjust", "self.sum = 0.9 * getattr(self, 'sum', 0) + parts.B.grad\n            parts.B.grad.add_(self.sum)")
STATE = ("state(self)", "return {'sum': self.sum}")
RESTORE = ("restore(self, state)", "self.sum = state['sum']")

RIGHT = {
    "plain": (PLAIN, ""),
    "taken": (TAKEN, LARGEST),
    "core": (CORE, entries("rank")),
    "held": (HELD, entries("rank * out")),
    "drawn": (DRAWN.format(GENERATOR), OTHER),
    "sees": (f"setting.statistics['covariance'].trace()\n    {PLAIN}", SEES),
    "summing": (PLAIN, hooks(SUM, STATE, RESTORE)),
    "moving": (f"{SPLIT}return Start(a, b)", "MOVES = 'W gets its first triples once more.'\n"),
}

WRONG = {
    "a_double": ("whole", PLAIN.replace("Vh[:k]", "Vh[:k].double()"), ""),
    "a_crooked_core": ("whole", CORE.replace("zeros(k)", "zeros(k, k + 1)"), entries("rank")),
    "a_smaller_rank": ("whole", PLAIN.replace("k]", "k // 2]").replace(", k)", ", k // 2)"), entries("rank // 2")),
    "a_part_that_is_infinite": ("whole", PLAIN.replace("Vh[:k]", "Vh[:k] / 0"), ""),
    "a_statistic_that_is_not_asked_for": ("whole", f"setting.statistics['gradient'].trace()\n    {PLAIN}", SEES),
    "no_statistics": ("whole", f"setting.statistics['magnitude'].sum()\n    {PLAIN}", ""),
    "a_statistic_that_there_is_not": ("whole", f"setting.statistics['gradients'].trace()\n    {PLAIN}", SEES),
    "a_changed_weight": ("untouched", f"weight.mul_(2)\n    {PLAIN}", ""),
    "a_changed_spectrum": ("untouched", f"{PRINCIPAL}.S.mul_(2)\n    {PLAIN}", ""),
    "a_changed_vector": ("untouched", f"{PRINCIPAL}.Vh[0].neg_()\n    {PLAIN}", ""),
    "a_changed_statistic": ("untouched", f"setting.statistics['covariance'].mul_(2)\n    {PLAIN}", SEES),
    "another_offset": ("equality", f"{SPLIT}return Start(a, b, offset=(a, 1.01 * b))", ""),
    "a_silent_move": ("equality", f"{SPLIT}return Start(a, b)", ""),
    "a_move_that_is_none": ("equality", PLAIN, "MOVES = 'It does not.'\n"),
    "a_scaling_twice": ("scaling", TAKEN.replace("S[:k] / s", "S[:k]"), LARGEST),
    "a_scaling_that_counts": ("scaling", TAKEN, f"{LARGEST}IGNORES_SCALING = True\n"),
    "a_draw_that_is_none": ("seed", PLAIN, OTHER),
    "a_draw_that_is_not_said": ("seed", DRAWN.format(GENERATOR), ""),
    "a_draw_of_torch": ("seed", DRAWN.format(""), OTHER),
    "the_largest_as_the_smallest": ("takes", TAKEN, LARGEST.replace("largest", "smallest")),
    "the_smallest_as_the_largest": ("takes", TAKEN.replace(":k]", "-k:]"), LARGEST),
    "a_silent_taking": ("takes", TAKEN, ""),
    "a_taking_of_nothing": ("takes", PLAIN, LARGEST),
    "no_factors": ("rank", PLAIN.replace("Vh[:k]", "zeros(k, Vh.shape[1])"), ""),
    "rows_of_zeros": ("rank", f"Vh[1:k] = 0\n    {PLAIN}", ""),
    "rows_of_zeros_that_are_taken": ("rank", TAKEN.replace("return", "a[1:] = b[:, 1:] = 0\n    return"), LARGEST),
    "a_direction_twice": ("rank", f"Vh[1] = Vh[0]\n    {PLAIN}", ""),
    "a_core_of_zeros_for_good": ("rank", CORE.replace("U[:, :k].contiguous()", "zeros(len(U), k)"), entries("rank")),
    "a_direction_that_is_held": (
        "rank", "core = S[:k] / s\n    return Start(Vh[:k], U[:, :k].contiguous(), core=core, offset='start',"
        " trained=('core',), free=core < core[0])",
        LARGEST + entries("rank - 1"),
    ),
    "a_core_that_is_not_counted": ("entries", CORE, ""),
    "a_frozen_part_that_is_counted": ("entries", HELD, ""),
    "a_wrong_way": ("learns", PLAIN, hooks(each("adjust", "parts.B.grad.neg_()"))),
    "a_wrong_way_after_the_step": ("learns", PLAIN, hooks(each("settle", "parts.B.neg_()"))),
    "a_frozen_part_that_moves": ("trained", HELD, entries("rank * out") + hooks(each("settle", "parts.A.mul_(0.9)"))),
    "a_trained_part_that_does_not": ("trained", PLAIN, hooks(each("adjust", "parts.A.grad = None"))),
    "a_penalty_of_rows": ("hooks", PLAIN, hooks(("penalty(self, modules)", "return [*modules.values()][0].A.sum(0)"))),
    "a_penalty_of_nothing": (
        "hooks", PLAIN, hooks(("penalty(self, modules)", "return [*modules.values()][0].A.detach().sum()")),
    ),
    "a_rate_of_a_frozen_part": ("hooks", HELD, entries("rank * out") + hooks(("rates(self)", "return {'A': 2.0}"))),
    "a_state_of_numbers": ("hooks", PLAIN, hooks(("state(self)", "return {'steps': 3}"))),
    "a_lost_sum": ("resume", PLAIN, hooks(SUM)),
    "a_hook_that_draws": (
        "resume", PLAIN, hooks(each("adjust", "parts.B.grad.mul_(1 + parts.B.grad.new_empty(1).uniform_())")),
    ),
    "a_sum_that_is_not_taken_back": ("resume", PLAIN, hooks(SUM, STATE)),
}  # fmt: skip
