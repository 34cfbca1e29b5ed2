"""What workers said of themselves, and whether two of them can have been connected at once. Reads no clock."""

import collections
import json
import time


class History:
    """Lines of workers and of the harness, in the order in which they came, kept as JSON lines too."""

    def __init__(self, path):
        self.lines, self.file = [], open(path, "w", buffering=1)

    def record(self, **line):
        line.setdefault("t", time.monotonic_ns())
        self.lines.append(line)
        self.file.write(json.dumps(line) + "\n")

    def grants(self, session, since=0):
        return [it for it in self.lines if it["event"] == "granted" and of(it) == session and it["t"] >= since]


def of(line):
    return f"{line.get('tenant')}/{line.get('app')}"


class Grant:
    """One lease from its grant to the end of the last connection made with it."""

    def __init__(self, epoch, worker, life):
        self.epoch, self.worker, self.life = epoch, worker, life
        self.granted, self.connected, self.closed, self.asked, self.times = None, None, None, [], 0

    def take(self, line):
        event, t = line["event"], line["t"]
        if event == "granted":
            self.times += 1
            self.granted = t if self.granted is None else self.granted
        elif event == "connected":
            self.connected = t if self.connected is None else self.connected
            self.closed = None
        elif event == "asked":
            # A worker that says when it sent the question is held to that.
            self.asked.append(line.get("sent", t))
        elif event == "closed" and self.connected is not None:
            self.closed = t

    def __repr__(self):
        return f"epoch {self.epoch} of {self.worker}"


def collect(lines):
    """Grants by session, and what is wrong with the lines themselves."""
    sessions, by_life, wrong = collections.defaultdict(dict), collections.defaultdict(list), []
    for line in lines:
        worker, life = line.get("worker"), line.get("life")
        if line["event"] == "died":
            for grant in by_life[worker, life]:
                if grant.connected is not None and grant.closed is None:
                    grant.closed = line["t"]
        if line.get("epoch") is None or line.get("app") is None:
            continue
        grants = sessions[of(line)]
        grant = grants.get(line["epoch"])
        if grant is None:
            grant = grants[line["epoch"]] = Grant(line["epoch"], worker, life)
            by_life[worker, life].append(grant)
        if (grant.worker, grant.life) != (worker, life):
            wrong.append(f"{of(line)}: epoch {grant.epoch} belongs to {grant.worker} and to {worker}")
            continue
        grant.take(line)
    for session, grants in sessions.items():
        wrong += [f"{session}: {grant} was granted {grant.times} times" for grant in grants.values() if grant.times > 1]
        wrong += [f"{session}: {grant} connected without a grant" for grant in grants.values()
                  if grant.connected is not None and grant.granted is None]
    return sessions, wrong


def overlaps(grants):
    """Pairs of grants that were connected at the same time, by what their workers said."""
    found, connected = [], sorted((it for it in grants if it.connected is not None), key=lambda it: it.connected)
    for at, earlier in enumerate(connected):
        for later in connected[at + 1:]:
            if earlier.closed is None or later.connected < earlier.closed:
                found.append((earlier, later))
    return found


def check(lines):
    """Everything that contradicts «one worker at a time», as sentences; and how many of them are overlaps."""
    sessions, wrong = collect(lines)
    both = 0
    for session, grants in sorted(sessions.items()):
        for earlier, later in overlaps(grants.values()):
            both += 1
            wrong.append(f"{session}: {earlier} and {later} were connected at once")
        # By their connections: an answer that was held up may tell of a grant that is long over.
        order = sorted((it for it in grants.values() if it.connected is not None), key=lambda it: it.connected)
        for before, after in zip(order, order[1:], strict=False):
            if after.epoch <= before.epoch:
                wrong.append(f"{session}: {after} connected after {before}")
        for grant in grants.values():
            later = [it.granted for it in grants.values() if it.epoch > grant.epoch and it.granted is not None]
            if later and any(asked > min(later) for asked in grant.asked):
                wrong.append(f"{session}: {grant} asked Telegram after a later epoch was granted")
    return wrong, both


def longest_wait(lines, session, begin, end):
    """The longest time without a grant of the session, in seconds."""
    times = sorted(it["t"] for it in lines if it["event"] == "granted" and of(it) == session and begin <= it["t"] <= end)
    edges = [begin, *times, end]
    return max((after - before) / 1e9 for before, after in zip(edges, edges[1:], strict=False))
