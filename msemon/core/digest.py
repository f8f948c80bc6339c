"""128-bit digests of event ids, a batch at a time, so that the join never keeps an id.

Multilinear hashing: with secret random 64-bit multipliers a, the upper half of a₀ + Σ aᵢ·sᵢ (mod 2⁶⁴) over the
32-bit words s of a text is strongly universal: two different texts collide with probability 2⁻³² (Lemire & Kaser,
"Strongly universal string hashing is fast", 2014). Four independent lanes make 2⁻¹²⁸; at five million waiting ids the
chance that any event ever meets a foreign id is below 10⁻³⁰ an event. The multipliers come from a key that belongs to
the task's state, so whoever chooses the ids can't aim at a collision.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.uint64]

LONGEST = 64  # bytes of an id that are hashed as they are; a longer one goes through BLAKE2b first
_WORDS = LONGEST // 4
_LANES = 4


class Digester:
    """Turns ids into digests with one key (any bytes; 16 random ones are enough)."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        stream = b"".join(
            hashlib.blake2b(bytes([lane, part]), key=key[:64], person=b"msemon ids", digest_size=64).digest()
            for lane in range(_LANES)
            for part in range(-(-8 * (_WORDS + 2) // 64))
        )
        lanes = np.frombuffer(stream, np.uint64).reshape(_LANES, -1)[:, : _WORDS + 2]
        self._start = lanes[:, 0].copy()
        self._factors = np.ascontiguousarray(lanes[:, 1:].T)  # of the length, then of each word

    def __call__(self, ids: list[bytes]) -> Digests:
        """Digests of n ids as uint64 (n, 2). The length is hashed too, so padding with NUL bytes changes nothing."""
        n = len(ids)
        if not n:
            return np.empty((0, 2), np.uint64)
        lengths = np.fromiter(map(len, ids), np.int64, n)
        longest = int(lengths.max())
        if longest > LONGEST:
            ids = [i if len(i) <= LONGEST else hashlib.blake2b(i, digest_size=LONGEST).digest() for i in ids]
            longest = LONGEST
        width = max(1, -(-longest // 4))
        words = np.empty((n, 1 + width), np.uint64)
        words[:, 0] = lengths
        words[:, 1:] = np.array(ids, dtype=f"S{4 * width}").view(np.uint32).reshape(n, width)
        lanes = words @ self._factors[: 1 + width]
        lanes += self._start
        lanes >>= np.uint64(32)
        return _mixed(lanes[:, 0::2] << np.uint64(32) | lanes[:, 1::2])


def _mixed(words: Digests) -> Digests:
    """A bijection of 64 bits (MurmurHash3's finaliser): the lanes are linear in the id, so ids that count upwards would
    crowd together in a hash table.
    """
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words ^= words >> np.uint64(33)
        words *= np.uint64(multiplier)
    words ^= words >> np.uint64(33)
    return words
