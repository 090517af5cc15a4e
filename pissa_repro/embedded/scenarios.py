"""The stories behind the gsm-mini problems: a scenario draws numbers, returns question and steps.

A library module; `python -m pissa_repro.cli.problems` prints finished problems. A scenario is
a function of a `Draw` that returns `(question, Steps)`. Where the drawn numbers do not fit
(negative, not whole, too large) `Steps` raises `Unfit` and the caller draws again.
"""

from collections.abc import Callable

from pissa_repro.embedded.drawing import HE, NAMES, THINGS, Draw, Steps

Scenario = Callable[[Draw], tuple[str, Steps]]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    """Register a scenario; the order of definition is the order in SCENARIOS."""
    SCENARIOS.append(function)
    return function


def pronoun(name: str) -> str:
    return "He" if name in HE else "She"


@scenario
def hoard(draw: Draw) -> tuple[str, Steps]:
    """One person's things change two to four times."""
    (name, other), thing, steps = draw.two(NAMES), draw.pick(THINGS), Steps()
    have = draw.number(3, 30)
    text = [f"{name} has {have} {thing}."]
    while len(steps.lines) < 2 or (len(steps.lines) < 4 and draw.number(0, 2) == 0):
        event, n = draw.number(0, 5), draw.number(2, 20)
        if event <= 1:
            text.append(f"{pronoun(name)} {('buys', 'finds')[event]} {n} more.")
            have = steps.add(have, "+", n, thing)
        elif event <= 3:
            text.append(f"{pronoun(name)} {('loses', 'sells')[event - 2]} {n}.")
            have = steps.add(have, "-", n, thing)
        elif event == 4:
            text.append(f"{pronoun(name)} gives half to {other}.")
            have = steps.add(have, "/", 2, thing)
        else:
            bags, each = draw.number(2, 6), draw.number(2, 9)
            text.append(f"{pronoun(name)} gets {bags} bags of {each}.")
            have = steps.add(have, "+", steps.add(bags, "*", each, thing), thing)
    return " ".join([*text, f"How many {thing} does {name} have now?"]), steps


@scenario
def shop(draw: Draw) -> tuple[str, Steps]:
    """Two kinds of things at two prices, sometimes with change."""
    name, (one, two), steps = draw.pick(NAMES), draw.two(THINGS), Steps()
    a, p, b, q = (draw.number(2, 9) for _ in range(4))
    text = f"{name} buys {a} {one} for ${p} each and {b} {two} for ${q} each."
    total = steps.add(steps.add(a, "*", p, "dollars"), "+", steps.add(b, "*", q, "dollars"), "dollars")
    if draw.number(0, 1):
        return f"{text} How much does {name} pay?", steps
    paid = 10 * draw.number(3, 18)
    steps.add(paid, "-", total, "dollars")
    return f"{text} {pronoun(name)} pays with ${paid}. How much change does {name} get?", steps


@scenario
def boxes(draw: Draw) -> tuple[str, Steps]:
    """Boxes of things, some taken away, the rest shared."""
    name, thing, steps = draw.pick(NAMES), draw.pick(THINGS), Steps()
    a, b, n, friends = (draw.number(2, high) for high in (12, 9, 20, 6))
    left = steps.add(steps.add(a, "*", b, thing), "-", n, thing)
    text = f"There are {a} boxes with {b} {thing} each. {name} takes {n} {thing}."
    if draw.number(0, 1):
        return f"{text} How many {thing} are left?", steps
    steps.add(left, "/", friends, thing)
    return f"{text} The rest is shared by {friends} friends. How many does each friend get?", steps


@scenario
def compare(draw: Draw) -> tuple[str, Steps]:
    """Two or three people, each described by the one before."""
    (one, two), thing, steps = draw.two(NAMES), draw.pick(THINGS), Steps()
    a, n = draw.number(4, 30), draw.number(2, 15)
    word, op, n = draw.pick([(f"{n} more", "+", n), (f"{n} fewer", "-", n), ("twice as many", "*", 2)])
    link = "as" if op == "*" else "than"
    b = steps.add(a, op, n, thing)
    total = steps.add(a, "+", b, thing)
    text = f"{one} has {a} {thing}. {two} has {word} {thing} {link} {one}."
    if draw.number(0, 1):
        return f"{text} How many {thing} do they have in all?", steps
    friends = draw.number(2, 5)
    steps.add(total, "/", friends, thing)
    return f"{text} They give them all to {friends} kids. How many does each kid get?", steps


@scenario
def reading(draw: Draw) -> tuple[str, Steps]:
    """A book read at a steady pace."""
    name, steps = draw.pick(NAMES), Steps()
    pages, a, days = draw.number(20, 150), draw.number(4, 20), draw.number(2, 8)
    left = steps.add(pages, "-", steps.add(a, "*", days, "pages"), "pages")
    text = f"A book has {pages} pages. {name} reads {a} pages a day for {days} days."
    if draw.number(0, 1):
        return f"{text} How many pages are left?", steps
    more = draw.number(2, 6)
    steps.add(left, "/", more, "pages")
    return (
        f"{text} {pronoun(name)} reads the rest in {more} days. How many pages a day is that?",
        steps,
    )


@scenario
def earn(draw: Draw) -> tuple[str, Steps]:
    """Pay by the hour, then spending."""
    name, thing, steps = draw.pick(NAMES), draw.pick(THINGS), Steps()
    a, hours, days, spent = (draw.number(2, high) for high in (9, 8, 5, 30))
    day = steps.add(a, "*", hours, "dollars")
    text = f"{name} earns ${a} an hour and works {hours} hours a day."
    if draw.number(0, 1):
        steps.add(steps.add(day, "*", days, "dollars"), "-", spent, "dollars")
        return (
            f"{text} After {days} days {name} spends ${spent} on {thing}. How much is left?",
            steps,
        )
    steps.add(day, "*", days, "dollars")
    return f"{text} How much does {name} earn in {days} days?", steps


@scenario
def age(draw: Draw) -> tuple[str, Steps]:
    """Ages of three people."""
    (one, two), steps = draw.two(NAMES), Steps()
    a, n, years = draw.number(4, 40), draw.number(2, 12), draw.number(2, 15)
    word, op, n = draw.pick(
        [
            (f"{n} years older than", "+", n),
            (f"{n} years younger than", "-", n),
            ("twice as old as", "*", 2),
        ]
    )
    steps.add(steps.add(a, op, n, "years"), "+", years, "years")
    text = f"{one} is {a} years old. {two} is {word} {one}."
    return f"{text} How old is {two} in {years} years?", steps


@scenario
def school(draw: Draw) -> tuple[str, Steps]:
    """Girls and boys in groups."""
    steps = Steps()
    girls, boys, away, size = (draw.number(low, high) for low, high in ((5, 25), (5, 25), (2, 9), (2, 6)))
    here = steps.add(steps.add(girls, "+", boys, "kids"), "-", away, "kids")
    text = f"A class has {girls} girls and {boys} boys. {away} kids are away."
    if draw.number(0, 1):
        return f"{text} How many kids are here?", steps
    steps.add(here, "/", size, "groups")
    return f"{text} The rest make groups of {size}. How many groups are there?", steps


@scenario
def bake(draw: Draw) -> tuple[str, Steps]:
    """Trays of things, some eaten, the rest sold."""
    name, thing, steps = draw.pick(NAMES), draw.pick(("cookies", "cakes", "rolls", "pies")), Steps()
    a, b, n, price = (draw.number(2, high) for high in (8, 9, 15, 5))
    left = steps.add(steps.add(a, "*", b, thing), "-", n, thing)
    steps.add(left, "*", price, "dollars")
    text = f"{name} bakes {a} trays of {b} {thing} and eats {n}."
    return (
        f"{text} {pronoun(name)} sells the rest for ${price} each. How much does {name} make?",
        steps,
    )


@scenario
def trip(draw: Draw) -> tuple[str, Steps]:
    """Two legs of a trip, or a total to be completed."""
    name, steps = draw.pick(NAMES), Steps()
    a, b, c, d = (draw.number(2, high) for high in (20, 6, 15, 5))
    first = steps.add(a, "*", b, "miles")
    text = f"{name} rides {a} miles an hour for {b} hours"
    if draw.number(0, 1):
        steps.add(first, "+", steps.add(c, "*", d, "miles"), "miles")
        return f"{text} and {c} miles an hour for {d} hours. How far is that?", steps
    total = draw.number(30, 150)
    steps.add(total, "-", first, "miles")
    return f"{text}. The trip is {total} miles long. How many miles are left?", steps


@scenario
def save(draw: Draw) -> tuple[str, Steps]:
    """Weeks until a price is reached."""
    name, steps = draw.pick(NAMES), Steps()
    cost, have, week = draw.number(20, 150), draw.number(5, 40), draw.number(2, 12)
    steps.add(steps.add(cost, "-", have, "dollars"), "/", week, "weeks")
    gift = draw.pick(("bike", "game", "coat", "drum"))
    text = f"{name} wants a {gift} for ${cost}. {pronoun(name)} has ${have} and saves ${week} a week."
    return f"{text} How many weeks does {name} need?", steps


@scenario
def farm(draw: Draw) -> tuple[str, Steps]:
    """Eggs of hens, some used, the rest packed."""
    name, steps = draw.pick(NAMES), Steps()
    hens, each, used, size = (draw.number(2, high) for high in (15, 7, 20, 8))
    left = steps.add(steps.add(hens, "*", each, "eggs"), "-", used, "eggs")
    steps.add(left, "/", size, "boxes")
    text = f"{hens} hens lay {each} eggs each. {name} uses {used} eggs."
    return f"{text} The rest go in boxes of {size}. How many boxes are there?", steps


@scenario
def bus(draw: Draw) -> tuple[str, Steps]:
    """People on and off a bus at one or two stops."""
    steps, people = Steps(), draw.number(5, 40)
    text = [f"A bus has {people} people."]
    for _ in range(draw.number(1, 2)):
        off, on = draw.number(2, 15), draw.number(2, 15)
        text.append(f"At a stop {off} get off and {on} get on.")
        people = steps.add(steps.add(people, "-", off, "people"), "+", on, "people")
    return " ".join([*text, "How many people are on the bus?"]), steps


@scenario
def race(draw: Draw) -> tuple[str, Steps]:
    """Two people collect at different speeds; the difference or the sum."""
    (one, two), thing, steps = draw.two(NAMES), draw.pick(THINGS), Steps()
    a, b, c = draw.number(3, 15), draw.number(3, 15), draw.number(2, 9)
    first, second = steps.add(a, "*", c, thing), steps.add(b, "*", c, thing)
    text = f"{one} makes {a} {thing} an hour and {two} makes {b}."
    if draw.number(0, 1):
        steps.add(first, "+", second, thing)
        return f"{text} How many do they make in {c} hours?", steps
    steps.add(first, "-", second, thing)
    return f"{text} How many more does {one} make in {c} hours?", steps
