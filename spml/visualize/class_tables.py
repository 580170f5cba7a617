"""Tables over classes, for a page: IoU with a bar in each cell, and confusion matrices with colour."""

from collections.abc import Sequence

import numpy as np

from spml.visualize.html import Html, table, tag

MOST_CLASSES = 24  # of a confusion matrix


def class_bars(names: Sequence[str], titles: Sequence[str], values: Sequence[Sequence[float | None]]) -> Html:
    """A row for each class with a bar for each method; the best of a row is bold.

    Args:
        names: of the classes.
        titles: of the columns.
        values: for each column its value of each class, in 0..100; None where the class does not occur.
    """
    rows = []
    for place, name in enumerate(names):
        line = [column[place] for column in values]
        best = max((value for value in line if value is not None), default=None)
        rows.append([name, *(_bar(value, value == best and len(line) > 1) for value in line)])
    return table(["class", *titles], rows)


def _bar(value: float | None, best: bool) -> Html:
    if value is None:
        return tag("td", "-")
    fill = f"linear-gradient(90deg, rgba(var(--good), .3) {value:.1f}%, transparent {value:.1f}%)"
    return tag("td", tag("b", f"{value:.1f}") if best else f"{value:.1f}", style=f"background: {fill}")


def confusion_table(counts: np.ndarray, names: Sequence[str]) -> Html:
    """Where the pixels of each class went, in per cent of its row: right ones in one colour, wrong ones in the other.

    Classes without any pixel have no row. Of many, the 24 with the most pixels have rows and columns. The last column
    holds all other predictions, if there are any.

    Args:
        counts: (K, K + 1) pixels by target and prediction, as `ConfusionMatrix` has them.
        names: of the K classes.
    """
    total = counts.sum(1)
    seen = np.flatnonzero(total)
    kept = np.sort(seen[np.argsort(-total[seen], kind="stable")][:MOST_CLASSES])
    inside = counts[np.ix_(kept, kept)]
    elsewhere = total[kept] - inside.sum(1)
    others = ["others"] if elsewhere.any() else []
    rows = []
    for row, target in enumerate(kept):
        shares = 100 * np.append(inside[row], elsewhere[row] if others else []) / total[target]
        cells = [_share(share, place < len(kept) and kept[place] == target) for place, share in enumerate(shares)]
        rows.append([names[target], *cells])
    found = table(["class", *(names[index] for index in kept), *others], rows, class_="matrix")
    if len(kept) == len(seen):
        return found
    return tag("div", tag("p", f"The {len(kept)} of {len(seen)} classes with the most pixels.", class_="note"), found)


def _share(share: float, right: bool) -> Html:
    colour = "--good" if right else "--bad"
    strength = 0.08 + 0.6 * share / 100 if share >= 0.5 else 0
    return tag("td", f"{share:.0f}" if share >= 0.5 else "", style=f"background: rgba(var({colour}), {strength:.2f})")
