#!/usr/bin/env bash
# Sourced by a person's bash (docs/tasks.md): completes the tasks of ./inv and their flags, of whichever clone is typed.
# Invoke's own script asks a program `invoke` on PATH, and knows no program that has a path before its name.

_complete_inv() {
  local candidates
  candidates=$("$1" --complete -- inv "${COMP_WORDS[@]:1}")
  mapfile -t COMPREPLY < <(compgen -W "${candidates}" -- "$2")
}

complete -F _complete_inv -o default inv
