"""One image runs on 1 GiB and on 64: what PostgreSQL and Redis get follows from what is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_host.host import HostError
from zmanim_host.memory import (
    MAX_CONNECTIONS,
    RESERVE_MIB,
    files,
    mem_total_kib,
    nominal_mib,
    sizes,
)

GIB = 1024


def test_four_gib_get_the_values_that_the_configuration_files_say() -> None:
    wanted = sizes(4 * GIB)
    assert (wanted.shared_buffers, wanted.effective_cache_size, wanted.work_mem) == (1024, 3072, 16)
    assert (wanted.maintenance_work_mem, wanted.redis_maxmemory) == (256, 1024)


@pytest.mark.parametrize(("mem_total", "sold_as"), [(3_925_620, 4 * GIB), (1_908_372, 2 * GIB), (7_951_000, 8 * GIB)])
def test_what_the_kernel_keeps_for_itself_does_not_shrink_the_settings(mem_total: int, sold_as: int) -> None:
    assert nominal_mib(mem_total) == sold_as


@pytest.mark.incident("a 4 GiB tuning ran on a 2 GiB t4g.small")
@given(st.integers(min_value=1 * GIB, max_value=64 * GIB))
def test_everything_at_its_largest_fits_beside_the_reserve(total: int) -> None:
    wanted = sizes(total)
    # A save forks Redis and every page may be written meanwhile; half of the connections use all of their work_mem.
    largest = wanted.shared_buffers + 2 * wanted.redis_maxmemory + MAX_CONNECTIONS // 2 * wanted.work_mem
    assert largest <= total - RESERVE_MIB


@given(st.integers(min_value=1 * GIB, max_value=64 * GIB), st.integers(min_value=0, max_value=8 * GIB))
def test_more_memory_never_gives_less(total: int, more: int) -> None:
    small, large = sizes(total), sizes(total + more)
    assert small.shared_buffers <= large.shared_buffers
    assert small.work_mem <= large.work_mem
    assert small.redis_maxmemory <= large.redis_maxmemory


@given(st.integers(min_value=1 * GIB, max_value=64 * GIB))
def test_every_setting_is_one_that_the_servers_take(total: int) -> None:
    wanted = sizes(total)
    assert wanted.shared_buffers >= 128
    assert wanted.work_mem >= 2
    assert wanted.maintenance_work_mem >= 16
    assert wanted.redis_maxmemory >= 100


def test_too_little_memory_is_refused_with_the_amount() -> None:
    with pytest.raises(HostError, match="512 MiB"):
        sizes(512)


def test_the_included_files_set_what_was_computed() -> None:
    wanted = sizes(2 * GIB)
    assert f"\nshared_buffers = {wanted.shared_buffers}MB\n" in files(wanted)["postgresql.conf"]
    assert f"\nmaxmemory {wanted.redis_maxmemory}mb\n" in files(wanted)["redis.conf"]


def test_memory_is_read_from_meminfo() -> None:
    assert mem_total_kib("MemTotal:        3925620 kB\nMemFree: 1 kB\n") == 3925620
    with pytest.raises(HostError, match="MemTotal"):
        mem_total_kib("MemFree: 1 kB\n")
