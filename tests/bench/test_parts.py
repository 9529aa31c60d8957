"""The small parts of the scenarios: python3 -m unittest discover -s tests/bench"""

import ipaddress
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import deep_queue
import far
import loadclient
import refusing
import relays


class Recipients(unittest.TestCase):
    def domains(self, sites, total):
        rcpt = loadclient.recipients("b@dst.test", sites, total)
        return [rcpt(number) for number in range(total)]

    def test_without_sites_it_is_always_the_same(self):
        self.assertEqual(self.domains(0, 2), [b"RCPT TO:<b@dst.test>\r\n"] * 2)

    def test_few_sites_take_turns(self):
        self.assertEqual(self.domains(2, 3), [b"RCPT TO:<b@s0.dst.test>\r\n", b"RCPT TO:<b@s1.dst.test>\r\n",
                                              b"RCPT TO:<b@s0.dst.test>\r\n"])

    def test_each_of_many_sites_has_one_and_few_messages_are_spread_over_all(self):
        self.assertEqual(len(set(self.domains(1000, 1000))), 1000)
        self.assertEqual(self.domains(1000, 4), [b"RCPT TO:<b@s%d.dst.test>\r\n" % n for n in (0, 250, 500, 750)])


class Sources(unittest.TestCase):
    def test_each_has_an_address_of_its_own_that_is_not_the_sinks(self):
        for count in (1, 256, 2000):
            found = relays.source_addresses(count)
            self.assertEqual(len(set(found)), count)
            self.assertNotIn(relays.LOOPBACK, found)
            self.assertTrue(all(ipaddress.ip_address(a).is_loopback for a in found))


class Filled(unittest.TestCase):
    def good(self, now, **found):
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "note.json")
            with open(path, "w") as f:
                json.dump({"count": 10, "filled_at": 1000.0} | found, f)
            return deep_queue.still_good(path, {"count": 10}, now)

    def test_a_queue_is_used_again_while_nothing_in_it_is_due(self):
        self.assertTrue(self.good(1000.0 + deep_queue.FRESH - 1))
        self.assertFalse(self.good(1000.0 + deep_queue.FRESH))
        self.assertLess(deep_queue.FRESH, deep_queue.NEXT_ATTEMPT)

    def test_another_one_a_clock_that_went_back_and_no_note_are_no_good(self):
        self.assertFalse(self.good(1001.0, count=11))
        self.assertFalse(self.good(999.0))
        self.assertFalse(deep_queue.still_good("/nonexistent", {}, 0))


class Disk(unittest.TestCase):
    def test_blocks_count_and_not_sizes(self):
        with tempfile.TemporaryDirectory() as place:
            empty = refusing.allocated(place)
            with open(os.path.join(place, "sparse"), "wb") as f:
                f.truncate(10 << 20)
            self.assertEqual(refusing.allocated(place), empty)
            os.mkdir(os.path.join(place, "below"))
            with open(os.path.join(place, "below", "full"), "wb") as f:
                f.write(b"x" * (1 << 20))
                f.flush()
                os.fsync(f.fileno())
            self.assertGreaterEqual(refusing.allocated(place), empty + (1 << 20))


class Wire(unittest.TestCase):
    ONE_WAY = 0.02

    def test_everything_arrives_in_order_and_late_in_both_directions(self):
        with socket.create_server((relays.LOOPBACK, 0)) as echo, socket.create_server((relays.LOOPBACK, 0)) as free:
            port = free.getsockname()[1]
            free.close()
            threading.Thread(target=self.serve, args=(echo,), daemon=True).start()
            wire = subprocess.Popen([sys.executable, far.__file__, str(port), str(echo.getsockname()[1]),
                                     str(self.ONE_WAY * 1000)], stdout=subprocess.PIPE)
            self.addCleanup(lambda: (wire.kill(), wire.wait(), wire.stdout.close()))
            self.assertEqual(wire.stdout.readline(), b"ready\n")
            begun = time.monotonic()
            with socket.create_connection((relays.LOOPBACK, port), timeout=10) as near:
                self.assertEqual(near.recv(1), b"!")
                self.assertGreaterEqual(time.monotonic() - begun, 4 * self.ONE_WAY)
                sent = os.urandom(300_000)
                begun = time.monotonic()
                threading.Thread(target=lambda: (near.sendall(sent), near.shutdown(socket.SHUT_WR)), daemon=True).start()
                got = near.recv(1)
                self.assertGreaterEqual(time.monotonic() - begun, 2 * self.ONE_WAY)
                while more := near.recv(65536):
                    got += more
                self.assertEqual(got, sent)

    @staticmethod
    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"!")
            while data := connection.recv(65536):
                connection.sendall(data)


if __name__ == "__main__":
    unittest.main()
