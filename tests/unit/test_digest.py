"""Digests: equal for equal ids whatever the batch, different for different ones, and spread."""

from __future__ import annotations

import numpy as np

from msemon.core.digest import LONGEST, Digester, Digests


def texts(digests: Digests) -> list[bytes]:
    return [row.tobytes() for row in digests]


def test_an_id_has_the_same_digest_in_every_batch_and_with_every_neighbour():
    digest = Digester(b"key")
    ids = [b"", b"a", b"abcd", b"abcde", b"x" * LONGEST, b"y" * (LONGEST + 1), b"z" * 5000]
    together = texts(digest(ids))
    assert together == [texts(digest([i]))[0] for i in ids]
    assert together == texts(Digester(b"key")(ids))


def test_ids_that_differ_only_in_trailing_nuls_or_length_have_different_digests():
    ids = [b"a" + b"\0" * n for n in range(130)] + [b"\0" * n for n in range(130)] + [b"b" * n for n in range(1, 130)]
    assert len(set(texts(Digester(b"key")(ids)))) == len(ids)


def test_a_changed_bit_anywhere_changes_both_halves():
    ids = [bytearray(b"q" * n) for n in (1, 7, LONGEST, LONGEST + 9)]
    digest = Digester(b"key")
    for plain in ids:
        before = digest([bytes(plain)])[0]
        for place in range(len(plain)):
            changed = plain.copy()
            changed[place] ^= 1
            assert (digest([bytes(changed)])[0] != before).all()


def test_another_key_gives_other_digests():
    ids = [b"%d" % n for n in range(100)]
    assert not (Digester(b"one")(ids) == Digester(b"two")(ids)).any()


def test_ids_that_count_upwards_spread_evenly_over_the_low_bits():
    digests = Digester(b"key")([b"%d" % n for n in range(1 << 16)])
    for half in range(2):
        filled = np.bincount((digests[:, half] & np.uint64(0xFFF)).astype(np.int64), minlength=1 << 12)
        assert 0.8 < filled.var() / filled.mean() < 1.2, "the variance of a Poisson distribution is its mean"


def test_an_empty_batch_gives_no_digests():
    assert Digester(b"key")([]).shape == (0, 2)
