"""Rows inside an effective batch are by length: the same rows a step, less padding, and nothing else."""

import itertools

import pytest
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from helpers import Run
from hypothesis import given
from hypothesis import strategies as st
from test_recipe import own_batches, own_examples
from torch.utils.data import DataLoader, RandomSampler

from pissa_repro.training import order, trainer
from pissa_repro.training.cell import Share

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)


def loader(rows, micro, world, process):
    """What a Trainer gets of accelerate for one of its processes; a batch is the numbers of its rows."""
    plain = DataLoader(range(rows), batch_size=micro, sampler=RandomSampler(range(rows)), collate_fn=list)
    return prepare_data_loader(
        plain, num_processes=world, process_index=process, use_seedable_sampler=True, data_seed=5
    )


def steps(loaders, accumulation, epoch, done=0):
    """The micro-batches of each step of an epoch, of all processes, from the step `done` on as from a checkpoint."""
    found = []
    for one in loaders:
        left = skip_first_batches(one, done * accumulation) if done else one
        left.set_epoch(epoch)
        left.iteration = epoch
        found.append(list(left))
    together = [list(batches) for batches in zip(*found, strict=True)]
    places = range(0, len(together), accumulation)
    return [list(itertools.chain(*together[at : at + accumulation])) for at in places]


def rows_of(batches):
    return sorted(itertools.chain(*batches))


def padded(batches, lengths):
    """Tokens of micro-batches, each row as long as the longest beside it."""
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@given(*COUNTS)
def test_a_step_has_the_rows_of_the_draw_by_length_and_the_least_padding(lengths, micro, accumulation, world):
    """Also in an epoch's last step, where accelerate repeats rows until every process has as many."""
    made = lambda: [loader(len(lengths), micro, world, process) for process in range(world)]  # noqa: E731
    drawn = steps(made(), accumulation, 1)
    found = steps([order.sort(one, lengths, accumulation, world) for one in made()], accumulation, 1)
    assert list(map(rows_of, found)) == list(map(rows_of, drawn))
    for ours, before in zip(found, drawn, strict=True):
        if {*map(len, ours)} == {micro}:  # a last micro-batch that is shorter could have taken the one long row
            assert padded(ours, lengths) <= padded(before, lengths)
        if accumulation * world > 1:
            tokens = [lengths[row] for row in itertools.chain(*ours)]
            assert tokens == sorted(tokens, reverse=True)
        else:
            assert ours == before, "the order of one micro-batch alone is another sum for nothing"


@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_that_is_gone_on_with_has_the_steps_of_a_whole_one(world):
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7]
    made = lambda: [order.sort(loader(14, 2, world, p), lengths, 2, world) for p in range(world)]  # noqa: E731
    whole = steps(made(), 2, epoch=3)
    assert len(whole) > 1 and steps(made(), 2, epoch=3, done=1) == whole[1:]
    assert whole != steps(made(), 2, epoch=2)


def test_a_cells_trainer_takes_its_micro_batches_by_length(tmp_path, tiny_model, tiny_rows):
    """The steps have the rows of the Trainer's own draw, and two rows beside each other are nearly of one length."""
    run = Run(tmp_path, tiny_model, tiny_rows, "full", steps=4, batch_size=6, seed=3)
    made = trainer.build(run.prepare(), run.spec, trainer.Scratch(tmp_path / "scratch", {}), Share(2, 3), 50)
    batches = [batch["attention_mask"].sum(1).tolist() for batch in made.get_train_dataloader()]
    lengths = [len(ids) for ids, _ in own_examples(tiny_model, tiny_rows, 256)[0]]
    drawn = itertools.islice(own_batches(len(lengths), 6, 3), 2)
    wanted = [sorted((lengths[row] for row in rows), reverse=True) for rows in drawn]
    assert len({*lengths}) > 2 and [[*itertools.chain(*batches[at : at + 3])] for at in (0, 3)] == wanted
