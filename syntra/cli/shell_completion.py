"""`completion`: the shell's function that completes verbs, options, services and deployments."""

from __future__ import annotations

import argparse

from syntra.cli.exit_codes import ExitCode
from syntra.cli.parser import UnfilledHelp
from syntra.cli.terminal import out

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SHELL."""
    parser.formatter_class = UnfilledHelp
    parser.epilog = (
        "to install it:\n"
        "  bash   syntra-agent completion bash > /etc/bash_completion.d/syntra-agent\n"
        '  zsh    syntra-agent completion zsh > "${fpath[1]}/_syntra-agent"\n'
        "  fish   syntra-agent completion fish > ~/.config/fish/completions/syntra-agent.fish\n"
        "Services and deployments come from the running agent; they are left out if it does not answer at once."
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    # Imported here: only this verb needs it.
    from argcomplete.shell_integration import shellcode

    # Without files as the shell's own suggestion: where a file belongs, the program suggests files.
    code = shellcode(["syntra-agent"], shell=args.shell, complete_arguments=["-o", "nospace"])
    out(code.strip("\n"))
    return ExitCode.OK
