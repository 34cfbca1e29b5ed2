"""What workers said of themselves, and whether two of them can have been connected at once. Reads no clock."""

import collections
import json
import time

# A worker that was stopped learns within this time, in nanoseconds, what became of its connection meanwhile. Until then
# its lines say nothing of it, and Telegram's own record decides.
WAKE = 3_000_000_000


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

    def signs(self, session, since=0):
        """Grants, and answers of Telegram to whoever holds it."""
        return [it for it in self.lines if is_sign(it, session) and it["t"] >= since]


def is_sign(line, session):
    return line["event"] in ("granted", "asked") and of(line) == session


def of(line):
    return f"{line.get('tenant')}/{line.get('app')}"


def said(line, name, other, otherwise):
    """A fact for which the workers have two names."""
    return line.get(name, line.get(other, otherwise))


class Grant:
    """One lease, and when a worker had a connection with it."""

    def __init__(self, epoch, worker, life):
        self.epoch, self.worker, self.life = epoch, worker, life
        self.granted, self.times, self.asked = None, 0, []
        # Spans of time with a connection; the last one has no end while it is open.
        self.spans, self.stopped, self.continued = [], False, None

    def take(self, line):
        event, t = line["event"], line["t"]
        if event == "granted":
            self.times += 1
            self.granted = t if self.granted is None else self.granted
        elif event == "connected" and not self.is_open():
            # Begun, rather than told of, where the worker says when that was.
            self.spans.append([said(line, "since", "since_t", t), None])
        elif event == "asked":
            # A worker that says when it sent the question is held to that.
            waking = self.continued is not None and t < self.continued + WAKE
            sent = said(line, "sent", "sent_t", None)
            if sent is not None or not waking:
                self.asked.append(t if sent is None else sent)
        elif event == "closed" and said(line, "confirmed", "certain", True):
            self.close(t)

    def is_open(self):
        return bool(self.spans) and self.spans[-1][1] is None

    def close(self, t):
        self.stopped = False
        if self.is_open():
            self.spans[-1][1] = t
            if self.spans[-1][0] >= t:
                self.spans.pop()

    def stop(self, t):
        if self.is_open():
            self.close(t)
            self.stopped = True

    def go_on(self, t):
        self.continued = t
        if self.stopped:
            self.stopped = False
            self.spans.append([t + WAKE, None])

    def shares(self, other):
        """Whether both had a connection at one time."""
        return any(
            (end is None or begin < end) and (other_end is None or other_begin < other_end)
            for other_begin, end in self.spans
            for begin, other_end in other.spans
        )

    def __repr__(self):
        return f"epoch {self.epoch} of {self.worker}"


def collect(lines):
    """Grants by session, and what is wrong with the lines themselves."""
    sessions, by_life, wrong = collections.defaultdict(dict), collections.defaultdict(list), []
    for line in lines:
        worker, life = line.get("worker"), line.get("life")
        for grant in by_life[worker, life]:
            if line["event"] == "died":
                grant.close(line["t"])
            elif line["event"] == "stopped":
                grant.stop(line["t"])
            elif line["event"] == "continued":
                grant.go_on(line["t"])
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
        for grant in grants.values():
            if grant.times > 1:
                wrong.append(f"{session}: {grant} was granted {grant.times} times")
            if grant.spans and grant.granted is None:
                wrong.append(f"{session}: {grant} connected without a grant")
    return sessions, wrong


def check(lines):
    """Everything that contradicts «one worker at a time», as sentences; and how many of them are overlaps."""
    sessions, wrong = collect(lines)
    both = 0
    for session, grants in sorted(sessions.items()):
        # By their connections: an answer that was held up may tell of a grant that is long over.
        connected = sorted((it for it in grants.values() if it.spans), key=lambda it: it.spans[0][0])
        for at, earlier in enumerate(connected):
            for later in connected[at + 1:]:
                if earlier.shares(later):
                    both += 1
                    wrong.append(f"{session}: {earlier} and {later} were connected at once")
        for before, after in zip(connected, connected[1:], strict=False):
            if after.epoch <= before.epoch:
                wrong.append(f"{session}: {after} connected after {before}")
        for grant in grants.values():
            later = [it.granted for it in grants.values() if it.epoch > grant.epoch and it.granted is not None]
            if later and any(asked > min(later) for asked in grant.asked):
                wrong.append(f"{session}: {grant} asked Telegram after a later epoch was granted")
    return wrong, both


def progress(lines, session, begin, every):
    """How often the session was granted; a holder that goes on using it counts once in so many seconds."""
    grants = sum(it["event"] == "granted" and of(it) == session for it in lines)
    held = {int((it["t"] - begin) / 1e9 // every) for it in lines if is_sign(it, session) and it["t"] >= begin}
    return max(grants, len(held))


def longest_wait(lines, session, begin, end):
    """The longest time without a grant of the session, in seconds."""
    times = sorted(it["t"] for it in lines if it["event"] == "granted" and of(it) == session and begin <= it["t"] <= end)
    edges = [begin, *times, end]
    return max((after - before) / 1e9 for before, after in zip(edges, edges[1:], strict=False))
