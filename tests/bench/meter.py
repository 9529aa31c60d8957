"""What a relay costs: CPU time and memory of all its processes, and of nobody else's.

CPU time comes from a cgroup (v2) that holds only the relay: it also counts processes that came and went,
which a walk through /proc would miss. Where no cgroup can be made, the process tree's /proc/PID/stat
stands in (ticks of 10 ms, and a child counts once its parent has waited for it) and the bench says so.
Memory is the sum of PSS: shared pages are split among those who share them, so a hundred smtpd processes
are not charged a hundred C libraries.
"""

import os
import signal
import threading
import time

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


def _read(path):
    with open(path) as f:
        return f.read()


def _stat_fields(pid):
    """/proc/PID/stat after the command name, which may contain spaces and parentheses."""
    text = _read(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2:].split()


def process_cpu_us(pid):
    """CPU time of one living process and of the children it has waited for."""
    return sum(map(int, _stat_fields(pid)[11:15])) * TICK_US


class CgroupMeter:
    method = "cgroup v2 cpu.stat"

    def __init__(self, directory):
        self.directory = directory
        self._remove()  # left by a bench that was killed
        os.mkdir(directory)

    def command(self, argv):
        """The command that starts argv inside: the shell moves itself, then becomes the relay."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', self.directory + "/cgroup.procs", *argv]

    def started(self, pid):
        pass

    def pids(self):
        return [int(p) for p in _read(self.directory + "/cgroup.procs").split() if p != "0"]

    def cpu_us(self):
        fields = dict(line.split() for line in _read(self.directory + "/cpu.stat").splitlines())
        return int(fields["user_usec"]) + int(fields["system_usec"])

    def close(self):
        kill_all(self.pids)
        self._remove()

    def _remove(self):
        for _ in range(100):  # a cgroup is busy until its last zombie is gone
            try:
                os.rmdir(self.directory)
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)


class TreeMeter:
    method = "/proc/PID/stat of the process tree (no cgroup v2 could be written)"

    def __init__(self):
        self.root = None

    def command(self, argv):
        return argv

    def started(self, pid):
        self.root = pid

    def pids(self):
        parents = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    parents[int(name)] = int(_stat_fields(name)[1])
                except (OSError, ValueError):
                    continue
        found, front = [], [self.root] if self.root in parents else []
        while front:
            found += front
            front = [pid for pid, parent in parents.items() if parent in front]
        return found

    def cpu_us(self):
        total = 0
        for pid in self.pids():
            try:
                total += process_cpu_us(pid)
            except (OSError, ValueError):
                continue
        return total

    def close(self):
        kill_all(self.pids)


def kill_all(pids):
    """Ends what is left of a relay that did not stop when asked."""
    for _ in range(50):
        left = pids()
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def make(name):
    for line in _read("/proc/self/mounts").splitlines():
        _device, mount_point, kind, *_ = line.split()
        if kind != "cgroup2":
            continue
        try:
            meter = CgroupMeter(f"{mount_point}/{name}")
            meter.cpu_us()
            with open(meter.directory + "/cgroup.procs", "w"):
                pass
            return meter
        except (OSError, KeyError):
            continue
    return TreeMeter()


def pss_kb(pids):
    total = 0
    for pid in pids:
        try:
            for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
                    break
        except OSError:
            continue  # it ended between the list and the look
    return total


class PeakMemory:
    """Samples in a thread. Adding up a hundred processes costs milliseconds, so the pause between
    two samples grows with what the last one cost: never more than about 5 % of a core."""

    def __init__(self, pids):
        self.pids, self.peak_kb, self._stop = pids, 0, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self):
        pause = 0
        while not self._stop.wait(pause):
            begun = time.monotonic()
            try:
                self.peak_kb = max(self.peak_kb, pss_kb(self.pids()))
            except OSError:
                return
            pause = max(0.1, 20 * (time.monotonic() - begun))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def machine_busy_us():
    """CPU time that all processes of the machine have used, and what the hypervisor took away."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, _read("/proc/stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK_US
