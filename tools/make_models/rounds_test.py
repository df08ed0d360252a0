"""Tests of the round simulation; needs no model. Run by hand: python3 rounds_test.py"""

import unittest

from rounds import Rounds, simulate_rounds


class SimulateRoundsTest(unittest.TestCase):
    def test_nothing_matches_is_one_token_a_round(self):
        self.assertEqual(simulate_rounds([False] * 5, 4, 100), Rounds(4, 16, 0, [1, 2, 3, 4]))

    def test_first_token_comes_from_the_prefill(self):
        self.assertEqual(simulate_rounds([True], 4, 100), Rounds())

    def test_all_matches_fill_the_window_and_earn_a_bonus(self):
        self.assertEqual(simulate_rounds([True] * 11, 4, 100), Rounds(2, 8, 8))

    def test_window_is_capped_by_what_remains(self):
        # 1 + (2 accepted + 1): the window may hold two of the three that remain.
        self.assertEqual(simulate_rounds([True] * 4, 4, 4), Rounds(1, 2, 2))

    def test_end_token_may_be_the_last_accepted_one(self):
        self.assertEqual(simulate_rounds([True] * 4, 4, 100), Rounds(1, 4, 3))

    def test_a_reject_closes_the_round_with_the_targets_token(self):
        matches = [True, True, False, True, True, True]
        self.assertEqual(simulate_rounds(matches, 4, 100), Rounds(2, 8, 4, [2]))


if __name__ == "__main__":
    unittest.main()
