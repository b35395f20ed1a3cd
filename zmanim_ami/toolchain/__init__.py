"""The programs that the project builds with: which versions, where they are, how to get them.

Nothing outside this package knows where a tool lives.
"""

from zmanim_ami.toolchain.build import program, tools
from zmanim_ami.toolchain.environment import Tools, environment, exports
from zmanim_ami.toolchain.go_caches import sources_of_tools
from zmanim_ami.toolchain.pins import versions

__all__ = ["Tools", "environment", "exports", "program", "sources_of_tools", "tools", "versions"]
