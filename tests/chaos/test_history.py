"""The checkers can fail: crafted histories, each with one thing wrong."""

from faults import KINDS, schedule
from history import WAKE, check, longest_wait, progress
from telegram import Watch

SECOND = 1_000_000_000


def line(seconds, event, worker="a", epoch=1, life=1, **more):
    t = int(seconds * SECOND)
    return {"t": t, "event": event, "worker": worker, "life": life, "epoch": epoch, "tenant": "t", "app": "s", **more}


def lease(begin, end, worker, epoch):
    return [line(begin, "granted", worker, epoch), line(begin + 0.1, "connected", worker, epoch),
            line(begin + 0.2, "asked", worker, epoch), line(end, "closed", worker, epoch)]


def test_one_after_the_other_is_right():
    assert check([*lease(1, 2, "a", 1), *lease(3, 4, "b", 2), *lease(5, 6, "a", 3)]) == ([], 0)


def test_two_at_once_are_found():
    wrong, both = check([*lease(1, 4, "a", 1), *lease(3, 5, "b", 2)])
    assert both == 1
    assert wrong == ["t/s: epoch 1 of a and epoch 2 of b were connected at once"]


def test_a_connection_that_nobody_closed_is_open_for_ever():
    _, both = check([*lease(1, 2, "a", 1)[:-1], *lease(900, 901, "b", 2)])
    assert both == 1


def test_a_close_that_is_not_confirmed_is_none():
    unsure = line(2, "closed", confirmed=False)
    assert check([*lease(1, 2, "a", 1)[:-1], unsure, *lease(3, 4, "b", 2)])[1] == 1


def test_a_connection_begins_before_it_is_told_of():
    early = line(3, "connected", "b", 2, since=int(1.5 * SECOND))
    assert check([*lease(1, 2, "a", 1), line(1.4, "granted", "b", 2), early])[1] == 1


def test_death_closes():
    died = {"t": 2 * SECOND, "event": "died", "worker": "a", "life": 1}
    assert check([*lease(1, 2, "a", 1)[:-1], died, *lease(3, 4, "b", 2)]) == ([], 0)


def test_the_death_of_another_life_closes_nothing():
    died = {"t": 2 * SECOND, "event": "died", "worker": "a", "life": 2}
    assert check([*lease(1, 2, "a", 1)[:-1], died, *lease(3, 4, "b", 2)])[1] == 1


def test_what_a_stopped_worker_has_open_is_for_telegram_to_say():
    stopped = line(2, "stopped", epoch=None)
    back = line(20, "continued", epoch=None)
    history = [*lease(1, 2, "a", 1)[:-1], stopped, *lease(15, 21, "b", 2)[:-1], back]
    closed = [line(20.1, "closed", "a", 1), line(22, "closed", "b", 2)]
    assert check([*history, *closed]) == ([], 0)
    late = 20 + 2 * WAKE / SECOND
    assert check([*history, line(late, "closed", "a", 1), line(late, "closed", "b", 2)])[1] == 1


def test_an_epoch_belongs_to_one_worker():
    wrong, _ = check([*lease(1, 2, "a", 1), *lease(3, 4, "b", 1)])
    assert "t/s: epoch 1 belongs to a and to b" in wrong


def test_a_grant_is_told_once():
    wrong, _ = check([line(1, "granted"), line(2, "granted")])
    assert wrong == ["t/s: epoch 1 of a was granted 2 times"]


def test_epochs_rise():
    wrong, _ = check([*lease(1, 2, "a", 2), *lease(3, 4, "b", 1)])
    assert "t/s: epoch 1 of b connected after epoch 2 of a" in wrong


def test_a_question_after_a_later_grant_is_found():
    wrong, _ = check([line(1, "granted"), line(2, "granted", "b", 2), line(3, "asked")])
    assert wrong == ["t/s: epoch 1 of a asked Telegram after a later epoch was granted"]


def test_a_question_sent_before_it_is_not():
    assert check([line(1, "granted"), line(2, "granted", "b", 2), line(3, "asked", sent=int(1.5 * SECOND))]) == ([], 0)


def test_a_connection_needs_a_grant():
    wrong, _ = check([line(1, "connected")])
    assert wrong == ["t/s: epoch 1 of a connected without a grant"]


def test_the_longest_wait_counts_the_edges():
    lines = [line(2, "granted", epoch=1), line(5, "granted", epoch=2)]
    assert longest_wait(lines, "t/s", SECOND, 9 * SECOND) == 4.0


class Record:
    """A sandbox that tells this, and nothing more."""

    def __init__(self, *spans):
        self.calls = []
        for conn, (key, begin, end) in enumerate(spans):
            same = {"conn": conn, "dc": 2, "src": "127.0.0.1:1", "key": key, "n": 0}
            self.calls.append({**same, "t": begin, "kind": "rpc", "method": "users.getUsers"})
            if end is not None:
                self.calls.append({**same, "t": end, "kind": "transport", "method": "close"})

    def ask(self, path):
        return {"counters": {"duplicates": 0}} if path == "/state" else self.calls


def seen(tmp_path, *spans):
    watch = Watch(Record(*spans), 2, tmp_path / "telegram.jsonl")
    watch.look()
    return [it["conns"] for it in watch.overlaps]


def test_connections_of_one_key_at_once_are_found(tmp_path):
    assert seen(tmp_path, ("k", 1, 4), ("k", 3, 5)) == [[0, 1]]
    assert seen(tmp_path, ("k", 1, None), ("k", 3, 5)) == [[0, 1]]


def test_connections_of_two_keys_and_one_after_the_other_are_right(tmp_path):
    assert seen(tmp_path, ("k", 1, 4), ("l", 3, 5), ("k", 4.1, 6)) == []


def test_a_seed_draws_one_schedule_and_every_kind_comes():
    def told(seed):
        return [(it.at, it.kind, it.who, it.size) for it in schedule(seed, 120, list(KINDS), 2.0)]

    assert told(7) == told(7) != told(8)
    assert set(list(KINDS)) <= {it[1] for it in told(7)}


def test_a_session_that_is_held_for_long_counts_as_progress():
    held = [line(0, "granted"), *[line(at, "asked") for at in range(1, 100)]]
    assert progress(held, "t/s", 0, 30) == 4
    assert progress(held[:2], "t/s", 0, 30) == 1
    assert progress([line(at, "granted", epoch=at) for at in range(7)], "t/s", 0, 30) == 7
