"""Texts of a task as small integers: models, label targets, and combinations of a model with segment values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from msemon.core.snapshot import Piece, PieceName
from msemon.events import Ints, Key, Target

_ANY = -1
_SPARE, _SPARE_WHEN_BUSY = 4096, 65_536
_PART = 4096  # combos in a piece


def grown(column: npt.NDArray[np.int64], size: int, fill: int = 0) -> npt.NDArray[np.int64]:
    """The column, or a copy at least `size` rows long and at least half as long again, new rows holding `fill`."""
    if size <= len(column):
        return column
    longer = np.full((max(size, len(column) * 3 // 2, 16), *column.shape[1:]), fill, np.int64)
    longer[: len(column)] = column
    return longer


class Names:
    """Interns keys and targets; the columns of the join hold the integers.

    A combo is a whole `Key`; `model_of[combo]` numbers its (model, version). Target 0 answers every model.
    """

    def __init__(self) -> None:
        self.models: list[tuple[str, str]] = []
        self.combos: list[Key] = []
        self.targets: list[Target | None] = [None]
        self._models: dict[tuple[str, str], int] = {}
        self._combos: dict[Key, int] = {}
        self._targets: dict[Target | None, int] = {None: 0}
        self._texts: dict[str, int] = {}
        self._model_texts = np.empty((0, 2), np.int64)  # text numbers of model and version
        self._target_texts = np.full((1, 2), _ANY)
        self._model_of = np.empty(0, np.int64)
        self._saved = 0, 0  # combos and targets that stood in the last checkpoint

    @property
    def model_of(self) -> Ints:
        """Model number of each combo."""
        return self._model_of[: len(self.combos)]

    def combos_of(self, keys: list[Key]) -> Ints:
        """Numbers of n keys, new ones added."""
        known = self._combos
        try:
            return np.fromiter(map(known.__getitem__, keys), np.int64, len(keys))
        except KeyError:
            for key in keys:
                if key not in known:
                    self._add_combo(key)
            return np.fromiter(map(known.__getitem__, keys), np.int64, len(keys))

    def targets_of(self, targets: list[Target | None]) -> Ints:
        """Numbers of n targets, new ones added."""
        if targets.count(None) == len(targets):
            return np.zeros(len(targets), np.int64)
        for target in dict.fromkeys(targets):  # not a set: numbers must not hang on hash seeds
            if target not in self._targets:
                self._add_target(target)
        return np.fromiter(map(self._targets.__getitem__, targets), np.int64, len(targets))

    def covers(self, targets: Ints, models: Ints) -> npt.NDArray[np.bool_]:
        """Whether a label aimed at targets[i] answers model number models[i]."""
        if not targets.any():
            return np.ones(len(targets), np.bool_)
        wanted = self._target_texts[targets]
        return np.asarray(((wanted == _ANY) | (wanted == self._model_texts[models])).all(axis=1))

    def outgrown(self, live: int, *, busy: bool = False) -> bool:
        """Whether so many names are out of use (at most `live` are in use) that `collect` pays; `busy`: even now."""
        return len(self.combos) + len(self.targets) > 2 * live + (_SPARE_WHEN_BUSY if busy else _SPARE)

    def collect(self, combos: Ints, targets: Ints) -> tuple[Ints, Ints]:
        """Keep only these combos and targets; gives new numbers by old number (-1 where dropped)."""
        old_combos, old_targets = self.combos, self.targets
        kept = np.unique(combos)
        aimed = np.union1d(targets, [0])
        self.__init__()  # type: ignore[misc]  # a fresh set of tables; nothing of the old one stays
        new_combos = np.full(len(old_combos), -1, np.int64)
        new_combos[kept] = self.combos_of([old_combos[c] for c in kept.tolist()])
        new_targets = np.full(len(old_targets), -1, np.int64)
        new_targets[aimed] = self.targets_of([old_targets[t] for t in aimed.tolist()])
        return new_combos, new_targets

    def pieces(self) -> Iterator[tuple[PieceName, Piece | None]]:
        """Every piece by name; None where it is as it was last time. Combos are only ever added, in order."""
        combos, targets = self._saved
        for number, begin in enumerate(range(0, len(self.combos), _PART)):
            part = self.combos[begin : begin + _PART]
            changed = begin + _PART > combos and len(self.combos) > combos
            yield ("combos", number), Piece({}, {"keys": [list(key) for key in part]}) if changed else None
        aimed = [None if target is None else list(target) for target in self.targets[1:]]
        yield ("targets",), Piece({}, {"targets": aimed}) if len(self.targets) != targets else None
        self._saved = len(self.combos), len(self.targets)

    def touch(self) -> None:
        """Everything is to be written again with the next checkpoint."""
        self._saved = 0, 0

    def _text(self, text: str | None) -> int:
        return _ANY if text is None else self._texts.setdefault(text, len(self._texts))

    def _add_combo(self, key: Key) -> None:
        name = key[0], key[1]
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = len(self.models)
            self.models.append(name)
            self._model_texts = grown(self._model_texts, len(self.models))
            self._model_texts[model] = self._text(name[0]), self._text(name[1])
        combo = self._combos[key] = len(self.combos)
        self.combos.append(key)
        self._model_of = grown(self._model_of, len(self.combos))
        self._model_of[combo] = model

    def _add_target(self, target: Target | None) -> None:
        number = self._targets[target] = len(self.targets)
        self.targets.append(target)
        self._target_texts = grown(self._target_texts, len(self.targets))
        self._target_texts[number] = [_ANY if target is None else self._text(text) for text in target or (None, None)]
