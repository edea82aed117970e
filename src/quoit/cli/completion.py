"""`quoit completion SHELL`: a completion script on standard output."""

import sys

__all__ = ["main"]

_SUB = {
    "local": "start status stop kill restart pause resume",
    "node": "ls info drain recommission decommission remove set token",
    "ring": "show plan apply revert",
    "job": "ls show wait cancel",
    "kv": "get put del scan",
    "sim": "run mutants",
    "completion": "bash zsh fish",
}


def main(argv: list[str]) -> int:
    """Print the script for bash, zsh or fish."""
    from quoit.cli.main import COMMANDS

    words = " ".join(COMMANDS)
    if argv[:1] in (["bash"], ["zsh"]):
        cases = "\n".join(
            f'    {name}) COMPREPLY=($(compgen -W "{subs}" -- "$word"));;'
            for name, subs in _SUB.items()
        )
        head = "autoload -U +X bashcompinit && bashcompinit\n" if argv == ["zsh"] else ""
        print(
            f"{head}_quoit() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}}\n"
            f'  if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "{words}" -- "$word")); return; fi\n'
            f"  case ${{COMP_WORDS[1]}} in\n{cases}\n  esac\n}}\ncomplete -o default -F _quoit quoit"
        )
        return 0
    if argv[:1] == ["fish"]:
        print(f"complete -c quoit -n __fish_use_subcommand -a '{words}'")
        for name, subs in _SUB.items():
            print(f"complete -c quoit -n '__fish_seen_subcommand_from {name}' -a '{subs}'")
        return 0
    print("quoit completion bash|zsh|fish; for example: quoit completion bash >> ~/.bashrc",
          file=sys.stderr)  # fmt: skip
    return 2
