from __future__ import annotations

import numpy as np

from streaming.simulator.randomness import choose, hex_ids, lognormal, mix64, stream


def test_streams_differ_by_name_seed_and_day_and_repeat() -> None:
    draws = {
        (seed, name, *at): stream(seed, name, *at).integers(1 << 62)
        for seed in (1, 2)
        for name in ("a", "b")
        for at in ((), (5,), (6,))
    }
    assert len(set(draws.values())) == len(draws)
    assert all(stream(*key).integers(1 << 62) == value for key, value in draws.items())


def test_mix64_keeps_distinct_numbers_distinct() -> None:
    numbers = np.arange(100_000, dtype=np.uint64)
    mixed = mix64(numbers, salt=2**63 - 1)
    assert len(np.unique(mixed)) == len(numbers)
    assert not np.array_equal(mixed, mix64(numbers, salt=1))


def test_hex_ids_write_all_64_bits() -> None:
    numbers = np.array([0, 1, 2**64 - 1, 0x0123456789ABCDEF], dtype=np.uint64)
    assert hex_ids(numbers).to_pylist() == [f"{int(number):016x}" for number in numbers]
    assert hex_ids(numbers[:0]).to_pylist() == []


def test_choose_follows_the_weights_and_never_takes_a_weight_of_zero() -> None:
    u = np.array([0.0, 0.2499, 0.25, 0.999999999, np.nextafter(1.0, 0.0)])
    assert choose(np.array([1.0, 0.0, 3.0]), u).tolist() == [0, 0, 2, 2, 2]


def test_lognormal_has_median_one_and_the_sigma_asked_for() -> None:
    logs = np.log(lognormal(stream(3, "x"), 0.5, 50_000))
    assert abs(np.median(logs)) < 0.01
    assert abs(logs.std() - 0.5) < 0.01
