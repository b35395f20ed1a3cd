from __future__ import annotations

from tests.support.errors import raises
from zmanim_ami.rehearsal.standin.debian import closure
from zmanim_ami.rehearsal.standin.debian import parse_dependencies as parse

APT = """\
server
 |Depends: locales
  Depends: locales-all
  PreDepends: <awk>
    mawk
    gawk
  Depends: libc6
  Depends: manager
  Depends: libpq5
libpq5
  Depends: libssl3
  Depends: server
libssl3
  Depends: libc6
libc6
manager
  Depends: perl
perl
locales
locales-all
<awk>
mawk
gawk
"""


def nothing(_: str) -> bool:
    return False


def test_dependencies_of_dependencies_are_carried_and_a_circle_ends() -> None:
    assert closure(parse(APT), ["libpq5"], ["libc6", "locales", "mawk", "manager"], nothing) == [
        "libpq5",
        "libssl3",
        "server",
    ]


def test_what_the_tree_has_is_not_carried_again() -> None:
    assert "libssl3" not in closure(parse(APT), ["libpq5"], ["libc6", "libssl3"], nothing)


def test_what_is_left_out_takes_its_own_dependencies_along() -> None:
    taken = closure(parse(APT), ["server"], [], lambda name: name == "manager")
    assert "manager" not in taken
    assert "perl" not in taken


def test_of_alternatives_the_first_is_taken() -> None:
    taken = closure(parse(APT), ["server"], [], nothing)
    assert "locales" in taken
    assert "locales-all" not in taken


def test_of_alternatives_one_that_is_present_is_enough() -> None:
    taken = closure(parse(APT), ["server"], ["locales-all"], nothing)
    assert "locales" not in taken


def test_a_virtual_name_means_one_of_its_providers() -> None:
    taken = closure(parse(APT), ["server"], [], nothing)
    assert "mawk" in taken
    assert "gawk" not in taken
    assert "mawk" not in closure(parse(APT), ["server"], ["gawk"], nothing)


def test_a_name_that_debian_does_not_have_is_said() -> None:
    with raises("package-unknown", match="postgresql-99"):
        closure(parse(APT), ["postgresql-99"], [], nothing)
