"""The durability check must fail where it should: python3 -m unittest discover -s tests/bench"""

import unittest

import durable

WRITE = '10 write(7</q/seg>, "X: benchtoken0000001a\\r\\nbenchtoken0000001z\\r\\n", 99) = 99'
SYNC = "10 fdatasync(7</q/seg>) = 0"
REPLY = '11 sendto(9<socket:[5]>, "250 2.0.0 Ok: queued as ID1\\r\\n", 30, 0, NULL, 0) = 30'


def holds(*lines):
    return durable.verify(lines, {1: "ID1"}).holds


class Durable(unittest.TestCase):
    def test_write_then_sync_then_reply_holds(self):
        self.assertTrue(holds(WRITE, SYNC, REPLY))

    def test_reply_without_sync_fails(self):
        self.assertFalse(holds(WRITE, REPLY))

    def test_reply_before_the_sync_fails(self):
        self.assertFalse(holds(WRITE, REPLY, SYNC))

    def test_sync_before_the_write_fails(self):
        self.assertFalse(holds(SYNC, WRITE, REPLY))

    def test_sync_of_another_file_fails(self):
        self.assertFalse(holds(WRITE, SYNC.replace("seg", "other"), REPLY))

    def test_failed_sync_fails(self):
        self.assertFalse(holds(WRITE, "10 fdatasync(7</q/seg>) = -1 EIO (Input/output error)", REPLY))

    def test_failed_write_fails(self):
        self.assertFalse(holds(WRITE.replace("= 99", "= -1 ENOSPC (No space left on device)"), SYNC, REPLY))

    def test_sync_begun_before_the_write_ended_fails(self):
        self.assertFalse(holds("10 fdatasync(7</q/seg> <unfinished ...>", WRITE.replace("10 ", "12 "),
                               "10 <... fdatasync resumed>) = 0", REPLY))

    def test_reply_begun_before_the_sync_ended_fails(self):
        self.assertFalse(holds(WRITE, "10 fdatasync(7</q/seg> <unfinished ...>", REPLY,
                               "10 <... fdatasync resumed>) = 0"))

    def test_interleaved_calls_of_two_threads_hold(self):
        begun, ended = WRITE.rsplit(") = ", 1)
        self.assertTrue(holds(begun + " <unfinished ...>", "12 fdatasync(8</q/db> <unfinished ...>",
                              "10 <... write resumed>) = " + ended, "12 <... fdatasync resumed>) = 0", SYNC, REPLY))

    def test_end_of_body_written_after_the_sync_fails(self):
        head = '10 write(7</q/seg>, "benchtoken0000001a", 9) = 9'
        rest = '10 write(7</q/seg>, "benchtoken0000001z", 9) = 9'
        self.assertFalse(holds(head, SYNC, rest, REPLY))
        self.assertTrue(holds(head, rest, SYNC, REPLY))

    def test_data_that_no_write_shows_fail(self):
        self.assertFalse(holds(SYNC, REPLY))

    def test_data_sent_to_a_socket_are_not_on_the_disk(self):
        self.assertFalse(holds(WRITE.replace("/q/seg", "socket:[6]"), SYNC, REPLY))

    def test_synchronous_file_needs_no_sync(self):
        opened = '10 openat(AT_FDCWD</>, "/q/seg", O_RDWR|O_CREAT|O_DSYNC, 0600) = 7</q/seg>'
        self.assertTrue(holds(opened, WRITE, REPLY))

    def test_synced_directory_is_noticed(self):
        opened = '10 openat(AT_FDCWD</>, "/q/seg", O_RDWR|O_CREAT, 0600) = 7</q/seg>'
        for lines, expected in (((opened, "10 fsync(6</q>) = 0", WRITE, SYNC, REPLY), 1),
                                ((opened, WRITE, SYNC, REPLY, "10 fsync(6</q>) = 0"), 0)):
            verdict = durable.verify(lines, {1: "ID1"})
            self.assertEqual((verdict.files, verdict.directories_synced), (1, expected))

    def test_no_messages_prove_nothing(self):
        self.assertFalse(durable.verify((WRITE, SYNC, REPLY), {}).holds)


if __name__ == "__main__":
    unittest.main()
