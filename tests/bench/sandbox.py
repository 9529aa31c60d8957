"""A world with nothing in it but loopback.

Relays look up their clients' names through the system's resolver, so on a machine with a network the
speed of somebody's name server would be part of every figure. Here there is one interface, one resolver
(our own) and one process tree: it runs in namespaces of its own, and when its first process ends,
for whatever reason, the kernel ends all others with it. Nothing that a bench starts can be left behind.
"""

import ctypes
import os
import signal
import subprocess
import sys
import traceback

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000  # <sched.h>
PR_SET_PDEATHSIG = 1                                                           # <sys/prctl.h>


def run(inside) -> int:
    """Calls inside() in the private world; its result is the exit code."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed parent must not leave us running
            _stop_on_signals()
            _furnish()
            code = inside()
        except KeyboardInterrupt:
            print("bench: interrupted", file=sys.stderr)
            code = 130
        except (OSError, subprocess.SubprocessError) as e:
            print(f"bench: {e}", file=sys.stderr)
        except Exception:
            traceback.print_exc()  # _exit below would swallow it
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    # The inner process cleans up; this one only passes signals on and waits. Ctrl-C reaches both of
    # them from the terminal, and a second signal does no harm there.
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, lambda number, _frame: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _stop_on_signals():
    def stop(_number, _frame):
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)  # cleaning up is not interrupted
        raise KeyboardInterrupt

    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, stop)


def _furnish():
    def do(*argv):
        subprocess.run(argv, check=True)

    do("mount", "--make-rprivate", "/")
    do("mount", "-t", "proc", "proc", "/proc")
    do("ip", "link", "set", "lo", "up")
    # Outgoing connections use high ports only, so that the low ones below are always ours; and all of
    # them, because a connection per message leaves thousands in TIME_WAIT.
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as f:
        f.write("10000 65535")


def use_resolver(directory: str, address: str):
    """Makes `address` the only source of host names for every program in here."""
    for name, text in (("resolv.conf", f"nameserver {address}\n"), ("nsswitch.conf", "hosts: files dns\n")):
        target = os.path.join("/etc", name)
        if not os.path.exists(target):
            continue  # nothing to cover: the C library's default is then 127.0.0.1, which is ours
        path = os.path.join(directory, name)
        with open(path, "w") as f:
            f.write(text)
        subprocess.run(["mount", "--bind", path, target], check=True)
