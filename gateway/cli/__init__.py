"""The `gateway` command: every act of an operator or officer, one file for each noun.

Thin: a command parses, calls, prints. Exit codes: 0 done; 1 it ran and the answer is no (refused, not found, broken,
unavailable); 2 the command line or the configuration cannot be used; 130 stopped by Ctrl-C. Errors say what to do.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import NoReturn

from gateway.cli import console
from gateway.model.errors import ConfigurationError, GatewayError, ServiceFault

REFUSED, UNUSABLE = 1, 2
_SET_DUMPABLE = 4
"""prctl(2)"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; its exit code. What went wrong was said in words."""
    leave_no_core()
    # Imported here, so that `import gateway.cli` costs nothing and a broken installation still says so in words.
    from gateway.cli.commands import tree, wanted  # noqa: PLC0415

    try:
        tree(wanted(arguments))(args=arguments, prog_name="gateway")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else REFUSED * bool(ended.code)
    except ConfigurationError as error:
        console.complain("the configuration cannot be used:", *(f"  {problem}" for problem in error.problems))
        return UNUSABLE
    except ServiceFault as error:
        console.complain(
            f"not done: {error}", "the database may be down or in use: try again, or see the gateway's log"
        )
    except GatewayError as error:
        console.complain(*f"refused: {error}".splitlines())
    except BrokenPipeError:
        pass
    except OSError as error:
        console.complain(f"not done: {error.filename or 'a file or socket'}: {error.strerror or type(error).__name__}")
    else:
        return 0
    return REFUSED


def leave_no_core() -> None:
    """Let no file nor crash collector have this process's memory, where keys and images are in the clear (DEC-21)."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        # Where cores go to a program, their limit is not looked at.
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)
