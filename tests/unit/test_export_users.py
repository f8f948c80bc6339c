"""Users and passwords: who is known, and how little work those can make who are not."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import pytest

from msemon.export import users as module
from msemon.export.users import REMEMBERED, WAITING, Crowded, Users, credentials
from support.waiting import wait_until

TOOLKIT = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def users() -> Users:
    return Users({"alice": hashed("right"), "bob": hashed("a:b:c")})


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those that were computed, by what they were compared with."""
    done: list[str] = []
    genuine = module._same

    def counted(password: bytes, hashed: str) -> bool:
        done.append(hashed)
        return genuine(password, hashed)

    monkeypatch.setattr(module, "_same", counted)
    return done


def test_a_user_is_known_by_their_own_password(users: Users) -> None:
    assert users.knows(basic("alice", "right"))
    assert users.knows(basic("bob", "a:b:c")), "a password may have colons"
    assert not users.knows(basic("alice", "wrong"))
    assert not users.knows(basic("bob", "right"))
    assert not users.knows(basic("alice", ""))
    assert not users.knows(basic("nobody", "right"))
    assert not users.knows(basic("", "right"))


@pytest.mark.parametrize("prefix", ["2a", "2b", "2y"])
def test_hashes_of_every_tool_are_read(prefix: str) -> None:
    made = hashed("right").replace("$2b$", f"${prefix}$", 1)
    assert Users({"alice": made}).knows(basic("alice", "right"))


def test_bytes_beyond_the_seventy_second_are_not_looked_at_as_in_htpasswd_and_go() -> None:
    users = Users({"alice": hashed("x" * 72)})
    assert users.knows(basic("alice", "x" * 100))
    assert not users.knows(basic("alice", "x" * 71))


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !", "Basic YWxpY2U=", "Bearer " + basic("alice", "right")[6:], "Basic /////w==", "Basic Og=="],
)
def test_what_is_no_user_with_a_password_is_nobody(users: Users, header: str) -> None:
    assert not users.knows(header)


def test_the_scheme_may_be_in_any_case() -> None:
    assert credentials(basic("a", "b").replace("Basic", "bAsIc ")) == ("a", b"b")


def test_a_password_is_hashed_once_right_or_wrong(users: Users, hashes: list[str]) -> None:
    for _ in range(5):
        assert users.knows(basic("alice", "right"))
        assert not users.knows(basic("alice", "wrong"))
    assert len(hashes) == 2


def test_an_unknown_name_costs_what_a_known_one_does(hashes: list[str]) -> None:
    users = Users({"alice": hashed("right", cost=5), "bob": hashed("right", cost=4)})
    assert not users.knows(basic("nobody", "right"))
    (against,) = hashes
    assert against.startswith("$2b$05$")


def test_wrong_passwords_are_not_remembered_without_end_and_push_no_right_one_out(
    users: Users, hashes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    assert users.knows(basic("alice", "right"))
    for n in range(REMEMBERED + 20):
        assert not users.knows(basic("alice", f"guess {n}"))
    assert len(users._wrong) == REMEMBERED
    count = len(hashes)
    assert users.knows(basic("alice", "right"))
    assert len(hashes) == count


def test_no_password_is_kept() -> None:
    users = Users({"alice": hashed("geheim-1")})
    assert users.knows(basic("alice", "geheim-1"))
    assert not users.knows(basic("alice", "geheim-2"))
    assert users._right
    assert users._wrong
    assert "geheim" not in repr(vars(users))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hashing waits for it."""
    go = threading.Event()
    monkeypatch.setattr(module, "_same", lambda *_: go.wait(30) and False)
    yield go
    go.set()


def test_guessing_takes_one_core_and_a_few_places_and_never_those_who_are_known(
    users: Users, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = module._same
    monkeypatch.undo()
    assert users.knows(basic("alice", "right"))
    monkeypatch.setattr(module, "_same", genuine)
    with ThreadPoolExecutor(WAITING) as pool:
        guesses = [pool.submit(users.knows, basic("alice", f"guess {n}")) for n in range(WAITING)]
        wait_until(lambda: users._places._value == 0, 10, "all places to be taken")
        with pytest.raises(Crowded):
            users.knows(basic("alice", "one more"))
        assert users.knows(basic("alice", "right")), "who is known waits for nobody"
        held.set()
        assert not any(guess.result(30) for guess in guesses)
    assert users._places._value == WAITING


def test_after_a_wrong_password_the_next_waits_twice_as_long_as_it_took() -> None:
    slept: list[float] = []
    clock = iter([10.0, 10.25, 20.0, 20.5, 30.0])
    users = Users({"alice": hashed("right")}, lambda: next(clock), slept.append)
    assert not users.knows(basic("alice", "guess"))
    assert not users.knows(basic("nobody", "guess"))
    assert users.knows(basic("alice", "right"))
    assert slept == [0.5, 1.0], "a right one waits for nothing"
