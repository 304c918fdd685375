"""The command line's frame: one clear line per error, `--debug` and `--config` anywhere on the line.

Sits under every command of bridge/cli.py. What a user can mend (a wrong flag, file, setting or model) ends with
exit code 2, a defect of ours with 1, Ctrl-C with 130; a traceback appears only under `--debug`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

_GLOBAL_FLAGS = frozenset({"--debug"})
_GLOBAL_OPTIONS = frozenset({"--config"})


class UserError(Exception):
    """What the user can mend; the message is the one line shown."""


class AttaccaGroup(TyperGroup):
    """A command group that turns every exception into one line on stderr and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run `args` (default: sys.argv[1:]); exits if `standalone_mode`, else returns the exit code."""
        given = hoist(list(sys.argv[1:] if args is None else args))
        name = "attacca" if prog_name is None else prog_name
        code = self._run(given, name, complete_var, windows_expand_args, extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(
        self, args: list[str], name: str, complete_var: str | None, expand: bool, extra: dict[str, Any]
    ) -> int:
        try:
            result = super().main(args, name, complete_var, False, expand, **extra)
        except KeyboardInterrupt:
            return 130
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 1
        except BrokenPipeError:
            sys.stderr.close()
            return 0
        except Exception as error:
            if "--debug" in args[: _first_command(args)]:
                traceback.print_exc()
            line, code = describe(error)
            print(f"attacca: {line}", file=sys.stderr)
            return code
        return result if isinstance(result, int) else 0


def hoist(args: list[str]) -> list[str]:
    """Move the options of the whole program, wherever they stand before a `--`, to the front."""
    front: list[str] = []
    rest: list[str] = []
    index = 0
    while index < len(args) and args[index] != "--":
        arg = args[index]
        if arg in _GLOBAL_FLAGS or (arg.split("=", 1)[0] in _GLOBAL_OPTIONS and "=" in arg):
            front.append(arg)
        elif arg in _GLOBAL_OPTIONS and index + 1 < len(args):
            front += args[index : index + 2]
            index += 1
        else:
            rest.append(arg)
        index += 1
    return front + rest + args[index:]


def describe(error: Exception) -> tuple[str, int]:
    """An exception as (one line, exit code)."""
    usage = getattr(error, "format_message", None)
    if usage is not None:
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context is not None else ""
        return _one_line(str(usage())) + hint, 2
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        return _missing_module(error.name), 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}", 2
    if isinstance(error, (UserError, ValueError, OSError)):
        return _one_line(str(error)) or type(error).__name__, 2
    return f"internal error: {type(error).__name__}: {_one_line(str(error))} (run again with --debug)", 1


def _first_command(args: list[str]) -> int:
    for index, arg in enumerate(args):
        if not arg.startswith("-") and (index == 0 or args[index - 1] not in _GLOBAL_OPTIONS):
            return index
    return len(args)


def _missing_module(name: str) -> str:
    extras = {"matplotlib": "demo", "rtmidi": "live", "sounddevice": "live"}
    extras |= dict.fromkeys(("huggingface_hub", "httpx2", "filelock"), "hub") | {"tokenizers": "musicgen"}
    extras |= dict.fromkeys(("torch", "onnx", "librosa", "scipy"), "train")
    top = name.split(".", maxsplit=1)[0]
    if top in extras:
        return f"{top} is not installed; install it with: pip install 'attacca[{extras[top]}]'"
    return f"{name} is not installed; install attacca again (attacca doctor shows what is missing)"


def _one_line(text: str) -> str:
    return " ".join(text.split())
